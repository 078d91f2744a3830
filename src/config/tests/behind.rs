//! What stands behind the gateway, and how it is reached.

use super::{
    bad::{expect, in_route},
    *,
};
use crate::{
    policy::Preflight,
    upstream::{Balance, Question},
};

const BEARER: &str = "[provider.corp.bearer]\naudiences = [\"a\"]\n";

#[test]
fn several_upstreams_are_different_and_spoken_with_alike() {
    let route = |lines: &str| format!("{PROVIDER}[route.a]\nurl = \"https://a\"\n{lines}");
    let twice = "upstream = [\"http://a\", §\"http://a:80/\"]";
    expect(&route(twice), "twice", "take one away");
    let mixed = "upstream = [\"http://a\", §\"https://b\"]";
    expect(&route(mixed), "spoken with alike", "write http:// here as well");
    for key in ["balance = §\"least_requests\"", "ejection = §{ failures = 5 }"] {
        in_route(key, "means nothing for one upstream", "name several");
    }
    let settings = read(&route(
        "upstream = [\"http://b\", \"http://c\"]\nbalance = \"least_requests\"\nejection.failures = 7",
    ));
    let upstream = &settings.unwrap().upstreams[0];
    assert_eq!(upstream.onward.destinations().len(), 2);
    assert_eq!(
        (upstream.balance, upstream.ejection.failures),
        (Balance::LeastRequests, 7)
    );
}

#[test]
fn a_health_check_asks_for_a_path_by_the_name_from_outside() {
    in_route("health = §{ interval = \"5s\" }", "`path` is missing", "/healthz");
    in_route("health = { path = §\"healthz\" }", "is not a path", "/healthz");
    in_route(
        "health = { path = \"/\", interval = §\"1ms\" }",
        "asks too often",
        "10s",
    );
    in_route(
        "health = { path = \"/\", statuses = [§99] }",
        "out of range",
        "100 to 599",
    );
    let host = |lines: &str| {
        let settings = read(&format!("{PROVIDER}{ROUTE}{lines}health.path = \"/healthz\"\n")).unwrap();
        settings.upstreams[0].health.clone().unwrap().host
    };
    assert_eq!(host("").unwrap(), "wiki.example.com");
    assert_eq!(host("preserve_host = false\n"), None);
}

#[test]
fn a_health_check_of_grpc_needs_an_upstream_that_speaks_it_and_no_path() {
    let route = |upstream: &str, health: &str| {
        format!("{PROVIDER}[route.a]\nurl = \"https://a\"\nupstream = \"{upstream}\"\n{health}\n")
    };
    for (upstream, name) in [("h2c://b", ""), ("h2://b", "orders.v1.Orders")] {
        let settings = read(&route(upstream, &format!("health.grpc_service = \"{name}\"")));
        let check = settings.unwrap().upstreams[0].health.clone().unwrap();
        let Question::Grpc(service) = check.question else {
            panic!("{:?}", check.question)
        };
        assert_eq!(service.as_str(), name);
    }
    for upstream in ["http://b", "https://b", "unix:/run/b"] {
        let text = route(upstream, "health.grpc_service = §\"\"");
        expect(&text, "asked over HTTP/2", "an h2c or h2");
    }
    for beside in ["path = §\"/healthz\"", "statuses = §[200]"] {
        let text = route("h2c://b", &format!("health = {{ grpc_service = \"\", {beside} }}"));
        expect(&text, "means nothing beside `grpc_service`", "leave one");
    }
    let long = "x".repeat(128);
    for name in ["a b", "é", &long] {
        let text = route("h2c://b", &format!("health.grpc_service = §\"{name}\""));
        expect(&text, "is not the name of a service", "orders.v1.Orders");
    }
}

#[test]
fn a_certificate_comes_with_its_key() {
    let route = "[route.a]\nurl = \"https://a\"\nupstream = \"h2://b\"\n";
    let text = format!("{PROVIDER}{route}");
    let alone = "upstream_tls = { cert_file = §\"a.pem\" }";
    expect(&format!("{text}{alone}"), "come together", "both, or neither");
    let name = "upstream_tls = { server_name = §\"a b\" }";
    expect(&format!("{text}{name}"), "is not a name", "app.internal");

    let [one, other] = [(), ()].map(|()| rcgen::generate_simple_self_signed(vec!["gateway".to_owned()]).unwrap());
    let folder = Folder::new()
        .with("one.pem", &one.cert.pem())
        .with("one.key", &one.signing_key.serialize_pem())
        .with("other.key", &other.signing_key.serialize_pem());
    let pair = |key| format!("{text}upstream_tls = {{ cert_file = \"one.pem\", key_file = \"{key}\" }}\n");
    let settings = folder.parse(&pair("one.key")).unwrap();
    assert!(settings.upstreams[0].tls.certificate.is_some());
    for key in ["other.key", "one.pem"] {
        let problems = folder.parse(&pair(key)).unwrap_err().to_string();
        assert!(problems.contains("one.pem and its key cannot be used"), "{problems}");
    }
}

#[test]
fn a_prefix_that_is_taken_off_is_one() {
    let strip = |lines: &str| format!("{PROVIDER}[route.a]\nupstream = \"http://b\"\n{lines}\nstrip_prefix = §true");
    expect(&strip("url = \"https://a/\""), "without a path", "/admin");
    expect(
        &strip("url = \"https://a/x\"\nexact = true"),
        "of an exact path",
        "one of the two",
    );
    expect(
        &strip("url = [\"https://a/x\", \"https://b/y\"]"),
        "needs one path",
        "a route for each",
    );
    let settings = read(&strip("url = [\"https://a/x/\", \"https://b/x\"]").replace('§', "")).unwrap();
    assert_eq!(&*settings.upstreams[0].prefix.as_ref().unwrap().path, "/x");
}

#[test]
fn i4_the_operator_edits_no_header_by_which_somebody_is_told_or_a_message_framed() {
    let edit = |keys: &str| format!("request_headers = {{ {keys} }}");
    for name in [
        "Host",
        "Cookie",
        "X_Forwarded_For",
        "Authorization",
        "Connection",
        "X-Auth-Request-User",
    ] {
        in_route(
            &edit(&format!("remove = [§\"{name}\"]")),
            "is not to be edited",
            "`identity`",
        );
        in_route(
            &edit(&format!("set = {{ §{name} = \"x\" }}")),
            "is not to be edited",
            "`identity`",
        );
    }
    in_route(
        "response_headers = { add = { §Set-Cookie = \"a=b\" } }",
        "is not to be edited",
        "leave it out",
    );
    in_route(
        &edit("set = { X-A = §\"a\\nb\" }"),
        "cannot be the value",
        "plain ASCII",
    );
    in_route(
        &edit("set = { X-A = \"1\" }, remove = [§\"x-a\"]"),
        "edited twice",
        "keep one",
    );
    let staff = "identity.headers = { X-Staff = \"{sub}\" }\n";
    let other =
        "[route.b]\nurl = \"https://b\"\nupstream = \"http://b\"\nrequest_headers.set = { X_Staff = \"ann\" }\n";
    let problems = read(&format!("{PROVIDER}{ROUTE}{staff}{other}"))
        .unwrap_err()
        .to_string();
    assert!(
        problems.contains("by which an application is told who somebody is"),
        "{problems}"
    );
}

#[test]
fn a_preflight_is_let_in_by_a_word_and_only_where_something_is_protected() {
    let preflight = |lines: &str| admission(&read(&format!("{PROVIDER}{ROUTE}{lines}")).unwrap()).preflight;
    assert_eq!(preflight(""), Preflight::Protect);
    assert_eq!(preflight("preflight = \"pass\""), Preflight::Pass);
    in_route(
        "auth = [\"public\"]\npreflight = §\"pass\"",
        "means nothing on a public route",
        "leave out",
    );
}

#[test]
fn an_authorization_is_the_applications_own_only_where_nobody_else_reads_or_writes_it() {
    let own = "authorization = §\"application\"";
    let by_token = |auth: &str| format!("{PROVIDER}{BEARER}{ROUTE}{auth}{own}\n");
    for auth in ["", "auth = [\"bearer\"]\n", "auth = [\"session\", \"bearer\"]\n"] {
        expect(
            &by_token(auth),
            "where access tokens let people in",
            "auth = [\"session\"]",
        );
    }
    let sent = "[route.wiki.identity]\naccess_token = \"authorization\"";
    in_route(
        &format!("{own}\n{sent}"),
        "`access_token` writes",
        "leave `access_token` out",
    );
    let basic = "[route.wiki.identity]\nbasic = { username = \"a\", password_env = \"SECRET\" }";
    in_route(&format!("{own}\n{basic}"), "`basic` writes", "leave `basic` out");
    for auth in ["auth = [\"session\"]\n", "auth = [\"public\"]\n"] {
        assert!(read(&by_token(auth).replace('§', "")).is_ok(), "{auth}");
    }
}
