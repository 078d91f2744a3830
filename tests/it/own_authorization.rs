//! Applications whose pages send an `Authorization` of their own: the session decides alone, and the header goes on.

use url::Url;

use crate::support::{
    browser::{Browser, client},
    house::House,
    upstream::told,
};

/// What a page of the application sends with every fetch.
const OWN: &str = "Bearer sk-of-the-application~";

/// A house with two more routes whose `Authorization` is the application's: one for sessions, and a public one.
async fn house_with_their_own() -> House {
    let mut house = House::open().await;
    let (address, upstream) = (house.address, house.upstream.address);
    for (name, auth) in [("lab", "session"), ("open", "public")] {
        house.file.push_str(&format!(
            "\n[route.{name}]\nurl = \"http://{address}/{name}\"\nupstream = \"http://{upstream}\"\n\
             auth = [\"{auth}\"]\nauthorization = \"application\"\n"
        ));
    }
    house.reload(&house.file).unwrap();
    house
}

/// A fetch of a page in the browser.
async fn fetch_with(browser: &mut Browser, url: &str, authorization: &str) -> u16 {
    let url = Url::parse(url).unwrap();
    let request = browser.client().get(url.clone()).header("sec-fetch-mode", "cors");
    let request = request.header("authorization", authorization);
    browser.send(request, url).await.status.as_u16()
}

async fn logged_in(house: &House) -> Browser {
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/lab/")).await;
    assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200);
    alice
}

#[tokio::test]
async fn who_is_logged_in_passes_and_what_the_page_sends_arrives_as_it_was() {
    let house = house_with_their_own().await;
    let mut alice = logged_in(&house).await;
    for own in [OWN, "token  0123=", "Basic YTpi", "Bearer \"odd\" one"] {
        assert_eq!(fetch_with(&mut alice, &house.url("/lab/api"), own).await, 200, "{own}");
        let seen = house.upstream.last();
        assert_eq!(told(&seen, "authorization"), [own]);
        assert_eq!(told(&seen, "x-forwarded-user"), ["alice"]);
    }
    // Without one, none is made up.
    alice.fetch(&house.url("/lab/api")).await;
    assert!(told(&house.upstream.last(), "authorization").is_empty());
}

#[tokio::test]
async fn nobody_passes_by_a_header_that_is_not_read() {
    let house = house_with_their_own().await;
    let good = format!("Bearer {}", house.jwt("alice"));
    for own in [OWN, &*good] {
        let mut stranger = Browser::new();
        assert_eq!(
            fetch_with(&mut stranger, &house.url("/lab/api"), own).await,
            401,
            "{own}"
        );
        let navigation = client().get(house.url("/lab/")).header("accept", "text/html");
        let answer = navigation.header("authorization", own).send().await.unwrap();
        assert_eq!(answer.status(), 302, "{own}");
    }
    assert_eq!(house.upstream.requests(), 0);
    assert_eq!(house.key_fetches() + house.introspections(), 0);
}

#[tokio::test]
async fn two_of_them_are_nobodys() {
    let house = house_with_their_own().await;
    let mut alice = logged_in(&house).await;
    let before = house.upstream.requests();
    for path in ["/lab/", "/open/"] {
        let url = Url::parse(&house.url(path)).unwrap();
        let request = alice.client().get(url.clone()).header("authorization", OWN);
        let request = request.header("authorization", OWN);
        assert_eq!(alice.send(request, url).await.status, 400, "{path}");
    }
    assert_eq!(house.upstream.requests(), before);
}

#[tokio::test]
async fn i13_everywhere_else_a_bad_credential_is_an_error_and_none_is_passed_on() {
    let house = house_with_their_own().await;
    let mut alice = logged_in(&house).await;
    assert_eq!(fetch_with(&mut alice, &house.url("/"), OWN).await, 401);
    assert_eq!(fetch_with(&mut alice, &house.url("/public/"), OWN).await, 200);
    assert!(told(&house.upstream.last(), "authorization").is_empty());
    assert_eq!(fetch_with(&mut alice, &house.url("/open/"), OWN).await, 200);
    assert_eq!(told(&house.upstream.last(), "authorization"), [OWN]);
    assert!(told(&house.upstream.last(), "x-forwarded-user").is_empty());
}
