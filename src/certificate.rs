//! What a certificate says: whom it names, and until when (RFC 5280). Whether it is to be believed is asked elsewhere.
//!
//! A name is written so that no two names are written alike: the whole subject as RFC 4514 has it, or a subject
//! alternative name behind its kind, as in `dns:ops.example.com`.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use x509_parser::{
    asn1_rs::{Oid, Tag, ToDer},
    extensions::GeneralName,
    parse_x509_certificate,
    x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name},
};

/// A certificate, as far as anybody looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Empty where there is none.
    subject: Box<str>,
    /// Each behind its kind.
    alternatives: Vec<Box<str>>,
    not_after: i64,
    thumbprint: [u8; 32],
}

/// A certificate that is not as RFC 5280 wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be read")]
pub struct Unreadable;

impl Certificate {
    /// Reads one in DER.
    ///
    /// # Errors
    /// When it is none, has an extension twice, or a name that is not the text that it should be.
    pub fn from_der(der: &[u8]) -> Result<Self, Unreadable> {
        let (rest, parsed) = parse_x509_certificate(der).map_err(|_| Unreadable)?;
        let alternatives = match parsed.subject_alternative_name().map_err(|_| Unreadable)? {
            Some(extension) => alternatives(&extension.value.general_names)?,
            None => Vec::new(),
        };
        if !rest.is_empty() {
            return Err(Unreadable);
        }
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Ok(Self {
            subject: subject(parsed.subject())?.into(),
            alternatives,
            not_after: parsed.validity().not_after.timestamp(),
            thumbprint,
        })
    }

    /// One that has these names, for whoever asks what would become of it; it never ends, and has no thumbprint.
    pub fn called(names: impl IntoIterator<Item = Name>) -> Self {
        let (alternatives, subjects): (Vec<_>, Vec<_>) = names
            .into_iter()
            .map(|name| name.0)
            .partition(|name| is_alternative(name));
        Self {
            subject: subjects.into_iter().next().unwrap_or_default(),
            alternatives,
            not_after: i64::MAX,
            thumbprint: [0; 32],
        }
    }

    /// Every name that it has, the subject first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let subject = Some(&*self.subject).filter(|subject| !subject.is_empty());
        subject.into_iter().chain(self.alternatives.iter().map(|name| &**name))
    }

    pub fn is_called(&self, name: &Name) -> bool {
        self.names().any(|own| *own == *name.0)
    }

    /// The hosts that it is for (RFC 9525 §2), `*.example.com` among them; in lower case.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.alternatives.iter().filter_map(|name| name.strip_prefix("dns:"))
    }

    /// When it ends, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// SHA-256 of the whole (RFC 8705 §3.1).
    pub fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }
}

/// A name as a rule writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Box<str>);

/// The kinds of alternative names that rules can name.
const KINDS: [&str; 3] = ["dns:", "email:", "uri:"];

/// Attribute types that have a short name (RFC 4514 §3), by the numbers of theirs.
const TYPES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads one; what could never be equal to the name of a certificate is refused.
    ///
    /// # Errors
    /// What to write instead.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        if text.chars().any(char::is_control) {
            return Err("write it without control characters");
        }
        match text.split_once(':') {
            Some(("dns", host)) => {
                alternative(host, host.to_ascii_lowercase() == *host, "write the host in lower case")
            }
            Some(("email", address)) => {
                let is_right = address.contains('@') && with_lower_domain(address) == *address;
                alternative(address, is_right, "write a whole address, its domain in lower case")
            }
            Some(("uri", uri)) => alternative(uri, uri.contains(':'), "write a whole URI, like \"uri:spiffe://…\""),
            _ => whole_subject(text),
        }?;
        Ok(Self(text.into()))
    }
}

fn is_alternative(name: &str) -> bool {
    KINDS.iter().any(|kind| name.starts_with(kind))
}

fn alternative(value: &str, is_right: bool, instead: &'static str) -> Result<(), &'static str> {
    if value.contains('*') {
        return Err("write one name; a star stands for nothing here");
    }
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("write it in ASCII and without blanks, as certificates do");
    }
    (is_right && !value.is_empty()).then_some(()).ok_or(instead)
}

/// Text that is a subject as RFC 4514 writes it; of several ways that it allows, the one that is written here.
fn whole_subject(text: &str) -> Result<(), &'static str> {
    let mut backslash = false;
    let mut pieces = vec![String::new()];
    for c in text.chars() {
        match (c, backslash, pieces.last_mut()) {
            (',' | '+', false, _) => pieces.push(String::new()),
            (_, _, Some(piece)) => piece.push(c),
            (_, _, None) => {}
        }
        backslash = c == '\\' && !backslash;
    }
    let is_short = |kind: &str| TYPES.iter().any(|(_, short)| *short == kind);
    let is_numbers = |kind: &str| kind.contains('.') && kind.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    for piece in &pieces {
        let (kind, value) = piece.split_once('=').unwrap_or(("", ""));
        let is_right = match is_short(kind) {
            true => plain(value).is_some_and(|text| !text.is_empty() && escaped(&text) == value) || is_bytes(value),
            false => is_numbers(kind) && is_bytes(value) && TYPES.iter().all(|(numbers, _)| *numbers != kind),
        };
        if !is_right {
            return Err(
                "write the whole subject like \"CN=ops-1,O=Example\" (the types in capitals, no blanks around commas), or \
                 \"dns:…\", \"email:…\" or \"uri:…\"; `vestibule explain --certificate FILE` shows the names of a certificate",
            );
        }
    }
    Ok(())
}

/// The bytes of a value that is no plain text.
fn is_bytes(value: &str) -> bool {
    let digits = value.strip_prefix('#').unwrap_or_default();
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    digits.len() > 2 && digits.len().is_multiple_of(2) && digits.bytes().all(hexadecimal)
}

/// A value without its backslashes (RFC 4514 §3); `None` where one stands before nothing that needs it.
fn plain(value: &str) -> Option<String> {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'\\', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = std::str::from_utf8(rest.get(1..3)?).ok()?;
                plain.push(u8::from_str_radix(digits, 16).ok()?);
                after
            }
            (b'\\', [escaped, after @ ..]) => {
                plain.push(*escaped);
                after
            }
            (b'\\', []) => return None,
            (byte, after) => {
                plain.push(*byte);
                after
            }
        };
    }
    String::from_utf8(plain).ok()
}

/// The names of the kinds that rules know.
fn alternatives(names: &[GeneralName<'_>]) -> Result<Vec<Box<str>>, Unreadable> {
    let mut known = Vec::new();
    for name in names {
        let (written, value) = match name {
            GeneralName::DNSName(host) => (format!("dns:{}", host.to_ascii_lowercase()), *host),
            GeneralName::RFC822Name(address) => (format!("email:{}", with_lower_domain(address)), *address),
            GeneralName::URI(uri) => (format!("uri:{uri}"), *uri),
            GeneralName::Invalid(..) => return Err(Unreadable),
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_) => continue,
        };
        // All three are printable ASCII (RFC 5280 §4.2.1.6); one that is not is a trick on whoever reads it.
        if value.is_empty() || !value.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Unreadable);
        }
        known.push(written.into());
    }
    Ok(known)
}

fn with_lower_domain(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
        None => address.to_owned(),
    }
}

/// The last part first (RFC 4514 §2.1).
fn subject(name: &X509Name<'_>) -> Result<String, Unreadable> {
    let parts: Vec<_> = name.iter_rdn().collect();
    let parts = parts.into_iter().rev().map(part).collect::<Result<Vec<_>, _>>()?;
    Ok(parts.join(","))
}

fn part(part: &RelativeDistinguishedName<'_>) -> Result<String, Unreadable> {
    let attributes = part.iter().map(attribute).collect::<Result<Vec<_>, _>>()?;
    Ok(attributes.join("+"))
}

/// A type without a short name, and a value that is no plain text, are written as numbers (RFC 4514 §2.3, §2.4).
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Result<String, Unreadable> {
    let value = attribute.attr_value();
    let is_text = matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
    match short_type(attribute.attr_type()).filter(|_| is_text) {
        Some(short) => {
            let text = attribute.as_str().map_err(|_| Unreadable)?;
            Ok(format!("{short}={}", escaped(text)))
        }
        None => {
            let mut written = format!("{}=#", attribute.attr_type().to_id_string());
            for byte in value.to_der_vec().map_err(|_| Unreadable)? {
                let _ = write!(written, "{byte:02x}");
            }
            Ok(written)
        }
    }
}

fn short_type(kind: &Oid<'_>) -> Option<&'static str> {
    let numbers = kind.to_id_string();
    TYPES
        .iter()
        .find(|(known, _)| *known == numbers)
        .map(|(_, short)| *short)
}

/// As RFC 4514 §2.4 has it; what cannot be seen is written as its bytes.
fn escaped(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (index, c) in text.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => written.extend(['\\', c]),
            ' ' if index == 0 || index == last => written.push_str("\\ "),
            '#' if index == 0 => written.push_str("\\#"),
            c if c.is_control() => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(written, "\\{byte:02X}");
                }
            }
            c => written.push(c),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn made(subject: &[(DnType, DnValue)], alternatives: Vec<SanType>) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.subject_alt_names = alternatives;
        params.not_after = date_time_ymd(2030, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certificate::from_der(certificate.der()).unwrap()
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.into())
    }

    #[test]
    fn a_subject_is_written_as_rfc_4514_has_it() {
        let certificate = made(
            &[
                (DnType::CountryName, utf8("CH")),
                (DnType::OrganizationName, utf8("Ops, \"Inc\"")),
                (DnType::CommonName, utf8(" ops+1 ")),
            ],
            Vec::new(),
        );
        let names: Vec<_> = certificate.names().collect();
        assert_eq!(names, [r#"CN=\ ops\+1\ ,O=Ops\, \"Inc\",C=CH"#]);
        assert_eq!(certificate.not_after(), 1_893_456_000);
    }

    #[test]
    fn no_value_can_pretend_to_be_another_name() {
        for (value, written) in [
            ("a,O=Example", r"CN=a\,O\=Example".replace(r"\=", "=")),
            ("a\nb", r"CN=a\0Ab".into()),
            ("#ff", r"CN=\#ff".into()),
            ("dns:a", "CN=dns:a".into()),
        ] {
            let certificate = made(&[(DnType::CommonName, utf8(value))], Vec::new());
            assert_eq!(certificate.names().collect::<Vec<_>>(), [written]);
        }
        let wide = made(
            &[(DnType::CommonName, DnValue::BmpString("a".try_into().unwrap()))],
            Vec::new(),
        );
        assert_eq!(wide.names().collect::<Vec<_>>(), ["2.5.4.3=#1e020061"]);
    }

    #[test]
    fn alternative_names_stand_behind_their_kinds() {
        let certificate = made(
            &[],
            vec![
                SanType::DnsName("OPS.example.com".try_into().unwrap()),
                SanType::DnsName("*.example.com".try_into().unwrap()),
                SanType::Rfc822Name("Ops@Example.com".try_into().unwrap()),
                SanType::URI("spiffe://example.com/ops".try_into().unwrap()),
                SanType::IpAddress([127, 0, 0, 1].into()),
            ],
        );
        let names: Vec<_> = certificate.names().collect();
        assert_eq!(
            names,
            [
                "dns:ops.example.com",
                "dns:*.example.com",
                "email:Ops@example.com",
                "uri:spiffe://example.com/ops"
            ]
        );
        assert_eq!(
            certificate.hosts().collect::<Vec<_>>(),
            ["ops.example.com", "*.example.com"]
        );
        let name = Name::read("uri:spiffe://example.com/ops").unwrap();
        assert!(certificate.is_called(&name) && Certificate::called([name.clone()]).is_called(&name));
        assert!(!certificate.is_called(&Name::read("CN=ops").unwrap()));
    }

    #[test]
    fn what_no_certificate_is_called_is_refused() {
        for name in [
            "",
            "ops-1",
            "cn=ops-1",
            "CN=ops-1, O=Example",
            "/CN=ops-1",
            "dns:",
            "dns:OPS.example.com",
            "dns:*.example.com",
            "email:ops",
            "uri:ops",
            "ip:127.0.0.1",
            "CN=a\n",
            "CN=",
            "CN=a,CN=",
            "CN=ops;1",
            "CN=ops-1 ",
            "CN= ops-1",
            "CN=#ops",
            r"CN=ops\-1",
            "CN=ops\\",
            "2.5.4.3=ops-1",
            "2.5.4.3=#0c036f7073",
            "email:ops@Example.com",
            "uri:spiffe://é",
        ] {
            assert!(Name::read(name).is_err(), "{name}");
        }
        for name in [
            "CN=ops-1",
            r"CN=Ops\, Inc+UID=7,O=Example AG",
            "1.2.840.113549.1.9.1=#1601",
            r"CN=\#ops\ ",
            "CN=#1e020041",
            "dns:a.b",
            "email:a@b",
        ] {
            assert!(Name::read(name).is_ok(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(noise in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Certificate::from_der(&noise);
        }

        #[test]
        fn a_certificate_with_other_bytes_in_it_is_read_or_refused(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let params = CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let mut der = certificate.der().to_vec();
            for (place, byte) in changes {
                *place.get_mut(&mut der) = byte;
            }
            if let Ok(read) = Certificate::from_der(&der) {
                prop_assert!(read.names().all(|name| !name.contains(char::is_control)));
            }
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_names() {
        assert_eq!(Certificate::from_der(b"\x30\x03\x02\x01\x01"), Err(Unreadable));
    }
}
