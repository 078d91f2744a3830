//! The authorization server, in this process, and how people log in with it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::{Response, header, redirect::Policy};
use url::Url;
use vestibule::{
    demo::authorization_server::{AccessTokenKind, AuthorizationServer, Client, User},
    secret::Secret,
    time::SystemClock,
};

use super::gateways::Addresses;

pub(crate) const SCOPES: [&str; 4] = ["openid", "groups", "profile", "email"];

/// Persons, how large their sessions are (in KiB of what is sealed), and how many groups make them so.
pub(crate) const SIZED: [(&str, usize, usize); 3] = [("small", 1, 0), ("medium", 3, 46), ("large", 8, 167)];

pub(crate) async fn authorization_server(gateways: &Addresses) -> AuthorizationServer {
    let client = |id: &str, gateways: &[SocketAddr], access_tokens| Client {
        id: id.to_owned(),
        secret: Some(Secret::new("bench")),
        redirect_uris: gateways
            .iter()
            .map(|gateway| format!("http://{gateway}/oauth2/callback"))
            .collect(),
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        audience: gateways
            .iter()
            .take(1)
            .map(|gateway| format!("http://{gateway}"))
            .collect(),
        access_tokens,
        scopes: SCOPES.map(str::to_owned).to_vec(),
    };
    let ann = User {
        groups: ["staff", "admins", "editors"].map(str::to_owned).to_vec(),
        ..User::named("ann")
    };
    let mut builder = AuthorizationServer::builder(Arc::new(SystemClock))
        .client(client("bench", &gateways.ordinary(), AccessTokenKind::Jwt))
        .client(client("sized", &[gateways.sized], AccessTokenKind::Opaque))
        .user(ann);
    for (person, _, groups) in SIZED {
        builder = builder.user(User {
            email: None,
            groups: (0..groups).map(|number| format!("department-{number:04}")).collect(),
            ..User::named(person)
        });
    }
    let builder = builder.access_token_lifetime(Duration::from_secs(3_600));
    builder.listen(([127, 0, 0, 1], 0).into()).await.unwrap()
}

/// Who asks a gateway now and then.
pub(crate) struct Visitor(reqwest::Client);

impl Visitor {
    pub(crate) fn new() -> Self {
        let builder = reqwest::Client::builder().redirect(Policy::none()).no_proxy();
        // Certificates are looked at where handshakes are measured.
        Self(builder.tls_danger_accept_invalid_certs(true).build().unwrap())
    }

    /// Asks once, and wants 200.
    pub(crate) async fn ask(&self, url: &str, header: Option<(&str, &str)>) -> Result<(), String> {
        let mut once = self.0.get(url);
        if let Some((name, value)) = header {
            once = once.header(name, value);
        }
        let answer = once.send().await.map_err(|error| error.to_string())?;
        match answer.status().as_u16() {
            200 => Ok(()),
            status => Err(format!("the answer is {status}")),
        }
    }

    /// The cookie of a session, as a browser gets it.
    pub(crate) async fn log_in(&self, gateway: SocketAddr, person: &str) -> String {
        let page = format!("http://{gateway}/app");
        let start = self.0.get(page).header(header::ACCEPT, "text/html");
        let start = start.send().await.unwrap();
        let (login, authorize) = (cookie(&start), location(&start));
        let mut form: Vec<_> = authorize.query_pairs().into_owned().collect();
        form.extend([("username", person), ("password", person)].map(|(name, value)| (name.into(), value.into())));
        let granted = self.0.post(authorize.join("/login").unwrap()).form(&form);
        let callback = location(&granted.send().await.unwrap());
        let end = self.0.get(callback).header(header::COOKIE, login);
        cookie(&end.send().await.unwrap())
    }
}

fn location(answer: &Response) -> Url {
    let location = answer.headers().get(header::LOCATION).expect("no redirect");
    Url::parse(location.to_str().unwrap()).unwrap()
}

/// All cookies that the answer sets and does not delete.
fn cookie(answer: &Response) -> String {
    let lines = answer.headers().get_all(header::SET_COOKIE).iter();
    let pairs = lines.map(|line| line.to_str().unwrap().split(';').next().unwrap());
    let kept: Vec<_> = pairs.filter(|pair| !pair.ends_with('=')).collect();
    kept.join("; ")
}
