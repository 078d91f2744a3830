//! Calls of gRPC, between its makers' client and its makers' service.

use std::time::Duration;

use crate::support::{
    browser::Browser,
    grpc::{Call, Service, installed},
    house::House,
};

/// A house before a service that alice may call, and before one for administrators alone.
async fn house() -> (House, Service) {
    house_serving("server.h2c = true\n").await
}

async fn house_serving(server: &str) -> (House, Service) {
    let service = Service::start();
    let upstream = service.address;
    let house = House::open_serving(server, |address| {
        format!(
            r#"
[route.open-service]
url = "http://{address}/house.Open"
upstream = "h2c://{upstream}"
auth = ["session", "bearer"]

[route.staff-service]
url = "http://{address}/house.Staff"
upstream = "h2c://{upstream}"
auth = ["session", "bearer"]
allow.groups = ["admins"]
"#
        )
    });
    (house.await, service)
}

fn bearer(house: &House) -> String {
    format!("authorization=Bearer {}", house.jwt("alice"))
}

/// A whole call.
async fn call(house: &House, method: &str, metadata: &[&str], message: &str) -> Vec<String> {
    let mut call = Call::begin(house.address, method, metadata);
    call.say(message);
    call.rest().await
}

/// Waits until the service knows of no watch.
async fn no_watch_is_open(house: &House) {
    let token = bearer(house);
    let none = async {
        while call(house, "house.Open/Watches", &[&token], "")
            .await
            .first()
            .is_none_or(|open| open != "0")
        {}
    };
    tokio::time::timeout(Duration::from_secs(10), none)
        .await
        .expect("the service still watches");
}

#[tokio::test]
async fn calls_of_every_kind_pass() {
    if !installed() {
        return;
    }
    let (house, _service) = house().await;
    let token = bearer(&house);
    let metadata = [&*token, "x-forwarded-user=root"];
    let greeted = call(&house, "house.Open/Greet", &metadata, "hello").await;
    assert_eq!(greeted, ["hello alice", "= OK the service"]);
    let counted = call(&house, "house.Open/Count", &[&token], "3").await;
    assert_eq!(counted, ["0", "1", "2", "= OK"]);
    let mut chat = Call::begin(house.address, "house.Open/Chat", &[&token]);
    for word in ["one", "two"] {
        chat.say(word);
        let heard;
        (chat, heard) = chat.hear().await;
        assert_eq!(heard, format!("heard {word}"));
    }
    assert_eq!(chat.rest().await, ["= OK"]);
}

#[tokio::test]
async fn who_may_not_call_is_told_so_in_grpcs_own_words() {
    if !installed() {
        return;
    }
    let (house, _service) = house().await;
    let token = bearer(&house);
    for (method, metadata, expected) in [
        ("house.Open/Greet", &[][..], "= UNAUTHENTICATED "),
        ("house.Open/Count", &[], "= UNAUTHENTICATED "),
        ("house.Open/Chat", &["accept=text/html"], "= UNAUTHENTICATED "),
        (
            "house.Open/Greet",
            &["authorization=Bearer nonsense"],
            "= UNAUTHENTICATED ",
        ),
        ("house.Staff/Greet", &[&token], "= PERMISSION_DENIED "),
    ] {
        let heard = call(&house, method, metadata, "hello").await;
        assert!(
            heard.len() == 1 && heard[0].starts_with(expected),
            "{method}: {heard:?}"
        );
    }
}

#[tokio::test]
async fn a_broken_dependency_is_unavailable_and_nobodys_fault() {
    if !installed() {
        return;
    }
    let (house, _service) = house().await;
    let token = bearer(&house);
    house.stop_provider().await;
    let heard = call(&house, "house.Open/Greet", &[&token], "hello").await;
    assert!(heard[0].starts_with("= UNAVAILABLE "), "{heard:?}");
}

#[tokio::test]
async fn a_call_may_be_silent_for_longer_than_an_upload() {
    if !installed() {
        return;
    }
    let limit = Duration::from_secs(1);
    let (house, _service) = house_serving("server.h2c = true\nserver.limits.body_idle_timeout = \"1s\"\n").await;
    let mut chat = Call::begin(house.address, "house.Open/Chat", &[&bearer(&house)]);
    chat.say("one");
    let (mut chat, heard) = chat.hear().await;
    assert_eq!(heard, "heard one");
    tokio::time::sleep(2 * limit).await;
    chat.say("two");
    assert_eq!(chat.rest().await, ["heard two", "= OK"]);
}

#[tokio::test]
async fn a_call_ends_with_its_token() {
    if !installed() {
        return;
    }
    let (house, _service) = house().await;
    let token = bearer(&house);
    let mut watch = Call::begin(house.address, "house.Open/Watch", &[&token]);
    watch.say("");
    let (watch, heard) = watch.hear().await;
    assert_eq!(heard, "watching");
    house.clock.advance(Duration::from_secs(5 * 60 + 30));
    let end = watch.rest().await;
    assert!(end.len() == 1 && end[0].starts_with("= CANCELLED "), "{end:?}");
    no_watch_is_open(&house).await;
}

#[tokio::test]
async fn a_call_ends_when_its_session_is_signed_out() {
    if !installed() {
        return;
    }
    let (house, _service) = house().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200);
    let cookie = format!("cookie=vestibule={}", alice.session_cookie());
    let mut watch = Call::begin(house.address, "house.Open/Watch", &[&cookie]);
    watch.say("");
    let mut chat = Call::begin(house.address, "house.Open/Chat", &[&cookie]);
    chat.say("one");
    let mut mallorys = Call::begin(house.address, "house.Open/Chat", &[&bearer(&house)]);
    mallorys.say("one");
    let (watch, heard) = watch.hear().await;
    assert_eq!(heard, "watching");
    let (chat, heard) = chat.hear().await;
    assert_eq!(heard, "heard one");
    let (mut mallorys, heard) = mallorys.hear().await;
    assert_eq!(heard, "heard one");
    alice.post(&house.url("/oauth2/sign_out"), &[]).await;
    for call in [watch, chat] {
        let (_, end) = call.hear().await;
        assert!(end.starts_with("= CANCELLED "), "{end:?}");
    }
    no_watch_is_open(&house).await;
    mallorys.say("two");
    assert_eq!(mallorys.rest().await, ["heard two", "= OK"]);
}
