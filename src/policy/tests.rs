//! The golden table, and what must hold beside it.

mod less;

use std::{fmt::Write, net::Ipv4Addr, sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::certificate::Name;
use crate::identity::{Claims, Identity, Issuer, ProviderId, Scopes, Strength, Subject, Words};

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

/// A decision in a word, as the golden table writes it.
fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allow(_) => "allow",
        Decision::Login(_) => "login",
        Decision::Challenge(Challenge::TokenMissing) => "missing",
        Decision::Challenge(Challenge::InvalidRequest) => "invalid_request",
        Decision::Challenge(Challenge::InvalidToken(_)) => "invalid_token",
        Decision::Challenge(Challenge::InsufficientScope(_)) => "insufficient_scope",
        Decision::Challenge(Challenge::InsufficientAuthentication(_)) => "insufficient_user_authentication",
        Decision::Deny(_) => "deny",
    }
}

fn admission() -> Admission {
    Admission {
        session: true,
        bearer: true,
        first: Proof::AccessToken,
        providers: [ProviderId::new("corp")].into(),
        on_unauthenticated: OnUnauthenticated::Auto,
        cross_site: false,
        resource_metadata: false,
        preflight: Preflight::Protect,
        allow: Requirements::default(),
        deny: Vec::new(),
    }
}

fn route(access: Access) -> Route {
    Route {
        id: RouteId::new(0),
        name: "wiki".into(),
        urls: Vec::new(),
        methods: None,
        access,
        client_certificate: ClientCertificate::Optional,
        mode: Mode::Enforce,
        on_forbidden: OnForbidden::Page,
    }
}

fn request(method: &Method, client: Client, initiator: Initiator) -> RequestFacts<'_> {
    RequestFacts {
        method,
        host: "wiki.example.com",
        port: None,
        path: "/",
        query: None,
        client,
        initiator,
        address: Ipv4Addr::LOCALHOST.into(),
        certificate: None,
    }
}

fn identity(proof: Proof) -> Identity {
    Identity {
        provider: ProviderId::new("corp"),
        issuer: Issuer::new("https://id.example.com"),
        subject: Subject::new("ann").unwrap(),
        proof,
        username: Some("ann".into()),
        email: Some("ann@example.com".into()),
        groups: vec!["finance".into(), "staff".into()],
        groups_unknown: false,
        scopes: Scopes::parse("openid reports.read"),
        claims: Claims::from_iter([
            ("realm_access", json!({"roles": ["reporter", 7]})),
            ("level", json!(3)),
            ("acr", json!("urn:mfa")),
            ("auth_time", json!(NOW.unix() - 60)),
        ]),
        expires_at: NOW.plus(std::time::Duration::from_secs(60)),
        words: Words::default(),
    }
}

static AT_THE_WIKI: RequestFacts<'static> = RequestFacts {
    method: &Method::GET,
    host: "wiki.example.com",
    port: None,
    path: "/",
    query: None,
    client: Client::Programmatic,
    initiator: Initiator::OwnSite,
    address: IpAddr::V4(Ipv4Addr::LOCALHOST),
    certificate: None,
};

fn case(identity: &Identity) -> Case<'_> {
    Case {
        identity,
        request: &AT_THE_WIKI,
        now: NOW,
    }
}

fn verified(identity: Identity) -> Authentication {
    Authentication::Verified(Arc::new(identity))
}

fn allow(allow: Requirements) -> Access {
    Access::Protected(Admission { allow, ..admission() })
}

fn names(names: &[&str]) -> Vec<Box<str>> {
    names.iter().map(|name| (*name).into()).collect()
}

fn rule(path: &str, value: serde_json::Value) -> ClaimRule {
    ClaimRule {
        path: crate::identity::ClaimPath::parse(path).unwrap(),
        values: vec![Wanted::Exactly(value)],
    }
}

/// One word where all agree, otherwise each client with its own.
fn in_words(verdicts: &[(&str, &str)]) -> String {
    let (_, first) = verdicts[0];
    if verdicts.iter().all(|(_, verdict)| *verdict == first) {
        return first.into();
    }
    let each: Vec<_> = verdicts
        .iter()
        .map(|(name, verdict)| format!("{name}: {verdict}"))
        .collect();
    each.join(", ")
}

/// Routes that look at certificates, and what becomes of a script and of a browser with and without one.
fn certificates(table: &mut String, authentications: impl IntoIterator<Item = (&'static str, Authentication)> + Clone) {
    let name = |text: &str| Name::read(text).unwrap();
    let listing = |names: &[&str]| Requirements {
        client_certificates: names.iter().map(|text| name(text)).collect(),
        ..Requirements::default()
    };
    let denying = |names: &[&str]| {
        Access::Protected(Admission {
            deny: vec![listing(names)],
            ..admission()
        })
    };
    let require = |access| Route {
        client_certificate: ClientCertificate::Require,
        ..route(access)
    };
    let routes = [
        ("certificate needed", require(Access::Protected(admission()))),
        ("certificate needed, public", require(Access::Public)),
        ("certificate listed", route(allow(listing(&["CN=other", "CN=ops-1"])))),
        (
            "certificate listed by another name",
            route(allow(listing(&["dns:ops.example.com"]))),
        ),
        ("certificate not listed", route(allow(listing(&["CN=ops-10"])))),
        ("certificate denied", route(denying(&["CN=ops-1"]))),
        ("another certificate denied", route(denying(&["CN=ops-2"]))),
    ];
    let ours = Certificate::called([name("CN=ops-1"), name("dns:ops.example.com")]);
    for (kind, route) in &routes {
        for (who, authentication) in authentications.clone() {
            let verdicts = [("with", Some(&ours)), ("without", None)].map(|(presented, certificate)| {
                let request = RequestFacts {
                    certificate,
                    ..request(&Method::GET, Client::Navigation, Initiator::OwnSite)
                };
                (presented, word(&decide(route, &request, authentication.clone(), NOW)))
            });
            writeln!(table, "{kind} | {who} | {}", in_words(&verdicts)).unwrap();
        }
    }
}

#[test]
fn of_a_good_token_and_a_session_the_one_that_is_named_first_counts() {
    let person = |name: &str, proof| Identity {
        subject: Subject::new(name).unwrap(),
        ..identity(proof)
    };
    let token = || Arc::new(person("ann", Proof::AccessToken));
    let foreign = Identity {
        issuer: Issuer::new("https://other.example.com"),
        ..person("ann", Proof::Session)
    };
    let beside = |session| match Admission::beside(token(), session) {
        Authentication::Verified(identity) => format!("{:?}", identity.proof),
        other => format!("{other:?}"),
    };
    assert_eq!(beside(verified(person("ann", Proof::Session))), "Session");
    assert_eq!(beside(Authentication::Anonymous), "AccessToken");
    for session in [person("bob", Proof::Session), foreign] {
        assert_eq!(beside(verified(session)), "Rejected(OtherPerson)");
    }
    for (session, first, asked) in [
        (true, Proof::Session, true),
        (true, Proof::AccessToken, false),
        (false, Proof::Session, false),
    ] {
        let admission = Admission {
            session,
            first,
            ..admission()
        };
        assert_eq!(admission.session_first(), asked);
    }
}

#[test]
fn the_golden_table() {
    let open = || Access::Protected(admission());
    let only = |session, bearer| {
        Access::Protected(Admission {
            session,
            bearer,
            ..admission()
        })
    };
    let on_unauthenticated = |on_unauthenticated| {
        Access::Protected(Admission {
            on_unauthenticated,
            ..admission()
        })
    };
    let group = |group| Requirements {
        groups: names(&[group]).into(),
        ..Requirements::default()
    };
    let scope = |scope| Requirements {
        scopes: Scopes::parse(scope),
        ..Requirements::default()
    };
    let acr = |acr| Requirements {
        strength: Strength {
            acr: names(&[acr]),
            ..Strength::default()
        },
        ..Requirements::default()
    };
    let logged_in_within = |seconds| Requirements {
        strength: Strength {
            max_age: Some(Duration::from_secs(seconds)),
            ..Strength::default()
        },
        ..Requirements::default()
    };
    let from = |network: &str| Requirements {
        cidrs: vec![network.parse().unwrap()],
        ..Requirements::default()
    };
    let expression = |source, side| Requirements {
        expression: Some(Expression::compile(source, side).unwrap()),
        ..Requirements::default()
    };
    let denying = |source| {
        Access::Protected(Admission {
            deny: vec![expression(source, Side::Deny)],
            ..admission()
        })
    };
    let routes = [
        ("public", Access::Public),
        ("anyone", open()),
        ("session only", only(true, false)),
        ("bearer only", only(false, true)),
        ("redirect", on_unauthenticated(OnUnauthenticated::Redirect)),
        ("401", on_unauthenticated(OnUnauthenticated::Unauthorized)),
        ("group held", allow(group("finance"))),
        ("group not held", allow(group("admins"))),
        ("scope held", allow(scope("reports.read"))),
        ("scope not held", allow(scope("reports.write"))),
        ("login strong", allow(acr("urn:mfa"))),
        ("login too weak", allow(acr("urn:hardware"))),
        ("login recent", allow(logged_in_within(60))),
        ("login too old", allow(logged_in_within(59))),
        ("address inside", allow(from("127.0.0.0/8"))),
        ("address outside", allow(from("10.0.0.0/8"))),
        (
            "too weak, and not in the group",
            allow(Requirements {
                groups: names(&["admins"]).into(),
                ..acr("urn:hardware")
            }),
        ),
        (
            "expression true",
            allow(expression("'staff' in groups && claims.level == 3", Side::Allow)),
        ),
        ("expression false", allow(expression("claims.level > 3", Side::Allow))),
        (
            "expression uncertain",
            allow(expression("claims.manager != 'eve'", Side::Allow)),
        ),
        ("denying expression true", denying("claims.level == 3")),
        ("denying expression false", denying("claims.level > 3")),
        ("denying expression uncertain", denying("claims.manager == 'eve'")),
        (
            "denied",
            Access::Protected(Admission {
                deny: vec![group("staff")],
                allow: group("finance"),
                ..admission()
            }),
        ),
    ];
    let ended = |proof| Identity {
        expires_at: NOW,
        ..identity(proof)
    };
    let authentications = || {
        [
            ("nobody", Authentication::Anonymous),
            ("malformed", Authentication::Rejected(TokenError::Malformed)),
            ("bad token", Authentication::Rejected(TokenError::Signature)),
            ("session", verified(identity(Proof::Session))),
            ("ended session", verified(ended(Proof::Session))),
            ("token", verified(identity(Proof::AccessToken))),
            ("ended token", verified(ended(Proof::AccessToken))),
        ]
    };
    let post = (Method::POST, Client::Navigation, Initiator::OwnSite);
    let clients = [
        ("navigation", (Method::GET, Client::Navigation, Initiator::OwnSite)),
        ("script", (Method::GET, Client::Programmatic, Initiator::OwnSite)),
        ("form", post),
        (
            "foreign form",
            (Method::POST, Client::Navigation, Initiator::ForeignSite),
        ),
        ("websocket", (Method::GET, Client::WebSocket, Initiator::OwnSite)),
        (
            "foreign websocket",
            (Method::GET, Client::WebSocket, Initiator::ForeignSite),
        ),
        (
            "foreign link",
            (Method::GET, Client::Navigation, Initiator::ForeignSite),
        ),
    ];
    let mut table = String::new();
    for (route_kind, access) in routes {
        let route = route(access);
        for (who, authentication) in authentications() {
            let verdict = |(method, client, initiator): &(Method, Client, Initiator)| {
                word(&decide(
                    &route,
                    &request(method, *client, *initiator),
                    authentication.clone(),
                    NOW,
                ))
            };
            let verdicts: Vec<_> = clients.iter().map(|(name, client)| (*name, verdict(client))).collect();
            writeln!(table, "{route_kind} | {who} | {}", in_words(&verdicts)).unwrap();
        }
    }
    let stranger = Identity {
        subject: Subject::new("bob").unwrap(),
        ..identity(Proof::Session)
    };
    for (order, first) in [
        ("bearer, session", Proof::AccessToken),
        ("session, bearer", Proof::Session),
    ] {
        let admission = Admission { first, ..admission() };
        let route = route(Access::Protected(admission.clone()));
        for (who, session) in [
            ("a token and a session", verified(identity(Proof::Session))),
            ("a token and no session", Authentication::Anonymous),
            ("a token and somebody else's session", verified(stranger.clone())),
        ] {
            let token = Arc::new(identity(Proof::AccessToken));
            let authentication = match admission.session_first() {
                true => Admission::beside(token, session),
                false => Authentication::Verified(token),
            };
            let verdict = |(method, client, initiator): &(Method, Client, Initiator)| {
                let request = request(method, *client, *initiator);
                word(&decide(&route, &request, authentication.clone(), NOW))
            };
            let verdicts: Vec<_> = clients.iter().map(|(name, client)| (*name, verdict(client))).collect();
            writeln!(table, "{order} | {who} | {}", in_words(&verdicts)).unwrap();
        }
    }
    certificates(&mut table, authentications());
    assert!(table == include_str!("golden.txt"), "the table is now:\n{table}");
}

#[test]
fn in_the_shadow_everybody_passes_and_what_would_be_decided_is_known() {
    let group = Requirements {
        groups: names(&["admins"]).into(),
        ..Requirements::default()
    };
    let route = Route {
        mode: Mode::Shadow,
        ..route(allow(group))
    };
    let method = Method::GET;
    let request = request(&method, Client::Navigation, Initiator::OwnSite);
    let ended = Identity {
        expires_at: NOW,
        ..identity(Proof::Session)
    };
    for (authentication, would, is_told) in [
        (Authentication::Anonymous, "login", None),
        (Authentication::Rejected(TokenError::Signature), "challenge", None),
        (verified(ended), "login", None),
        (verified(identity(Proof::Session)), "deny", Some(())),
    ] {
        let Decision::Allow(permit) = decide(&route, &request, authentication, NOW) else {
            panic!("not allowed")
        };
        assert_eq!(permit.refusal().map(Decision::word), Some(would));
        assert_eq!(permit.identity().map(drop), is_told, "{would}");
    }
    let admin = Identity {
        groups: names(&["admins"]),
        ..identity(Proof::Session)
    };
    let Decision::Allow(permit) = decide(&route, &request, verified(admin), NOW) else {
        panic!("not allowed")
    };
    assert!(permit.refusal().is_none() && permit.identity().is_some());
}

#[test]
fn a_public_route_asks_nobody() {
    let route = route(Access::Public);
    let method = Method::GET;
    let request = request(&method, Client::Programmatic, Initiator::OwnSite);
    let Decision::Allow(permit) = decide(&route, &request, verified(identity(Proof::Session)), NOW) else {
        panic!("not allowed")
    };
    assert!(permit.identity().is_none());
}

#[test]
fn keys_are_anded_and_lists_are_ored() {
    let mut allow = Requirements {
        groups: names(&["nobody", "staff"]).into(),
        subjects: names(&["ann", "bob"]),
        ..Requirements::default()
    };
    assert_eq!(allow.first_unmet(case(&identity(Proof::Session))), None);
    allow.subjects = names(&["bob"]);
    assert_eq!(
        allow.first_unmet(case(&identity(Proof::Session))),
        Some(Requirement::Subjects)
    );
}

#[test]
fn claims_match_by_value_and_membership_and_never_by_absence() {
    let met = |path: &str, value| {
        let claims = vec![rule(path, value)];
        Requirements {
            claims,
            ..Requirements::default()
        }
        .first_unmet(case(&identity(Proof::Session)))
        .is_none()
    };
    assert!(met("realm_access.roles", json!("reporter")));
    assert!(met("realm_access.roles", json!(7)));
    assert!(met("level", json!(3)));
    assert!(!met("level", json!("3")));
    assert!(!met("realm_access.roles", json!("admin")));
    assert!(!met("nowhere", json!(null)));
    assert!(!met("realm_access", json!({"roles": ["reporter", 7]})));
}

#[test]
fn a_star_stands_for_any_end_of_a_string() {
    let met = |path: &str, beginning: &str| {
        let mut rule = rule(path, json!(null));
        rule.values = vec![Wanted::Beginning(beginning.into())];
        Requirements {
            claims: vec![rule],
            ..Requirements::default()
        }
        .first_unmet(case(&identity(Proof::Session)))
        .is_none()
    };
    assert!(met("realm_access.roles", "rep"));
    assert!(met("acr", ""));
    assert!(!met("realm_access.roles", "orter"));
    assert!(!met("level", ""));
    assert!(!met("nowhere", ""));
}

#[test]
fn ghsa_c5c4_8r6x_56w3_an_address_with_two_ats_has_no_domain() {
    let allow = Requirements {
        email_domains: names(&["example.com"]),
        ..Requirements::default()
    };
    let with_email = |email: &str| Identity {
        email: Some(email.into()),
        ..identity(Proof::Session)
    };
    assert_eq!(allow.first_unmet(case(&with_email("ann@EXAMPLE.com"))), None);
    for email in [
        "ann@evil.com@example.com",
        "ann@example.com@evil.com",
        "@example.com",
        "example.com",
        "ann@sub.example.com",
    ] {
        assert!(allow.first_unmet(case(&with_email(email))).is_some(), "{email}");
    }
}

#[test]
fn a_deny_table_that_asks_nothing_applies_to_nobody() {
    assert!(!Requirements::default().all_apply(case(&identity(Proof::Session))));
}

#[test]
fn an_insufficient_scope_names_all_that_the_route_needs() {
    let route = route(allow(Requirements {
        scopes: Scopes::parse("a reports.read b"),
        ..Requirements::default()
    }));
    let method = Method::GET;
    let request = request(&method, Client::Programmatic, Initiator::OwnSite);
    let Decision::Challenge(Challenge::InsufficientScope(scopes)) =
        decide(&route, &request, verified(identity(Proof::AccessToken)), NOW)
    else {
        panic!("not insufficient")
    };
    assert_eq!(scopes.to_string(), "a reports.read b");
}

mod lookup {
    use super::*;

    fn url(host: &str, path: &str) -> RouteUrl {
        RouteUrl {
            scheme: Scheme::Https,
            host: match host.strip_prefix("*.") {
                Some(domain) => Host::Wildcard(domain.into()),
                None => Host::Exact(host.into()),
            },
            port: None,
            path: match path.strip_prefix('=') {
                Some(exact) => Path::Exact(exact.into()),
                None => Path::Prefix(path.trim_end_matches('/').into()),
            },
        }
    }

    fn table(entries: &[(&str, &str, &str, &[Method])]) -> Result<Routes, Vec<Tie>> {
        let route = |(index, (name, host, path, methods)): (usize, &(&str, &str, &str, &[Method]))| Route {
            id: RouteId::new(index),
            name: (*name).into(),
            urls: vec![url(host, path)],
            methods: (!methods.is_empty()).then(|| methods.to_vec()),
            access: Access::Public,
            client_certificate: ClientCertificate::Optional,
            mode: Mode::Enforce,
            on_forbidden: OnForbidden::Page,
        };
        Routes::new(entries.iter().enumerate().map(route).collect())
    }

    fn find(routes: &Routes, method: &Method, host: &str, path: &str) -> String {
        let facts = RequestFacts {
            host,
            path,
            ..request(method, Client::Programmatic, Initiator::OwnSite)
        };
        match routes.find(&facts) {
            Lookup::Found(route) => route.name.to_string(),
            Lookup::MethodNotAllowed(methods) => format!("405 {methods:?}"),
            Lookup::NotFound => "404".into(),
        }
    }

    #[test]
    fn exact_host_beats_wildcard_and_a_star_is_one_label() {
        let routes = table(&[
            ("any", "*.example.com", "/", &[]),
            ("wiki", "wiki.example.com", "/", &[]),
        ])
        .unwrap();
        let find = |host| find(&routes, &Method::GET, host, "/");
        assert_eq!(find("wiki.example.com"), "wiki");
        assert_eq!(find("news.example.com"), "any");
        assert_eq!(find("a.b.example.com"), "404");
        assert_eq!(find("example.com"), "404");
        assert_eq!(find(".example.com"), "404");
    }

    #[test]
    fn exact_path_beats_the_longest_prefix_and_prefixes_end_at_segments() {
        let routes = table(&[
            ("root", "a", "/", &[]),
            ("admin", "a", "/admin", &[]),
            ("users", "a", "/admin/users", &[]),
            ("login", "a", "=/admin/login", &[]),
        ])
        .unwrap();
        let find = |path| find(&routes, &Method::GET, "a", path);
        for (path, route) in [
            ("/", "root"),
            ("/administrator", "root"),
            ("/admin", "admin"),
            ("/admin/", "admin"),
            ("/admin/x/y/z", "admin"),
            ("/admin/users", "users"),
            ("/admin/users/7", "users"),
            ("/admin/userset", "admin"),
            ("/admin/login", "login"),
            ("/admin/login/", "admin"),
        ] {
            assert_eq!(find(path), route, "{path}");
        }
    }

    #[test]
    fn the_most_specific_path_decides_even_when_its_methods_do_not_fit() {
        let routes = table(&[("root", "a", "/", &[]), ("read", "a", "/admin", &[Method::GET])]).unwrap();
        assert_eq!(find(&routes, &Method::GET, "a", "/admin"), "read");
        assert_eq!(find(&routes, &Method::POST, "a", "/admin"), "405 [GET]");
    }

    #[test]
    fn named_methods_beat_any_method() {
        let routes = table(&[("any", "a", "/", &[]), ("write", "a", "/", &[Method::POST])]).unwrap();
        assert_eq!(find(&routes, &Method::POST, "a", "/x"), "write");
        assert_eq!(find(&routes, &Method::GET, "a", "/x"), "any");
    }

    #[test]
    fn order_in_the_file_means_nothing() {
        let forward = [("root", "a", "/", &[] as &[Method]), ("x", "a", "/x", &[])];
        let backward = [forward[1], forward[0]];
        for entries in [forward, backward] {
            assert_eq!(find(&table(&entries).unwrap(), &Method::GET, "a", "/x/y"), "x");
        }
    }

    #[test]
    fn a_tie_names_both_routes() {
        let ties = table(&[("one", "a", "/x", &[]), ("two", "a", "/x/", &[])]).unwrap_err();
        assert_eq!((ties[0].first.index(), ties[0].second.index()), (0, 1));
        assert_eq!(ties[0].url, "https://a/x/");
        let meet = table(&[
            ("one", "a", "/", &[Method::GET, Method::PUT]),
            ("two", "a", "/", &[Method::PUT]),
        ]);
        assert_eq!(meet.unwrap_err().len(), 1);
    }

    #[test]
    fn the_default_port_may_be_named_and_another_is_another_site() {
        let routes = table(&[("wiki", "a", "/", &[])]).unwrap();
        assert!(routes.origin("a", None).is_some());
        assert!(routes.origin("a", Some(443)).is_some());
        assert!(routes.origin("a", Some(8443)).is_none());
    }

    #[test]
    fn an_origin_is_what_the_operator_wrote() {
        let routes = table(&[("any", "*.example.com", "/", &[])]).unwrap();
        let origin = routes.origin("wiki.example.com", Some(443)).unwrap();
        assert_eq!(origin.to_string(), "https://wiki.example.com");
    }
}

fn decide_alone(access: Access, identity: Identity) -> Decision {
    let method = Method::GET;
    let request = request(&method, Client::Programmatic, Initiator::OwnSite);
    decide(&route(access), &request, verified(identity), NOW)
}

#[test]
fn groups_that_are_elsewhere_allow_nothing_and_deny() {
    let elsewhere = Identity {
        groups: Vec::new(),
        groups_unknown: true,
        claims: Claims::from_iter([("_claim_names", json!({ "roles": "src1" }))]),
        ..identity(Proof::Session)
    };
    let groups = || Requirements {
        groups: names(&["staff"]).into(),
        ..Requirements::default()
    };
    let roles = || Requirements {
        claims: vec![rule("roles", json!("author"))],
        ..Requirements::default()
    };
    for (asked, requirement) in [(groups(), Requirement::Groups), (roles(), Requirement::Claims)] {
        let allowed = decide_alone(allow(asked.clone()), elsewhere.clone());
        assert!(
            matches!(allowed, Decision::Deny(Denial::Unknown(unknown)) if unknown == requirement),
            "{allowed:?}"
        );
        let denied = Access::Protected(Admission {
            deny: vec![asked],
            ..admission()
        });
        let denied = decide_alone(denied, elsewhere.clone());
        assert!(matches!(denied, Decision::Deny(Denial::Rule(0))), "{denied:?}");
    }
    // A table that does not apply for another reason does not.
    let others = Requirements {
        subjects: names(&["bob"]),
        ..groups()
    };
    let access = Access::Protected(Admission {
        deny: vec![others],
        ..admission()
    });
    assert!(matches!(decide_alone(access, elsewhere), Decision::Allow(_)));
}

#[test]
fn a_page_of_another_site_acts_in_nobodys_name_in_the_shadow() {
    let route = Route {
        mode: Mode::Shadow,
        ..route(Access::Protected(admission()))
    };
    let method = Method::POST;
    let request = request(&method, Client::Programmatic, Initiator::ForeignSite);
    let Decision::Allow(permit) = decide(&route, &request, verified(identity(Proof::Session)), NOW) else {
        panic!("not allowed")
    };
    assert!(matches!(permit.refusal(), Some(Decision::Deny(Denial::CrossSite))));
    assert!(permit.identity().is_none());
}

#[test]
fn an_address_that_does_not_count_denies_and_allows_nothing() {
    let claiming = |claims: serde_json::Value| Identity {
        email: None,
        claims: Claims::from_json(claims.to_string().as_bytes()).unwrap(),
        ..identity(Proof::Session)
    };
    let table = Requirements {
        emails: names(&["eve@example.net"]),
        ..Requirements::default()
    };
    let domains = Requirements {
        email_domains: names(&["example.net"]),
        ..Requirements::default()
    };
    for asked in [table, domains] {
        for (claims, denied) in [
            (json!({"email": "eve@example.net", "email_verified": false}), true),
            (json!({"email": "EVE@Example.Net."}), true),
            (json!({"_claim_names": {"email": "src1"}}), true),
            (json!({"email": "eve@example.org"}), false),
            (json!({}), false),
        ] {
            let access = Access::Protected(Admission {
                deny: vec![asked.clone()],
                ..admission()
            });
            let decision = decide_alone(access, claiming(claims.clone()));
            assert_eq!(matches!(decision, Decision::Deny(_)), denied, "{claims}: {decision:?}");
            let decision = decide_alone(allow(asked.clone()), claiming(claims.clone()));
            assert!(matches!(decision, Decision::Deny(_)), "{claims}");
        }
    }
}

#[test]
fn only_a_preflight_passes_as_one_and_not_from_where_nobody_passes() {
    let decide_for = |admission: Admission, client| {
        let request = request(&Method::OPTIONS, client, Initiator::ForeignSite);
        let route = route(Access::Protected(Admission {
            preflight: Preflight::Pass,
            ..admission
        }));
        decide(&route, &request, Authentication::Anonymous, NOW)
    };
    let Decision::Allow(permit) = decide_for(admission(), Client::Preflight) else {
        panic!("it does not pass")
    };
    assert!(permit.is_bare() && permit.identity().is_none());
    assert_eq!(word(&decide_for(admission(), Client::Programmatic)), "missing");
    let from = |network: &str| Requirements {
        cidrs: vec![network.parse().unwrap()],
        ..Requirements::default()
    };
    let allow = from("10.0.0.0/8");
    assert_eq!(
        word(&decide_for(Admission { allow, ..admission() }, Client::Preflight)),
        "missing"
    );
    let deny = vec![from("127.0.0.0/8")];
    assert_eq!(
        word(&decide_for(Admission { deny, ..admission() }, Client::Preflight)),
        "missing"
    );
}
