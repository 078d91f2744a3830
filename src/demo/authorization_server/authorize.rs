//! The authorization endpoint (RFC 6749 §4.1, OpenID Connect Core §3.1.2), and the login that it may need.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};

use super::{
    Office, pages,
    state::{Code, Factors, Grant, Login, State},
};
use crate::{
    demo::site::{Answer, Parameters, see_other},
    secret::random_text,
    time::Timestamp,
};

const CODE_LIFETIME: Duration = Duration::from_secs(60);
const COOKIE: &str = "dev_as";
/// Of the login form.
const FIELDS: [&str; 3] = ["username", "password", "code"];
/// Everybody's, for nobody is protected by it.
const ONE_TIME_CODE: &str = "123456";

/// An authorization request that is in order.
struct Asked {
    client: String,
    redirect_uri: String,
    state: Option<String>,
    scope: String,
    nonce: Option<String>,
    challenge: String,
    prompt: Prompt,
    max_age: Option<Duration>,
    /// Whether one of the `acr_values` takes a one-time code.
    factors: Factors,
}

#[derive(PartialEq)]
enum Prompt {
    IfNeeded,
    Never,
    Always,
}

/// Why it is not.
enum Refusal {
    /// Whoever asks cannot be told by a redirect: they may not be who they say (RFC 6749 §4.1.2.1).
    Page(&'static str),
    Redirect {
        redirect_uri: String,
        state: Option<String>,
        error: &'static str,
    },
}

impl Office {
    pub(super) fn authorize(&self, request: &Request<Bytes>) -> Answer {
        let parameters = Parameters::of_query(request);
        let mut state = self.state();
        let asked = match read(&parameters, &state) {
            Ok(asked) => asked,
            Err(refusal) => return self.refuse(refusal),
        };
        let login = login_cookie(request)
            .and_then(|cookie| state.logins.at(cookie))
            .cloned();
        match login.filter(|login| asked.is_content_with(login, self.clock.now())) {
            Some(login) => self.grant(&mut state, asked, login),
            None if asked.prompt == Prompt::Never => self.refuse(asked.refused("login_required")),
            None => pages::login(&parameters, &asked.client, asked.factors, StatusCode::OK, ""),
        }
    }

    /// Takes the login form, which carries the authorization request.
    pub(super) fn log_in(&self, request: &Request<Bytes>) -> Answer {
        let mut parameters = Parameters::parse(request.body());
        let [username, password, code] = FIELDS.map(|name| parameters.value(name).map(str::to_owned));
        parameters.0.retain(|(name, _)| !FIELDS.contains(&&**name));
        let mut state = self.state();
        let asked = match read(&parameters, &state) {
            Ok(asked) => asked,
            Err(refusal) => return self.refuse(refusal),
        };
        let (username, password) = (username.unwrap_or_default(), password.unwrap_or_default());
        let known = state
            .user(&username)
            .is_some_and(|user| user.password.matches(&password));
        let complaint = match asked.factors {
            _ if !known => Some("Name or password is wrong."),
            Factors::PasswordAndCode if code.as_deref() != Some(ONE_TIME_CODE) => Some("The code is wrong."),
            Factors::Password | Factors::PasswordAndCode => None,
        };
        if let Some(complaint) = complaint {
            return pages::login(
                &parameters,
                &asked.client,
                asked.factors,
                StatusCode::FORBIDDEN,
                complaint,
            );
        }
        if let Some(previous) = login_cookie(request) {
            state.logins.remove(previous);
        }
        let (cookie, login) = state.log_in(&username, asked.factors, self.clock.now());
        with_login_cookie(self.grant(&mut state, asked, login), &cookie, "")
    }

    fn grant(&self, state: &mut State, asked: Asked, login: Login) -> Answer {
        let value = random_text::<32>();
        let code = Code {
            redirect_uri: asked.redirect_uri.clone(),
            challenge: asked.challenge,
            until: self.clock.now().plus(CODE_LIFETIME),
            used: false,
            grant: Grant {
                family: random_text::<12>(),
                client: asked.client,
                login,
                scope: asked.scope,
                nonce: asked.nonce,
            },
        };
        state.codes.put(value.clone(), code);
        self.redirect(&asked.redirect_uri, asked.state.as_deref(), ("code", &value))
    }

    fn refuse(&self, refusal: Refusal) -> Answer {
        match refusal {
            Refusal::Page(text) => pages::notice(StatusCode::BAD_REQUEST, "This request is not in order", text),
            Refusal::Redirect {
                redirect_uri,
                state,
                error,
            } => self.redirect(&redirect_uri, state.as_deref(), ("error", error)),
        }
    }

    /// Sends the browser back, and says who does (RFC 9207).
    fn redirect(&self, redirect_uri: &str, state: Option<&str>, (name, value): (&str, &str)) -> Answer {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair(name, value).append_pair("iss", &self.issuer);
        if let Some(state) = state {
            query.append_pair("state", state);
        }
        see_other(&with_query(redirect_uri, &query.finish()))
    }
}

impl Asked {
    /// Whether an earlier login will do.
    fn is_content_with(&self, login: &Login, now: Timestamp) -> bool {
        let strong_enough = self.factors == Factors::Password || login.factors == self.factors;
        let recent = self.max_age.is_none_or(|age| now.since(login.at) <= age);
        self.prompt != Prompt::Always && strong_enough && recent
    }

    fn refused(self, error: &'static str) -> Refusal {
        Refusal::Redirect {
            redirect_uri: self.redirect_uri,
            state: self.state,
            error,
        }
    }
}

fn read(parameters: &Parameters, state: &State) -> Result<Asked, Refusal> {
    let client = parameters.value("client_id").and_then(|id| state.client(id));
    let client = client.ok_or(Refusal::Page("No client of that client_id is registered."))?;
    let redirect_uri = parameters.value("redirect_uri").unwrap_or_default();
    // Byte by byte (RFC 9700 §2.1).
    if !client.redirect_uris.iter().any(|known| known == redirect_uri) {
        return Err(Refusal::Page("This redirect_uri is not registered for the client."));
    }
    let refused = |error| Refusal::Redirect {
        redirect_uri: redirect_uri.to_owned(),
        state: parameters.value("state").map(str::to_owned),
        error,
    };
    check(parameters, &client.audience).map_err(refused)?;
    let asked_scope = parameters.value("scope").unwrap_or_default().split(' ');
    let scope: Vec<&str> = asked_scope
        .filter(|scope| client.scopes.iter().any(|known| known == scope))
        .collect();
    Ok(Asked {
        client: client.id.clone(),
        redirect_uri: redirect_uri.to_owned(),
        state: parameters.value("state").map(str::to_owned),
        scope: scope.join(" "),
        nonce: parameters.value("nonce").map(str::to_owned),
        challenge: parameters.value("code_challenge").unwrap_or_default().to_owned(),
        prompt: prompt(parameters.value("prompt").unwrap_or_default()).map_err(refused)?,
        max_age: parameters
            .value("max_age")
            .and_then(|age| age.parse().ok())
            .map(Duration::from_secs),
        factors: factors(parameters.value("acr_values").unwrap_or_default()),
    })
}

/// The error of RFC 6749 §4.1.2.1, or of the extension that defines the parameter.
fn check(parameters: &Parameters, audience: &str) -> Result<(), &'static str> {
    let is = |name, wanted| parameters.value(name) == Some(wanted);
    if parameters.repeat() || parameters.value("response_mode").is_some_and(|mode| mode != "query") {
        return Err("invalid_request");
    }
    if !is("response_type", "code") {
        return Err("unsupported_response_type");
    }
    if parameters
        .value("request")
        .or(parameters.value("request_uri"))
        .is_some()
    {
        return Err("request_not_supported");
    }
    // PKCE, by its hash only (RFC 7636 §4.3).
    let challenge = parameters.value("code_challenge").unwrap_or_default();
    if !is("code_challenge_method", "S256") || challenge.len() != 43 {
        return Err("invalid_request");
    }
    if parameters
        .value("resource")
        .is_some_and(|resource| resource != audience)
    {
        return Err("invalid_target");
    }
    Ok(())
}

/// What is asked for as far as it is known; an `acr_values` is a wish (OpenID Connect Core §3.1.2.1).
fn factors(acr_values: &str) -> Factors {
    let asked = |factors: Factors| acr_values.split(' ').any(|acr| acr == factors.acr());
    match asked(Factors::PasswordAndCode) && !asked(Factors::Password) {
        true => Factors::PasswordAndCode,
        false => Factors::Password,
    }
}

fn prompt(text: &str) -> Result<Prompt, &'static str> {
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["none"] => Ok(Prompt::Never),
        words if words.contains(&"none") => Err("invalid_request"),
        words if words.contains(&"login") || words.contains(&"select_account") => Ok(Prompt::Always),
        _ => Ok(Prompt::IfNeeded),
    }
}

/// Adds parameters to an address that may have some.
pub(super) fn with_query(address: &str, query: &str) -> String {
    let separator = if address.contains('?') { '&' } else { '?' };
    format!("{address}{separator}{query}")
}

pub(super) fn login_cookie(request: &Request<Bytes>) -> Option<&str> {
    let cookies = request
        .headers()
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

pub(super) fn with_login_cookie(mut answer: Answer, value: &str, more: &str) -> Answer {
    let cookie = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax{more}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}
