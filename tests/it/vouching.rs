//! How an application can tell that a request is the gateway's: a signed assertion, an access token, a password.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;
use vestibule::{
    demo::authorization_server::User,
    secret::{KeyPairKind, new_key_pair},
};

use crate::support::{
    browser::{Browser, client},
    house::{Fault, House, Place},
    programs,
    upstream::told,
};

const HEADER: &str = "x-vestibule-assertion";

/// A house with one more route that has these keys in its `identity` table, and with what else stands in the file.
async fn house_vouching(identity: &str, more: &str) -> House {
    let more = format!("\n{more}\n");
    let mut house = House::open_with(move |_| more.clone()).await;
    let (address, upstream) = (house.address, house.upstream.address);
    let route = format!(
        "\n[route.reports]\nurl = \"http://{address}/reports\"\nupstream = \"http://{upstream}\"\n\
         [route.reports.identity]\nheaders = {{ X-User = \"{{sub}}\" }}\n{identity}\n"
    );
    house.file.push_str(&route);
    house.reload(&house.file).unwrap();
    house
}

async fn logged_in(house: &House, name: &str) -> Browser {
    let mut browser = Browser::new();
    let form = browser.open(&house.url("/reports")).await;
    assert_eq!(browser.log_in(&form, name, name).await.status, 200);
    browser
}

/// What the application was told in the header by the last request.
fn asserted(house: &House) -> String {
    let seen = house.upstream.last();
    let [assertion] = told(&seen, HEADER)[..] else {
        panic!("not one assertion: {seen}")
    };
    assertion.to_owned()
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn published(house: &House) -> Vec<Value> {
    let answer = client().get(house.url("/oauth2/jwks")).send().await.unwrap();
    let document: Value = answer.json().await.unwrap();
    let keys = document["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].clone()).collect()
}

#[tokio::test]
async fn an_assertion_says_who_asks_and_for_whom() {
    let house = house_vouching("assertion = { audience = \"the reports\" }", "").await;
    let mut admin = logged_in(&house, "admin").await;
    admin.fetch(&house.url("/reports")).await;
    let token = asserted(&house);
    assert_eq!(part(&token, 0)["typ"], "vestibule+jwt");
    assert_eq!(part(&token, 0)["alg"], "ES256");
    assert_eq!(published(&house).await, [part(&token, 0)["kid"].clone()]);
    let claims = part(&token, 1);
    let now = house.now();
    for (name, value) in [
        ("iss", json!(format!("http://{}", house.address))),
        ("aud", json!("the reports")),
        ("sub", json!("admin")),
        ("provider", json!("corp")),
        ("provider_iss", json!(house.provider.issuer())),
        ("groups", json!(["staff", "admins"])),
        ("username", json!("admin")),
        ("acr", json!("urn:demo:password")),
        ("auth_time", json!(now)),
        ("iat", json!(now)),
        ("exp", json!(now + 60)),
    ] {
        assert_eq!(claims[name], value, "{name} in {claims}");
    }
    assert!(claims["email"].is_string(), "{claims}");
}

#[tokio::test]
async fn i4_nobody_else_asserts_anything_on_any_route() {
    let house = house_vouching("assertion = {}", "").await;
    for path in ["/reports", "/", "/public"] {
        let request = client().get(house.url(path)).header("X_Vestibule_Assertion", "spoof");
        let request = request.header("X-Vestibule-Assertion", "spoof");
        let request = match path {
            "/public" => request,
            _ => request.bearer_auth(house.jwt("alice")),
        };
        assert_eq!(request.send().await.unwrap().status(), 200, "{path}");
        let seen = house.upstream.last().to_string();
        assert!(!seen.contains("spoof"), "{path}: {seen}");
        assert_eq!(seen.contains(HEADER), path == "/reports", "{path}: {seen}");
    }
}

#[tokio::test]
async fn an_assertion_serves_one_session_for_half_of_its_life() {
    let house = house_vouching("assertion = {}", "").await;
    let url = house.url("/reports");
    let mut alice = logged_in(&house, "alice").await;
    let first = asserted(&house);
    house.clock.advance(Duration::from_secs(30));
    alice.fetch(&url).await;
    assert_eq!(asserted(&house), first);
    house.clock.advance(Duration::from_secs(1));
    alice.fetch(&url).await;
    let second = asserted(&house);
    assert_ne!(second, first);

    alice.post(&house.url("/oauth2/sign_out"), &[]).await;
    let mut again = logged_in(&house, "alice").await;
    again.fetch(&url).await;
    assert_ne!(asserted(&house), second, "another login, another assertion");
    logged_in(&house, "mallory").await;
    assert_eq!(part(&asserted(&house), 1)["sub"], "mallory");
}

#[tokio::test]
async fn who_loses_a_group_at_a_refresh_is_not_asserted_to_have_it() {
    let house = house_vouching("assertion = {}", "").await;
    let mut admin = logged_in(&house, "admin").await;
    let groups = || part(&asserted(&house), 1)["groups"].clone();
    // The token lives for 300 seconds, and is refreshed 60 to 75 before its end.
    house.clock.advance(Duration::from_secs(224));
    admin.fetch(&house.url("/reports")).await;
    assert_eq!(groups(), json!(["staff", "admins"]));
    house.provider.add_user(User {
        groups: vec!["staff".to_owned()],
        ..User::named("admin")
    });
    house.clock.advance(Duration::from_secs(20));
    admin.fetch(&house.url("/reports")).await;
    assert_eq!(
        groups(),
        json!(["staff"]),
        "before half of the assertion's life is over"
    );
}

#[tokio::test]
async fn two_tokens_of_one_person_do_not_share_an_assertion() {
    let house = house_vouching("assertion = {}", "").await;
    let mut assertions = Vec::new();
    for token in [house.jwt("alice"), house.jwt_with_scope("alice", "openid things.read")] {
        let request = client().get(house.url("/reports")).bearer_auth(token);
        assert_eq!(request.send().await.unwrap().status(), 200);
        assertions.push(asserted(&house));
    }
    assert_ne!(assertions[0], assertions[1]);
}

#[tokio::test]
async fn the_keys_are_for_everybody_and_may_be_kept_for_a_while() {
    let house = house_vouching("assertion = {}", "").await;
    for request in [
        client().get(house.url("/oauth2/jwks")),
        client().head(house.url("/oauth2/jwks")),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/jwk-set+json");
        assert_eq!(answer.headers()["cache-control"], "public, max-age=300");
    }
    let answer = client().get(house.url("/oauth2/jwks")).send().await.unwrap();
    let text = answer.text().await.unwrap();
    assert!(text.contains("\"use\":\"sig\"") && !text.contains("\"d\""), "{text}");
    let answer = client().post(house.url("/oauth2/jwks")).send().await.unwrap();
    assert_eq!(answer.status(), 405);
}

#[tokio::test]
async fn a_key_is_replaced_without_a_gap() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, kind| {
        let path = folder.path().join(name);
        fs::write(&path, new_key_pair(kind).expose()).unwrap();
        path.display().to_string()
    };
    let old = file("old", KeyPairKind::Es256);
    let new = file("new", KeyPairKind::Ed25519);
    let house = house_vouching("assertion = {}", &format!("[assertion]\nkey_files = [{old:?}]\n")).await;
    let mut alice = logged_in(&house, "alice").await;
    let [first] = <[Value; 1]>::try_from(published(&house).await).unwrap();
    house.reload(&house.file.replace(&old, &new)).unwrap();
    alice.fetch(&house.url("/reports")).await;
    let header = part(&asserted(&house), 0);
    assert_eq!(header["alg"], "EdDSA");
    assert_eq!(published(&house).await, [header["kid"].clone(), first]);
    house.clock.advance(Duration::from_secs(360));
    assert_eq!(published(&house).await, [header["kid"].clone()]);
}

/// Runs the recipe of the documentation for these origins and audiences, at the time of the house.
async fn recipe(house: &House, issuer: &str, audience: &str, now: i64, assertion: &str) -> Result<Value, String> {
    let document = include_str!("../../docs/assertion.md");
    let recipe = document
        .split("```python\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    for text in [
        "\"https://reports.example.com\"",
        "\"reports\"",
        "ISSUER + \"/oauth2/jwks\"",
    ] {
        assert!(recipe.contains(text), "{text}");
    }
    let keys = format!("\"{}\"", house.url("/oauth2/jwks"));
    let recipe = recipe
        .replace("ISSUER + \"/oauth2/jwks\"", &keys)
        .replace("\"https://reports.example.com\"", &format!("{issuer:?}"))
        .replace("\"reports\"", &format!("{audience:?}"));
    // The house lives in another time than the machine.
    let clock = format!(
        "import datetime\nimport jwt.api_jwt\nclass Clock(datetime.datetime):\n    @classmethod\n    \
         def now(cls, tz=None):\n        return datetime.datetime.fromtimestamp({now}, tz)\njwt.api_jwt.datetime = Clock\n"
    );
    let ask = "import json, sys\ntry:\n    print(json.dumps(who(sys.argv[1])))\nexcept jwt.PyJWTError as error:\n    \
               sys.exit(type(error).__name__)\n";
    let mut command = Command::new(programs::PYTHON);
    command
        .args(["-c", &format!("{clock}{recipe}{ask}"), assertion])
        .env("no_proxy", "*")
        .stdin(Stdio::null());
    let answer = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    match answer.status.success() {
        true => Ok(serde_json::from_slice(&answer.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&answer.stderr).trim().to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipe_for_python_takes_what_is_genuine_and_nothing_else() {
    let install = "apt-get install -y python3-jwt python3-cryptography";
    if !programs::module_installed("jwt, cryptography", install) {
        return;
    }
    let house = house_vouching("assertion = {}", "").await;
    logged_in(&house, "alice").await;
    let genuine = asserted(&house);
    let (issuer, now) = (format!("http://{}", house.address), house.now());
    let claims = recipe(&house, &issuer, "reports", now, &genuine).await.unwrap();
    assert_eq!(claims["sub"], "alice");

    let (message, signature) = genuine.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let mut lie = part(&genuine, 1);
    lie["sub"] = "admin".into();
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let forged = format!("{header}.{}.{signature}", encoded(&lie));
    let unsigned = json!({ "alg": "none", "typ": "vestibule+jwt", "kid": part(&genuine, 0)["kid"] });
    let unsigned = format!("{}.{}.", encoded(&unsigned), encoded(&lie));
    for (issuer, audience, now, assertion, error) in [
        (&*issuer, "wiki", now, &genuine, "InvalidAudienceError"),
        (
            "http://elsewhere.example",
            "reports",
            now,
            &genuine,
            "InvalidIssuerError",
        ),
        (&*issuer, "reports", now, &forged, "InvalidSignatureError"),
        (&*issuer, "reports", now, &unsigned, "InvalidAlgorithmError"),
        (&*issuer, "reports", now + 66, &genuine, "ExpiredSignatureError"),
        (&*issuer, "reports", now, &house.jwt("alice"), "PyJWKClientError"),
    ] {
        let refused = recipe(&house, issuer, audience, now, assertion).await.unwrap_err();
        assert_eq!(refused, error);
    }
}

#[tokio::test]
async fn the_token_that_was_presented_is_handed_over_where_the_route_says_so_and_nowhere_else() {
    for (place, name) in [
        ("authorization", "authorization"),
        ("x-forwarded-access-token", "x-forwarded-access-token"),
    ] {
        let house = house_vouching(&format!("access_token = \"{place}\""), "").await;
        let token = house.jwt("alice");
        let expected = match name {
            "authorization" => format!("Bearer {token}"),
            _ => token.clone(),
        };
        let ask = |path| client().get(house.url(path)).bearer_auth(&token);
        let request = ask("/reports").header("X-Forwarded-Access-Token", "spoof");
        assert_eq!(request.send().await.unwrap().status(), 200);
        let seen = house.upstream.last();
        assert_eq!(told(&seen, name), [expected]);
        assert!(!seen.to_string().contains("spoof"), "{seen}");
        ask("/").send().await.unwrap();
        assert!(!house.upstream.last().to_string().contains(&token), "{place}");
    }
}

#[tokio::test]
async fn the_token_of_a_session_is_handed_over_and_is_always_a_good_one() {
    for store in ["store = \"cookie\"", "store = \"memory\""] {
        let more = format!("[session]\n{store}\n");
        let house = house_vouching("access_token = \"authorization\"", &more).await;
        let mut alice = logged_in(&house, "alice").await;
        let first = told(&house.upstream.last(), "authorization")[0].to_owned();
        assert_eq!(part(first.strip_prefix("Bearer ").unwrap(), 1)["sub"], "alice");
        // Its five minutes are over: a fresh one is handed over, or none.
        house.clock.advance(Duration::from_secs(301));
        assert_eq!(alice.fetch(&house.url("/reports")).await.status, 200);
        assert_ne!(told(&house.upstream.last(), "authorization"), [first], "{store}");
        house.clock.advance(Duration::from_secs(301));
        house.fault(Place::Token, Fault::answer(503, "text/plain", b"down"));
        let before = house.upstream.requests();
        assert_eq!(alice.fetch(&house.url("/reports")).await.status, 503, "{store}");
        assert_eq!(house.upstream.requests(), before);
        house.clear_faults();
    }
}

#[tokio::test]
async fn a_session_whose_token_is_over_for_good_logs_in_again_where_the_token_is_needed_and_there_only() {
    let house = house_vouching("access_token = \"authorization\"", "").await;
    house.provider.keep_refresh_tokens();
    let mut alice = logged_in(&house, "alice").await;
    let first = told(&house.upstream.last(), "authorization")[0].to_owned();
    house.clock.advance(Duration::from_secs(301));
    assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
    assert_eq!(alice.fetch(&house.url("/reports")).await.status, 401);
    assert_eq!(alice.open(&house.url("/reports")).await.status, 200, "single sign-on");
    assert_ne!(told(&house.upstream.last(), "authorization"), [first]);
}

fn password(folder: &TempDir) -> String {
    let path = folder.path().join("password");
    fs::write(&path, "pässword:1\n").unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn the_application_gets_a_name_and_a_password() {
    let folder = TempDir::new().unwrap();
    let file = password(&folder);
    for (username, pair) in [
        ("{preferred_username}", "alice:pässword:1"),
        ("service", "service:pässword:1"),
    ] {
        let basic = format!("basic = {{ username = \"{username}\", password_file = {file:?} }}");
        let house = house_vouching(&basic, "").await;
        let request = client().get(house.url("/reports")).bearer_auth(house.jwt("alice"));
        assert_eq!(request.send().await.unwrap().status(), 200);
        let seen = house.upstream.last();
        let expected = base64::engine::general_purpose::STANDARD.encode(pair);
        assert_eq!(told(&seen, "authorization"), [format!("Basic {expected}")]);
        let request = client().get(house.url("/")).bearer_auth(house.jwt("alice"));
        request.send().await.unwrap();
        assert!(told(&house.upstream.last(), "authorization").is_empty());

        fs::write(&file, "another").unwrap();
        house.reload(&house.file).unwrap();
        let request = client().get(house.url("/reports")).bearer_auth(house.jwt("alice"));
        request.send().await.unwrap();
        assert_ne!(
            told(&house.upstream.last(), "authorization"),
            [format!("Basic {expected}")]
        );
        password(&folder);
    }
}

#[tokio::test]
async fn a_name_with_a_colon_is_never_sent() {
    let folder = TempDir::new().unwrap();
    let basic = format!(
        "basic = {{ username = \"{{iss}}\", password_file = {:?} }}",
        password(&folder)
    );
    let house = house_vouching(&basic, "").await;
    let before = house.upstream.requests();
    let request = client().get(house.url("/reports")).bearer_auth(house.jwt("alice"));
    assert_eq!(request.send().await.unwrap().status(), 502);
    assert_eq!(house.upstream.requests(), before);
}
