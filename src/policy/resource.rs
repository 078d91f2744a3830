//! What a protected resource says of itself, and where (RFC 9728).

use super::{Access, Admission, ClientCertificate, Origin, Route, Routes};
use crate::{
    certificate::Certificate,
    identity::{ProviderId, Scopes},
};

/// Put between the origin of a resource and its path (RFC 9728 §3.1).
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// A resource that is asked about, or that a request was for.
#[derive(Debug)]
pub struct Resource<'a> {
    /// Empty for a whole origin.
    path: &'a str,
    /// One for each set of methods; never empty.
    admissions: Vec<(&'a str, &'a Admission)>,
}

impl Routes {
    /// The resource whose metadata stand at a path; `None` where no route offers them.
    ///
    /// A route that asks for a certificate says nothing of itself to whoever presents none.
    pub fn described_at<'a>(
        &'a self,
        host: &str,
        port: Option<u16>,
        path: &'a str,
        certificate: Option<&Certificate>,
    ) -> Option<Resource<'a>> {
        let path = path.strip_prefix(WELL_KNOWN)?;
        if !path.is_empty() && !path.starts_with('/') {
            return None;
        }
        let whole = if path.is_empty() { "/" } else { path };
        let open = |route: &&Route| certificate.is_some() || route.client_certificate == ClientCertificate::Optional;
        let admissions: Vec<_> = self.at(host, port, whole).filter(open).filter_map(described).collect();
        (!admissions.is_empty()).then_some(Resource { path, admissions })
    }
}

fn described(route: &Route) -> Option<(&str, &Admission)> {
    match &route.access {
        Access::Protected(admission) if admission.resource_metadata => Some((&route.name, admission)),
        Access::Protected(_) | Access::Public => None,
    }
}

impl Route {
    /// The resource that a request for a path of this route is for, where the route describes itself.
    pub fn resource<'a>(&'a self, path: &'a str) -> Option<Resource<'a>> {
        // A slash that ends the host is no path (RFC 9728 §3.1).
        let path = if path == "/" { "" } else { path };
        described(self).map(|admission| Resource {
            path,
            admissions: vec![admission],
        })
    }
}

impl Resource<'_> {
    /// Its identifier: what the client itself was told to use, byte by byte (RFC 9728 §3.3).
    pub fn identifier(&self, origin: &Origin) -> String {
        format!("{origin}{}", self.path)
    }

    /// Where its metadata stand, fit to be quoted.
    pub fn metadata_url(&self, origin: &Origin) -> String {
        // A path may hold a quote as it is, although no URL should.
        format!("{origin}{WELL_KNOWN}{}", self.path.replace('"', "%22"))
    }

    pub fn name(&self) -> &str {
        self.admissions.first().map_or("", |(name, _)| name)
    }

    /// Every scope that one of its methods needs, once.
    pub fn scopes(&self) -> Scopes {
        let scopes = self
            .admissions
            .iter()
            .flat_map(|(_, admission)| admission.allow.scopes.iter());
        once(scopes).into_iter().collect()
    }

    /// Every provider whose users pass, once.
    pub fn providers(&self) -> Vec<&ProviderId> {
        once(self.admissions.iter().flat_map(|(_, admission)| &*admission.providers))
    }
}

fn once<T: PartialEq>(of: impl Iterator<Item = T>) -> Vec<T> {
    of.fold(Vec::new(), |mut seen, one| {
        if !seen.contains(&one) {
            seen.push(one);
        }
        seen
    })
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::identity::Proof;
    use crate::policy::{Host, Mode, OnForbidden, OnUnauthenticated, Path, Requirements, RouteId, RouteUrl, Scheme};

    fn route(index: usize, method: Method, scopes: &str, resource_metadata: bool) -> Route {
        Route {
            id: RouteId::new(index),
            name: format!("route-{index}").into(),
            urls: vec![RouteUrl {
                scheme: Scheme::Https,
                host: Host::Exact("a".into()),
                port: None,
                path: Path::Prefix("/mcp".into()),
            }],
            methods: Some(vec![method]),
            access: Access::Protected(Admission {
                session: false,
                bearer: true,
                first: Proof::AccessToken,
                providers: [ProviderId::new("corp")].into(),
                on_unauthenticated: OnUnauthenticated::Auto,
                cross_site: false,
                resource_metadata,
                preflight: crate::policy::Preflight::Protect,
                allow: Requirements {
                    scopes: Scopes::parse(scopes),
                    ..Requirements::default()
                },
                deny: Vec::new(),
            }),
            mode: Mode::Enforce,
            on_forbidden: OnForbidden::Page,
            client_certificate: ClientCertificate::Optional,
        }
    }

    #[test]
    fn a_resource_has_the_scopes_of_all_its_methods_that_describe_themselves() {
        let routes = Routes::new(vec![
            route(0, Method::GET, "read", true),
            route(1, Method::POST, "read write", true),
            route(2, Method::DELETE, "delete", false),
        ])
        .unwrap();
        let at = |path: &str| {
            routes
                .described_at("a", None, &format!("{WELL_KNOWN}{path}"), None)
                .map(|it| it.scopes().to_string())
        };
        assert_eq!(at("/mcp").as_deref(), Some("read write"));
        assert_eq!(at("/mcp/x").as_deref(), Some("read write"));
        assert_eq!((at(""), at("/"), at("/mcpx"), at("mcp")), (None, None, None, None));
        assert!(
            routes.described_at("a", None, "/mcp", None).is_none()
                && routes.described_at("b", None, WELL_KNOWN, None).is_none()
        );
    }

    #[test]
    fn a_whole_origin_is_a_resource_without_a_slash() {
        let mut root = route(0, Method::GET, "", true);
        root.urls[0].path = Path::Prefix("".into());
        let routes = Routes::new(vec![root]).unwrap();
        let origin = routes.origin("a", None).unwrap();
        let described = routes.described_at("a", None, WELL_KNOWN, None).unwrap();
        assert_eq!(described.identifier(&origin), "https://a");
        let asked = routes.iter().next().unwrap().resource("/").unwrap();
        assert_eq!(
            asked.metadata_url(&origin),
            "https://a/.well-known/oauth-protected-resource"
        );
        assert_eq!(asked.identifier(&origin), "https://a");
        let quoted = routes.iter().next().unwrap().resource("/a\"b").unwrap();
        assert!(quoted.metadata_url(&origin).ends_with("/a%22b"));
    }
}
