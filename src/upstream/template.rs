//! What the application is told of an identity.

use std::{
    borrow::Cow,
    fmt,
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use serde_json::Value;

use super::UpstreamError;
use crate::identity::{ClaimPath, Identity};

/// A header that tells the application about the identity.
#[derive(Clone, Debug)]
pub struct IdentityHeader {
    pub name: HeaderName,
    pub template: Template,
    pub form: Form,
}

/// All that an application asks to be told, under a number that nothing else has which is asked in this process.
#[derive(Clone)]
pub struct IdentityHeaders {
    number: u64,
    headers: Vec<IdentityHeader>,
}

impl fmt::Debug for IdentityHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of the number, nobody asks but whoever keeps what was written.
        self.headers.fmt(f)
    }
}

impl From<Vec<IdentityHeader>> for IdentityHeaders {
    fn from(headers: Vec<IdentityHeader>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            headers,
        }
    }
}

impl Deref for IdentityHeaders {
    type Target = [IdentityHeader];

    fn deref(&self) -> &[IdentityHeader] {
        &self.headers
    }
}

/// Text with holes: `"{user}"`, `"{email|local_part|lower}"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pub pieces: Vec<Piece>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Text(Box<str>),
    Hole(Source, Vec<Filter>),
}

/// What fills a hole.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `{user}`: what the provider's `username_claim` says.
    User,
    /// `{email}`: the verified address.
    Email,
    /// `{groups}`: a list.
    Groups,
    /// `{scopes}`: joined with a space (RFC 6749 §3.3).
    Scopes,
    /// `{sub}`.
    Subject,
    /// `{issuer}`.
    Issuer,
    /// Any other name: a string, number or boolean at that path, or a list of strings.
    Claim(ClaimPath),
}

/// What is made of a value before it is written; of a list, of each member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Lower,
    Upper,
    /// What stands before the `@`; a value without one has none.
    LocalPart,
    /// What stands behind the `@`.
    Domain,
}

/// How values become the bytes of a header.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    pub lists: Lists,
    pub encoding: Encoding,
    /// The groups that are told: these, and those that begin so; empty: all.
    pub groups: Vec<GroupFilter>,
    /// A longer value is not written.
    pub max_bytes: usize,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            lists: Lists::default(),
            encoding: Encoding::default(),
            groups: Vec::new(),
            max_bytes: MAX_VALUE_BYTES,
        }
    }
}

/// How a list is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lists {
    Joined(Box<str>),
    /// One header for each member.
    Repeated,
}

impl Default for Lists {
    fn default() -> Self {
        Self::Joined(",".into())
    }
}

/// How a value is written that a header cannot hold as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Utf8,
    /// Where it is not ASCII, as an encoded word (RFC 2047 §2).
    Rfc2047,
    /// What is not plain ASCII, and the percent sign itself (RFC 3986 §2.1).
    Percent,
    /// The whole value, whatever it is (RFC 4648 §4).
    Base64,
}

/// A group by name, or several by how they begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupFilter {
    Exactly(Box<str>),
    Beginning(Box<str>),
}

impl GroupFilter {
    pub(super) fn takes(&self, group: &str) -> bool {
        match self {
            Self::Exactly(name) => **name == *group,
            Self::Beginning(beginning) => group.starts_with(&**beginning),
        }
    }
}

/// A longer value is refused by many applications, and by more of them cut short.
pub const MAX_VALUE_BYTES: usize = 16 * 1024;

/// Writes the headers of each template whose claims are all there; a missing claim is a missing header (I5).
///
/// # Errors
/// When a claim has a character that no header can hold, or one that would make two values of one.
pub(super) fn write(
    identity: &Identity,
    asked: &IdentityHeaders,
    headers: &mut HeaderMap,
) -> Result<(), UpstreamError> {
    if let Some(words) = identity.words.kept(asked.number) {
        for (name, value) in words {
            headers.append(name, value.clone());
        }
        return Ok(());
    }
    let mut words = Vec::with_capacity(asked.len());
    for header in asked.iter() {
        match header.template.plain(identity) {
            Some("") => {}
            Some(text) => {
                let value = header.value(text).map_err(|Unwritable| header.refused())?;
                words.push((header.name.clone(), value));
            }
            None => header.tell(identity, |value| words.push((header.name.clone(), value)))?,
        }
    }
    for (name, value) in &words {
        headers.append(name, value.clone());
    }
    identity.words.keep(asked.number, words);
    Ok(())
}

/// The values of one header: none where a claim is missing, several only where a list is repeated.
///
/// # Errors
/// As for all of them.
pub fn identity_header(identity: &Identity, header: &IdentityHeader) -> Result<Vec<HeaderValue>, UpstreamError> {
    let mut values = Vec::new();
    header.tell(identity, |value| values.push(value))?;
    Ok(values)
}

impl IdentityHeader {
    /// Hands over each value.
    fn tell(&self, identity: &Identity, mut take: impl FnMut(HeaderValue)) -> Result<(), UpstreamError> {
        let told = self.template.fill(identity, &self.form, |text| {
            take(self.value(text)?);
            Ok(())
        });
        told.map_err(|Unwritable| self.refused())
    }

    fn value(&self, text: &str) -> Result<HeaderValue, Unwritable> {
        let bytes = self.form.written(text)?;
        HeaderValue::from_bytes(&bytes).map_err(|_| Unwritable)
    }

    fn refused(&self) -> UpstreamError {
        UpstreamError::Identity(self.name.clone())
    }
}

/// A value that cannot be written so that it is read as what it is.
pub(super) struct Unwritable;

impl Form {
    /// A line end or a NUL is never written, however it would be encoded.
    fn written<'a>(&self, text: &'a str) -> Result<Cow<'a, [u8]>, Unwritable> {
        if text.bytes().any(|b| b.is_ascii_control()) {
            return Err(Unwritable);
        }
        let bytes: Cow<'_, [u8]> = match self.encoding {
            Encoding::Utf8 => text.as_bytes().into(),
            Encoding::Rfc2047 if text.is_ascii() => text.as_bytes().into(),
            Encoding::Rfc2047 => format!("=?UTF-8?B?{}?=", STANDARD.encode(text)).into_bytes().into(),
            Encoding::Percent => percent_encode(text.as_bytes(), &NOT_PLAIN)
                .to_string()
                .into_bytes()
                .into(),
            Encoding::Base64 => STANDARD.encode(text).into_bytes().into(),
        };
        match bytes.len() <= self.max_bytes {
            true => Ok(bytes),
            false => Err(Unwritable),
        }
    }
}

const NOT_PLAIN: AsciiSet = CONTROLS.add(b'%');

impl Template {
    /// The text as one, for what is no list.
    pub(super) fn one(&self, identity: &Identity) -> Result<Option<String>, Unwritable> {
        let mut one = None;
        self.fill(identity, &Form::default(), |text| {
            one = Some(text.to_owned());
            Ok(())
        })?;
        Ok(one)
    }

    /// What is told where that is one text of the identity as it is, which nothing need be put together for; empty where
    /// there is none.
    fn plain<'a>(&self, identity: &'a Identity) -> Option<&'a str> {
        let [Piece::Hole(source, filters)] = self.pieces.as_slice() else {
            return None;
        };
        let text = match source {
            Source::User => identity.username.as_deref(),
            Source::Email => identity.email.as_deref(),
            Source::Subject => Some(identity.subject.as_str()),
            Source::Issuer => Some(identity.issuer.as_str()),
            Source::Groups | Source::Scopes | Source::Claim(_) => return None,
        };
        filters.is_empty().then(|| text.unwrap_or_default())
    }

    /// Hands over the text, or each of them where a list is repeated; nothing when a claim is missing or empty.
    fn fill(
        &self,
        identity: &Identity,
        form: &Form,
        mut take: impl FnMut(&str) -> Result<(), Unwritable>,
    ) -> Result<(), Unwritable> {
        if let (Lists::Repeated, [Piece::Hole(source, filters)]) = (&form.lists, self.pieces.as_slice()) {
            return source.each(identity, form, |value, _| match &*filtered(value, filters) {
                "" => Ok(()),
                value => take(value),
            });
        }
        let mut text = String::new();
        for piece in &self.pieces {
            let before = text.len();
            piece.fill(identity, form, &mut text)?;
            if text.len() == before {
                return Ok(());
            }
        }
        take(&text)
    }
}

impl Piece {
    fn fill(&self, identity: &Identity, form: &Form, text: &mut String) -> Result<(), Unwritable> {
        let (source, filters) = match self {
            Self::Text(literal) => {
                text.push_str(literal);
                return Ok(());
            }
            Self::Hole(source, filters) => (source, filters),
        };
        let delimiter = match (source, &form.lists) {
            (Source::Scopes, _) => " ",
            (_, Lists::Joined(delimiter)) => delimiter,
            (_, Lists::Repeated) => ",",
        };
        let mut is_first = true;
        source.each(identity, form, |value, share| {
            let value = filtered(value, filters);
            // It would be read as two.
            if share == Share::Member && value.contains(delimiter) {
                return Err(Unwritable);
            }
            if !std::mem::take(&mut is_first) {
                text.push_str(delimiter);
            }
            text.push_str(&value);
            Ok(())
        })
    }
}

/// What a value is of all that fills a hole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    /// All of it, which nobody takes apart.
    Whole,
    /// A member of a list.
    Member,
}

impl Source {
    /// Hands over what fills the hole, before filters.
    fn each(
        &self,
        identity: &Identity,
        form: &Form,
        mut take: impl FnMut(&str, Share) -> Result<(), Unwritable>,
    ) -> Result<(), Unwritable> {
        let whole = match self {
            Self::User => identity.username.as_deref(),
            Self::Email => identity.email.as_deref(),
            Self::Subject => Some(identity.subject.as_str()),
            Self::Issuer => Some(identity.issuer.as_str()),
            // "No groups" would be a lie.
            Self::Groups if identity.groups_unknown => return Err(Unwritable),
            Self::Groups => {
                let mut told = identity.groups.iter().filter(|group| form.tells(group));
                return told.try_for_each(|group| take(group, Share::Member));
            }
            Self::Scopes => return identity.scopes.iter().try_for_each(|scope| take(scope, Share::Member)),
            Self::Claim(path) => match identity.claims.at(path) {
                Some(value) => return claimed(value, take),
                None if identity.claims.is_elsewhere(path) => return Err(Unwritable),
                None => None,
            },
        };
        whole.map_or(Ok(()), |text| take(text, Share::Whole))
    }
}

impl Form {
    fn tells(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|filter| filter.takes(group))
    }
}

fn claimed(value: &Value, mut take: impl FnMut(&str, Share) -> Result<(), Unwritable>) -> Result<(), Unwritable> {
    match value {
        Value::Null | Value::Object(_) => Ok(()),
        Value::String(text) => take(text, Share::Whole),
        Value::Number(_) | Value::Bool(_) => take(&value.to_string(), Share::Whole),
        Value::Array(members) => members
            .iter()
            .try_for_each(|member| take(member.as_str().ok_or(Unwritable)?, Share::Member)),
    }
}

fn filtered<'a>(value: &'a str, filters: &[Filter]) -> Cow<'a, str> {
    filters.iter().fold(value.into(), |value, filter| match filter {
        Filter::Lower => value.to_lowercase().into(),
        Filter::Upper => value.to_uppercase().into(),
        Filter::LocalPart => value.split_once('@').map_or("", |(local, _)| local).to_owned().into(),
        Filter::Domain => value.split_once('@').map_or("", |(_, domain)| domain).to_owned().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{Issuer, Proof, ProviderId, Scopes, Subject, Words},
        time::Timestamp,
        upstream::headers::{ScrubSettings, Scrubber},
    };
    use proptest::prelude::*;
    use serde_json::json;

    fn identity(user: Option<&str>, groups: &[String]) -> Identity {
        Identity {
            provider: ProviderId::new("corp"),
            issuer: Issuer::new("https://id.example.com"),
            subject: Subject::new("1").unwrap(),
            proof: Proof::Session,
            username: user.map(Into::into),
            email: None,
            groups: groups.iter().map(|group| group.as_str().into()).collect(),
            groups_unknown: false,
            scopes: Scopes::default(),
            claims: [("n", json!(7)), ("list", json!(["a", "b"])), ("mixed", json!(["a", 1]))]
                .into_iter()
                .collect(),
            expires_at: Timestamp::from_unix(0),
            words: Words::default(),
        }
    }

    fn header(name: &'static str, piece: Piece) -> IdentityHeader {
        IdentityHeader {
            name: HeaderName::from_static(name),
            template: Template { pieces: vec![piece] },
            form: Form::default(),
        }
    }

    fn hole(source: Source) -> Piece {
        Piece::Hole(source, Vec::new())
    }

    fn claim(path: &str) -> Piece {
        hole(Source::Claim(ClaimPath::parse(path).unwrap()))
    }

    fn written(piece: Piece, identity: &Identity) -> Result<Option<String>, UpstreamError> {
        let mut headers = HeaderMap::new();
        write(identity, &vec![header("x-user", piece)].into(), &mut headers)?;
        Ok(headers
            .get("x-user")
            .map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()))
    }

    #[test]
    fn a_claim_is_written_as_what_it_is_or_not_at_all() {
        let somebody = identity(Some("zoë"), &["staff".into(), "ops".into()]);
        let text = |piece| written(piece, &somebody).unwrap();
        assert_eq!(text(hole(Source::User)).unwrap(), "zoë");
        assert_eq!(text(hole(Source::Groups)).unwrap(), "staff,ops");
        assert_eq!(text(claim("n")).unwrap(), "7");
        assert_eq!(text(claim("list")).unwrap(), "a,b");
        assert_eq!(text(claim("absent")), None);
        assert_eq!(text(hole(Source::Email)), None);
        assert!(written(claim("mixed"), &somebody).is_err());
    }

    #[test]
    fn what_is_told_as_it_is_reads_like_what_is_put_together() {
        let people = [Some("zoë"), Some("a, b"), Some(""), Some("a\nb"), None].map(|user| identity(user, &[]));
        for somebody in &people {
            for source in [Source::User, Source::Email, Source::Subject, Source::Issuer] {
                let header = header("x-user", hole(source.clone()));
                let mut told = HeaderMap::new();
                let short = write(somebody, &vec![header.clone()].into(), &mut told).ok();
                let short = short.map(|()| told.into_iter().map(|(_, value)| value).collect::<Vec<_>>());
                assert_eq!(short, identity_header(somebody, &header).ok(), "{source:?}");
            }
        }
    }

    #[test]
    fn each_application_is_told_what_it_asks_however_often() {
        let somebody = identity(Some("ann"), &["staff".into()]);
        let of = |piece| IdentityHeaders::from(vec![header("x-told", piece)]);
        let (user, groups) = (of(hole(Source::User)), of(hole(Source::Groups)));
        let told = |somebody: &Identity, asked: &IdentityHeaders| {
            let mut headers = HeaderMap::new();
            write(somebody, asked, &mut headers).unwrap();
            headers["x-told"].to_str().unwrap().to_owned()
        };
        for _ in 0..2 {
            assert_eq!(told(&somebody, &user), "ann");
            assert_eq!(told(&somebody, &groups), "staff");
        }
        let other = Identity {
            username: Some("bob".into()),
            ..somebody.clone()
        };
        assert_eq!(told(&other, &user), "bob");
    }

    #[test]
    fn what_would_be_read_as_something_else_is_not_written() {
        for user in ["a\r\nX-Admin: 1", "a\0", "a\u{7f}", "a\tb"] {
            assert!(
                written(hole(Source::User), &identity(Some(user), &[])).is_err(),
                "{user:?}"
            );
        }
        assert!(written(hole(Source::Groups), &identity(None, &["a,admins".into()])).is_err());
        assert!(
            written(
                hole(Source::User),
                &identity(Some(&"x".repeat(MAX_VALUE_BYTES + 1)), &[])
            )
            .is_err()
        );
    }

    /// The values of one header in a form of its own.
    fn formed(piece: Piece, form: Form, identity: &Identity) -> Option<Vec<String>> {
        let header = IdentityHeader {
            form,
            ..header("x-user", piece)
        };
        let values = identity_header(identity, &header).ok()?;
        let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
        Some(values.iter().map(text).collect())
    }

    fn lists(lists: Lists) -> Form {
        Form {
            lists,
            ..Form::default()
        }
    }

    #[test]
    fn a_list_is_joined_as_the_application_wants_it_or_repeated() {
        let groups = |names: &[&str]| identity(None, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let (plain, comma) = (groups(&["ops", "staff"]), groups(&["a,b", "staff"]));
        let told = |lists_as, identity: &Identity| formed(hole(Source::Groups), lists(lists_as), identity);
        assert_eq!(told(Lists::Joined("|".into()), &plain).unwrap(), ["ops|staff"]);
        assert_eq!(told(Lists::Joined("|".into()), &comma).unwrap(), ["a,b|staff"]);
        assert_eq!(told(Lists::Joined(",".into()), &comma), None);
        assert_eq!(told(Lists::Repeated, &comma).unwrap(), ["a,b", "staff"]);
        assert_eq!(told(Lists::Repeated, &groups(&[])).unwrap(), [""; 0]);
    }

    #[test]
    fn a_value_that_is_no_list_may_hold_the_delimiter() {
        let ann = identity(Some("Ann, the first"), &[]);
        assert_eq!(
            formed(hole(Source::User), Form::default(), &ann).unwrap(),
            ["Ann, the first"]
        );
    }

    #[test]
    fn only_some_groups_are_told() {
        let form = Form {
            groups: vec![
                GroupFilter::Exactly("ops".into()),
                GroupFilter::Beginning("wiki-".into()),
            ],
            ..Form::default()
        };
        let names = ["ops", "opsx", "wiki-readers", "staff"].map(str::to_owned);
        assert_eq!(
            formed(hole(Source::Groups), form, &identity(None, &names)).unwrap(),
            ["ops,wiki-readers"]
        );
    }

    #[test]
    fn filters_make_something_else_of_a_value() {
        let ann = identity(Some("Ann@Example.COM"), &[]);
        let told =
            |filters: &[Filter]| formed(Piece::Hole(Source::User, filters.to_vec()), Form::default(), &ann).unwrap();
        assert_eq!(told(&[Filter::LocalPart, Filter::Lower]), ["ann"]);
        assert_eq!(told(&[Filter::Domain, Filter::Upper]), ["EXAMPLE.COM"]);
        let nobody = identity(Some("ann"), &[]);
        assert_eq!(
            formed(
                Piece::Hole(Source::User, vec![Filter::LocalPart]),
                Form::default(),
                &nobody
            )
            .unwrap(),
            [""; 0],
            "a value without an @ has no local part"
        );
    }

    #[test]
    fn what_is_not_ascii_is_written_as_asked() {
        let told = |encoding, user| {
            let form = Form {
                encoding,
                ..Form::default()
            };
            formed(hole(Source::User), form, &identity(Some(user), &[]))
        };
        assert_eq!(told(Encoding::Utf8, "zoë").unwrap(), ["zoë"]);
        assert_eq!(told(Encoding::Rfc2047, "zoë").unwrap(), ["=?UTF-8?B?em/Dqw==?="]);
        assert_eq!(told(Encoding::Rfc2047, "zoe").unwrap(), ["zoe"]);
        assert_eq!(told(Encoding::Percent, "zoë 5%").unwrap(), ["zo%C3%AB 5%25"]);
        assert_eq!(told(Encoding::Base64, "zoë").unwrap(), ["em/Dqw=="]);
        for encoding in [Encoding::Utf8, Encoding::Rfc2047, Encoding::Percent, Encoding::Base64] {
            assert_eq!(told(encoding, "a\r\nb"), None);
            assert_eq!(told(encoding, "a\0b"), None);
        }
    }

    proptest! {
        #[test]
        fn i_5_after_strip_and_emit_there_is_one_value_or_none(
            spoofed in proptest::collection::vec(("[xX][-_.][uU]ser|[xX][-_]Groups|accept", "[a-z]{1,5}"), 0..12),
            user in proptest::option::of("[a-zA-Z0-9 ._-]{1,20}"),
            groups in proptest::collection::vec("[a-z]{1,8}", 0..4),
        ) {
            let templates = IdentityHeaders::from(vec![header("x-user", hole(Source::User)), header("x-groups", hole(Source::Groups))]);
            let scrubber = Scrubber::new(ScrubSettings {
                identity_headers: templates.iter().map(|header| header.name.clone()).collect(),
                cookie_name: "vestibule".into(),
                trusted_proxies: crate::identity::Proxies::default(),
            });
            let mut headers = HeaderMap::new();
            for (name, value) in &spoofed {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
            }
            scrubber.clean(&mut headers);
            write(&identity(user.as_deref(), &groups), &templates, &mut headers).unwrap();
            let values = |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>();
            prop_assert_eq!(values("x-user"), user.into_iter().collect::<Vec<_>>());
            let joined = (!groups.is_empty()).then(|| groups.join(","));
            prop_assert_eq!(values("x-groups"), joined.into_iter().collect::<Vec<_>>());
            let others = headers.keys().filter(|name| !["x-user", "x-groups", "accept"].contains(&name.as_str())).count();
            prop_assert_eq!(others, 0);
        }
    }
}
