//! The way from the outside to an application and back: paths without the route's prefix, and what the application says
//! of its own places.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use super::{Destination, destination::Place, target::Target};
use crate::policy::{Origin, Scheme};

/// A route's path, which its application does not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// `/admin`: not empty, and without a slash at its end.
    pub path: Box<str>,
    /// The gateway's own paths, which an application may lead to.
    pub reserved: Box<str>,
}

pub(super) const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

impl Prefix {
    /// The target as the application sees it. That it begins with the prefix, the choice of the route has seen.
    pub(super) fn inside(&self, target: &Target) -> Uri {
        let whole = target.path_and_query();
        let (path, query) = whole.split_at(whole.find('?').unwrap_or(whole.len()));
        // Segments are counted and not letters, for it may have come with more of them encoded.
        let segments = self.path.matches('/').count();
        let rest = path.match_indices('/').nth(segments).and_then(|(at, _)| path.get(at..));
        let inside = Uri::try_from(format!("{}{query}", rest.unwrap_or("/")));
        // It is a piece of what was a target.
        inside.unwrap_or_else(|_| target.to_uri())
    }

    /// A path of the application, and what follows it, as the outside knows it. One that has the prefix already is by an
    /// application that was told it.
    fn outside(&self, path: &str) -> String {
        match is_below(path, &self.path) || is_below(path, &self.reserved) {
            true => path.to_owned(),
            false => format!("{}{path}", self.path),
        }
    }
}

/// Whether a path is this one or below it.
fn is_below(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// What the application's own places are called outside.
pub(super) struct Outside<'a> {
    pub(super) prefix: Option<&'a Prefix>,
    pub(super) origin: &'a Origin,
    /// Where it is asked, and may take itself to be.
    pub(super) inside: &'a [Destination],
}

impl Outside<'_> {
    /// Rewrites `Location` and `Content-Location`, and the paths of cookies.
    pub(super) fn rewrite(&self, headers: &mut HeaderMap) {
        for (name, value) in headers.iter_mut() {
            let Ok(text) = value.to_str() else { continue };
            let outside = match *name {
                header::LOCATION | header::CONTENT_LOCATION => self.place(text),
                header::SET_COOKIE => self.prefix.and_then(|prefix| cookie(text, prefix)),
                _ => None,
            };
            if let Some(outside) = outside {
                *value = outside;
            }
        }
    }

    /// The same place in the words of the outside; `None` where it is so called there, too.
    fn place(&self, text: &str) -> Option<HeaderValue> {
        let outside = match cut(text) {
            Reference::Url {
                scheme,
                authority,
                path,
            } if self.is_ours(scheme, authority) => {
                let path = self
                    .prefix
                    .map_or_else(|| path.to_owned(), |prefix| prefix.outside(path));
                format!("{}{path}", self.origin)
            }
            Reference::Path(path) => self.prefix?.outside(path),
            Reference::Url { .. } | Reference::Other => return None,
        };
        HeaderValue::try_from(outside).ok()
    }

    /// Whether an authority is the application's own, or, where a prefix has to be put before its paths, the route's.
    fn is_ours(&self, scheme: Option<Scheme>, authority: &str) -> bool {
        let Some((host, port)) = host_and_port(authority) else {
            return false;
        };
        let is = |other: &str, own: Option<u16>, default: u16| {
            let given = port.unwrap_or(scheme.map_or(default, Scheme::default_port));
            host.eq_ignore_ascii_case(other) && given == own.unwrap_or(default)
        };
        let inside = self.inside.iter().any(|destination| match &destination.place {
            Place::Tcp { host, port } => {
                let default = if destination.scheme.is_encrypted() { 443 } else { 80 };
                is(host, Some(*port), default)
            }
            Place::Unix(_) => false,
        });
        let default = scheme.unwrap_or(self.origin.scheme).default_port();
        inside || (self.prefix.is_some() && is(self.origin.host.trim_matches(['[', ']']), self.origin.port, default))
    }
}

/// A URI reference, as far as it names a place by itself (RFC 3986 §4.1).
enum Reference<'a> {
    Url {
        scheme: Option<Scheme>,
        authority: &'a str,
        /// And what follows it.
        path: &'a str,
    },
    Path(&'a str),
    /// Relative to the page, which is below the prefix outside as well; or nothing that we know.
    Other,
}

fn cut(text: &str) -> Reference<'_> {
    let (scheme, rest) = match text.split_once("//") {
        Some(("", rest)) => (None, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http:") => (Some(Scheme::Http), rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https:") => (Some(Scheme::Https), rest),
        Some(_) | None if text.starts_with('/') => return Reference::Path(text),
        Some(_) | None => return Reference::Other,
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    match path.starts_with('\\') {
        // Browsers take it for a slash, and others for a part of the host.
        true => Reference::Other,
        false => Reference::Url {
            scheme,
            authority,
            path,
        },
    }
}

/// Without brackets; `None` where there is more than a host and a port, or less.
fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
        Some(_) | None => (authority, None),
    };
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let plain = inner.unwrap_or(host);
    let is_one = !plain.is_empty() && (inner.is_some() || !plain.contains(':')) && !plain.contains('@');
    is_one.then_some((plain, port))
}

/// A cookie with its paths as the outside knows them. One whose name says `__Host-` has to have the path `/`, and keeps it.
fn cookie(line: &str, prefix: &Prefix) -> Option<HeaderValue> {
    let name = line.trim_start();
    if name.get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case("__Host-")) {
        return None;
    }
    let outside = |(index, attribute): (usize, &str)| {
        let path = attribute.split_once('=').filter(|(name, path)| {
            index > 0 && name.trim().eq_ignore_ascii_case("path") && path.trim().starts_with('/')
        });
        match path {
            // Without the slash, it is sent to the prefix itself, too (RFC 6265 §5.1.4).
            Some((_, path)) if path.trim() == "/" => format!(" Path={}", prefix.path),
            Some((_, path)) => format!(" Path={}", prefix.outside(path.trim())),
            None => attribute.to_owned(),
        }
    };
    let attributes: Vec<String> = line.split(';').enumerate().map(outside).collect();
    HeaderValue::try_from(attributes.join(";")).ok()
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::upstream::DestinationScheme;

    fn prefix() -> Prefix {
        Prefix {
            path: "/admin".into(),
            reserved: "/oauth2".into(),
        }
    }

    fn origin() -> Origin {
        Origin {
            scheme: Scheme::Https,
            host: "wiki.example.com".into(),
            port: None,
        }
    }

    fn inside() -> Vec<Destination> {
        let destination = |host: &str, port| Destination {
            scheme: DestinationScheme::Http,
            place: Place::Tcp {
                host: host.into(),
                port,
            },
        };
        vec![
            destination("10.0.0.5", 8080),
            destination("app", 80),
            destination("::1", 3000),
        ]
    }

    fn place(text: &str, prefix: Option<&Prefix>) -> String {
        let (origin, inside) = (origin(), inside());
        let outside = Outside {
            prefix,
            origin: &origin,
            inside: &inside,
        };
        let place = outside.place(text);
        place.map_or_else(|| text.to_owned(), |value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_prefix_that_came_encoded_is_lost_as_well() {
        let prefix = Prefix {
            path: "/@team/a:b".into(),
            reserved: "/oauth2".into(),
        };
        for (came, inside) in [
            ("/%40team/a%3Ab/x%3Ay?q=/z", "/x%3Ay?q=/z"),
            ("/%40team/a:b", "/"),
            ("/@team/a%3Ab?q", "/?q"),
        ] {
            let request = Request::get(came).header(header::HOST, "a").body(()).unwrap();
            let target = Target::read(&request.into_parts().0).unwrap();
            assert_eq!(prefix.inside(&target).to_string(), inside);
        }
    }

    #[test]
    fn a_target_loses_its_prefix_and_nothing_else() {
        let stripped = |target: &str| {
            let request = Request::get(target).header(header::HOST, "a").body(()).unwrap();
            prefix()
                .inside(&Target::read(&request.into_parts().0).unwrap())
                .to_string()
        };
        for (outside, inside) in [
            ("/admin", "/"),
            ("/admin/", "/"),
            ("/admin?x=/admin", "/?x=/admin"),
            ("/admin/a/?b", "/a/?b"),
            ("/%61dmin/%7Eann", "/~ann"),
            ("/admin/caf%C3%A9%20x", "/caf%C3%A9%20x"),
            ("/admin/admin/x", "/admin/x"),
        ] {
            assert_eq!(stripped(outside), inside, "{outside}");
        }
    }

    #[test]
    fn what_is_the_applications_own_is_called_as_outside() {
        let prefix = prefix();
        for (inside, outside) in [
            ("/", "/admin/"),
            ("/x?y#z", "/admin/x?y#z"),
            ("/administrator", "/admin/administrator"),
            ("/admin/x", "/admin/x"),
            ("/admin", "/admin"),
            ("/oauth2/sign_out?rd=/", "/oauth2/sign_out?rd=/"),
            ("http://10.0.0.5:8080/x", "https://wiki.example.com/admin/x"),
            ("//10.0.0.5:8080", "https://wiki.example.com/admin"),
            ("HTTP://APP?x", "https://wiki.example.com/admin?x"),
            ("http://app:80/x", "https://wiki.example.com/admin/x"),
            ("http://[::1]:3000/x", "https://wiki.example.com/admin/x"),
            ("http://wiki.example.com/x", "https://wiki.example.com/admin/x"),
            (
                "https://wiki.example.com/oauth2/start",
                "https://wiki.example.com/oauth2/start",
            ),
        ] {
            assert_eq!(place(inside, Some(&prefix)), outside, "{inside}");
        }
        assert_eq!(place("http://10.0.0.5:8080/x", None), "https://wiki.example.com/x");
    }

    #[test]
    fn what_is_somebody_elses_stays_as_it_is() {
        let prefix = prefix();
        for text in [
            "",
            "x",
            "../x",
            "?x",
            "#x",
            "https://id.example.com/x",
            "//evil.com/x",
            "http://10.0.0.5/x",
            "http://10.0.0.5:8081/x",
            "http://10.0.0.5:8080@evil.com/",
            "http://ann@10.0.0.5:8080/",
            "http://10.0.0.5:8080\\@evil.com/",
            "http://10.0.0.5:8080.evil.com/",
            "http://app.evil.com/",
            "https://wiki.example.com.evil.com/",
            "https://wiki.example.com:8443/",
            "mailto:ann@app",
            "javascript://app/%0aalert(1)",
        ] {
            assert_eq!(place(text, Some(&prefix)), text);
        }
        for text in ["/x", "https://wiki.example.com/x"] {
            assert_eq!(place(text, None), text);
        }
    }

    #[test]
    fn cookies_come_back_below_the_prefix() {
        for (inside, outside) in [
            ("a=1; Path=/; HttpOnly", "a=1; Path=/admin; HttpOnly"),
            ("a=1;path=/x;Secure", "a=1; Path=/admin/x;Secure"),
            ("a=1; Path=/admin/x", "a=1; Path=/admin/x"),
            ("a=1", "a=1"),
            ("a=1; Path=; Max-Age=0", "a=1; Path=; Max-Age=0"),
            ("path=/; Secure", "path=/; Secure"),
        ] {
            assert_eq!(cookie(inside, &prefix()).unwrap(), outside);
        }
        assert_eq!(cookie("__host-a=1; Path=/; Secure", &prefix()), None);
    }

    proptest! {
        #[test]
        fn no_redirect_to_another_place_is_made_of_one_that_was_none(path in "/[/\\\\.a-z@:?#]{0,12}") {
            let prefix = prefix();
            if !path.starts_with("//") {
                let outside = place(&path, Some(&prefix));
                prop_assert!(outside.starts_with("/admin") || outside.starts_with("/oauth2"), "{}", outside);
            }
        }
    }
}
