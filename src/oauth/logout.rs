//! Ending the session at the provider (OIDC RP-Initiated Logout 1.0 §2).

use url::Url;

use crate::secret::Secret;

/// Where to send the browser.
pub fn url(
    endpoint: &Url,
    client_id: &str,
    id_token_hint: Option<&Secret>,
    post_logout_redirect_uri: &str,
    state: &str,
) -> String {
    let mut url = endpoint.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(hint) = id_token_hint {
            query.append_pair("id_token_hint", hint.expose());
        }
        query
            .append_pair("client_id", client_id)
            .append_pair("post_logout_redirect_uri", post_logout_redirect_uri)
            .append_pair("state", state);
    }
    url.into()
}
