//! Questions that a provider answers without anybody logging in: is this place registered, is this secret right?

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use url::Url;

use super::{
    answer::{AnswerError, get},
    client::ClientRegistration,
    token::TokenResponse,
};

/// What became of a request to log in that must not show anything (OIDC Core §3.1.2.1, `prompt=none`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WayBack {
    /// The browser was sent back, to log in somewhere else: nobody is logged in, and everything is registered.
    Known,
    /// The browser was sent back with this error.
    Refused(String),
    /// It was not sent back; this was the status.
    NotSentBack(StatusCode),
    /// It was sent elsewhere, or a page was shown.
    Unclear,
}

/// An authorization request that shows no page.
pub fn silently(location: &str) -> Option<Request<Bytes>> {
    let mut url = Url::parse(location).ok()?;
    let kept: Vec<_> = url.query_pairs().filter(|(name, _)| name != "prompt").collect();
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept)
        .append_pair("prompt", "none")
        .finish();
    url.set_query(Some(&query));
    let uri: Uri = url.as_str().parse().ok()?;
    Some(get(&uri))
}

/// Errors that say that somebody would have to do something (OIDC Core §3.1.2.6): what nobody's browser is told where
/// all is well.
const NOBODY_THERE: [&str; 4] = [
    "login_required",
    "interaction_required",
    "consent_required",
    "account_selection_required",
];

impl WayBack {
    pub fn read(response: &Response<Bytes>, redirect_uri: &str) -> Self {
        let location = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
        match (response.status(), location) {
            (status, Some(location)) if status.is_redirection() => match error_of(location, redirect_uri) {
                Some(error) if NOBODY_THERE.contains(&&*error) => Self::Known,
                Some(error) => Self::Refused(error),
                None => Self::Unclear,
            },
            (status, _) if status.is_success() => Self::Unclear,
            (status, _) => Self::NotSentBack(status),
        }
    }
}

/// The error with which a browser is sent back.
fn error_of(location: &str, redirect_uri: &str) -> Option<String> {
    let query = location.strip_prefix(redirect_uri)?.strip_prefix('?')?;
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    parameters.find_map(|(name, value)| (name == "error").then(|| value.into_owned()))
}

/// Asks for tokens with a code that nobody gave (RFC 6749 §4.1.3).
pub fn with_no_code(endpoint: &Uri, client: &ClientRegistration, redirect_uri: &str) -> Request<Bytes> {
    let nothing = "vestibule-doctor-has-no-code-but-asks-with-one-to-be-refused";
    let form = [
        ("grant_type", "authorization_code"),
        ("code", nothing),
        ("redirect_uri", redirect_uri),
        ("code_verifier", nothing),
    ];
    client.post(endpoint, &form)
}

/// Whether the endpoint knows the client; `None` where its answer does not tell.
pub fn knows_the_client(response: &Response<Bytes>) -> Option<bool> {
    match TokenResponse::read(response) {
        Err(AnswerError::Refused("invalid_grant")) => Some(true),
        Err(AnswerError::Credentials) => Some(false),
        Ok(_) | Err(AnswerError::Refused(_) | AnswerError::Overloaded(_)) => None,
        Err(AnswerError::Nonsense(_) | AnswerError::Unexpected(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REDIRECT: &str = "https://wiki.example.com/oauth2/callback";

    fn sent(status: u16, location: &str) -> WayBack {
        let response = Response::builder().status(status).header(header::LOCATION, location);
        WayBack::read(&response.body(Bytes::new()).unwrap(), REDIRECT)
    }

    #[test]
    fn who_is_sent_back_because_nobody_is_logged_in_is_known() {
        assert_eq!(
            sent(302, &format!("{REDIRECT}?error=login_required&state=s")),
            WayBack::Known
        );
        assert_eq!(
            sent(303, &format!("{REDIRECT}?state=s&error=consent_required")),
            WayBack::Known
        );
        let refused = WayBack::Refused("invalid_scope".into());
        assert_eq!(sent(302, &format!("{REDIRECT}?error=invalid_scope")), refused);
    }

    #[test]
    fn a_page_or_another_place_says_nothing_and_an_error_says_no() {
        assert_eq!(
            sent(302, "https://id.example.com/login?error=login_required"),
            WayBack::Unclear
        );
        assert_eq!(
            sent(302, &format!("{REDIRECT}.evil?error=login_required")),
            WayBack::Unclear
        );
        assert_eq!(sent(302, &format!("{REDIRECT}?code=c")), WayBack::Unclear);
        assert_eq!(sent(200, ""), WayBack::Unclear);
        assert_eq!(sent(400, ""), WayBack::NotSentBack(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn nothing_is_shown_whatever_the_file_asks_to_show() {
        let request = silently("https://id.example.com/authorize?prompt=login&state=a%20b").unwrap();
        assert_eq!(request.uri().query(), Some("state=a+b&prompt=none"));
    }
}
