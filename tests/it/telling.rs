//! What an application is told, in the form that it expects.

use crate::support::{browser::client, house::House, upstream::told};

/// A house with one more route, whose `identity` table is this.
async fn house_telling(identity: &'static str) -> House {
    let upstream = crate::support::upstream::EchoUpstream::start().await;
    let application = upstream.address;
    let mut house = House::open_with(move |address| {
        format!(
            "\n[route.grafana]\nurl = \"http://{address}/grafana\"\nupstream = \"http://{application}\"\n\
             auth = [\"bearer\"]\n[route.grafana.identity]\n{identity}\n"
        )
    })
    .await;
    house.upstream = upstream;
    house
}

#[tokio::test]
async fn a_preset_tells_what_the_application_expects_and_takes_out_what_it_trusts() {
    let house = house_telling("preset = \"grafana\"\nheaders = { X-WEBAUTH-NAME = \"{user|upper}\" }").await;
    let request = client()
        .get(house.url("/grafana"))
        .bearer_auth(house.jwt("admin"))
        .header("X-WEBAUTH-ROLE", "Admin")
        .header("X_WebAuth_User", "root")
        .header("x-webauth-groups", "root");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let seen = house.upstream.last();
    assert_eq!(told(&seen, "x-webauth-user"), ["admin"]);
    assert_eq!(told(&seen, "x-webauth-name"), ["ADMIN"]);
    assert_eq!(told(&seen, "x-webauth-groups"), ["staff,admins"]);
    for name in ["x-webauth-role", "x_webauth_user"] {
        assert!(told(&seen, name).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn groups_are_repeated_where_the_application_wants_a_header_for_each() {
    let house = house_telling("preset = \"kubernetes-front-proxy\"").await;
    let request = client().get(house.url("/grafana")).bearer_auth(house.jwt("admin"));
    let request = request.header("X-Remote-Group", "system:masters");
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(told(&house.upstream.last(), "x-remote-group"), ["staff", "admins"]);
}
