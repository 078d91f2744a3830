//! Real applications behind the gateway, each told by the preset that is named for it.

use serde_json::Value;
use url::Url;

use crate::support::{
    applications::{
        Application, django_is_installed, dokuwiki_is_installed, jupyterlab_is_installed, prometheus_is_installed,
    },
    browser::{Browser, client},
    chromium::{Chromium, chromium_is_installed},
    house::House,
};

/// A house before the application alone, which is told by the preset; nobody is told of at `/open`.
async fn house_before(application: &Application, preset: &str) -> House {
    let behind = application.address;
    let lines = format!("upstream = \"http://{behind}\"\nidentity.preset = \"{preset}\"\n");
    let house = House::open().await;
    let route = house.file.find("[route.wiki]").unwrap();
    let end = house.file.find("[admin]").unwrap();
    let wiki = format!(
        "[route.wiki]\nurl = \"{}\"\nauth = [\"session\", \"bearer\"]\n{lines}\n",
        house.url("/")
    );
    let public = format!(
        "\n[route.open]\nurl = \"{}\"\nauth = [\"public\"]\nupstream = \"http://{behind}\"\n",
        house.url("/open")
    );
    let file = [&house.file[..route], &wiki, &house.file[end..], &public].concat();
    house.reload(&file).unwrap();
    house
}

#[tokio::test]
async fn django_knows_whom_the_gateway_names_and_nobody_who_names_themselves() {
    if !django_is_installed() {
        return;
    }
    let application = Application::django().await;
    let house = house_before(&application, "django").await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/page")).await;
    let page = alice.log_in(&form, "alice", "alice").await;
    assert_eq!(page.json()["user"], "alice");
    assert_eq!(page.json()["known"], true);

    let forged = [
        ("Remote-User", "admin"),
        ("Remote_User", "admin"),
        ("REMOTE-USER", "admin"),
    ];
    for (name, value) in forged {
        let by_token = client().get(house.url("/page")).bearer_auth(house.jwt("alice"));
        let told: Value = by_token.header(name, value).send().await.unwrap().json().await.unwrap();
        assert_eq!(told["user"], "alice", "{name}");
        let open = client().get(house.url("/open")).header(name, value);
        let told: Value = open.send().await.unwrap().json().await.unwrap();
        assert_eq!(told["known"], false, "{name}");
    }
    // Past the gateway it believes anybody, as it says itself.
    let past = client()
        .get(format!("http://{}/", application.address))
        .header("Remote-User", "admin");
    let told: Value = past.send().await.unwrap().json().await.unwrap();
    assert_eq!(told["user"], "admin");
}

#[tokio::test]
async fn a_person_is_known_to_an_old_wiki_and_to_a_site_of_django() {
    if !chromium_is_installed() || !dokuwiki_is_installed() || !django_is_installed() {
        return;
    }
    let wiki = Application::dokuwiki().await;
    let house = house_before(&wiki, "remote-user").await;
    let chromium = Chromium::start().await;
    chromium.open(&house.url("/doku.php?id=start")).await;
    chromium.log_in("alice", "alice").await;
    chromium.wait_for_text("Logged in as: alice").await;
    chromium.picture("dokuwiki").await;
    let forged = client()
        .get(house.url("/doku.php?id=start"))
        .header("Remote_User", "admin");
    let page = forged.bearer_auth(house.jwt("alice")).send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("Logged in as: <bdi>alice</bdi>"), "{page}");

    let site = Application::django().await;
    let house = house_before(&site, "django").await;
    let chromium = Chromium::start().await;
    chromium.open(&house.url("/page")).await;
    chromium.log_in("admin", "admin").await;
    chromium.wait_for_text("\"user\": \"admin\"").await;
}

#[tokio::test]
async fn a_person_asks_a_dashboard_that_knows_no_people() {
    if !chromium_is_installed() || !prometheus_is_installed() {
        return;
    }
    let prometheus = Application::prometheus().await;
    let house = house_before(&prometheus, "remote-user").await;
    let anonymous = client().get(house.url("/api/v1/status/buildinfo")).send();
    assert_eq!(anonymous.await.unwrap().status(), 401);
    let chromium = Chromium::start().await;
    chromium.open(&house.url("/graph?g0.expr=vector(42)&g0.tab=1")).await;
    chromium.log_in("alice", "alice").await;
    chromium.wait_for_text("Prometheus").await;
    // Its page asks its own interface, with the session.
    chromium.wait_for_text("42").await;
    chromium.picture("prometheus").await;
}

#[tokio::test]
async fn a_person_runs_a_cell_in_jupyterlab() {
    if !chromium_is_installed() || !jupyterlab_is_installed() {
        return;
    }
    let application = Application::jupyterlab().await;
    let house = house_before(&application, "jupyter").await;
    let anonymous = client().get(house.url("/api/me")).header("Remote-User", "admin").send();
    assert_eq!(anonymous.await.unwrap().status(), 401);

    let chromium = Chromium::start().await;
    chromium.open(&house.url("/lab")).await;
    chromium.log_in("alice", "alice").await;
    chromium.click(".jp-LauncherCard[data-category='Notebook']").await;
    // The kernel answers over a WebSocket.
    chromium
        .run_cell("print(6 * 7, 'from a kernel')", "42 from a kernel")
        .await;
    chromium.picture("jupyterlab").await;
    chromium.open(&house.url("/api/me")).await;
    chromium.wait_for_text("\"username\": \"alice\"").await;
}

#[tokio::test]
async fn jupyterlab_has_a_token_of_its_own_beside_the_session() {
    if !jupyterlab_is_installed() {
        return;
    }
    let application = Application::jupyterlab_with_token("of-jupyter").await;
    let house = House::open().await;
    let route = format!(
        "\n[route.lab]\nurl = \"{}\"\nupstream = \"http://{}\"\nauth = [\"session\"]\nauthorization = \"application\"\n",
        house.url("/api"),
        application.address
    );
    let api = house.file.find("[route.api]").unwrap();
    let admin = house.file.find("[route.admin]").unwrap();
    house
        .reload(&[&house.file[..api], &house.file[admin..], &route].concat())
        .unwrap();
    let url = Url::parse(&house.url("/api/contents")).unwrap();
    let mut alice = Browser::new();
    let form = alice.open(url.as_str()).await;
    assert_eq!(
        alice.log_in(&form, "alice", "alice").await.status,
        403,
        "it asks for its token"
    );
    for (authorization, status) in [
        ("token wrong", 403),
        ("Bearer of-jupyter", 200),
        ("token of-jupyter", 200),
    ] {
        let fetch = alice.client().get(url.clone()).header("authorization", authorization);
        assert_eq!(alice.send(fetch, url.clone()).await.status, status, "{authorization}");
        let stranger = client()
            .get(url.clone())
            .header("authorization", authorization)
            .send()
            .await;
        assert_eq!(stranger.unwrap().status(), 401, "{authorization}");
    }
}
