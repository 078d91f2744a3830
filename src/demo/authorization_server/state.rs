//! What the development authorization server remembers, in memory, and never more than so much of it.

use std::collections::{BTreeMap, VecDeque};

use super::{Client, User};
use crate::{demo::keys::Keys, secret::random_text, time::Timestamp};

/// Everything that changes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) keys: Keys,
    pub(super) clients: Vec<Client>,
    pub(super) users: Vec<User>,
    pub(super) logins: Shelf<Login>,
    pub(super) codes: Shelf<Code>,
    pub(super) access_tokens: Shelf<AccessToken>,
    pub(super) refresh_tokens: Shelf<RefreshToken>,
    /// Who is in more groups than this has them told elsewhere.
    pub(super) groups_in_tokens: usize,
    /// Whether it issues none of them.
    pub(super) keeps_refresh_tokens: bool,
}

/// Somebody's single sign-on, by the value of its cookie.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) at: Timestamp,
    pub(super) factors: Factors,
    pub(super) sid: String,
}

/// What somebody proved themselves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factors {
    Password,
    PasswordAndCode,
}

impl Factors {
    /// The authentication context class (OpenID Connect Core §2).
    pub(super) const fn acr(self) -> &'static str {
        match self {
            Self::Password => "urn:demo:password",
            Self::PasswordAndCode => "urn:demo:mfa",
        }
    }

    /// RFC 8176.
    pub(super) const fn amr(self) -> &'static [&'static str] {
        match self {
            Self::Password => &["pwd"],
            Self::PasswordAndCode => &["pwd", "otp", "mfa"],
        }
    }
}

/// What a login granted to a client; all tokens that come from it are one family.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) family: String,
    pub(super) client: String,
    pub(super) login: Login,
    pub(super) scope: String,
    pub(super) nonce: Option<String>,
}

/// An authorization code, by its value.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) grant: Grant,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
    pub(super) until: Timestamp,
    pub(super) used: bool,
}

/// A refresh token, by its value.
#[derive(Clone, Debug)]
pub(super) struct RefreshToken {
    pub(super) grant: Grant,
    pub(super) used: bool,
}

/// An access token of either kind, by its value.
#[derive(Clone, Debug)]
pub(super) struct AccessToken {
    /// Of the grant that it came from; of its own without one.
    pub(super) family: String,
    pub(super) client: String,
    /// `None`: the client's own.
    pub(super) username: Option<String>,
    pub(super) audience: String,
    pub(super) scope: String,
    pub(super) id: String,
    pub(super) issued: Timestamp,
    pub(super) until: Timestamp,
}

impl State {
    pub(super) fn client(&self, id: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.id == id)
    }

    pub(super) fn user(&self, username: &str) -> Option<&User> {
        self.users.iter().find(|user| user.username == username)
    }

    pub(super) fn log_in(&mut self, username: &str, factors: Factors, now: Timestamp) -> (String, Login) {
        let login = Login {
            username: username.to_owned(),
            at: now,
            factors,
            sid: random_text::<12>(),
        };
        let cookie = random_text::<32>();
        self.logins.put(cookie.clone(), login.clone());
        (cookie, login)
    }

    /// Ends every token that came from one grant (RFC 9700 §2.1.1 and §4.14.2).
    pub(super) fn revoke_family(&mut self, family: &str) {
        self.access_tokens.keep(|token| token.family != family);
        self.refresh_tokens.keep(|token| token.grant.family != family);
    }
}

/// Things by their keys; a full shelf loses what was put there first.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    things: BTreeMap<String, T>,
    order: VecDeque<String>,
}

const MOST_THINGS: usize = 5_000;

impl<T> Shelf<T> {
    pub(super) const fn new() -> Self {
        Self {
            things: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn put(&mut self, key: String, thing: T) {
        if self.order.len() >= MOST_THINGS
            && let Some(first) = self.order.pop_front()
        {
            self.things.remove(&first);
        }
        self.order.push_back(key.clone());
        self.things.insert(key, thing);
    }

    pub(super) fn at(&self, key: &str) -> Option<&T> {
        self.things.get(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.things.values()
    }

    pub(super) fn at_mut(&mut self, key: &str) -> Option<&mut T> {
        self.things.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<T> {
        let thing = self.things.remove(key)?;
        self.order.retain(|candidate| candidate != key);
        Some(thing)
    }

    pub(super) fn keep(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        self.things.retain(|_, thing| wanted(thing));
        self.order.retain(|key| self.things.contains_key(key));
    }

    pub(super) fn clear(&mut self) {
        self.things.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_shelf_loses_what_came_first() {
        let mut shelf = Shelf::new();
        for number in 0..=MOST_THINGS {
            shelf.put(number.to_string(), number);
        }
        assert_eq!(shelf.at("0"), None);
        assert_eq!(shelf.at("1"), Some(&1));
        assert_eq!(shelf.remove("1"), Some(1));
        assert_eq!(shelf.order.len(), shelf.things.len());
    }
}
