//! Somebody is in more groups than a token holds, and the token says that somebody else knows them.

use std::time::Duration;

use crate::support::{
    browser::{Browser, client},
    house::{Fault, House, Place},
    upstream::told,
};

/// A house whose provider tells no groups of whoever is in more than one, and keeps them in a list where the file says
/// so.
async fn house(list: bool) -> House {
    let house = House::open_with(|address| {
        format!(
            "\n[route.contractors]\nurl = \"http://{address}/staff-only\"\nupstream = \"http://127.0.0.1:9\"\n\
             auth = [\"session\", \"bearer\"]\n[[route.contractors.deny]]\ngroups = [\"contractors\"]\n"
        )
    })
    .await;
    house.provider.groups_in_tokens_at_most(1);
    if list {
        let key = format!(
            "groups_endpoint = \"{}/member_of\"\n[route.wiki]",
            house.provider.issuer()
        );
        house.reload(&house.file.replace("[route.wiki]", &key)).unwrap();
    }
    house
}

async fn logged_in(house: &House, user: &str) -> Browser {
    let mut browser = Browser::new();
    let form = browser.open(&house.url("/public/")).await;
    assert_eq!(form.status, 200);
    let form = browser.open(&house.url("/oauth2/start?rd=/public/")).await;
    let page = browser.log_in(&form, user, user).await;
    assert_eq!(page.status, 200, "{}", page.text);
    browser
}

#[tokio::test]
async fn groups_are_fetched_from_where_they_are() {
    for list in [true, false] {
        let house = house(list).await;
        let mut admin = logged_in(&house, "admin").await;
        assert_eq!(admin.open(&house.url("/admin")).await.status, 200, "{list}");
        assert_eq!(told(&house.upstream.last(), "x-forwarded-groups"), ["staff,admins"]);
        assert_eq!(house.provider.calls(Place::Groups), 1);
        let mut many = logged_in(&house, "many").await;
        assert_eq!(many.open(&house.url("/admin")).await.status, 403, "{list}");
        assert_eq!(many.open(&house.url("/")).await.status, 200, "{list}");
        let seen = house.upstream.last();
        let groups = told(&seen, "x-forwarded-groups");
        assert_eq!(groups[0].split(',').count(), 300);
    }
}

#[tokio::test]
async fn groups_that_are_not_told_are_not_taken_for_none() {
    let house = house(true).await;
    house
        .provider
        .fault(Place::Groups, Fault::answer(403, "application/json", b"{}"));
    let mut admin = logged_in(&house, "admin").await;
    let page = admin.open(&house.url("/admin")).await;
    assert_eq!(page.status, 403);
    assert!(
        page.text.contains("more groups than the login service tells"),
        "{}",
        page.text
    );
    // What denies a group denies whoever may be in it, and no application is told of no groups.
    assert_eq!(admin.open(&house.url("/staff-only")).await.status, 403);
    assert_eq!(admin.open(&house.url("/")).await.status, 502);
    // Who is in few groups is none the wiser.
    let mut alice = logged_in(&house, "alice").await;
    assert_eq!(alice.open(&house.url("/")).await.status, 200);
}

#[tokio::test]
async fn an_outage_of_the_groups_is_one_and_no_refresh_loses_them() {
    let house = house(true).await;
    let down = Fault::answer(503, "text/plain", b"later");
    house.provider.fault(Place::Groups, down.clone());
    let mut admin = Browser::new();
    let form = admin.open(&house.url("/admin")).await;
    let page = admin.log_in(&form, "admin", "admin").await;
    assert_eq!(page.status, 503);
    house.provider.clear_faults();
    let mut admin = logged_in(&house, "admin").await;
    house.provider.fault(Place::Groups, down);
    let (groups, tokens) = (house.provider.calls(Place::Groups), house.provider.calls(Place::Token));
    house.clock.advance(Duration::from_secs(290));
    assert_eq!(admin.open(&house.url("/admin")).await.status, 200);
    assert_eq!(house.provider.calls(Place::Token), tokens + 1);
    assert_eq!(house.provider.calls(Place::Groups), groups + 1);
}

#[tokio::test]
async fn a_bearer_token_without_its_groups_opens_nothing_that_asks_for_them() {
    let house = house(true).await;
    let token = house.jwt("admin");
    for (path, status) in [("/admin", 403), ("/staff-only", 403), ("/", 502)] {
        let answer = client().get(house.url(path)).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
    assert_eq!(
        house.provider.calls(Place::Groups),
        0,
        "such a token is not for the list"
    );
}
