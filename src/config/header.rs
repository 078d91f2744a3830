//! Headers that tell the application about an identity: their names, and the templates of their values.

use http::HeaderName;

use super::read::{FromText, Wrong, wrong};
use crate::{
    identity::ClaimPath,
    upstream::headers::{Filter, GroupFilter, Lists, Piece, Source, Template, folded},
};

/// Headers that belong to the message or to the gateway, folded (I4, I6, I7, I9).
const TAKEN: &[&str] = &[
    "age",
    "alt-svc",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "proxy-connection",
    "range",
    "referer",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
];

/// The name of a header that tells the application about an identity.
impl FromText for HeaderName {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        if TAKEN.contains(&&*folded(text)) {
            return Err(wrong(
                "belongs to the message itself",
                "choose a header of your own, like \"X-User\"",
            ));
        }
        let name = Self::from_bytes(text.as_bytes()).ok();
        name.ok_or_else(|| wrong("is not the name of a header", "write one like \"X-User\""))
    }
}

impl FromText for Template {
    const EXAMPLE: &'static str = "\"{user}\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err(wrong("is empty or not plain ASCII", "write something like \"{user}\""));
        }
        let instead = "write a claim between braces, like \"{user}\" or \"{email|local_part|lower}\" (lower, upper, \
                       local_part, domain), and a brace itself twice, like \"{{\"";
        let pieces = pieces(text).ok_or_else(|| {
            wrong(
                format!("has a filter or a brace that does not fit: \"{text}\""),
                instead,
            )
        })?;
        Ok(Self { pieces })
    }
}

/// What stands between the members of a list, or `repeat`.
impl FromText for Lists {
    const EXAMPLE: &'static str = "\",\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        if text == "repeat" {
            return Ok(Self::Repeated);
        }
        let fits = (1..=8).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7f).contains(&b));
        fits.then(|| Self::Joined(text.into())).ok_or_else(|| {
            let instead = "write what stands between two groups, like \",\" or \"|\", or \"repeat\" for a header each";
            wrong(format!("is no delimiter: \"{text}\""), instead)
        })
    }
}

/// A group, or a star behind the beginning of several.
impl FromText for GroupFilter {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let text = String::from_text(text)?;
        let (beginning, is_exact) = match text.strip_suffix('*') {
            Some(beginning) => (beginning, false),
            None => (&*text, true),
        };
        if beginning.contains('*') {
            let instead = "put one star at the end, like \"wiki-*\", or name each group";
            return Err(wrong(format!("has a star that is not at its end: \"{text}\""), instead));
        }
        Ok(match is_exact {
            false => Self::Beginning(beginning.into()),
            true => Self::Exactly(beginning.into()),
        })
    }
}

fn pieces(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hole = rest.strip_prefix('{').filter(|after| !after.starts_with('{'));
        if let Some(after) = hole {
            let (name, after) = after.split_once('}')?;
            flush(&mut literal, &mut pieces);
            pieces.push(hole_named(name)?);
            rest = after;
            continue;
        }
        // What is left of a brace is a pair of them.
        let width = if "{}".contains(first) {
            rest.strip_prefix("{{").or(rest.strip_prefix("}}")).map(|_| 2)?
        } else {
            1
        };
        literal.push(first);
        rest = rest.get(width..)?;
    }
    flush(&mut literal, &mut pieces);
    Some(pieces)
}

fn flush(literal: &mut String, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Text(std::mem::take(literal).into()));
    }
}

fn hole_named(name: &str) -> Option<Piece> {
    let mut parts = name.split('|');
    let source = match parts.next()? {
        "user" => Source::User,
        "email" => Source::Email,
        "groups" => Source::Groups,
        "scopes" => Source::Scopes,
        "sub" => Source::Subject,
        "issuer" => Source::Issuer,
        claim if claim.contains(['{', ' ']) => return None,
        claim => match ClaimPath::parse(claim)? {
            // However it is spelled, nobody is told an address that was not verified.
            path if path.is_email() => Source::Email,
            path => Source::Claim(path),
        },
    };
    let filters = parts.map(|filter| {
        Some(match filter {
            "lower" => Filter::Lower,
            "upper" => Filter::Upper,
            "local_part" => Filter::LocalPart,
            "domain" => Filter::Domain,
            _ => return None,
        })
    });
    Some(Piece::Hole(source, filters.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_only_where_it_counts_however_it_is_spelled() {
        for spelled in ["{email}", "{/email}"] {
            let template = Template::from_text(spelled).unwrap();
            assert_eq!(template.pieces, [Piece::Hole(Source::Email, Vec::new())]);
        }
    }

    #[test]
    fn a_template_is_text_with_holes() {
        let hole = |source| Piece::Hole(source, Vec::new());
        let claim = |path| hole(Source::Claim(ClaimPath::parse(path).unwrap()));
        let read = |text| Template::from_text(text).map(|template| template.pieces).ok();
        assert_eq!(read("{user}"), Some(vec![hole(Source::User)]));
        assert_eq!(
            read("a{b.c}d"),
            Some(vec![Piece::Text("a".into()), claim("b.c"), Piece::Text("d".into())])
        );
        assert_eq!(
            read("{{{sub}}}"),
            Some(vec![
                Piece::Text("{".into()),
                hole(Source::Subject),
                Piece::Text("}".into())
            ])
        );
        assert_eq!(
            read("{email|local_part|lower}"),
            Some(vec![Piece::Hole(Source::Email, vec![Filter::LocalPart, Filter::Lower])])
        );
        for bad in [
            "{email|}",
            "{email|lowr}",
            "",
            "{",
            "}",
            "{user",
            "user}",
            "{}",
            "{a..b}",
            "{a{b}",
            "a\nb",
            "ü",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn i4_a_header_of_the_message_is_not_told_by_any_spelling() {
        for name in [
            "Host",
            "COOKIE",
            "X_Forwarded_For",
            "transfer-encoding",
            "Authorization",
            "a b",
            "",
        ] {
            assert!(HeaderName::from_text(name).is_err(), "{name}");
        }
        assert!(HeaderName::from_text("X-Forwarded-User").is_ok());
    }
}
