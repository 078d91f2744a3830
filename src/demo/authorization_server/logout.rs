//! Telling applications that somebody is gone (OpenID Connect Back-Channel Logout).

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{AuthorizationServer, Office, state::State};
use crate::{
    provider::{
        CallLimits,
        transport::{HttpTransport, SendError, Transport},
    },
    secret::random_text,
    trust::TrustRoots,
};

/// Who is gone: what stands in a logout token for it.
#[derive(Clone, Debug)]
pub enum Gone {
    /// Somebody, with all sessions.
    User(String),
    /// One session of somebody.
    Session { sub: String, sid: String },
}

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
const LIFETIME: Duration = Duration::from_secs(120);

/// What goes out to one application.
pub(super) struct Notice {
    uri: String,
    token: String,
}

/// Where notices go out.
pub(super) fn post_office() -> io::Result<HttpTransport> {
    HttpTransport::new(&TrustRoots::Only(Vec::new()), CallLimits::default()).map_err(io::Error::other)
}

impl AuthorizationServer {
    /// Ends all single sign-on of somebody, and tells every application that wants to know; says what they answered.
    ///
    /// # Errors
    /// Of the first application that does not answer at all.
    pub async fn log_out(&self, username: &str) -> Result<Vec<StatusCode>, SendError> {
        let notices = {
            let mut state = self.office.state();
            state.logins.keep(|login| login.username != username);
            let sub = state.user(username).map_or(username, |user| &user.sub).to_owned();
            self.office.notices(&state, &Gone::User(sub))
        };
        let mut answers = Vec::new();
        for notice in notices {
            answers.push(self.office.deliver(notice).await?);
        }
        Ok(answers)
    }

    /// The `sid` of each of somebody's sessions here.
    pub fn sessions_of(&self, username: &str) -> Vec<String> {
        let state = self.office.state();
        let theirs = state.logins.all().filter(|login| login.username == username);
        theirs.map(|login| login.sid.clone()).collect()
    }

    /// A logout token for an application, which is not sent.
    pub fn logout_token(&self, client: &str, gone: &Gone) -> String {
        self.office.logout_token(&self.office.state(), client, gone)
    }
}

impl Office {
    /// One for each application that wants to know.
    pub(super) fn notices(&self, state: &State, gone: &Gone) -> Vec<Notice> {
        let wanted = state.clients.iter().filter_map(|client| {
            let uri = client.backchannel_logout_uri.clone()?;
            let token = self.logout_token(state, &client.id, gone);
            Some(Notice { uri, token })
        });
        wanted.collect()
    }

    /// Delivers beside whatever else happens; an application that is away is not told later.
    pub(super) fn deliver_later(self: Arc<Self>, notices: Vec<Notice>) {
        tokio::spawn(async move {
            for notice in notices {
                let uri = notice.uri.clone();
                match self.deliver(notice).await {
                    Ok(status) => tracing::debug!(uri, %status, "an application was told of a logout"),
                    Err(error) => tracing::warn!(uri, %error, "an application could not be told of a logout"),
                }
            }
        });
    }

    async fn deliver(&self, notice: Notice) -> Result<StatusCode, SendError> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("logout_token", &notice.token)
            .finish();
        let request = Request::builder()
            .method(Method::POST)
            .uri(notice.uri)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .map_err(|error| SendError::Unreachable(error.to_string()))?;
        Ok(self.post.send(request).await?.status())
    }

    /// OpenID Connect Back-Channel Logout §2.4.
    fn logout_token(&self, state: &State, client: &str, gone: &Gone) -> String {
        let now = self.clock.now();
        let mut claims = Map::from_iter([
            ("iss".to_owned(), json!(self.issuer)),
            ("aud".to_owned(), json!(client)),
            ("iat".to_owned(), json!(now)),
            ("exp".to_owned(), json!(now.plus(LIFETIME))),
            ("jti".to_owned(), json!(random_text::<16>())),
            ("events".to_owned(), json!({ EVENT: {} })),
        ]);
        match gone {
            Gone::User(sub) => drop(claims.insert("sub".to_owned(), json!(sub))),
            Gone::Session { sub, sid } => {
                claims.insert("sub".to_owned(), json!(sub));
                claims.insert("sid".to_owned(), json!(sid));
            }
        }
        state
            .keys
            .sign(&state.keys.header("logout+jwt"), &Value::Object(claims))
    }
}
