//! A development authorization server: OAuth 2.0 and OpenID Connect as they are written, for people who do not exist.
//!
//! `authorize` logs in and hands out codes, `token` turns them into tokens, `endpoints` has what is asked about tokens
//! afterwards, `issue` makes them, `state` remembers them.

mod authorize;
mod client_authentication;
mod control;
mod endpoints;
mod issue;
mod logout;
mod overage;
mod pages;
mod state;
#[cfg(test)]
mod tests;
mod token;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};

use self::{
    control::Control,
    state::{Shelf, State},
};
pub use self::{
    control::{Fault, Place},
    logout::Gone,
};
use super::{
    keys::Keys,
    site::{self, Answer, Open, Site},
};
use crate::{provider::transport::HttpTransport, secret::Secret, time::Clock};

/// An application that is registered at the server.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    /// `None`: a public client.
    pub secret: Option<Secret>,
    pub redirect_uris: Vec<String>,
    pub post_logout_redirect_uris: Vec<String>,
    /// Where it wants to be told that somebody is gone.
    pub backchannel_logout_uri: Option<String>,
    /// Who its access tokens are for.
    pub audience: String,
    pub access_tokens: AccessTokenKind,
    /// What it may ask for; the rest is left out silently (RFC 6749 §3.3).
    pub scopes: Vec<String>,
}

/// What an access token looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessTokenKind {
    /// RFC 9068.
    #[default]
    Jwt,
    /// A random string, which only introspection understands.
    Opaque,
}

/// Somebody who can log in.
#[derive(Clone, Debug)]
pub struct User {
    pub username: String,
    pub password: Secret,
    pub sub: String,
    pub name: String,
    /// A verified one.
    pub email: Option<String>,
    pub groups: Vec<String>,
}

impl User {
    /// Somebody in no group, whose password is their name and whose address is at example.com.
    pub fn named(username: &str) -> Self {
        Self {
            username: username.to_owned(),
            password: Secret::new(username),
            sub: username.to_owned(),
            name: username.to_owned(),
            email: Some(format!("{username}@example.com")),
            groups: Vec::new(),
        }
    }
}

/// What a server is before it listens.
pub struct Builder {
    clock: Arc<dyn Clock>,
    clients: Vec<Client>,
    users: Vec<User>,
    access_token_lifetime: Duration,
    claims_in_userinfo_only: Vec<String>,
}

impl Builder {
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.clients.push(client);
        self
    }

    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }

    #[must_use]
    pub fn access_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.access_token_lifetime = lifetime;
        self
    }

    /// Claims that ID tokens leave to the userinfo endpoint.
    #[must_use]
    pub fn claims_in_userinfo_only(mut self, claims: &[&str]) -> Self {
        self.claims_in_userinfo_only = claims.iter().map(|claim| (*claim).to_owned()).collect();
        self
    }

    /// Starts serving.
    ///
    /// # Errors
    /// `InvalidInput` for anything but a loopback address, and what binding the socket says.
    pub async fn listen(self, address: SocketAddr) -> io::Result<AuthorizationServer> {
        let listener = site::bind(address).await?;
        let address = listener.local_addr()?;
        let state = State {
            keys: Keys::generate().map_err(io::Error::other)?,
            clients: self.clients,
            users: self.users,
            logins: Shelf::new(),
            codes: Shelf::new(),
            access_tokens: Shelf::new(),
            refresh_tokens: Shelf::new(),
            groups_in_tokens: usize::MAX,
            keeps_refresh_tokens: false,
        };
        let office = Arc::new(Office {
            issuer: format!("http://{address}"),
            clock: self.clock,
            access_token_lifetime: self.access_token_lifetime,
            claims_in_userinfo_only: self.claims_in_userinfo_only,
            control: Control::default(),
            post: logout::post_office()?,
            state: Mutex::new(state),
        });
        let open = Mutex::new(Open::serve(listener, office.clone()));
        Ok(AuthorizationServer { address, office, open })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("clients", &self.clients)
            .field("users", &self.users)
            .finish_non_exhaustive()
    }
}

/// A server that listens on loopback until it is dropped.
#[derive(Debug)]
pub struct AuthorizationServer {
    address: SocketAddr,
    office: Arc<Office>,
    open: Mutex<Open>,
}

impl AuthorizationServer {
    pub fn builder(clock: Arc<dyn Clock>) -> Builder {
        Builder {
            clock,
            clients: Vec::new(),
            users: Vec::new(),
            access_token_lifetime: Duration::from_secs(5 * 60),
            claims_in_userinfo_only: Vec::new(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn issuer(&self) -> &str {
        &self.office.issuer
    }

    /// Closes the socket and every connection at once; the future is ready when that has happened.
    pub fn stop(&self) -> impl Future<Output = ()> + Send + use<> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).stop()
    }

    /// Listens at the same address again, with the same keys and tokens.
    ///
    /// # Errors
    /// What binding the socket says.
    pub async fn start_again(&self) -> io::Result<()> {
        self.stop().await;
        let listener = site::bind(self.address).await?;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Open::serve(listener, self.office.clone());
        Ok(())
    }
}

/// What all requests share.
struct Office {
    issuer: String,
    clock: Arc<dyn Clock>,
    access_token_lifetime: Duration,
    claims_in_userinfo_only: Vec<String>,
    control: Control,
    post: HttpTransport,
    /// Never locked across an await.
    state: Mutex<State>,
}

impl Office {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn route(self: &Arc<Self>, request: &Request<Bytes>) -> Answer {
        let method = if request.method() == http::Method::HEAD {
            "GET"
        } else {
            request.method().as_str()
        };
        match (method, request.uri().path()) {
            ("GET", "/") => self.welcome(request),
            ("GET", endpoints::OPENID_METADATA | endpoints::OAUTH_METADATA) => self.metadata(),
            ("GET", "/authorize") => self.authorize(request),
            ("POST", "/login") => self.log_in(request),
            ("POST", "/token") => self.token(request),
            ("GET", "/jwks") => site::json(StatusCode::OK, &self.state().keys.published()),
            ("POST", "/introspect") => self.introspect(request),
            ("POST", "/revoke") => self.revoke(request),
            ("GET" | "POST", "/userinfo") => self.userinfo(request),
            ("GET", "/claims") => self.distributed_claims(request),
            ("GET", "/member_of") => self.member_of(request),
            ("GET" | "POST", "/logout") => self.log_out(request),
            _ => pages::notice(
                StatusCode::NOT_FOUND,
                "There is nothing here",
                "No page has this address.",
            ),
        }
    }
}

impl Site for Office {
    async fn answer(self: Arc<Self>, request: Request<Bytes>) -> Answer {
        match self.control.arrive(request.uri().path()) {
            Some(Fault::Answer {
                status,
                content_type,
                body,
            }) => site::answer(status, &content_type, body),
            Some(Fault::Delay(delay)) => {
                let answer = self.route(&request);
                tokio::time::sleep(delay).await;
                answer
            }
            None => self.route(&request),
        }
    }
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
