//! How an application can tell that a request is the gateway's.

use super::{
    bad::{expect, in_route},
    *,
};
use crate::secret::{KeyPairKind, new_key_pair};

fn asserting(identity: &str) -> String {
    format!("{PROVIDER}{ROUTE}[route.wiki.identity]\n{identity}\n")
}

#[test]
fn an_assertion_needs_no_more_than_its_name() {
    let settings = read(&asserting("assertion = {}")).unwrap();
    let assertion = settings.upstreams[0].vouching.assertion.as_ref().unwrap();
    assert_eq!(assertion.header, "x-vestibule-assertion");
    assert_eq!(&*assertion.audience, "wiki");
    assert_eq!(assertion.ttl.as_secs(), 60);
    assert!(settings.scrub.identity_headers.contains(&assertion.header));
    assert!(warnings(&settings).contains("no `key_files` in [assertion]"));
    assert!(!warnings(&read(&format!("{PROVIDER}{ROUTE}")).unwrap()).contains("[assertion]"));
}

#[test]
fn keys_for_assertions_come_from_files_in_their_order() {
    let pairs = [KeyPairKind::Es256, KeyPairKind::Ed25519].map(new_key_pair);
    let folder = Folder::new()
        .with("new", pairs[0].expose())
        .with("old", &format!("{}\n", pairs[1].expose()));
    let text = asserting("assertion = {}");
    let settings = folder
        .parse(&format!("{text}[assertion]\nkey_files = [\"new\", \"old\"]\n"))
        .unwrap();
    let algorithms: Vec<_> = settings
        .signing_keys
        .iter()
        .map(|key| &key.published()["alg"])
        .collect();
    assert_eq!(algorithms, ["ES256", "EdDSA"]);
    assert!(!warnings(&settings).contains("[assertion]"));
    let folder = folder.with("none", "s3cret");
    let refused = folder.parse(&format!("{text}[assertion]\nkey_files = [\"none\"]\n"));
    let problems = refused.unwrap_err().to_string();
    assert!(problems.contains("holds no private key"), "{problems}");
    assert!(!problems.contains("s3cret"));
}

#[test]
fn an_assertion_is_short_lived_and_its_header_is_its_own() {
    for ttl in ["61s", "2m", "9s", "0s"] {
        let line = format!("[route.wiki.identity]\nassertion = {{ ttl = §\"{ttl}\" }}");
        in_route(&line, "no life for an assertion", "\"60s\"");
    }
    let line = "[route.wiki.identity]\nheaders = { X-A = \"{sub}\" }\nassertion = §{ header = \"x_a\" }";
    in_route(line, "`x-a` is told already", "another header");
    let token = "access_token = §\"x-forwarded-access-token\"";
    let line = format!("[route.wiki.identity]\nassertion = {{ header = \"X_Forwarded_Access_Token\" }}\n{token}");
    in_route(&line, "is told already", "another header");
    let line = "[route.wiki.identity]\nassertion = { header = §\"Authorization\" }";
    in_route(line, "belongs to the message", "X-User");
}

#[test]
fn a_request_has_one_authorization() {
    let line = "[route.wiki.identity]\nbasic = { username = \"a\", password_env = \"SECRET\" }\n\
                access_token = §\"authorization\"";
    in_route(line, "both want the `Authorization` header", "x-forwarded-access-token");
    let basic = "basic = { username = \"a\", password_env = \"SECRET\" }";
    let beside = format!("{basic}\naccess_token = \"x-forwarded-access-token\"");
    assert!(read(&asserting(&beside)).is_ok());
}

#[test]
fn a_name_and_a_password_are_both_there_and_no_secret_stands_in_the_file() {
    let basic = |keys: &str| format!("[route.wiki.identity]\nbasic = {keys}");
    in_route(&basic("§{ username = \"a\" }"), "there is no password", "password_file");
    in_route(
        &basic("§{ password_env = \"SECRET\" }"),
        "`username` is missing",
        "{preferred_username}",
    );
    in_route(
        &basic("{ username = \"a\", password_file = \"x\", password_env = §\"SECRET\" }"),
        "are both there",
        "leave one",
    );
    in_route(
        &basic("{ username = §\"a:{sub}\", password_env = \"SECRET\" }"),
        "has a colon",
        "without one",
    );
}

#[test]
fn what_an_assertion_and_a_name_say_is_asked_of_the_provider() {
    let basic = "basic = { username = \"{uid}\", password_env = \"SECRET\" }";
    let settings = read(&asserting(&format!("assertion = {{}}\n{basic}"))).unwrap();
    let wanted: Vec<_> = settings.providers[0]
        .wanted_claims
        .iter()
        .map(ToString::to_string)
        .collect();
    for claim in ["email", "name", "uid"] {
        assert!(wanted.contains(&claim.to_owned()), "{claim} in {wanted:?}");
    }
}

#[test]
fn only_where_an_application_gets_the_access_token_is_it_always_kept() {
    let keeps = |identity: &str| read(&asserting(identity)).unwrap().session.keep_access_token;
    assert!(keeps("access_token = \"authorization\""));
    assert!(!keeps("access_token = \"none\""));
    expect(
        &asserting("access_token = §\"bearer\""),
        "cannot be \"bearer\"",
        "\"authorization\"",
    );
}
