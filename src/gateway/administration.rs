//! What whoever runs the gateway asks of its sessions: which there are, and that some end.
//!
//! Answered on the admin listener only, to who knows the token of `[admin]`. Nothing told here opens anything.

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{Gateway, respond};
use crate::{
    identity::{ProviderId, Subject},
    session::{Label, StoreError, Whose},
    upstream::body::Body,
};

/// As many sessions are listed at most as anybody reads.
const MAX_LISTED: usize = 10_000;

/// What is asked for.
struct Question {
    provider: Option<ProviderId>,
    subject: Option<Subject>,
}

/// Why there is no answer.
enum Refusal {
    /// The file names no token, so nobody may ask.
    Closed,
    Stranger,
    Nonsense(&'static str),
    NotFound,
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Gateway {
    /// Answers `/sessions` of the admin listener.
    pub async fn administer(&self, request: Request<Incoming>) -> Response<Body> {
        let answer = self.administered(&request).await;
        let (status, document) = match answer {
            Ok(document) => (StatusCode::OK, document),
            Err(Refusal::Closed) => refusal(StatusCode::FORBIDDEN, "write `token_file` in [admin] to be let in here"),
            Err(Refusal::Stranger) => refusal(StatusCode::UNAUTHORIZED, "send the token of [admin] as a bearer token"),
            Err(Refusal::Nonsense(why)) => refusal(StatusCode::BAD_REQUEST, why),
            Err(Refusal::NotFound) => refusal(StatusCode::NOT_FOUND, "there is no such session"),
            Err(Refusal::Store(error)) => {
                tracing::warn!(%error, "the sessions cannot be administered");
                refusal(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer")
            }
        };
        respond::json(status, &document)
    }

    async fn administered(&self, request: &Request<Incoming>) -> Result<Value, Refusal> {
        let token = self.settings.admin_token.as_ref().ok_or(Refusal::Closed)?;
        let sent = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let sent = sent
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or(Refusal::Stranger)?;
        if !token.matches(sent) {
            return Err(Refusal::Stranger);
        }
        let id = request.uri().path().strip_prefix("/sessions").unwrap_or("");
        match (request.method(), id.strip_prefix('/').filter(|id| !id.is_empty())) {
            (&Method::GET, None) => self.listed(&question(request)?).await,
            (&Method::DELETE, None) => self.revoked(&question(request)?).await,
            (&Method::DELETE, Some(id)) => match self.sessions.end_id(id).await? {
                true => Ok(json!({ "ended": 1 })),
                false => Err(Refusal::NotFound),
            },
            _ => Err(Refusal::Nonsense("GET or DELETE /sessions, or DELETE /sessions/ID")),
        }
    }

    async fn listed(&self, question: &Question) -> Result<Value, Refusal> {
        let (listed, _) = self.sessions.listed(MAX_LISTED).await?;
        let wanted = listed.iter().filter(|(_, label)| question.is_about(label));
        let sessions: Vec<Value> = wanted
            .map(|(id, label)| {
                json!({
                    "id": id,
                    "provider": label.provider,
                    "subject": label.subject,
                    "started_at": label.started_at,
                    "seen_at": label.seen_at,
                })
            })
            .collect();
        Ok(json!({ "sessions": sessions }))
    }

    /// Ends what a provider vouched for, or what one person has there; also what browsers hold themselves.
    async fn revoked(&self, question: &Question) -> Result<Value, Refusal> {
        let provider = question
            .provider
            .as_ref()
            .ok_or(Refusal::Nonsense("say which `provider`"))?;
        let provider = self
            .providers
            .by_id(provider)
            .ok_or(Refusal::Nonsense("there is no such `provider`"))?;
        let now = self.clock.now();
        let whose = question.subject.as_ref().map_or(Whose::Everybody, Whose::Subject);
        let ended = self.sessions.end_of(provider.issuer(), whose, now, now).await?;
        Ok(json!({ "ended": ended }))
    }
}

impl Question {
    fn is_about(&self, label: &Label) -> bool {
        self.provider
            .as_ref()
            .is_none_or(|provider| *provider == label.provider)
            && self.subject.as_ref().is_none_or(|subject| *subject == label.subject)
    }
}

fn question(request: &Request<Incoming>) -> Result<Question, Refusal> {
    let mut question = Question {
        provider: None,
        subject: None,
    };
    let query = request.uri().query().unwrap_or("");
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "provider" if question.provider.is_none() => question.provider = Some(ProviderId::new(&value)),
            "subject" if question.subject.is_none() => {
                let subject = Subject::new(&value).ok_or(Refusal::Nonsense("that is no `subject`"))?;
                question.subject = Some(subject);
            }
            _ => {
                return Err(Refusal::Nonsense(
                    "`provider` and `subject`, once each, is all that can be asked for",
                ));
            }
        }
    }
    Ok(question)
}

fn refusal(status: StatusCode, why: &str) -> (StatusCode, Value) {
    (status, json!({ "error": why }))
}
