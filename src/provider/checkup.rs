//! Whether a provider and this configuration fit, found out without anybody logging in.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, header};
use serde_json::Value;

use super::{BearerKind, Provider, ProviderError};
use crate::{
    identity::{Claims, Strength},
    oauth::{
        authorization::{Account, LoginSecrets},
        client::ClientAuth,
        discovery::{self, Metadata},
        probe::{self, WayBack},
    },
    secret::{Secret, random_text},
    time::Timestamp,
};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub grade: Grade,
    pub text: String,
}

/// What to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    Fine,
    /// Somebody should look whether that is meant.
    Doubtful,
    /// It will not work, or is a hole.
    Wrong,
}

impl Note {
    pub fn fine(text: impl Into<String>) -> Self {
        Self::of(Grade::Fine, text)
    }

    pub fn doubtful(text: impl Into<String>) -> Self {
        Self::of(Grade::Doubtful, text)
    }

    pub fn wrong(text: impl Into<String>) -> Self {
        Self::of(Grade::Wrong, text)
    }

    fn of(grade: Grade, text: impl Into<String>) -> Self {
        Self {
            grade,
            text: text.into(),
        }
    }
}

/// Clocks that differ by more than this will refuse tokens sooner or later.
const CLOCKS: u64 = 10;

impl Provider {
    /// What was found; the places are those to which browsers come back.
    pub async fn checkup(self: &Arc<Self>, redirect_uris: &[String], now: Timestamp) -> Vec<Note> {
        let (mut notes, document, metadata) = match self.own_words(now).await {
            Ok(words) => words,
            Err(error) => return vec![Note::wrong(format!("its metadata cannot be had: {error}"))],
        };
        notes.extend(self.fits(&document, &metadata));
        notes.push(self.key_note(now).await);
        for redirect_uri in redirect_uris {
            notes.push(self.registered(redirect_uri, now).await);
        }
        notes.extend(self.secret_note(redirect_uris, &metadata).await);
        notes
    }

    /// The metadata, as a document and as it is used.
    async fn own_words(&self, now: Timestamp) -> Result<(Vec<Note>, Claims, Metadata), ProviderError> {
        let mut error = self.unavailable("its issuer is not a URL");
        for request in discovery::requests(&self.settings.issuer) {
            let place = request.uri().to_string();
            let answer = self.call("discovery", request).await?;
            match Metadata::read(&answer, &self.settings.issuer) {
                Ok(metadata) => {
                    let document = Claims::from_json(answer.body()).unwrap_or_default();
                    let mut notes = vec![Note::fine(format!("metadata in the name of this issuer at {place}"))];
                    notes.extend(clock_note(&answer, now));
                    return Ok((notes, document, metadata));
                }
                Err(reason) => error = self.unavailable(format!("{place}: {reason}")),
            }
        }
        Err(error)
    }

    /// What the metadata lists against what the file asks for.
    fn fits(&self, document: &Claims, metadata: &Metadata) -> Vec<Note> {
        let mut notes = vec![
            pkce_note(document),
            issuer_note(metadata),
            self.client_auth_note(document),
            logout_note(document, metadata),
        ];
        notes.extend(self.scope_notes(document));
        if self.id_token_rules(metadata).algorithms.is_empty() {
            notes.push(Note::wrong(
                "it signs ID tokens with nothing that id_token_algorithms allows",
            ));
        }
        let introspects = self.endpoints.introspection.is_some() || metadata.introspection_endpoint.is_some();
        match self.settings.bearer.as_ref().map(|bearer| bearer.kind) {
            Some(BearerKind::Introspection) if !introspects => notes.push(Note::wrong(
                "it has no introspection endpoint, and [bearer] says kind = \"introspection\"",
            )),
            Some(BearerKind::Auto) if !introspects => notes.push(Note::doubtful(
                "it has no introspection endpoint: bearer tokens count only if they are JWTs",
            )),
            Some(_) | None => {}
        }
        notes
    }

    fn client_auth_note(&self, document: &Claims) -> Note {
        let word = match self.settings.client.auth {
            ClientAuth::SecretBasic(_) => "client_secret_basic",
            ClientAuth::SecretPost(_) => "client_secret_post",
            ClientAuth::None => "none",
        };
        // Where nothing is listed, it is Basic (RFC 8414 §2).
        let listed = texts(document, "token_endpoint_auth_methods_supported").unwrap_or(vec!["client_secret_basic"]);
        match listed.contains(&word) {
            true => Note::fine(format!("it takes client_auth = \"{word}\"")),
            false => Note::wrong(format!(
                "it lists {} for client_auth, and the file says \"{word}\"",
                listed.join(", ")
            )),
        }
    }

    fn scope_notes(&self, document: &Claims) -> Vec<Note> {
        let Some(listed) = texts(document, "scopes_supported") else {
            return Vec::new();
        };
        let unlisted = self.settings.scopes.iter().filter(|scope| !listed.contains(scope));
        let note = |scope| {
            Note::doubtful(format!(
                "it does not list the scope \"{scope}\", which a login asks for"
            ))
        };
        unlisted.map(note).collect()
    }

    async fn key_note(self: &Arc<Self>, now: Timestamp) -> Note {
        match self.keys(now).await {
            Ok(_) => Note::fine("its keys can be had"),
            Err(error) => Note::wrong(format!("its keys cannot be had: {error}")),
        }
    }

    /// Whether browsers may come back to a place.
    async fn registered(self: &Arc<Self>, redirect_uri: &str, now: Timestamp) -> Note {
        match self.sent_to(redirect_uri, now).await {
            Err(error) => Note::wrong(format!("nobody can be sent to log in: {error}")),
            Ok(WayBack::Known) => Note::fine(format!("it knows the redirect URI {redirect_uri}")),
            Ok(WayBack::Refused(error)) => Note::wrong(format!(
                "it knows the redirect URI {redirect_uri}, and refuses the login: {error}"
            )),
            Ok(WayBack::NotSentBack(status)) => Note::wrong(format!(
                "it answers {} instead of sending the browser back: register the redirect URI {redirect_uri}, \
                 for the client \"{}\"",
                status.as_u16(),
                self.settings.client.client_id
            )),
            Ok(WayBack::Unclear) => Note::doubtful(format!(
                "it shows a page although it should not, so it is not clear whether it knows the redirect URI \
                 {redirect_uri}"
            )),
        }
    }

    async fn sent_to(self: &Arc<Self>, redirect_uri: &str, now: Timestamp) -> Result<WayBack, ProviderError> {
        let secrets = LoginSecrets {
            state: random_text::<24>(),
            nonce: random_text::<24>(),
            code_verifier: Secret::new(random_text::<32>()),
        };
        let begun = self.authorization_request(
            secrets,
            redirect_uri.into(),
            "/".into(),
            Strength::default(),
            Account::Any,
            now,
        );
        let (location, _) = begun.await?;
        let request =
            probe::silently(&location).ok_or_else(|| self.nonsense("its authorization endpoint is no URL"))?;
        let answer = self.call("authorization", request).await?;
        Ok(WayBack::read(&answer, redirect_uri))
    }

    /// Whether the token endpoint takes this client's credentials.
    async fn secret_note(&self, redirect_uris: &[String], metadata: &Metadata) -> Option<Note> {
        let redirect_uri = redirect_uris.first()?;
        let endpoint = match self.token_endpoint(metadata) {
            Ok(endpoint) => endpoint,
            Err(error) => return Some(Note::wrong(error.to_string())),
        };
        let request = probe::with_no_code(endpoint, &self.settings.client, redirect_uri);
        let known = match self.call("token", request).await {
            Ok(answer) => probe::knows_the_client(&answer),
            Err(error) => return Some(Note::wrong(format!("its token endpoint: {error}"))),
        };
        let client = &self.settings.client.client_id;
        Some(match known {
            Some(true) => Note::fine(format!("its token endpoint knows the client \"{client}\"")),
            Some(false) => Note::wrong(format!(
                "its token endpoint does not take the credentials of the client \"{client}\""
            )),
            None => Note::doubtful("its token endpoint does not say whether it takes the client's credentials"),
        })
    }
}

fn pkce_note(document: &Claims) -> Note {
    match texts(document, "code_challenge_methods_supported") {
        Some(methods) if methods.contains(&"S256") => Note::fine("it does PKCE with S256"),
        Some(_) => Note::wrong("it does not do PKCE with S256, so nobody is sent to log in there (RFC 9700 §2.1.1)"),
        None => Note::doubtful("it does not say whether it does PKCE; where it does not, codes are less protected"),
    }
}

fn issuer_note(metadata: &Metadata) -> Note {
    match metadata.response_names_issuer {
        true => Note::fine("it names itself in its responses (RFC 9207)"),
        false => {
            Note::doubtful("it does not name itself in its responses (RFC 9207): fine where it is the only provider")
        }
    }
}

fn logout_note(document: &Claims, metadata: &Metadata) -> Note {
    let back_channel = document.member("backchannel_logout_supported") == Some(&Value::Bool(true));
    match (metadata.end_session_endpoint.is_some(), back_channel) {
        (true, true) => Note::fine("signing out ends the session there, and it tells of sessions that end there"),
        (true, false) => {
            Note::doubtful("signing out ends the session there, but it does not say that it tells of sessions that end")
        }
        (false, _) => Note::doubtful("signing out here does not end the session there: the next login asks nothing"),
    }
}

fn clock_note(answer: &Response<Bytes>, now: Timestamp) -> Option<Note> {
    let date = answer.headers().get(header::DATE)?.to_str().ok()?;
    let date = httpdate::parse_http_date(date).ok()?;
    let theirs = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let ours = u64::try_from(now.unix()).ok()?;
    let apart = theirs.abs_diff(ours);
    (apart > CLOCKS).then(|| Note::doubtful(format!("its clock and the one here are {apart} s apart")))
}

fn texts<'a>(document: &'a Claims, name: &str) -> Option<Vec<&'a str>> {
    let values = document.member(name)?.as_array()?;
    Some(values.iter().filter_map(Value::as_str).collect())
}
