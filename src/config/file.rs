//! The file as it is written: every table and every key, with the type that its value is read into.
//!
//! Durations are strings like `"30m"`, sizes like `"32KiB"`, and a claim is named by a dotted path, a JSON pointer or a
//! URL. What is not listed here is refused.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use http::{HeaderName, Method};
use ipnet::IpNet;
use jiff::civil::Date;
use serde_json::Value;

use super::{
    address::{CheckPath, CheckService, IssuerUrl, Onward, ProviderUrl, ReservedPath, RouteAddress, TlsName},
    edits::{EditedName, EditedValue},
    identity,
    listen::{FileMode, Proxy},
    measure::{AssertionLife, CheckInterval, LoginAge, Size, Skew, Timeout},
    read::{At, Field, FromText, Node, Place, Read, TableReader, Wrong, key_and_below, key_name, tables, words},
    rehearsal::{Asked, Claimed, Expectation},
    report::Findings,
    schema,
    shape::{Count, Named, NonEmpty, OneOrMany},
    value::{CookieDomain, CookieName, Email, EmailDomain, ExpressionText, LogFilter, Name, Scope},
    vocabulary,
};
use crate::{
    certificate::Name as CertificateName,
    identity::{ClaimPath, Subject},
    oauth::jwt::Algorithm,
    policy::{Client, ClientCertificate, Mode, OnForbidden, OnUnauthenticated, Preflight},
    provider::{BearerKind, UseUserinfo},
    secret::Secret,
    server::{Listen, tls::MinVersion},
    session::SameSite,
    telemetry::LogFormat,
    upstream::{
        AuthorizationOwner, Balance,
        headers::{Encoding, GroupFilter, Lists, Template},
        vouch::TokenHeader,
    },
};

tables! {
    /// The whole file.
    struct File {
        /// The version of this vocabulary.
        #[expect(dead_code, reason = "there is one version, and reading it has checked it")]
        version: Count<1, 1>,
        server: Server,
        admin: Admin,
        log: Log,
        session: Session,
        assertion: Signing,
        /// Authorization servers, by a name of the operator's choice.
        provider: Named<Name, Provider>,
        /// Applications, by a name of the operator's choice.
        route: Named<Name, Route>,
        /// What must hold of the routes, for `vestibule test`.
        test: Vec<At<Test>>,
    }

    /// A request that is not sent, and what must become of it.
    struct Test requires [request, expect] {
        /// Method and URL.
        request: Asked,
        /// The claims of who sends it; absent: nobody.
        r#as: Claimed,
        /// Whose claims they are; absent: the first provider of the route.
        provider: String,
        /// What proves them.
        credential: Auth,
        /// How long ago they logged in.
        login_age: Duration,
        /// Who waits for the answer.
        client: Client,
        /// Where the request comes from.
        address: IpAddr,
        /// The names in the certificate of the client; absent: none.
        certificate: OneOrMany<CertificateName>,
        expect: Expectation,
        /// Headers that the application must get, with their values.
        upstream_headers: Named<HeaderName, String>,
    }

    /// Where the gateway listens.
    struct Server {
        /// TCP addresses, Unix sockets (`unix:/run/vestibule.sock`), and sockets that systemd opened (`systemd`, `systemd:NAME`).
        listen: NonEmpty<Listen>,
        /// Networks whose `X-Forwarded-*` headers count (I7); `unix`: whoever connects to a Unix socket.
        trusted_proxies: Vec<At<Proxy>>,
        /// Who may connect to a Unix socket: its mode.
        unix_mode: FileMode,
        /// Whether every connection begins with the header of the PROXY protocol.
        proxy_protocol: bool,
        /// Whether another gateway may take the same addresses, and be taken over from.
        reuse_port: bool,
        /// Under it, on every route's origin, stand the gateway's own paths.
        auth_prefix: ReservedPath,
        /// How long new connections are still taken after SIGTERM.
        drain_delay: Duration,
        /// How long requests under way may take to finish.
        drain_timeout: Duration,
        /// Threads that serve.
        workers: Count<1, 1024>,
        /// Whether this file and those it refers to are loaded again when they change.
        watch: bool,
        /// HTTP/2 in clear text, beside HTTP/1 (RFC 9113 §3.3).
        h2c: bool,
        tls: ServerTls,
        limits: Limits,
    }

    /// TLS at `listen`.
    struct ServerTls {
        /// Certificates in PEM, the gateway's own first.
        cert_file: PathBuf,
        /// The key of the first certificate, in PEM.
        key_file: PathBuf,
        /// Several of both; which one a client sees, the names in them decide.
        certificates: NonEmpty<KeyPair>,
        /// The oldest version of TLS that is spoken.
        min_version: MinVersion,
        /// Certificate authorities that vouch for clients, in PEM.
        client_ca_file: PathBuf,
        /// Addresses, written as those of `listen`, where clients in clear text are sent to https.
        redirect_listen: NonEmpty<Listen>,
    }

    /// A certificate and its key.
    struct KeyPair requires [cert_file, key_file] {
        /// Certificates in PEM, the gateway's own first.
        cert_file: PathBuf,
        /// The key of the first certificate, in PEM.
        key_file: PathBuf,
    }

    /// What a client may ask of the gateway.
    struct Limits {
        /// Open connections of all workers.
        connections: Count<1, 1_000_000>,
        /// The head of a request.
        header_bytes: Size<8_192, 1_048_576>,
        /// Fields in the head of a request.
        header_count: Count<10, 1_000>,
        /// The request target.
        target_bytes: Size<256, 65_534>,
        /// From connecting to the end of the TLS handshake.
        handshake_timeout: Timeout,
        /// From connecting, or from the last response, to the first byte of a request.
        keep_alive: Timeout,
        /// From the first byte of a request's head to its last.
        header_timeout: Timeout,
        /// How long a connection of HTTP/2 is used.
        connection_age: Timeout,
        /// Between two pieces of a request body.
        body_idle_timeout: Timeout,
        /// A request body.
        body_bytes: Size<0, 1_152_921_504_606_846_976>,
        /// Logins of one address that make work at the provider; 0: no limit.
        logins_per_minute: Count<0, 1_000_000>,
        /// Tokens of one address that turn out bad; 0: no limit.
        failed_credentials_per_minute: Count<0, 1_000_000>,
        /// Logout tokens of one address that turn out bad, and front-channel logouts; 0: no limit.
        logouts_per_minute: Count<0, 1_000_000>,
    }

    /// The listener for probes and metrics.
    struct Admin {
        /// One address, written as those of `listen` in [server]; of systemd, with its name.
        listen: Listen,
        /// A file with the token of who may see and end sessions, and see refusals.
        token_file: PathBuf,
        /// As many refusals are kept, of people who are known and of strangers each; 0: none.
        decisions: Count<0, 10_000>,
    }

    /// What is logged, and how.
    struct Log {
        format: LogFormat,
        /// `error` to `trace`, or a filter such as `info,vestibule::provider=debug`.
        level: LogFilter,
        /// One line for every request.
        access: bool,
    }

    /// What is remembered about a login.
    struct Session {
        /// Where sessions are kept.
        store: Store,
        /// How long a session that was read from the store is not read again.
        read_cache: Duration,
        memory: MemoryStore,
        redis: RedisStore,
        /// Files with keys: the first seals, all open.
        key_files: NonEmpty<PathBuf>,
        /// How long a session lasts without a request.
        idle_timeout: Timeout,
        /// How long a session lasts at all.
        max_lifetime: Timeout,
        /// How long before its end an access token is refreshed; up to a quarter is added, and half of its life is the most.
        refresh_before: Duration,
        cookie: Cookie,
    }

    /// Sessions in the memory of the process.
    struct MemoryStore {
        /// Of all sessions together.
        max_bytes: Size<65_536, 1_099_511_627_776>,
    }

    /// Sessions in Redis.
    struct RedisStore {
        /// A file with the URL, passwords included.
        url_file: PathBuf,
        /// The name of an environment variable with the URL.
        url_env: String,
        /// Put before every key.
        key_prefix: String,
        /// How long a request waits for the store at most.
        timeout: Timeout,
        /// Certificate authorities, in PEM.
        ca_file: PathBuf,
    }

    /// The session cookie.
    struct Cookie {
        /// Without the prefixes `__Host-` and `__Secure-`, which are added.
        name: CookieName,
        same_site: SameSite,
        /// Shares the session between hosts of this domain.
        domain: CookieDomain,
    }

    /// What assertions are signed with.
    struct Signing {
        /// Files with private keys in PEM: the first signs, all are published.
        key_files: NonEmpty<PathBuf>,
    }

    /// An authorization server, and the client that this gateway is to it.
    struct Provider requires [issuer, client_id] {
        /// What people read where they choose.
        display_name: String,
        /// The issuer identifier, byte by byte as in the metadata (RFC 8414 §2).
        issuer: IssuerUrl,
        client_id: String,
        /// How the client authenticates (RFC 6749 §2.3).
        client_auth: ClientAuth,
        client_secret_file: PathBuf,
        /// The name of an environment variable.
        client_secret_env: String,
        /// For a provider on this machine only.
        client_secret: Secret,
        scopes: NonEmpty<Scope>,
        /// What ID tokens may be signed with.
        id_token_algorithms: NonEmpty<Algorithm>,
        /// For a token response without `expires_in`.
        assumed_token_lifetime: Timeout,
        /// Added to every authorization request.
        authorization_params: Named<String, String>,
        username_claim: ClaimPath,
        groups_claim: ClaimPath,
        userinfo: UseUserinfo,
        /// Certificate authorities of the provider, in PEM.
        ca_file: PathBuf,
        authorization_endpoint: ProviderUrl,
        token_endpoint: ProviderUrl,
        userinfo_endpoint: ProviderUrl,
        introspection_endpoint: ProviderUrl,
        revocation_endpoint: ProviderUrl,
        end_session_endpoint: ProviderUrl,
        jwks_uri: ProviderUrl,
        /// Where the groups are listed of whoever has too many of them for a token, as Microsoft Graph lists them.
        groups_endpoint: ProviderUrl,
        /// How far the clocks may differ when an ID token is checked.
        clock_skew: Skew,
        /// Lets e-mail addresses count that nobody verified.
        insecure_unverified_email: Exception,
        bearer: Bearer,
    }

    /// Access tokens of the provider, in `Authorization: Bearer` (RFC 6750).
    struct Bearer requires [audiences] {
        kind: BearerKind,
        /// One of them must be in the token's `aud` (RFC 9068 §4).
        audiences: NonEmpty<String>,
        algorithms: NonEmpty<Algorithm>,
        /// The token's `typ`, or `any` (RFC 9068 §2.1).
        typ: String,
        clock_skew: Skew,
        /// How long a verdict is kept; never beyond the token's `exp`.
        cache_ttl: Duration,
        /// How long a refusal is kept.
        negative_ttl: Duration,
        /// How many tokens are kept.
        cache_entries: Count<1, 10_000_000>,
        /// Lets in what introspection calls active without saying for whom.
        insecure_missing_audience: Exception,
    }

    /// What is let in, and where it goes.
    struct Route requires [url, upstream] {
        /// Origin and path prefix, or several.
        url: OneOrMany<RouteAddress>,
        /// Whether the path is the whole path instead of a prefix.
        exact: bool,
        /// Absent: any.
        methods: NonEmpty<Method>,
        /// Scheme, host and port of the application; `forward-auth` or `ext-authz`: another proxy passes requests on.
        upstream: OneOrMany<Onward>,
        /// Whether the application sees the `Host` of the request.
        preserve_host: bool,
        /// Whether the application does not see the path of the route.
        strip_prefix: bool,
        /// What is changed in requests, beside what the gateway says.
        request_headers: Edits,
        /// What is changed in answers of the application.
        response_headers: Edits,
        /// Whether browsers are told to be careful, where the application does not tell them.
        security_headers: bool,
        /// Which of several upstreams a request goes to.
        balance: Balance,
        ejection: Ejection,
        health: Health,
        /// Absent: all.
        providers: NonEmpty<String>,
        /// Which credentials count.
        auth: NonEmpty<Auth>,
        /// Whose the `Authorization` header is.
        authorization: AuthorizationOwner,
        on_unauthenticated: OnUnauthenticated,
        /// What becomes of a CORS preflight.
        preflight: Preflight,
        on_forbidden: OnForbidden,
        /// Whether a client has to present a certificate.
        client_certificate: ClientCertificate,
        /// Whether what is decided counts.
        mode: Mode,
        /// Whether clients are told where to get a token for it (RFC 9728).
        resource_metadata: bool,
        /// Lets pages of other sites act with a person's session.
        insecure_cross_site_requests: Exception,
        /// All of it is needed; of each list, one is enough, but of the scopes all.
        allow: Rules,
        /// One table that applies is enough.
        deny: NonEmpty<Rules>,
        identity: Identity,
        timeouts: Timeouts,
        upstream_tls: UpstreamTls,
    }

    /// What is asked of an identity.
    struct Rules {
        groups: NonEmpty<String>,
        emails: NonEmpty<Email>,
        email_domains: NonEmpty<EmailDomain>,
        subjects: NonEmpty<Subject>,
        scopes: NonEmpty<Scope>,
        /// The values that a claim may have, or contain.
        claims: Claims,
        /// The authentication context class that the login must have (OIDC Core §2).
        acr: NonEmpty<String>,
        /// One of the methods that the login must have used (RFC 8176).
        amr: NonEmpty<String>,
        /// How long ago the login may be.
        max_age: LoginAge,
        /// Where the request may come from.
        cidrs: NonEmpty<IpNet>,
        /// What the client proved to be in the handshake of TLS.
        client_certificates: NonEmpty<CertificateName>,
        /// What else must be true, in the Common Expression Language (CEL).
        expression: ExpressionText,
    }

    /// What the application is told.
    struct Identity {
        /// The headers that a well-known application expects.
        preset: identity::Preset,
        /// Headers, and templates for their values; beside a preset, more of them or others.
        headers: Named<HeaderName, Template>,
        /// What stands between the members of a list, or `repeat`.
        groups_delimiter: Lists,
        /// The groups that are told; absent: all.
        groups_filter: NonEmpty<GroupFilter>,
        /// How values that are not ASCII are written.
        encoding: Encoding,
        /// Of one header.
        max_value_bytes: Size<16, 65_536>,
        /// A signed token that says who asks.
        assertion: Assertion,
        /// Where the application gets the access token.
        access_token: Option<TokenHeader>,
        /// A name and a password.
        basic: Basic,
    }

    /// A signed token that says who asks, and that the request came through this gateway.
    struct Assertion {
        header: HeaderName,
        /// Its `aud`; absent: the name of the route.
        audience: String,
        /// From `iat` to `exp`.
        ttl: AssertionLife,
    }

    /// What stands in `Authorization: Basic` (RFC 7617).
    struct Basic requires [username] {
        username: Template,
        password_file: PathBuf,
        /// The name of an environment variable.
        password_env: String,
    }

    /// What a well-known application is told.
    struct Preset {
        headers: Named<HeaderName, Template>,
        delimiter: Lists,
        /// What the application trusts beside them.
        strip: NonEmpty<HeaderName>,
        #[expect(dead_code, reason = "it is for whoever reads the file of presets")]
        notes: String,
    }

    /// Changes to headers.
    struct Edits {
        /// In the place of whatever is there.
        set: Named<EditedName, EditedValue>,
        /// Beside whatever is there.
        add: Named<EditedName, EditedValue>,
        remove: NonEmpty<EditedName>,
    }

    /// When one of several upstreams is left out for a while.
    struct Ejection {
        /// So many requests in a row without an answer.
        failures: Count<1, 1_000>,
        /// For how long; each further time for twice as long, up to 32 times.
        time: Timeout,
    }

    /// How upstreams are asked whether they are well.
    struct Health {
        /// What is asked for with GET.
        path: CheckPath,
        /// In its place: what is asked for over `grpc.health.v1.Health/Check`; empty: the server as a whole.
        grpc_service: CheckService,
        interval: CheckInterval,
        timeout: Timeout,
        /// So many good answers in a row make one well.
        healthy: Count<1, 100>,
        /// So many bad ones make it ill.
        unhealthy: Count<1, 100>,
        /// What a good answer has; absent: any 2xx.
        statuses: NonEmpty<Count<100, 599>>,
    }

    /// Limits of each wait for the application.
    struct Timeouts {
        /// Until connected.
        connect: Timeout,
        /// Until the response begins.
        response: Timeout,
        /// Between two pieces of a body.
        idle: Timeout,
        /// A whole exchange, WebSockets included; absent: no limit.
        stream: Timeout,
    }

    /// How the application proves itself, and the gateway to it.
    struct UpstreamTls {
        /// Certificate authorities of the application, in PEM.
        ca_file: PathBuf,
        /// What the gateway proves itself with, in PEM.
        cert_file: PathBuf,
        /// The private key of that certificate.
        key_file: PathBuf,
        /// Whom the application's certificate has to name.
        server_name: TlsName,
    }

    /// A check that is weakened on purpose, and until when.
    struct Exception requires [reason, until] {
        /// For whoever reads the log.
        reason: String,
        /// The last day.
        until: Date,
    }
}

/// The values that each claim may have.
pub(super) type Claims = Named<ClaimPath, NonEmpty<Value>>;

/// Where sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Cookie,
    Memory,
    Redis,
}

/// The word for how the client authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuth {
    SecretBasic,
    SecretPost,
    None,
}

/// A kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    Session,
    Bearer,
    Public,
}

words! {
    LogFormat { "json" => LogFormat::Json, "text" => LogFormat::Text, }
    MinVersion { "1.2" => MinVersion::Tls12, "1.3" => MinVersion::Tls13, }
    Store { "cookie" => Store::Cookie, "memory" => Store::Memory, "redis" => Store::Redis, }
    SameSite { "lax" => SameSite::Lax, "strict" => SameSite::Strict, }
    ClientAuth {
        "client_secret_basic" => ClientAuth::SecretBasic,
        "client_secret_post" => ClientAuth::SecretPost,
        "none" => ClientAuth::None,
    }
    UseUserinfo { "auto" => UseUserinfo::Auto, "always" => UseUserinfo::Always, "never" => UseUserinfo::Never, }
    BearerKind {
        "jwt" => BearerKind::Jwt,
        "introspection" => BearerKind::Introspection,
        "auto" => BearerKind::Auto,
    }
    Auth { "session" => Auth::Session, "bearer" => Auth::Bearer, "public" => Auth::Public, }
    Balance { "round_robin" => Balance::RoundRobin, "least_requests" => Balance::LeastRequests, }
    AuthorizationOwner {
        "gateway" => AuthorizationOwner::Gateway,
        "application" => AuthorizationOwner::Application,
    }
    OnUnauthenticated {
        "auto" => OnUnauthenticated::Auto,
        "redirect" => OnUnauthenticated::Redirect,
        "401" => OnUnauthenticated::Unauthorized,
    }
    Client {
        "browser" => Client::Navigation,
        "script" => Client::Programmatic,
        "websocket" => Client::WebSocket,
        "preflight" => Client::Preflight,
    }
    Preflight { "protect" => Preflight::Protect, "pass" => Preflight::Pass, }
    Expectation {
        "allow" => Expectation::Allow,
        "login" => Expectation::Login,
        "400" => Expectation::Status(400),
        "401" => Expectation::Status(401),
        "403" => Expectation::Status(403),
        "404" => Expectation::Status(404),
        "405" => Expectation::Status(405),
        "502" => Expectation::Status(502),
    }
    Encoding {
        "utf8" => Encoding::Utf8,
        "rfc2047" => Encoding::Rfc2047,
        "percent" => Encoding::Percent,
        "base64" => Encoding::Base64,
    }
    Option<TokenHeader> {
        "none" => None,
        "authorization" => Some(TokenHeader::Authorization),
        "x-forwarded-access-token" => Some(TokenHeader::XForwardedAccessToken),
    }
    ClientCertificate {
        "optional" => ClientCertificate::Optional,
        "require" => ClientCertificate::Require,
    }
    Mode { "enforce" => Mode::Enforce, "shadow" => Mode::Shadow, }
    OnForbidden { "page" => OnForbidden::Page, "404" => OnForbidden::NotFound, }
    Algorithm {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
    }
}
