//! The messages of `envoy.service.auth.v3.Authorization/Check`, as far as they matter here, in the encoding of Protocol
//! Buffers: a field's number and kind, and then its value.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// A request that Envoy asks about.
#[derive(Debug)]
pub(super) struct CheckRequest<'a> {
    pub(super) method: &'a str,
    pub(super) scheme: &'a str,
    pub(super) host: &'a str,
    /// Path and query.
    pub(super) path: &'a str,
    pub(super) headers: HeaderMap,
    /// Where the client is.
    pub(super) source: IpAddr,
}

/// It is no such message, or says a thing twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> CheckRequest<'a> {
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let attributes = needed(message, 1)?;
        // Peer.address, Address.socket_address, SocketAddress.address
        let source = needed(needed(needed(attributes, 1)?, 1)?, 1)?;
        let request = needed(needed(attributes, 4)?, 2)?;
        Ok(Self {
            method: text(needed(request, 2)?)?,
            scheme: text(needed(request, 6)?)?,
            host: text(needed(request, 5)?)?,
            path: text(needed(request, 4)?)?,
            headers: headers(request)?,
            source: text(needed(source, 2)?)?.parse().map_err(|_| Malformed)?,
        })
    }
}

/// The map of names and values; what begins with a colon is said elsewhere.
fn headers(request: &[u8]) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::new();
    for entry in all(request, 3) {
        let entry = entry?;
        let name = needed(entry, 1)?;
        if name.starts_with(b":") {
            continue;
        }
        let name = HeaderName::from_bytes(name).map_err(|_| Malformed)?;
        let value = only(entry, 2)?.unwrap_or_default();
        let value = HeaderValue::from_bytes(value).map_err(|_| Malformed)?;
        headers.append(name, value);
    }
    // Where Envoy is told to send headers as they are, they stand elsewhere, and nothing would be seen here.
    match only(request, 13)? {
        None => Ok(headers),
        Some(_) => Err(Malformed),
    }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

fn needed(message: &[u8], number: u64) -> Result<&[u8], Malformed> {
    only(message, number)?.ok_or(Malformed)
}

/// A field of bytes that stands at most once.
fn only(message: &[u8], number: u64) -> Result<Option<&[u8]>, Malformed> {
    let mut fields = all(message, number);
    let field = fields.next().transpose()?;
    match fields.next() {
        None => Ok(field),
        Some(_) => Err(Malformed),
    }
}

fn all(message: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields(message).filter_map(move |field| match field {
        Ok((this, value)) => (this == number).then(|| value.ok_or(Malformed)),
        Err(error) => Some(Err(error)),
    })
}

/// The fields of a message: number, and the value where it is bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Option<&'a [u8]>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Option<&'a [u8]>), Malformed> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => {
                self.varint()?;
                None
            }
            1 => {
                self.bytes(8)?;
                None
            }
            2 => {
                let length = self.varint()?;
                Some(self.bytes(length)?)
            }
            5 => {
                self.bytes(4)?;
                None
            }
            _ => return Err(Malformed),
        };
        Ok((key >> 3, value))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }
}

/// `OkHttpResponse`: what the request is to carry on, what it may not, and the cookies of the answer to it.
pub(super) fn allowed(told: &HeaderMap, absent: &[HeaderName], cookies: &[HeaderValue]) -> Vec<u8> {
    let mut ok = Vec::new();
    for (name, value) in told {
        put(&mut ok, 2, &header_option(name, value, Place::Instead));
    }
    for name in absent {
        put(&mut ok, 5, name.as_str().as_bytes());
    }
    for cookie in cookies {
        put(&mut ok, 6, &header_option(&header::SET_COOKIE, cookie, Place::Beside));
    }
    let mut message = Vec::new();
    put(&mut message, 1, &[]);
    put(&mut message, 3, &ok);
    message
}

/// `DeniedHttpResponse`: the answer to the client, as it stands.
pub(super) fn denied(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let mut denied = Vec::new();
    let mut code = Vec::new();
    put_number(&mut code, 1, status.as_u16().into());
    put(&mut denied, 1, &code);
    // Envoy sets those of one name side by side here, and drops what is to be appended.
    for (name, value) in headers {
        put(&mut denied, 2, &header_option(name, value, Place::Instead));
    }
    put(&mut denied, 3, body);
    let mut refused = Vec::new();
    // google.rpc.Code: PERMISSION_DENIED
    put_number(&mut refused, 1, 7);
    let mut message = Vec::new();
    put(&mut message, 1, &refused);
    put(&mut message, 2, &denied);
    message
}

/// Where a header goes that has others of its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Instead,
    Beside,
}

/// `HeaderValueOption`, with `append` as the place wants it.
fn header_option(name: &HeaderName, value: &HeaderValue, place: Place) -> Vec<u8> {
    let mut pair = Vec::new();
    put(&mut pair, 1, name.as_str().as_bytes());
    // As text where it is text, which older ones want; else as it is.
    let number = match std::str::from_utf8(value.as_bytes()) {
        Ok(_) => 2,
        Err(_) => 3,
    };
    put(&mut pair, number, value.as_bytes());
    let mut option = Vec::new();
    put(&mut option, 1, &pair);
    let mut flag = Vec::new();
    if place == Place::Beside {
        put_number(&mut flag, 1, 1);
    }
    put(&mut option, 2, &flag);
    option
}

fn put(message: &mut Vec<u8>, number: u64, value: &[u8]) {
    put_varint(message, number << 3 | 2);
    put_varint(message, u64::try_from(value.len()).unwrap_or(u64::MAX));
    message.extend_from_slice(value);
}

fn put_number(message: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(message, number << 3);
    put_varint(message, value);
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        message.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    message.push(u8::try_from(value).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
        let mut message = Vec::new();
        for (number, value) in fields {
            put(&mut message, *number, value);
        }
        message
    }

    fn check(http: &[(u64, &[u8])]) -> Vec<u8> {
        let mut socket = message(&[(2, b"203.0.113.7")]);
        put_number(&mut socket, 3, 40_000);
        let source = message(&[(1, &message(&[(1, &socket)]))]);
        let request = message(&[(2, &message(http))]);
        message(&[(1, &message(&[(1, &source), (4, &request)]))])
    }

    const HTTP: [(u64, &[u8]); 4] = [(2, b"GET"), (4, b"/x?y"), (5, b"wiki.example.com"), (6, b"https")];

    #[test]
    fn a_check_is_read() {
        let (host, cookie) = (
            message(&[(1, b":path"), (2, b"/y")]),
            message(&[(1, b"cookie"), (2, b"a=b")]),
        );
        let bytes = check(&[&HTTP[..], &[(3, &host), (3, &cookie)]].concat());
        let check = CheckRequest::read(&bytes).unwrap();
        let read = (check.method, check.scheme, check.host, check.path);
        assert_eq!(read, ("GET", "https", "wiki.example.com", "/x?y"));
        assert_eq!(check.source, IpAddr::from([203, 0, 113, 7]));
        assert_eq!(
            (check.headers.len(), &check.headers["cookie"]),
            (1, &HeaderValue::from_static("a=b"))
        );
    }

    #[test]
    fn what_is_missing_or_stands_twice_is_no_check() {
        assert!(CheckRequest::read(&check(&HTTP)).is_ok());
        for at in 0..HTTP.len() {
            let mut some = HTTP.to_vec();
            some.remove(at);
            assert!(CheckRequest::read(&check(&some)).is_err());
            let twice = [&HTTP[..], &HTTP[at..=at]].concat();
            assert!(CheckRequest::read(&check(&twice)).is_err());
        }
        assert!(
            CheckRequest::read(&check(&[&HTTP[..], &[(13, b"")]].concat())).is_err(),
            "raw headers"
        );
        assert!(CheckRequest::read(b"").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = CheckRequest::read(&bytes);
        }

        #[test]
        fn no_damage_panics_or_goes_on_for_ever(at in 0..100_usize, byte in any::<u8>(), length in 0..100_usize) {
            let mut bytes = check(&HTTP);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(length.max(1));
            let _ = CheckRequest::read(&bytes);
        }

        #[test]
        fn numbers_are_read_as_they_were_written(value in any::<u64>()) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(Fields(&bytes).varint(), Ok(value));
        }
    }
}
