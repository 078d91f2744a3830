//! What whoever runs the gateway asks of its sessions: which there are, and that some end; and why somebody was refused.
//!
//! Answered on the admin listener only, to who knows the token of `[admin]`. Nothing told here opens anything.

mod decisions;
mod question;

use std::{borrow::Cow, net::IpAddr, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::question::{Nonsense, Question};
use super::{Gateway, limits::TooMany, respond};
use crate::{
    provider::Provider,
    session::{Label, StoreError, StoreSettings, Whose},
    upstream::body::Body,
};

/// As many sessions are looked at for one question.
const MAX_SEARCHED: usize = 100_000;
/// As many are listed as anybody reads, and as many are ended one by one.
const MAX_ANSWERED: usize = 10_000;
/// How long sessions are ended one by one for one question.
const ENDING_TIME: Duration = Duration::from_secs(20);

/// Why there is no answer.
enum Refusal {
    /// The file names no token, so nobody may ask.
    Closed,
    Stranger,
    TooMany(TooMany),
    Nonsense(Nonsense),
    NotFound(&'static str),
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<TooMany> for Refusal {
    fn from(error: TooMany) -> Self {
        Self::TooMany(error)
    }
}

impl From<Nonsense> for Refusal {
    fn from(why: Nonsense) -> Self {
        Self::Nonsense(why)
    }
}

/// Sessions that a question is about, the oldest first.
struct Found {
    sessions: Vec<(Box<str>, Label)>,
    /// Whether the store keeps no more than was looked at.
    all_searched: bool,
}

/// What became of sessions that were to end.
struct Revoked {
    /// Unknown of those that only browsers have.
    ended: Option<usize>,
    /// Whether nothing is left to be ended.
    complete: bool,
    note: Option<&'static str>,
}

impl Gateway {
    /// Answers `/sessions` and `/decisions` of the admin listener.
    pub async fn administer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let asked = match self.let_in(&request, peer) {
            Ok(()) => match request.uri().path().strip_prefix("/decisions") {
                Some(which) => self.decided(&request, which),
                None => self.administered(&request, peer).await,
            },
            Err(refusal) => Err(refusal),
        };
        match asked {
            Ok(document) => respond::json(StatusCode::OK, &document),
            Err(refusal) => refused(&refusal),
        }
    }

    /// Who keeps guessing is not told whether a guess is right.
    fn let_in(&self, request: &Request<Incoming>, peer: IpAddr) -> Result<(), Refusal> {
        let token = self.settings.admin_token.as_ref().ok_or(Refusal::Closed)?;
        self.limits.bad_admins.look(peer)?;
        let sent = request.headers().get(header::AUTHORIZATION);
        let sent = sent.and_then(|value| value.to_str().ok());
        let sent = sent.and_then(|value| value.strip_prefix("Bearer "));
        if sent.is_some_and(|sent| token.matches(sent)) {
            return Ok(());
        }
        if sent.is_some() {
            tracing::warn!(%peer, "somebody who is no administrator asked");
            self.limits.bad_admins.count(peer)?;
        }
        Err(Refusal::Stranger)
    }

    async fn administered(&self, request: &Request<Incoming>, peer: IpAddr) -> Result<Value, Refusal> {
        let id = request.uri().path().strip_prefix("/sessions/");
        let question = Question::read(request.uri().query().unwrap_or(""))?;
        self.check_provider(&question)?;
        match (request.method(), id) {
            (&Method::GET, None) => self.listed(&question).await,
            (&Method::DELETE, None) => self.revoked(&question, peer).await,
            (_, Some("")) => Err(nonsense("say which session after `/sessions/`")),
            (&Method::DELETE, Some(id)) if question.is_empty() => self.revoked_one(id, peer).await,
            (&Method::DELETE, Some(_)) => Err(nonsense("name one session or say what they have in common, not both")),
            _ => Err(nonsense("send GET or DELETE to /sessions, or DELETE to /sessions/ID")),
        }
    }

    /// A name that is mistyped must not read like a person without sessions.
    fn check_provider(&self, question: &Question) -> Result<(), Refusal> {
        match &question.provider {
            Some(id) if self.providers.by_id(id).is_none() => {
                let known: Vec<_> = self.providers.iter().map(|provider| provider.id().as_str()).collect();
                let known = known.join(", ");
                Err(Refusal::Nonsense(
                    format!("there is no provider `{id}`; the file has {known}").into(),
                ))
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn listed(&self, question: &Question) -> Result<Value, Refusal> {
        let found = self.found(question).await?;
        let sessions: Vec<Value> = found.sessions.iter().take(MAX_ANSWERED).map(shown).collect();
        let store = &self.sessions.settings().store;
        Ok(json!({
            "sessions": sessions,
            "complete": found.all_searched && found.left_out() == 0 && !store.is_cookie(),
            "left_out": found.left_out(),
            "note": found.note(store),
            "now": self.clock.now(),
        }))
    }

    async fn found(&self, question: &Question) -> Result<Found, Refusal> {
        let now = self.clock.now();
        let (mut sessions, all_searched) = self.sessions.listed(MAX_SEARCHED).await?;
        sessions.retain(|(_, label)| question.is_about(label, now));
        sessions
            .sort_by(|(id, label), (other_id, other)| (label.started_at, &**id).cmp(&(other.started_at, &**other_id)));
        Ok(Found { sessions, all_searched })
    }

    async fn revoked_one(&self, id: &str, peer: IpAddr) -> Result<Value, Refusal> {
        if !self.sessions.end_id(id).await? {
            return Err(Refusal::NotFound(
                "there is no such session: it has ended, or it is in a cookie, which has no id here",
            ));
        }
        tracing::info!(admin = %peer, session = id, ended = 1, "an administrator ended sessions");
        Ok(Revoked::all(1).told())
    }

    async fn revoked(&self, question: &Question, peer: IpAddr) -> Result<Value, Refusal> {
        let provider = question.provider.as_ref().and_then(|id| self.providers.by_id(id));
        let revoked = match (provider, question.needs_labels()) {
            (_, true) => self.revoked_one_by_one(question).await,
            (Some(provider), false) => self.revoked_all(provider, question).await,
            (None, false) if question.subject.is_some() => Err(nonsense(
                "say of which `provider` the `subject` is: another's may be somebody else",
            )),
            (None, false) => Err(nonsense(
                "say which sessions: by id, `provider`, `subject`, `address`, `older_than`, `younger_than` or `idle_for`",
            )),
        }?;
        let filter = question.logged(provider.map(|provider| provider.issuer()));
        tracing::info!(admin = %peer, %filter, ended = revoked.ended, "an administrator ended sessions");
        Ok(revoked.told())
    }

    /// Ends what a provider vouched for, or what one person has there; also what browsers hold themselves.
    async fn revoked_all(&self, provider: &Provider, question: &Question) -> Result<Revoked, Refusal> {
        let now = self.clock.now();
        let whose = question.subject.as_ref().map_or(Whose::Everybody, Whose::Subject);
        let ended = self.sessions.end_of(provider.issuer(), whose, now, now).await?;
        Ok(match &self.sessions.settings().store {
            StoreSettings::Memory { .. } | StoreSettings::Redis(_) => Revoked::all(ended),
            StoreSettings::Cookie { shared: Some(_) } => Revoked::uncounted(
                "sessions are in cookies, so nobody can count them: all that began until now have ended, at every \
                 gateway with this [session.redis] within five seconds",
            ),
            StoreSettings::Cookie { shared: None } => Revoked::uncounted(
                "sessions are in cookies, so nobody can count them: all that began until now have ended, at this \
                 gateway and until it starts anew",
            ),
        })
    }

    /// Ends what only a store can find: what is in cookies tells nobody where and when it began.
    async fn revoked_one_by_one(&self, question: &Question) -> Result<Revoked, Refusal> {
        if self.sessions.settings().store.is_cookie() {
            return Err(nonsense(
                "sessions are in cookies (`store = \"cookie\"`), so none can be found by address or age: end all of a \
                 `provider`, or of a `subject` there, or replace the keys to end all of everybody",
            ));
        }
        let found = self.found(question).await?;
        let begun = Instant::now();
        let mut ended: usize = 0;
        let mut tried: usize = 0;
        for (id, _) in found.sessions.iter().take(MAX_ANSWERED) {
            if begun.elapsed() > ENDING_TIME {
                break;
            }
            ended = ended.saturating_add(usize::from(self.sessions.end_id(id).await?));
            tried = tried.saturating_add(1);
        }
        let complete = found.all_searched && tried == found.sessions.len();
        let note = (!complete).then_some("there are more: do it again until no more end");
        Ok(Revoked {
            ended: Some(ended),
            complete,
            note,
        })
    }
}

impl Revoked {
    fn all(ended: usize) -> Self {
        Self {
            ended: Some(ended),
            complete: true,
            note: None,
        }
    }

    fn uncounted(note: &'static str) -> Self {
        Self {
            ended: None,
            complete: true,
            note: Some(note),
        }
    }

    fn told(&self) -> Value {
        json!({ "ended": self.ended, "complete": self.complete, "note": self.note })
    }
}

impl Found {
    fn left_out(&self) -> usize {
        self.sessions.len().saturating_sub(MAX_ANSWERED)
    }

    /// What the list does not show, and why.
    fn note(&self, store: &StoreSettings) -> Option<Cow<'static, str>> {
        match (store.is_cookie(), self.all_searched, self.left_out()) {
            (true, ..) => Some(
                "sessions are in cookies (`store = \"cookie\"`), which only the browsers have, so nobody can list them; \
                 set `store` in [session] to \"memory\" or \"redis\" to see them from then on; `revoke` ends all of a \
                 provider or of a person"
                    .into(),
            ),
            (false, false, _) => Some(
                format!(
                    "the store keeps more than was looked at ({MAX_SEARCHED}), so there may be more sessions like these"
                )
                .into(),
            ),
            (false, true, 0) => None,
            (false, true, left_out) => Some(format!("{left_out} more were left out: ask for fewer by a filter").into()),
        }
    }
}

fn shown((id, label): &(Box<str>, Label)) -> Value {
    json!({
        "id": id,
        "provider": label.provider,
        "subject": label.subject,
        "started_at": label.started_at,
        "started_from": label.started_from,
        "seen_at": label.seen_at,
        "seen_from": label.seen_from,
    })
}

fn nonsense(why: &'static str) -> Refusal {
    Refusal::Nonsense(why.into())
}

fn refused(refusal: &Refusal) -> Response<Body> {
    match refusal {
        Refusal::Closed => refusal_of(StatusCode::FORBIDDEN, "write `token_file` in [admin] to be let in here"),
        Refusal::Stranger => refusal_of(
            StatusCode::UNAUTHORIZED,
            "the token is missing or another one: send the one in the file that `token_file` in [admin] names, as a bearer token",
        ),
        Refusal::TooMany(TooMany { retry_after }) => {
            let seconds = retry_after.as_secs();
            let mut response = refusal_of(
                StatusCode::TOO_MANY_REQUESTS,
                &format!("there were too many wrong tokens from this address: try again in {seconds} seconds"),
            );
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
        Refusal::Nonsense(why) => refusal_of(StatusCode::BAD_REQUEST, why),
        Refusal::NotFound(why) => refusal_of(StatusCode::NOT_FOUND, why),
        Refusal::Store(error) => {
            tracing::warn!(%error, "the sessions cannot be administered");
            refusal_of(
                StatusCode::SERVICE_UNAVAILABLE,
                "the store does not answer; what was to end may have ended in part: try again soon",
            )
        }
    }
}

fn refusal_of(status: StatusCode, why: &str) -> Response<Body> {
    respond::json(status, &json!({ "error": why }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{ProviderId, Subject},
        time::Timestamp,
    };

    fn found(count: usize) -> Found {
        let label = Label {
            provider: ProviderId::new("corp"),
            subject: Subject::new("ann").unwrap(),
            started_at: Timestamp::default(),
            seen_at: Timestamp::default(),
            started_from: None,
            seen_from: None,
        };
        Found {
            sessions: vec![("id".into(), label); count],
            all_searched: true,
        }
    }

    #[test]
    fn a_list_says_what_it_does_not_show() {
        let memory = StoreSettings::Memory { max_bytes: 1 };
        assert!(found(10_000).note(&memory).is_none());
        let note = found(10_007).note(&memory).unwrap();
        assert!(note.starts_with("7 more were left out"), "{note}");
        let some = Found {
            all_searched: false,
            ..found(1)
        };
        assert!(some.note(&memory).unwrap().contains("more than was looked at (100000)"));
        let note = found(0).note(&StoreSettings::default()).unwrap();
        assert!(note.contains("only the browsers have"), "{note}");
    }
}
