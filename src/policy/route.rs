//! Which route a request belongs to: exact host before wildcard, exact path before the longest prefix.

use std::{collections::HashMap, fmt, sync::Arc};

use http::Method;
use ipnet::IpNet;

use super::{Authentication, Client, RequestFacts, requirement::Requirements};
use crate::identity::{Identity, Proof, ProviderId, TokenError};

/// A route's place in the table; other rooms keep what they know of a route under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(usize);

impl RouteId {
    pub const fn new(index: usize) -> Self {
        Self(index)
    }

    pub const fn index(self) -> usize {
        self.0
    }
}

/// One `[route.NAME]` table, as far as the decision is concerned.
#[derive(Clone, Debug)]
pub struct Route {
    pub id: RouteId,
    pub name: Box<str>,
    pub urls: Vec<RouteUrl>,
    /// Absent: any method.
    pub methods: Option<Vec<Method>>,
    pub access: Access,
    pub client_certificate: ClientCertificate,
    pub mode: Mode,
    pub on_forbidden: OnForbidden,
}

/// Whether a client has to present a certificate, whatever else it brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    #[default]
    Optional,
    Require,
}

/// Whether what is decided counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Enforce,
    /// Whoever comes passes; what would be refused is only noted.
    Shadow,
}

impl Route {
    /// Whether one of the route's URLs is at this host.
    pub fn is_at(&self, host: &str) -> bool {
        self.urls.iter().any(|url| match &url.host {
            Host::Exact(exact) => **exact == *host,
            Host::Wildcard(domain) => host.split_once('.').is_some_and(|(_, rest)| *rest == **domain),
        })
    }
}

/// Who may enter at all.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is made once for each route, and a box would be one step more for each request"
)]
pub enum Access {
    /// `auth = ["public"]`.
    Public,
    Protected(Admission),
}

/// How one gets in, and who may.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Browsers may log in, and their session counts.
    pub session: bool,
    /// Access tokens in `Authorization: Bearer` count.
    pub bearer: bool,
    /// What counts of a session and a token that are both there and both good.
    pub first: Proof,
    pub providers: Arc<[ProviderId]>,
    pub on_unauthenticated: OnUnauthenticated,
    /// Whether pages of other sites may act with the person's session.
    pub cross_site: bool,
    /// Whether the route tells clients where to get a token for it (RFC 9728).
    pub resource_metadata: bool,
    pub preflight: Preflight,
    pub allow: Requirements,
    pub deny: Vec<Requirements>,
}

impl Admission {
    /// Whether a request that brings a good token is asked for its session too.
    pub fn session_first(&self) -> bool {
        self.session && self.first == Proof::Session
    }

    /// Who it is of a good token and whatever session comes along, where sessions count first.
    ///
    /// A session that is none leaves the token to decide. One of somebody else makes the token a bad credential: what is
    /// presented explicitly is never silently passed over (I13).
    pub fn beside(token: Arc<Identity>, session: Authentication) -> Authentication {
        match session {
            Authentication::Verified(person) if person.is_same_as(&token) => Authentication::Verified(person),
            Authentication::Verified(_) => Authentication::Rejected(TokenError::OtherPerson),
            Authentication::Anonymous | Authentication::Rejected(_) => Authentication::Verified(token),
        }
    }

    /// Whether a request is a preflight that passes without anybody in particular; addresses that may not pass do not
    /// with it either.
    pub fn lets_ask(&self, request: &RequestFacts<'_>) -> bool {
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&request.address));
        self.preflight == Preflight::Pass
            && request.client == Client::Preflight
            && (self.allow.cidrs.is_empty() || within(&self.allow.cidrs))
            && !self.deny.iter().any(|rule| within(&rule.cidrs))
    }

    pub fn accepts(&self, proof: Proof) -> bool {
        match proof {
            Proof::Session => self.session,
            Proof::AccessToken => self.bearer,
        }
    }
}

/// What becomes of a CORS preflight, which browsers send without any credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preflight {
    /// It needs a credential as every request does, and so fails.
    #[default]
    Protect,
    /// It passes, without anything that could say who asks.
    Pass,
}

/// What somebody without a credential is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnauthenticated {
    /// A navigating browser is sent to log in, everything else gets 401.
    #[default]
    Auto,
    /// Every GET and HEAD is sent to log in.
    Redirect,
    /// Everybody gets 401.
    Unauthorized,
}

/// What somebody who may not pass is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnForbidden {
    #[default]
    Page,
    /// As if the route did not exist.
    NotFound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The host of a route's URL, lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    Exact(Box<str>),
    /// `*.example.com` holds `example.com`; the star stands for exactly one label.
    Wildcard(Box<str>),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// The path of a route's URL: canonical, without a trailing slash unless it is exact.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    Exact(Box<str>),
    /// Matches itself and everything below: `/admin` matches `/admin/x` and not `/administrator`; `""` matches all.
    Prefix(Box<str>),
}

/// One URL of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteUrl {
    pub scheme: Scheme,
    pub host: Host,
    /// Absent: the default port of the scheme.
    pub port: Option<u16>,
    pub path: Path,
}

/// Where a request arrived, in the operator's words: the external origin (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub scheme: Scheme,
    pub host: Box<str>,
    pub port: Option<u16>,
}

impl Origin {
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// What the table says of a request.
#[derive(Debug)]
pub enum Lookup<'a> {
    Found(&'a Route),
    /// The path is known, with these methods only.
    MethodNotAllowed(Vec<&'a Method>),
    NotFound,
}

/// Two routes that would both take the same request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie {
    pub first: RouteId,
    pub second: RouteId,
    pub url: String,
}

/// All routes, arranged for lookup.
#[derive(Debug, Default)]
pub struct Routes {
    routes: Vec<Route>,
    exact_hosts: Table<Vec<Site>>,
    wildcard_hosts: Table<Vec<Site>>,
}

/// Its keys are the operator's, so that whoever asks cannot make them collide, and looking up may be cheap.
type Table<V> = HashMap<Box<str>, V, foldhash::fast::RandomState>;

/// The routes of one origin.
#[derive(Debug)]
struct Site {
    /// Of a wildcard site, the host is the part behind the star.
    origin: Arc<Origin>,
    exact: Table<Vec<usize>>,
    prefixes: Table<Vec<usize>>,
    /// The most slashes in any prefix: deeper paths need not be tried whole.
    deepest: usize,
}

impl Routes {
    /// Arranges the routes; `id` of each must be its index.
    ///
    /// # Errors
    /// Every pair of routes that would take the same request.
    pub fn new(routes: Vec<Route>) -> Result<Self, Vec<Tie>> {
        let mut table = Self::default();
        let mut ties = Vec::new();
        for route in &routes {
            for url in &route.urls {
                ties.extend(table.insert(&routes, route, url));
            }
        }
        table.routes = routes;
        if ties.is_empty() { Ok(table) } else { Err(ties) }
    }

    fn insert(&mut self, routes: &[Route], route: &Route, url: &RouteUrl) -> Option<Tie> {
        let sites = match &url.host {
            Host::Exact(host) => self.exact_hosts.entry(host.clone()).or_default(),
            Host::Wildcard(domain) => self.wildcard_hosts.entry(domain.clone()).or_default(),
        };
        let position = sites.iter().position(|site| site.serves(url.port)).unwrap_or_else(|| {
            sites.push(Site::new(url));
            sites.len().saturating_sub(1)
        });
        let candidates = sites.get_mut(position)?.candidates_mut(&url.path);
        let rival = candidates
            .iter()
            .filter_map(|index| routes.get(*index))
            .find(|rival| methods_meet(rival, route));
        let tie = rival.map(|rival| Tie {
            first: rival.id,
            second: route.id,
            url: url.to_string(),
        });
        candidates.push(route.id.index());
        tie
    }

    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    pub fn has(&self, name: &str) -> bool {
        self.routes.iter().any(|route| *route.name == *name)
    }

    pub fn by_id(&self, id: RouteId) -> Option<&Route> {
        self.routes.get(id.index())
    }

    /// The external origin that a request arrived at, when any route lives there.
    pub fn origin(&self, host: &str, port: Option<u16>) -> Option<Arc<Origin>> {
        let site = self.site(host, port)?;
        if *site.origin.host == *host {
            return Some(site.origin.clone());
        }
        Some(Arc::new(Origin {
            host: host.into(),
            ..(*site.origin).clone()
        }))
    }

    /// The https origin of a host, when any route lives there; of several, the one without a port.
    pub fn secure_origin(&self, host: &str) -> Option<Origin> {
        let wildcard = || {
            let (label, domain) = host.split_once('.')?;
            self.wildcard_hosts.get(domain).filter(|_| !label.is_empty())
        };
        let sites = self.exact_hosts.get(host).or_else(wildcard)?;
        let secure = sites.iter().map(|site| &site.origin).filter(|origin| origin.is_https());
        let origin = secure.min_by_key(|origin| origin.port)?;
        Some(Origin {
            host: host.into(),
            ..(**origin).clone()
        })
    }

    pub fn find(&self, request: &RequestFacts<'_>) -> Lookup<'_> {
        let Some(candidates) = self
            .site(request.host, request.port)
            .and_then(|site| site.candidates(request.path))
        else {
            return Lookup::NotFound;
        };
        let named = |route: &&Route| {
            route
                .methods
                .as_ref()
                .is_some_and(|methods| methods.contains(request.method))
        };
        let routes = || candidates.iter().filter_map(|index| self.routes.get(*index));
        match routes()
            .find(named)
            .or_else(|| routes().find(|route| route.methods.is_none()))
        {
            Some(route) => Lookup::Found(route),
            None => Lookup::MethodNotAllowed(routes().flat_map(|route| route.methods.iter().flatten()).collect()),
        }
    }

    /// Every route at the most exact path that fits, whatever its methods.
    pub(super) fn at(&self, host: &str, port: Option<u16>, path: &str) -> impl Iterator<Item = &Route> {
        let candidates = self.site(host, port).and_then(|site| site.candidates(path));
        let indices = candidates.into_iter().flatten();
        indices.filter_map(|index| self.routes.get(*index))
    }

    fn site(&self, host: &str, port: Option<u16>) -> Option<&Site> {
        let serving = |sites: &'_ Vec<Site>| sites.iter().position(|site| site.serves(port));
        if let Some(sites) = self.exact_hosts.get(host)
            && let Some(position) = serving(sites)
        {
            return sites.get(position);
        }
        let (label, domain) = host.split_once('.')?;
        let sites = self.wildcard_hosts.get(domain).filter(|_| !label.is_empty())?;
        sites.get(serving(sites)?)
    }
}

impl Site {
    fn new(url: &RouteUrl) -> Self {
        Self {
            origin: Arc::new(Origin {
                scheme: url.scheme,
                host: match &url.host {
                    Host::Exact(host) | Host::Wildcard(host) => host.clone(),
                },
                port: url.port,
            }),
            exact: Table::default(),
            prefixes: Table::default(),
            deepest: 0,
        }
    }

    /// A request that names the default port of this site's scheme names no port.
    fn serves(&self, port: Option<u16>) -> bool {
        let default = self.origin.scheme.default_port();
        port.unwrap_or(default) == self.origin.port.unwrap_or(default)
    }

    fn candidates_mut(&mut self, path: &Path) -> &mut Vec<usize> {
        match path {
            Path::Exact(path) => self.exact.entry(path.clone()).or_default(),
            Path::Prefix(prefix) => {
                self.deepest = self.deepest.max(prefix.matches('/').count());
                self.prefixes.entry(prefix.clone()).or_default()
            }
        }
    }

    fn candidates(&self, path: &str) -> Option<&Vec<usize>> {
        self.exact.get(path).or_else(|| self.longest_prefix(path))
    }

    fn longest_prefix(&self, path: &str) -> Option<&Vec<usize>> {
        let mut slashes = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
        // What ends behind more slashes than any prefix has is none.
        let mut end = slashes.nth(self.deepest).map_or(path.len(), |(index, _)| index);
        loop {
            let prefix = path.get(..end)?;
            if let Some(candidates) = self.prefixes.get(prefix) {
                return Some(candidates);
            }
            end = prefix.bytes().rposition(|byte| byte == b'/')?;
        }
    }
}

fn methods_meet(one: &Route, other: &Route) -> bool {
    match (&one.methods, &other.methods) {
        (Some(these), Some(those)) => these.iter().any(|method| those.contains(method)),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

impl fmt::Display for RouteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match &self.path {
            Path::Exact(path) => f.write_str(path),
            Path::Prefix(prefix) => write!(f, "{prefix}/"),
        }
    }
}
