//! Claims that are kept elsewhere (OIDC Core §5.6.2), and the lists of Microsoft Graph, where Entra ID keeps the groups
//! of whoever has too many of them for a token.

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use serde_json::Value;

use super::{
    answer::{AnswerError, json_object, unhappy},
    discovery, id_token,
    jwks::KeySet,
    jwt::Unverified,
    registered, userinfo,
};
use crate::{
    identity::{ClaimPath, Claims, Issuer, Subject, TokenError},
    secret::Secret,
    time::Timestamp,
};

/// Where a claim is kept, and what opens the door there.
#[derive(Clone, Debug)]
pub struct Source {
    pub endpoint: Uri,
    /// Absent: the access token of the login.
    pub access_token: Option<Secret>,
}

impl Source {
    /// The source of a claim, where it is on the issuer's own origin: nobody else is asked on a token's word.
    pub fn of(claims: &Claims, path: &ClaimPath, issuer: &Issuer) -> Option<Self> {
        let name = claims.member("_claim_names")?.get(path.first_segment())?.as_str()?;
        let source = claims.member("_claim_sources")?.get(name)?;
        let endpoint = discovery::trustworthy(source.get("endpoint")?.as_str()?)?;
        let home = url::Url::parse(issuer.as_str()).ok()?;
        let access_token = source.get("access_token").and_then(Value::as_str).map(Secret::new);
        (endpoint.origin() == home.origin()).then_some(Self {
            endpoint: discovery::uri(Some(endpoint))?,
            access_token,
        })
    }

    /// # Errors
    /// When the access token has characters that no header can hold.
    pub fn request(&self, of_login: &Secret) -> Result<Request<Bytes>, AnswerError> {
        let mut request = userinfo::request(&self.endpoint, self.access_token.as_ref().unwrap_or(of_login))?;
        let jwt = header::HeaderValue::from_static("application/jwt");
        request.headers_mut().insert(header::ACCEPT, jwt);
        Ok(request)
    }
}

/// The claims of a source's signed answer, about the same person (§5.6.2.2).
///
/// # Errors
/// When there is none, or it is another's, for another, of another kind or over.
pub fn read(
    response: &Response<Bytes>,
    subject: &Subject,
    rules: &id_token::Rules,
    keys: &KeySet,
    now: Timestamp,
) -> Result<Result<Claims, TokenError>, AnswerError> {
    if !response.status().is_success() {
        return Err(unhappy(response.status()));
    }
    let text = std::str::from_utf8(response.body()).map_err(|_| AnswerError::Nonsense("the answer is no token"))?;
    Ok(checked(text.trim(), subject, rules, keys, now))
}

fn checked(
    token: &str,
    subject: &Subject,
    rules: &id_token::Rules,
    keys: &KeySet,
    now: Timestamp,
) -> Result<Claims, TokenError> {
    let token = Unverified::read(token)?.verify(keys, rules.algorithms.as_slice())?;
    // Another kind of token was made for something else (RFC 8725 §3.11).
    if token.kind().is_some_and(|kind| kind != "jwt") {
        return Err(TokenError::Type);
    }
    let claims = token.claims;
    registered::issued_by(&claims, rules.issuer.as_str())?;
    if let Some(ends_at) = registered::date(&claims, "exp", now)?
        && ends_at.plus(rules.clock_skew) <= now
    {
        return Err(TokenError::Expired);
    }
    registered::begun(&claims, rules.clock_skew, now)?;
    let audiences = match claims.member("aud") {
        None => Vec::new(),
        Some(_) => registered::audiences(&claims)?,
    };
    if !audiences.is_empty() && !audiences.contains(&&*rules.client_id) {
        return Err(TokenError::Audience);
    }
    match registered::subject(&claims)? == *subject {
        true => Ok(claims),
        false => Err(TokenError::Claim("sub")),
    }
}

/// A page of a list, and where the next one is.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    pub ids: Vec<String>,
    pub next: Option<Uri>,
}

impl Page {
    /// Members are texts, or objects with an `id`; of those that say what they are, only groups count.
    ///
    /// # Errors
    /// When the answer is no such list, or the next page is somewhere else than this one.
    pub fn read(response: &Response<Bytes>, endpoint: &Uri) -> Result<Self, AnswerError> {
        let list = json_object(response)?;
        let Some(Value::Array(members)) = list.member("value") else {
            return Err(AnswerError::Nonsense("there is no list of groups"));
        };
        let groups = members.iter().filter(|member| is_group(member));
        let ids = groups.map(id).collect::<Option<Vec<_>>>();
        Ok(Self {
            ids: ids.ok_or(AnswerError::Nonsense("a group has no id"))?,
            next: list
                .member("@odata.nextLink")
                .filter(|next| !next.is_null())
                .map(|next| following(next, endpoint).ok_or(AnswerError::Nonsense("the next page is elsewhere")))
                .transpose()?,
        })
    }
}

fn is_group(member: &Value) -> bool {
    let kind = member.get("@odata.type").and_then(Value::as_str);
    kind.is_none_or(|kind| kind == "#microsoft.graph.group")
}

fn id(member: &Value) -> Option<String> {
    let id = match member {
        Value::String(id) => id,
        member => member.get("id")?.as_str()?,
    };
    (!id.is_empty()).then(|| id.to_owned())
}

/// Only the query differs from page to page: the token goes nowhere else.
fn following(next: &Value, endpoint: &Uri) -> Option<Uri> {
    let next = discovery::uri(discovery::trustworthy(next.as_str()?))?;
    let same = next.scheme() == endpoint.scheme()
        && next.authority() == endpoint.authority()
        && next.path() == endpoint.path();
    same.then_some(next)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth::{
        jwt::Algorithm,
        tests::{
            NOW, answer,
            signer::{jwk, sign},
            with,
        },
    };

    fn keys() -> KeySet {
        let mut key = jwk("ES256");
        key["kid"] = json!("a");
        KeySet::read(&answer(200, &json!({ "keys": [key] }))).unwrap()
    }

    fn endpoint() -> Uri {
        Uri::from_static("https://graph.example.com/v1.0/me/transitiveMemberOf?$select=id")
    }

    #[test]
    fn a_page_has_groups_and_nothing_else() {
        let list = json!({ "value": [
            { "@odata.type": "#microsoft.graph.group", "id": "g1" },
            { "@odata.type": "#microsoft.graph.directoryRole", "id": "r1" },
            { "id": "g2" },
            "g3",
        ]});
        let page = Page::read(&answer(200, &list), &endpoint()).unwrap();
        assert_eq!(page.ids, ["g1", "g2", "g3"]);
        assert_eq!(page.next, None);
        for wrong in [
            json!({}),
            json!({ "value": "g1" }),
            json!({ "value": [{}] }),
            json!({ "value": [""] }),
        ] {
            assert!(Page::read(&answer(200, &wrong), &endpoint()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_next_page_is_where_this_one_was() {
        let next = |link: &str| {
            let list = json!({ "value": [], "@odata.nextLink": link });
            Page::read(&answer(200, &list), &endpoint()).map(|page| page.next.unwrap().to_string())
        };
        let here = "https://graph.example.com/v1.0/me/transitiveMemberOf?$skiptoken=x";
        assert_eq!(next(here).unwrap(), here);
        for elsewhere in [
            "https://evil.example.com/v1.0/me/transitiveMemberOf?x",
            "https://graph.example.com/v1.0/me/other?x",
            "http://graph.example.com/v1.0/me/transitiveMemberOf?x",
            "https://graph.example.com:444/v1.0/me/transitiveMemberOf?x",
            "",
        ] {
            assert!(next(elsewhere).is_err(), "{elsewhere}");
        }
    }

    #[test]
    fn only_the_issuers_own_origin_is_asked_on_a_tokens_word() {
        let issuer = Issuer::new("https://id.example.com/realm");
        let source = |endpoint: &str| {
            let claims = json!({
                "_claim_names": { "groups": "src1" },
                "_claim_sources": { "src1": { "endpoint": endpoint, "access_token": "t" } },
            });
            let claims = Claims::from_json(claims.to_string().as_bytes()).unwrap();
            Source::of(&claims, &ClaimPath::parse("groups").unwrap(), &issuer)
        };
        let found = source("https://id.example.com/claims").unwrap();
        assert_eq!(found.access_token.unwrap().expose(), "t");
        for elsewhere in [
            "https://id.example.com.evil.com/",
            "https://id.example.com:444/",
            "http://id.example.com/",
            "/x",
        ] {
            assert!(source(elsewhere).is_none(), "{elsewhere}");
        }
    }

    #[test]
    fn a_token_that_is_over_for_another_or_of_another_kind_tells_nothing() {
        let rules = id_token::Rules {
            issuer: Issuer::new("https://id.example.com"),
            client_id: "door".into(),
            algorithms: vec![Algorithm::ES256],
            clock_skew: std::time::Duration::from_secs(30),
        };
        let (subject, keys) = (Subject::new("ann").unwrap(), keys());
        let told = |header: &Value, changes: &Value| {
            let claims = json!({ "iss": "https://id.example.com", "sub": "ann", "groups": ["ops"] });
            let token = sign(
                &with(&json!({ "alg": "ES256", "kid": "a" }), header),
                &with(&claims, changes),
            );
            let response = Response::new(Bytes::from(token));
            read(&response, &subject, &rules, &keys, NOW).unwrap().is_ok()
        };
        let now = NOW.unix();
        for good in [
            json!({}),
            json!({ "exp": now + 9, "nbf": now, "aud": "door" }),
            json!({ "aud": ["x", "door"] }),
        ] {
            assert!(told(&json!({}), &good), "{good}");
        }
        for bad in [
            json!({ "exp": now - 60 }),
            json!({ "nbf": now + 60 }),
            json!({ "aud": "other" }),
            json!({ "sub": "eve" }),
        ] {
            assert!(!told(&json!({}), &bad), "{bad}");
        }
        assert!(!told(&json!({ "typ": "logout+jwt" }), &json!({})));
    }
}
