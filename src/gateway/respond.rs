//! Decisions and errors become responses here, and only here.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{BadQuestion, Error, Gateway, Visit};
use crate::{
    identity::{Scopes, Strength},
    oauth::authorization::AuthorizationError,
    policy::{Challenge, Denial, OnForbidden, Origin, Resource, Route},
    provider::ProviderError,
    upstream::{UpstreamError, body::Body},
};

/// What is told, before it is a page or a problem document.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) status: StatusCode,
    /// A short name of the problem, for programs.
    pub(super) kind: &'static str,
    pub(super) title: &'static str,
    pub(super) explanation: String,
    pub(super) action: Option<Action>,
    headers: HeaderMap,
}

/// What somebody can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask for the same page again.
    Retry,
    /// Log in from the beginning.
    StartAgain,
    /// Sign out and log in as somebody else.
    OtherAccount,
}

const RETRY_AFTER: Duration = Duration::from_secs(5);

impl Gateway {
    /// What a client without a sufficient credential is told (RFC 6750 §3).
    pub(super) fn challenge(
        &self,
        challenge: &Challenge,
        origin: &Origin,
        resource: Option<&Resource<'_>>,
        visit: &mut Visit<'_>,
    ) -> Response<Body> {
        visit.decision = "challenge";
        let pointer = resource.map_or_else(String::new, |resource| metadata_hint(resource, origin));
        let bearer = |extra: &str| format!("Bearer realm=\"{}\"{extra}{pointer}", origin.host);
        let wanted = resource.map_or_else(String::new, scope_hint);
        let (notice, authenticate) = match challenge {
            Challenge::TokenMissing => (
                Notice::new(StatusCode::UNAUTHORIZED, "token_missing", "Please log in")
                    .explained("This page needs a login or an access token, and the request came with neither."),
                bearer(&wanted),
            ),
            Challenge::InvalidRequest => (
                Notice::new(
                    StatusCode::BAD_REQUEST,
                    "invalid_request",
                    "The credential cannot be read",
                )
                .explained("The Authorization header of the request is malformed or stands more than once."),
                bearer(", error=\"invalid_request\""),
            ),
            Challenge::InvalidToken(error) => {
                visit.reason = Some(error.to_string());
                (
                    Notice::new(
                        StatusCode::UNAUTHORIZED,
                        "invalid_token",
                        "The credential does not count",
                    )
                    .explained("The access token is expired, revoked, malformed, or not meant for this place."),
                    bearer(&format!(", error=\"invalid_token\"{wanted}")),
                )
            }
            Challenge::InsufficientScope(scopes) => (
                Notice::new(StatusCode::FORBIDDEN, "insufficient_scope", "More rights are needed")
                    .explained(format!("Access here needs the scope: {}.", quotable(scopes)))
                    .offering(Action::OtherAccount),
                bearer(&format!(
                    ", error=\"insufficient_scope\", scope=\"{}\"",
                    quotable(scopes)
                )),
            ),
            Challenge::InsufficientAuthentication(strength) => (
                Notice::new(
                    StatusCode::UNAUTHORIZED,
                    "insufficient_user_authentication",
                    "A stronger login is needed",
                )
                .explained("The login behind this credential is too weak, or too long ago, for this place.")
                .offering(Action::StartAgain),
                bearer(&format!(
                    ", error=\"insufficient_user_authentication\"{}",
                    strength_hints(strength)
                )),
            ),
        };
        visit.reason.get_or_insert_with(|| notice.kind.to_owned());
        self.tell(notice.with(header::WWW_AUTHENTICATE, &authenticate), visit)
    }

    /// What somebody who is known, and may not pass, is told.
    pub(super) fn deny(&self, denial: Denial, route: &Route, visit: &mut Visit<'_>) -> Response<Body> {
        visit.decision = "deny";
        visit.reason = Some(denial.to_string());
        let notice = match denial {
            Denial::Unmet(_) => forbidden("This place is not open to your account."),
            Denial::Unknown(_) => forbidden(
                "Your account has more groups than the login service tells, so nobody can say whether this place is open to \
                 it. Whoever runs this site can have them asked for.",
            ),
            Denial::Rule(_) => forbidden("This place is closed to your account."),
            Denial::NoCertificate => Notice::new(
                StatusCode::FORBIDDEN,
                "client_certificate",
                "A client certificate is needed",
            )
            .explained("This place is open only to clients that present a certificate when they connect."),
            Denial::CrossSite => Notice::new(StatusCode::FORBIDDEN, "cross_site", "This came from another site")
                .explained("A page of another site asked your browser to act here in your name."),
        };
        match (denial, route.on_forbidden) {
            (
                Denial::Unmet(_) | Denial::Unknown(_) | Denial::Rule(_) | Denial::NoCertificate,
                OnForbidden::NotFound,
            ) => self.tell(not_found(), visit),
            (Denial::Unmet(_) | Denial::Unknown(_) | Denial::Rule(_) | Denial::NoCertificate, OnForbidden::Page)
            | (Denial::CrossSite, _) => self.tell(notice, visit),
        }
    }

    /// What is told when the walk cannot go on.
    pub(super) fn fail(&self, error: &Error, visit: &mut Visit<'_>) -> Response<Body> {
        if !matches!(visit.decision, "endpoint" | "login") {
            visit.decision = "error";
        }
        visit.reason = Some(error.to_string());
        self.tell(notice_of(error), visit)
    }

    fn tell(&self, notice: Notice, visit: &Visit<'_>) -> Response<Body> {
        let mut response = match visit.reader {
            reader if reader.is_grpc => call_ended(&notice),
            reader if reader.wants_page() => self.pages.notice(&notice, &self.settings.auth_prefix, visit),
            _ => problem(&notice, &visit.id()),
        };
        if !visit.reader.is_grpc {
            *response.status_mut() = notice.status;
        }
        let headers = response.headers_mut();
        headers.extend(notice.headers);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// The end of a call, before it began: trailers alone, which look like a head (gRPC over HTTP/2, "Trailers-Only").
fn call_ended(notice: &Notice) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(grpc_status(notice.status)));
    // The titles are plain ASCII, which need not be encoded.
    headers.insert("grpc-message", HeaderValue::from_static(notice.title));
    response
}

/// As gRPC maps the statuses of HTTP, and closer where it knows none.
fn grpc_status(status: StatusCode) -> u16 {
    match status {
        // INVALID_ARGUMENT, RESOURCE_EXHAUSTED
        StatusCode::BAD_REQUEST => 3,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => 8,
        // UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::FORBIDDEN => 7,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => 12,
        // UNAVAILABLE
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => 14,
        // INTERNAL
        status if status.is_server_error() => 13,
        // UNKNOWN
        _ => 2,
    }
}

/// The one mapping from what went wrong to what is told.
fn notice_of(error: &Error) -> Notice {
    match error {
        Error::AmbiguousTarget(_) => {
            Notice::new(StatusCode::BAD_REQUEST, "ambiguous_request", "The request is ambiguous")
                .explained("Its address or its headers can be read in more than one way, so it goes no further.")
        }
        Error::Loop => Notice::new(StatusCode::LOOP_DETECTED, "loop", "The request goes in circles")
            .explained("It passed this gateway again and again, so a route leads back to the gateway itself."),
        Error::Question(error) => bad_question(*error),
        Error::PassedOnElsewhere => Notice::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here")
            .explained("Another proxy passes on what is meant for this address; this request came past it."),
        Error::MethodUnsupported => Notice::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "The method is not allowed",
        )
        .explained("CONNECT, TRACE and methods in small letters are never forwarded.")
        .with(header::ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        Error::MethodNotAllowed(methods) => {
            let list: Vec<_> = methods.iter().map(http::Method::as_str).collect();
            Notice::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "The method is not allowed",
            )
            .explained("This address exists, but not for this method.")
            .with(header::ALLOW, &list.join(", "))
        }
        Error::NoRoute | Error::NoEndpoint => not_found(),
        Error::Parameter(name) => Notice::new(
            StatusCode::BAD_REQUEST,
            "invalid_parameter",
            "The address cannot be used",
        )
        .explained(format!("The parameter {name} repeats, is unknown, or leads elsewhere.")),
        Error::LoginUnknown => start_again(),
        Error::LoginResponse(response) => login_response(response),
        Error::LoginTooWeak { .. } => Notice::new(
            StatusCode::FORBIDDEN,
            "login_too_weak",
            "A stronger login is needed",
        )
        .explained(
            "The identity provider logged you in, but not in the way that this place asks for, or not just now. \
             Whoever runs the identity provider can say whether your account can do that.",
        )
        .offering(Action::StartAgain),
        Error::LoginLoop => Notice::new(StatusCode::BAD_REQUEST, "login_loop", "The login goes in circles")
            .explained(
                "You were logged in several times within a minute, and each time the browser came back as nobody. \
                 It may refuse cookies of this site, or its clock may be wrong.",
            )
            .offering(Action::StartAgain),
        Error::SessionTooLarge(_) => Notice::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "session_too_large",
            "Your account is too large",
        )
        .explained(
            "What the identity provider tells about your account does not fit into the browser's cookies. \
                     Whoever runs this site can ask the provider for fewer groups or claims.",
        ),
        Error::Store(_) => Notice::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Nobody can say who you are",
        )
        .explained(
            "The place where logins are remembered does not answer. You have not been logged out; try again soon.",
        )
        .offering(Action::Retry)
        .with(header::RETRY_AFTER, &RETRY_AFTER.as_secs().to_string()),
        Error::LoginUnkept(_) => Notice::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Your login could not be kept",
        )
        .explained("The place where logins are remembered does not answer. You are not logged in; try again soon.")
        .offering(Action::StartAgain)
        .with(header::RETRY_AFTER, &RETRY_AFTER.as_secs().to_string()),
        Error::ForeignSignOut => Notice::new(StatusCode::FORBIDDEN, "cross_site", "This came from another site")
            .explained("A page of another site tried to sign you out. You are still signed in."),
        Error::TooManyLogouts => Notice::new(StatusCode::TOO_MANY_REQUESTS, "too_many", "Too many at once")
            .explained("More sessions are being ended than can be remembered. Try again in a minute.")
            .with(header::RETRY_AFTER, "60"),
        Error::TooOften { retry_after } => Notice::new(StatusCode::TOO_MANY_REQUESTS, "too_many", "Too many at once")
            .explained("There were too many attempts from your address. Try again in a moment.")
            .offering(Action::Retry)
            .with(header::RETRY_AFTER, &retry_after.as_secs().to_string()),
        Error::Provider(error) => provider_error(error),
        Error::Upstream(error) => upstream_error(error),
        Error::Seal => Notice::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something went wrong here",
        )
        .explained("The gateway could not protect its cookie, so it did not set it."),
    }
}

/// Whoever asks is told no: the person is not to blame, and nobody passes.
fn bad_question(error: BadQuestion) -> Notice {
    let status = match error {
        BadQuestion::InPublic => return not_found(),
        BadQuestion::Untrusted(_) | BadQuestion::NotAsked | BadQuestion::Scheme(_) => StatusCode::FORBIDDEN,
        BadQuestion::Unnamed(_)
        | BadQuestion::Contradiction(_)
        | BadQuestion::Unreadable(_)
        | BadQuestion::NoAddress => StatusCode::BAD_REQUEST,
    };
    Notice::new(status, "bad_question", "The question cannot be answered").explained(
        "A proxy asked whether a request may pass, in a way that is not understood or from a place that may not ask.",
    )
}

fn login_response(error: &AuthorizationError) -> Notice {
    match error {
        AuthorizationError::Refused("access_denied") => {
            Notice::new(StatusCode::FORBIDDEN, "access_denied", "The login was refused")
                .explained("The identity provider says that access was denied, or the login was cancelled.")
                .offering(Action::StartAgain)
        }
        AuthorizationError::Refused("temporarily_unavailable" | "server_error") => unavailable(),
        AuthorizationError::Refused(_) => nonsense(),
        AuthorizationError::Issuer => nonsense(),
        AuthorizationError::Parameter(_) | AuthorizationError::State | AuthorizationError::Stale => start_again(),
    }
}

/// A broken provider is nobody's fault at this end of the line: never a 401 or a 403.
fn provider_error(error: &ProviderError) -> Notice {
    match error {
        ProviderError::Unavailable { .. } => unavailable(),
        ProviderError::Nonsense { .. } => nonsense(),
        ProviderError::Refused {
            code: "invalid_grant", ..
        } => start_again(),
        ProviderError::Refused { .. } => nonsense(),
    }
}

fn upstream_error(error: &UpstreamError) -> Notice {
    let bad_gateway = || {
        Notice::new(
            StatusCode::BAD_GATEWAY,
            "bad_gateway",
            "The application does not answer",
        )
        .explained("You got through the door, but the application behind it cannot be reached.")
        .offering(Action::Retry)
    };
    match error {
        UpstreamError::Unreachable(_) | UpstreamError::Nonsense(_) => bad_gateway(),
        UpstreamError::TimedOut | UpstreamError::Over | UpstreamError::OverInUpload => Notice::new(
            StatusCode::GATEWAY_TIMEOUT,
            "gateway_timeout",
            "The application takes too long",
        )
        .explained("You got through the door, but the application behind it did not answer in time.")
        .offering(Action::Retry),
        UpstreamError::BodyTooLarge => Notice::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "content_too_large",
            "That is too much at once",
        )
        .explained("What you sent is larger than this place takes."),
        UpstreamError::ClientGone => Notice::new(StatusCode::BAD_REQUEST, "incomplete", "The request broke off")
            .explained("The request ended before all of it had arrived."),
        UpstreamError::Cut => Notice::new(StatusCode::FORBIDDEN, "session_over", "You are not signed in any more")
            .explained("Your session ended, or this place was closed to you, before the application had answered.")
            .offering(Action::Retry),
        UpstreamError::Identity(_) => {
            Notice::new(StatusCode::BAD_GATEWAY, "identity", "Your account cannot be described")
                .explained("A value of your account cannot be passed on to the application safely.")
        }
    }
}

fn forbidden(explanation: &str) -> Notice {
    Notice::new(StatusCode::FORBIDDEN, "forbidden", "You may not enter here")
        .explained(explanation)
        .offering(Action::OtherAccount)
}

fn not_found() -> Notice {
    Notice::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here")
        .explained("No application lives at this address.")
}

fn start_again() -> Notice {
    Notice::new(StatusCode::BAD_REQUEST, "login_state", "Please start again")
        .explained("This login was begun in another browser, took too long, or was finished before.")
        .offering(Action::StartAgain)
}

fn unavailable() -> Notice {
    Notice::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "The login service is not available",
    )
    .explained(
        "The identity provider does not answer at the moment. You have not been logged out; please try again soon.",
    )
    .offering(Action::Retry)
    .with(header::RETRY_AFTER, &RETRY_AFTER.as_secs().to_string())
}

fn nonsense() -> Notice {
    Notice::new(
        StatusCode::BAD_GATEWAY,
        "provider_error",
        "The login service made a mistake",
    )
    .explained("The identity provider gave an answer that cannot be used.")
    .offering(Action::StartAgain)
}

impl Notice {
    fn new(status: StatusCode, kind: &'static str, title: &'static str) -> Self {
        Self {
            status,
            kind,
            title,
            explanation: String::new(),
            action: None,
            headers: HeaderMap::new(),
        }
    }

    fn explained(mut self, explanation: impl Into<String>) -> Self {
        self.explanation = explanation.into();
        self
    }

    fn offering(mut self, action: Action) -> Self {
        self.action = Some(action);
        self
    }

    fn with(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

/// Scope values that may stand between quotes (RFC 6750 §3); the configuration lets no others in.
fn quotable(scopes: &Scopes) -> String {
    let plain = |scope: &&str| scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    scopes.iter().filter(plain).collect::<Vec<_>>().join(" ")
}

/// Where a client learns who gives tokens for this place (RFC 9728 §5.1).
fn metadata_hint(resource: &Resource<'_>, origin: &Origin) -> String {
    format!(", resource_metadata=\"{}\"", resource.metadata_url(origin))
}

/// What a token for this place has to have (RFC 6750 §3).
fn scope_hint(resource: &Resource<'_>) -> String {
    let scopes = quotable(&resource.scopes());
    match scopes.is_empty() {
        true => String::new(),
        false => format!(", scope=\"{scopes}\""),
    }
}

/// What a client has to ask its authorization server for (RFC 9470 §3).
fn strength_hints(strength: &Strength) -> String {
    let acr = Scopes::from_iter(strength.acr.iter().map(|acr| &**acr));
    let acr = quotable(&acr);
    let acr_values = (!acr.is_empty()).then(|| format!(", acr_values=\"{acr}\""));
    let max_age = strength.max_age.map(|age| format!(", max_age=\"{}\"", age.as_secs()));
    [acr_values, max_age].into_iter().flatten().collect()
}

/// A problem document (RFC 9457).
fn problem(notice: &Notice, reference: &str) -> Response<Body> {
    let document = serde_json::json!({
        "type": "about:blank",
        "title": notice.title,
        "status": notice.status.as_u16(),
        "detail": notice.explanation,
        "code": notice.kind,
        "reference": reference,
    });
    let mut response = Response::new(Body::from(document.to_string()));
    let json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Sends a browser elsewhere, leaving no trace of where it was (RFC 9700 §4.2.4).
pub(super) fn redirect(location: &str) -> Response<Body> {
    let mut response = empty(StatusCode::FOUND);
    match HeaderValue::from_str(location) {
        Ok(location) => {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_GATEWAY,
    }
    response
}

/// An answer without content that nobody may keep.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A JSON document that nobody may keep.
pub(super) fn json(status: StatusCode, document: &serde_json::Value) -> Response<Body> {
    let mut response = empty(status);
    *response.body_mut() = Body::from(document.to_string());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
