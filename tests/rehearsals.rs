//! `vestibule explain` and `vestibule test`: what would become of requests that nobody sends.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const FILE: &str = r#"[provider.corp]
issuer = "https://id.example.com"
client_id = "wiki"
client_auth = "none"
bearer.audiences = ["wiki"]

[route.wiki]
url = "https://wiki.example.com"
upstream = "http://127.0.0.1:3000"

[route.reports]
url = "https://wiki.example.com/reports"
upstream = "http://127.0.0.1:3000"
allow = { groups = ["finance"], scopes = ["reports.read"], max_age = "15m" }

[[route.reports.deny]]
groups = ["contractors"]

[route.hooks]
url = "https://wiki.example.com/hooks"
methods = ["POST"]
upstream = "http://127.0.0.1:3000"
auth = ["public"]
"#;

fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    let Output { status, stdout, stderr } = command.args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// What is said of a request by somebody with these claims, or by nobody.
fn explained(request: &[&str], claims: Option<&str>) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wiki.toml"), FILE).unwrap();
    let mut arguments = vec!["explain", "--config", "wiki.toml"];
    arguments.extend(request);
    if let Some(claims) = claims {
        fs::write(folder.path().join("claims.json"), claims).unwrap();
        arguments.extend(["--claims", "claims.json"]);
    }
    let (status, said, complained) = run(folder.path(), &arguments);
    assert_eq!(status, 0, "{complained}");
    said
}

fn has(said: &str, words: &[&str]) {
    for words in words {
        assert!(said.contains(words), "{said}\nlacks {words}");
    }
}

#[test]
fn explain_says_which_route_has_it_and_why_the_others_have_not() {
    let said = explained(&["GET", "https://wiki.example.com/reports/q3"], None);
    has(
        &said,
        &[
            "wiki             https://wiki.example.com/  (fits, but less exactly)",
            "→ reports          https://wiki.example.com/reports/  (taken)",
            "hooks            https://wiki.example.com/hooks/  (another path)",
            "    nobody\n",
            "    login\n    sent to log in at corp\n",
        ],
    );
    has(
        &explained(&["https://wiki.example.com/hooks/x"], None),
        &["(not for this method)", "    405\n"],
    );
    has(
        &explained(&["https://other.example.com/"], None),
        &["(another host)", "    404\n"],
    );
    has(
        &explained(&["https://wiki.example.com/a%2fb"], None),
        &["    400\n", "ambiguous"],
    );
}

#[test]
fn explain_names_each_requirement_with_the_value_that_decided() {
    let said = explained(
        &["https://wiki.example.com/reports"],
        Some(r#"{"sub": "1", "groups": ["sales", "contractors"], "scope": "openid"}"#),
    );
    has(
        &said,
        &[
            "✗ groups: wanted finance; found sales, contractors",
            "✗ scopes: wanted reports.read; found openid",
            "✗ max_age: wanted 900 s at most; found no auth_time",
            "✓ groups: wanted contractors; found sales, contractors",
            "    403\n    the 1. [[deny]] table applies\n",
        ],
    );
    assert!(!said.contains("The application is told"), "{said}");
}

#[test]
fn explain_shows_what_the_application_would_and_would_not_be_told() {
    let said = explained(
        &["https://wiki.example.com/page"],
        Some(r#"{"sub": "1", "preferred_username": "ann", "email": "ann@example.com"}"#),
    );
    has(
        &said,
        &[
            "    allow\n",
            "x-forwarded-user: ann\n",
            "no x-forwarded-email: the claim is missing\n",
            "Taken out of the request, in every spelling\n",
        ],
    );
}

#[test]
fn a_claim_that_no_header_can_hold_is_not_called_allowed() {
    let said = explained(
        &["https://wiki.example.com/page"],
        Some(r#"{"sub": "1", "preferred_username": "ann", "groups": ["a,b"]}"#),
    );
    has(
        &said,
        &[
            "Answer\n    502\n",
            "it may pass, but x-forwarded-groups cannot hold the claim, so the request fails\n",
        ],
    );
    let wanted = "request = \"GET https://wiki.example.com/page\"\nas = { sub = \"ann\", groups = [\"a,b\"] }";
    let (status, ..) = tested(&format!("[[test]]\n{wanted}\nexpect = \"allow\"\n"));
    assert_eq!(status, 1);
    let (status, ..) = tested(&format!("[[test]]\n{wanted}\nexpect = \"502\"\n"));
    assert_eq!(status, 0);
}

#[test]
fn explain_reads_a_token_and_speaks_json() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wiki.toml"), FILE).unwrap();
    // {"alg":"none"}.{"iss":"https://id.example.com","sub":"robot","scope":"a b"}
    let token = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiwic3ViIjoicm9ib3QiLCJzY29wZSI6ImEgYiJ9.";
    fs::write(folder.path().join("token"), token).unwrap();
    let arguments = [
        "explain",
        "-c",
        "wiki.toml",
        "https://wiki.example.com/reports",
        "--token",
        "token",
        "--json",
    ];
    let (status, said, complained) = run(folder.path(), &arguments);
    assert_eq!(status, 0, "{complained}");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["answer"], "403");
    assert_eq!(said["identity"]["credential"], "bearer");
    assert_eq!(said["allow"][1]["found"], "a b");
    assert_eq!(said["upstream_headers"], serde_json::json!({}));
}

#[test]
fn explain_refuses_what_it_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wiki.toml"), FILE).unwrap();
    fs::write(folder.path().join("none.json"), "[]").unwrap();
    for (arguments, words) in [
        (&["wiki.example.com"][..], "is no request"),
        (&["https://a/", "--claims", "none.json"], "holds no claims"),
        (&["https://a/", "--token", "none.json"], "holds no JWT"),
        (&["https://a/", "--claims", "nowhere"], "cannot read nowhere"),
    ] {
        let arguments = [&["explain", "-c", "wiki.toml"], arguments].concat();
        let (status, _, complained) = run(folder.path(), &arguments);
        assert!(status == 1 && complained.contains(words), "{complained}");
    }
    let arguments = [
        "explain",
        "-c",
        "wiki.toml",
        "https://a/",
        "--claims",
        "none.json",
        "--provider",
        "nobody",
    ];
    fs::write(folder.path().join("none.json"), "{}").unwrap();
    assert!(run(folder.path(), &arguments).2.contains("has no provider `nobody`"));
}

/// What `vestibule test` says of these tables.
fn tested(tests: &str) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wiki.toml"), format!("{FILE}{tests}")).unwrap();
    run(folder.path(), &["test", "--config", "wiki.toml"])
}

#[test]
fn what_holds_is_ok() {
    let (status, said, _) = tested(
        r#"
[[test]]
request = "GET https://wiki.example.com/reports"
as = { sub = "1", groups = ["finance"], scope = "reports.read" }
login_age = "14m"
expect = "allow"
upstream_headers = { X-Forwarded-Groups = "finance" }
[[test]]
request = "https://wiki.example.com/reports"
as = { sub = "1", groups = ["finance"], scope = "reports.read" }
login_age = "16m"
expect = "login"
[[test]]
request = "https://wiki.example.com/reports"
as = { sub = "1", groups = ["finance"], scope = "reports.read" }
credential = "bearer"
expect = "401"
[[test]]
request = "POST https://wiki.example.com/hooks"
expect = "allow"
[[test]]
request = "GET https://wiki.example.com/page"
client = "script"
expect = "401"
"#,
    );
    assert_eq!((status, said.matches("ok  ").count()), (0, 5), "{said}");
}

#[test]
fn what_does_not_hold_is_shown_like_a_difference() {
    let (status, said, complained) = tested(
        r#"
[[test]]
request = "GET https://wiki.example.com/reports"
as = { sub = "1", groups = ["sales"] }
expect = "allow"
[[test]]
request = "GET https://wiki.example.com/page"
as = { sub = "1", preferred_username = "ann" }
expect = "allow"
upstream_headers = { X-Forwarded-User = "bob", X-Forwarded-Email = "a@b", X-Other = "x" }
"#,
    );
    assert_eq!(status, 1);
    assert!(complained.contains("2 of 2 tests failed"), "{complained}");
    has(
        &said,
        &[
            "FAIL  GET https://wiki.example.com/reports\n      wiki.toml:25\n      - allow\n      + 403\n",
            "groups is not met: wanted finance; found sales",
            "- x-forwarded-user: bob\n      + x-forwarded-user: ann\n",
            "+ x-forwarded-email is missing: so is its claim\n",
            "+ x-other is not told here\n",
        ],
    );
}

#[test]
fn a_test_that_cannot_be_read_is_a_problem_of_the_file() {
    let (status, _, complained) =
        tested("[[test]]\nrequest = \"get /\"\nas = 1\nprovider = \"x\"\nexpect = \"maybe\"\n");
    assert_eq!(status, 1);
    for words in ["is not a request", "must be a table", "\"allow\""] {
        assert!(complained.contains(words), "{complained}\nlacks {words}");
    }
}

/// A folder with a route for certificates, a `[[test]]` of it, and a certificate.
fn with_certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["wiki.example.com".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "Example");
    params.distinguished_name.push(rcgen::DnType::CommonName, "ops-1");
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    fs::write(folder.path().join("ops.crt"), certificate).unwrap();
    fs::write(folder.path().join("ops.key"), key.serialize_pem()).unwrap();
    let more = r#"
[server.tls]
cert_file = "ops.crt"
key_file = "ops.key"
client_ca_file = "ops.crt"
redirect_listen = ["127.0.0.1:8080"]

[route.ops]
url = "https://wiki.example.com/ops"
upstream = "http://127.0.0.1:3000"
client_certificate = "require"
allow.client_certificates = ["CN=ops-1,O=Example", "dns:other.example.com"]

[[test]]
request = "GET https://wiki.example.com/ops"
as = { sub = "ann" }
certificate = ["CN=ops-2,O=Example", "dns:other.example.com"]
expect = "allow"

[[test]]
request = "GET https://wiki.example.com/ops"
as = { sub = "ann" }
certificate = "CN=ops-2,O=Example"
expect = "403"

[[test]]
request = "GET https://wiki.example.com/ops"
expect = "403"
"#;
    fs::write(folder.path().join("wiki.toml"), format!("{FILE}{more}")).unwrap();
    folder
}

#[test]
fn a_certificate_is_explained_tested_and_checked() {
    let folder = with_certificates();
    fs::write(folder.path().join("ann.json"), r#"{"sub": "ann"}"#).unwrap();
    let explain = [
        "explain",
        "-c",
        "wiki.toml",
        "https://wiki.example.com/ops",
        "--claims",
        "ann.json",
    ];
    let (_, said, complained) = run(folder.path(), &[&explain[..], &["--certificate", "ops.crt"]].concat());
    let names = "CN=ops-1,O=Example, dns:wiki.example.com";
    has(
        &said,
        &[
            &format!("with a certificate that is called {names}"),
            &format!("✓ client_certificates: wanted CN=ops-1,O=Example or dns:other.example.com; found {names}"),
            "Answer\n    allow",
        ],
    );
    assert_eq!(complained, "");
    let (_, said, _) = run(folder.path(), &explain);
    has(
        &said,
        &[
            "Answer\n    403",
            "the route asks for a client certificate, and there is none",
            "found no certificate",
        ],
    );
    let (status, _, complained) = run(folder.path(), &[&explain[..], &["--certificate", "ops.key"]].concat());
    assert!(
        status == 1 && complained.contains("ops.key holds no certificate"),
        "{complained}"
    );
    let (status, said, _) = run(folder.path(), &["test", "-c", "wiki.toml"]);
    assert_eq!((status, said.matches("ok  ").count()), (0, 3), "{said}");
    let (_, said, _) = run(folder.path(), &["check", "-c", "wiki.toml"]);
    has(
        &said,
        &[
            "the client certificate CN=ops-1,O=Example or dns:other.example.com",
            "and only from a client with a certificate",
            "Listening at 127.0.0.1:4180, with TLS.\nSending clients to https at 127.0.0.1:8080.\n",
        ],
    );
}
