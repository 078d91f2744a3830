//! The one more time that a request may be sent after something of it was (F-07).

use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::{METHOD_OVERRIDES, headers::folded, upload::RequestBody};

/// Whether a request may be sent once more, and what it takes to do so. Only what was never sent does not count.
#[derive(Debug, Default)]
pub(super) enum Again {
    /// Nothing was kept that could be sent again.
    #[default]
    Nothing,
    Kept(Box<Kept>),
    /// It was sent a second time, and there is no third; or an answer had begun.
    Spent,
}

/// What a request without a body looked like. Its headers stand one behind the other, which takes a quarter of the time
/// of a map's copy, and most requests are sent once and never need it.
#[derive(Debug)]
pub(super) struct Kept {
    method: Method,
    uri: Uri,
    version: Version,
    /// Lengths and bytes, by turns a name's and a value's.
    headers: Vec<u8>,
}

/// What a short head takes, and what the allocator still counts as small.
const HEAD: usize = 1_000;

/// Beside the length of a value: it is kept out of the tables of HTTP/2 (RFC 7541 §7.1.3).
const SENSITIVE: usize = 1 << (usize::BITS - 1);

impl Again {
    /// Notes what the request looks like, unless there is a body that could be half sent.
    pub(super) fn keep(&mut self, request: &Request<RequestBody>) {
        if let (Self::Nothing, RequestBody::Empty) = (&self, request.body()) {
            *self = Self::Kept(Box::new(Kept::of(request)));
        }
    }

    /// Whether a request without a body that is still at hand may be sent once more; if so, there is no third time.
    pub(super) fn may_repeat(&mut self, request: &Request<RequestBody>) -> bool {
        let may = !self.is_spent() && does_no_harm(request);
        if may {
            *self = Self::Spent;
        }
        may
    }

    pub(super) fn is_spent(&self) -> bool {
        matches!(self, Self::Spent)
    }

    /// The request, after the other side said that it did nothing about it.
    pub(super) fn spend_untouched(&mut self) -> Option<Request<RequestBody>> {
        self.spend_if(|_| true)
    }

    /// The request, after something may have been done about it: only what does no harm twice (RFC 9110 §9.2.1).
    pub(super) fn spend(&mut self) -> Option<Request<RequestBody>> {
        self.spend_if(does_no_harm)
    }

    fn spend_if(&mut self, is_good: impl FnOnce(&Request<RequestBody>) -> bool) -> Option<Request<RequestBody>> {
        let request = match self {
            Self::Kept(kept) => kept.request().filter(is_good)?,
            Self::Nothing | Self::Spent => return None,
        };
        *self = Self::Spent;
        Some(request)
    }

    pub(super) fn give_up(&mut self) {
        *self = Self::Spent;
    }
}

/// Whether it is safe, and not another method to the application than to us.
fn does_no_harm(request: &Request<RequestBody>) -> bool {
    let is_override = |name: &HeaderName| METHOD_OVERRIDES.contains(&&*folded(name.as_str()));
    request.method().is_safe() && !request.headers().keys().any(is_override)
}

impl Kept {
    fn of(request: &Request<RequestBody>) -> Self {
        let mut headers = Vec::with_capacity(HEAD);
        for (name, value) in request.headers() {
            push(&mut headers, name.as_str().as_bytes(), 0);
            let mark = if value.is_sensitive() { SENSITIVE } else { 0 };
            push(&mut headers, value.as_bytes(), mark);
        }
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers,
        }
    }

    fn request(&self) -> Option<Request<RequestBody>> {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        let mut rest = &*self.headers;
        while !rest.is_empty() {
            let (name, _) = shift(&mut rest)?;
            let (value, is_sensitive) = shift(&mut rest)?;
            let name = HeaderName::from_bytes(name).ok()?;
            let mut value = HeaderValue::from_bytes(value).ok()?;
            value.set_sensitive(is_sensitive);
            request.headers_mut().append(name, value);
        }
        Some(request)
    }
}

fn push(kept: &mut Vec<u8>, bytes: &[u8], mark: usize) {
    kept.extend_from_slice(&(bytes.len() | mark).to_ne_bytes());
    kept.extend_from_slice(bytes);
}

/// The next bytes, and whether they are marked.
fn shift<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], bool)> {
    let (length, behind) = rest.split_first_chunk()?;
    let length = usize::from_ne_bytes(*length);
    let (bytes, behind) = behind.split_at_checked(length & !SENSITIVE)?;
    *rest = behind;
    Some((bytes, length & SENSITIVE != 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(method: Method) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = method;
        request
    }

    #[test]
    fn only_what_does_no_harm_twice_is_sent_twice_and_nothing_three_times() {
        for (method, safe) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::OPTIONS, true),
            (Method::PUT, false),
            (Method::DELETE, false),
            (Method::POST, false),
        ] {
            let mut again = Again::default();
            again.keep(&request(method.clone()));
            assert_eq!(again.spend().is_some(), safe, "{method}");
            assert_eq!(again.is_spent(), safe, "{method}");
            again.keep(&request(method.clone()));
            assert_eq!(again.spend_untouched().is_none(), safe, "{method}");
            assert!(again.is_spent(), "{method}");
            again.keep(&request(method.clone()));
            assert!(again.spend().is_none() && again.spend_untouched().is_none(), "{method}");
        }
        assert!(Again::default().spend().is_none());
    }

    #[test]
    fn what_an_application_may_take_for_another_method_is_not_safe() {
        for name in ["x-http-method-override", "x-http-method", "x_method_override"] {
            let mut disguised = request(Method::GET);
            disguised.headers_mut().insert(name, HeaderValue::from_static("DELETE"));
            let mut again = Again::default();
            again.keep(&disguised);
            assert!(again.spend().is_none(), "{name}");
            assert!(again.spend_untouched().is_some(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_again_looks_as_it_did(
            fields in prop::collection::vec(
                ("[a-z-]{1,9}", prop::collection::vec(b' '..=b'~', 0..40), prop::bool::ANY),
                0..60,
            ),
        ) {
            let mut first = request(Method::GET);
            *first.uri_mut() = "https://wiki.example.com:8443/a%20b?c=d".parse().unwrap();
            *first.version_mut() = Version::HTTP_2;
            for (name, value, is_sensitive) in &fields {
                let mut value = HeaderValue::from_bytes(value).unwrap();
                value.set_sensitive(*is_sensitive);
                first.headers_mut().append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
            let mut again = Again::default();
            again.keep(&first);
            let second = again.spend().unwrap();
            prop_assert_eq!((second.uri(), second.version()), (first.uri(), first.version()));
            prop_assert_eq!(second.headers(), first.headers());
            let marks = |request: &Request<RequestBody>| -> Vec<_> {
                request.headers().values().map(HeaderValue::is_sensitive).collect()
            };
            prop_assert_eq!(marks(&second), marks(&first));
        }
    }
}
