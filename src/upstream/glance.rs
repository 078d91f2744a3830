//! One look at all headers of a request in the place of a search for each that matters: most are not there.

use std::ops::Deref;

use http::{HeaderMap, request::Parts};

/// Which of the headers that somebody asks about are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance(u16);

impl Glance {
    pub const ACCEPT: Self = Self(1);
    pub const AUTHORIZATION: Self = Self(1 << 1);
    pub const CONNECTION: Self = Self(1 << 2);
    pub const COOKIE: Self = Self(1 << 3);
    pub const ORIGIN: Self = Self(1 << 4);
    pub const SEC_FETCH: Self = Self(1 << 5);
    pub const TRANSFER_ENCODING: Self = Self(1 << 6);
    pub const UPGRADE: Self = Self(1 << 7);
    pub const VIA: Self = Self(1 << 8);
    pub const X_REQUESTED_WITH: Self = Self(1 << 9);

    /// Looks at each name once.
    pub fn at(headers: &HeaderMap) -> Self {
        let seen = headers.keys().map(|name| match name.as_str() {
            "accept" => Self::ACCEPT.0,
            "authorization" => Self::AUTHORIZATION.0,
            "connection" => Self::CONNECTION.0,
            "cookie" => Self::COOKIE.0,
            "origin" => Self::ORIGIN.0,
            "sec-fetch-dest" | "sec-fetch-mode" | "sec-fetch-site" => Self::SEC_FETCH.0,
            "transfer-encoding" => Self::TRANSFER_ENCODING.0,
            "upgrade" => Self::UPGRADE.0,
            "via" => Self::VIA.0,
            "x-requested-with" => Self::X_REQUESTED_WITH.0,
            _ => 0,
        });
        Self(seen.fold(0, |all, one| all | one))
    }

    /// Whether this header is there.
    pub fn has(self, header: Self) -> bool {
        self.0 & header.0 != 0
    }
}

/// The head of a request, and what of it was seen at a glance; as nobody changes the one, the other stays true.
#[derive(Clone, Copy, Debug)]
pub struct Seen<H> {
    head: H,
    there: Glance,
}

impl<H: Deref<Target = Parts>> Seen<H> {
    /// Whether this header is there.
    pub fn has(&self, header: Glance) -> bool {
        self.there.has(header)
    }

    /// The same, for whoever only reads it.
    pub fn borrowed(&self) -> Seen<&Parts> {
        Seen {
            head: &self.head,
            there: self.there,
        }
    }

    /// What was seen, and the head, which may change now.
    pub fn into_head(self) -> (Glance, H) {
        (self.there, self.head)
    }
}

impl<H: Deref<Target = Parts>> From<H> for Seen<H> {
    fn from(head: H) -> Self {
        let there = Glance::at(&head.headers);
        Self { head, there }
    }
}

impl<H: Deref<Target = Parts>> Deref for Seen<H> {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_seen_and_nothing_else() {
        let each = [
            ("accept", Glance::ACCEPT),
            ("authorization", Glance::AUTHORIZATION),
            ("connection", Glance::CONNECTION),
            ("cookie", Glance::COOKIE),
            ("origin", Glance::ORIGIN),
            ("sec-fetch-dest", Glance::SEC_FETCH),
            ("sec-fetch-mode", Glance::SEC_FETCH),
            ("sec-fetch-site", Glance::SEC_FETCH),
            ("transfer-encoding", Glance::TRANSFER_ENCODING),
            ("upgrade", Glance::UPGRADE),
            ("via", Glance::VIA),
            ("x-requested-with", Glance::X_REQUESTED_WITH),
        ];
        for (name, header) in each {
            let headers = HeaderMap::from_iter([
                ("host".parse().unwrap(), "a".parse().unwrap()),
                (name.parse().unwrap(), "b".parse().unwrap()),
            ]);
            for (_, other) in each {
                assert_eq!(Glance::at(&headers).has(other), other == header, "{name}");
            }
        }
    }
}
