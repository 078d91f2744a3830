//! What a route says of itself to clients that do not know it yet (RFC 9728).

use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{Error, Gateway, Visit, respond};
use crate::{
    policy::{Client, Origin, Resource},
    upstream::body::Body,
};

/// A change of the configuration is seen after so many seconds.
const FRESH: HeaderValue = HeaderValue::from_static("public, max-age=300");

impl Gateway {
    /// Answers whoever asks: nothing in it is a secret, and pages of other sites may read it as well.
    pub(super) fn describe(
        &self,
        resource: &Resource<'_>,
        method: &Method,
        origin: &Origin,
        visit: &mut Visit<'_>,
    ) -> Result<Response<Body>, Error> {
        visit.decision = "endpoint";
        visit.reader.client = Client::Programmatic;
        let mut response = match *method {
            Method::GET | Method::HEAD => respond::json(StatusCode::OK, &self.metadata_of(resource, origin)),
            // A browser asks first, where a page sends a header of its own.
            Method::OPTIONS => respond::empty(StatusCode::NO_CONTENT),
            _ => {
                return Err(Error::MethodNotAllowed(vec![
                    Method::GET,
                    Method::HEAD,
                    Method::OPTIONS,
                ]));
            }
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, FRESH);
        let any = HeaderValue::from_static("*");
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any.clone());
        if *method == Method::OPTIONS {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, any);
        }
        Ok(response)
    }

    fn metadata_of(&self, resource: &Resource<'_>, origin: &Origin) -> Value {
        let providers = resource.providers();
        let issuers = providers
            .iter()
            .filter_map(|id| self.providers.by_id(id))
            .filter(|provider| provider.accepts_bearer())
            .map(|provider| provider.issuer().as_str());
        let mut metadata = json!({
            "resource": resource.identifier(origin),
            "authorization_servers": issuers.collect::<Vec<_>>(),
            "bearer_methods_supported": ["header"],
            "resource_name": resource.name(),
        });
        let scopes = resource.scopes();
        if let (false, Some(members)) = (scopes.is_empty(), metadata.as_object_mut()) {
            members.insert("scopes_supported".to_owned(), scopes.iter().collect::<Vec<_>>().into());
        }
        metadata
    }
}
