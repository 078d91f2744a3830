//! A browser without a screen: it keeps cookies, follows redirects, and sends what browsers send.

use std::collections::BTreeMap;

use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode, header, redirect::Policy};
use url::Url;

pub struct Browser {
    client: Client,
    /// Host and name, as browsers keep them: without the port.
    pub cookies: BTreeMap<(String, String), String>,
    /// What a proxy in front of the gateway says of where the browser is.
    pub forwarded_for: Option<String>,
    /// Every place that the last navigation went through.
    pub history: Vec<Url>,
}

/// What a navigation ended at.
pub struct Page {
    pub url: Url,
    pub status: StatusCode,
    pub headers: header::HeaderMap,
    pub text: String,
}

impl Browser {
    pub fn new() -> Self {
        Self {
            client: client(),
            cookies: BTreeMap::new(),
            forwarded_for: None,
            history: Vec::new(),
        }
    }

    /// One whose requests come through the proxy that a house trusts.
    pub fn behind_proxy(address: &str) -> Self {
        Self {
            client: client_at(PROXY),
            forwarded_for: Some(address.to_owned()),
            ..Self::new()
        }
    }

    /// One that goes about by a client of its own.
    pub fn with(client: Client) -> Self {
        Self { client, ..Self::new() }
    }

    /// Types an address and follows wherever it leads.
    pub async fn open(&mut self, url: &str) -> Page {
        self.navigate(Method::GET, Url::parse(url).unwrap(), None, "none").await
    }

    /// The first answer to an address that is typed, redirects not followed.
    pub async fn peek(&mut self, url: &str) -> Page {
        let url = Url::parse(url).unwrap();
        let request = navigation(self.client.get(url.clone()), "none");
        self.send(request, url).await
    }

    /// Fills the first form of a page and submits it.
    pub async fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> Page {
        let form = Form::first_in(&page.text);
        let mut values = form.hidden;
        values.extend(
            fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let url = page.url.join(&form.action).unwrap();
        self.navigate(Method::POST, url, Some(values), "same-origin").await
    }

    /// A script on a page asks for something.
    pub async fn fetch(&mut self, url: &str) -> Page {
        let url = Url::parse(url).unwrap();
        let request = self
            .client
            .get(url.clone())
            .header("accept", "application/json")
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-dest", "empty")
            .header("sec-fetch-site", "same-origin");
        self.send(request, url).await
    }

    /// Follows a request, built by hand, for one step; cookies are added and kept.
    pub async fn send(&mut self, request: RequestBuilder, url: Url) -> Page {
        let request = match &self.forwarded_for {
            Some(address) => request.header("x-forwarded-for", address),
            None => request,
        };
        let response = request
            .header(header::COOKIE, self.cookie_header(&url))
            .send()
            .await
            .unwrap();
        self.keep_cookies(&url, &response);
        Page {
            url,
            status: response.status(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    /// Logs in at the development authorization server's form, wherever `page` stands before it.
    pub async fn log_in(&mut self, page: &Page, username: &str, password: &str) -> Page {
        self.submit(page, &[("username", username), ("password", password)])
            .await
    }

    /// Logs in at the provider and stops before the callback: the response that has not been delivered.
    pub async fn authorize(&mut self, page: &Page, username: &str, password: &str) -> Url {
        let form = Form::first_in(&page.text);
        let mut values = form.hidden;
        values.extend([
            ("username".to_owned(), username.to_owned()),
            ("password".to_owned(), password.to_owned()),
        ]);
        let url = page.url.join(&form.action).unwrap();
        let request = navigation(self.client.post(url.clone()), "same-origin");
        let request = request
            .header(header::ORIGIN, url.origin().ascii_serialization())
            .form(&values);
        self.send(request, url).await.location().0
    }

    /// Posts a form of the site itself.
    pub async fn post(&mut self, url: &str, fields: &[(&str, &str)]) -> Page {
        let values = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.navigate(Method::POST, Url::parse(url).unwrap(), Some(values), "same-origin")
            .await
    }

    pub fn session_cookie(&self) -> String {
        let cookie = self.cookies.iter().find(|((_, name), _)| name == "vestibule");
        cookie.expect("no session cookie").1.clone()
    }

    pub fn set_session_cookie(&mut self, value: &str) {
        self.cookies
            .insert(("127.0.0.1".to_owned(), "vestibule".to_owned()), value.to_owned());
    }

    pub fn cookies_named(&self, part: &str) -> Vec<&str> {
        self.cookies
            .keys()
            .map(|(_, name)| name.as_str())
            .filter(|name| name.contains(part))
            .collect()
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    async fn navigate(
        &mut self,
        method: Method,
        url: Url,
        mut form: Option<Vec<(String, String)>>,
        site: &str,
    ) -> Page {
        self.history.clear();
        let (mut method, mut url) = (method, url);
        for _ in 0..20 {
            self.history.push(url.clone());
            let mut request = navigation(self.client.request(method.clone(), url.clone()), site);
            if let Some(form) = form.take() {
                request = request
                    .header(header::ORIGIN, url.origin().ascii_serialization())
                    .form(&form);
            }
            let page = self.send(request, url.clone()).await;
            let Some(location) = page
                .headers
                .get(header::LOCATION)
                .filter(|_| page.status.is_redirection())
            else {
                return page;
            };
            assert!(
                !matches!(page.status.as_u16(), 307 | 308),
                "a login never repeats a POST"
            );
            url = url.join(location.to_str().unwrap()).unwrap();
            method = Method::GET;
        }
        panic!("twenty redirects in a row: {:?}", self.history);
    }

    fn cookie_header(&self, url: &Url) -> String {
        let host = url.host_str().unwrap();
        let here = self.cookies.iter().filter(|((kept, _), _)| kept == host);
        here.map(|((_, name), value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn keep_cookies(&mut self, url: &Url, response: &Response) {
        for header in response.headers().get_all(header::SET_COOKIE) {
            let cookie = cookie::Cookie::parse(header.to_str().unwrap()).unwrap();
            let key = (url.host_str().unwrap().to_owned(), cookie.name().to_owned());
            assert!(
                cookie.name().len() + cookie.value().len() <= 4_096,
                "a browser drops such a cookie"
            );
            match cookie.max_age() {
                Some(age) if age.is_zero() || age.is_negative() => self.cookies.remove(&key),
                _ => self.cookies.insert(key, cookie.value().to_owned()),
            };
        }
    }
}

/// Where the proxy is that a house trusts.
pub const PROXY: &str = "127.0.0.2";

/// A client that follows nothing, keeps nothing and knows no proxy.
pub fn client() -> Client {
    builder().build().unwrap()
}

/// The same at another address of this machine.
pub fn client_at(address: &str) -> Client {
    let address: std::net::IpAddr = address.parse().unwrap();
    builder().local_address(address).build().unwrap()
}

pub fn builder() -> ClientBuilder {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().redirect(Policy::none()).no_proxy()
}

fn navigation(request: RequestBuilder, site: &str) -> RequestBuilder {
    request
        .header(
            "accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        )
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .header("sec-fetch-site", site)
}

impl Page {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// Where a page goes on to by itself.
    pub fn goes_on_to(&self) -> Url {
        let (_, rest) = self.text.split_once("http-equiv=\"refresh\"").expect("the page stays");
        let content = attribute(&rest[..rest.find('>').unwrap()], "content").unwrap();
        self.url.join(content.strip_prefix("0;url=").unwrap()).unwrap()
    }

    /// Where a redirect leads, with its parameters.
    pub fn location(&self) -> (Url, BTreeMap<String, String>) {
        let location = self.url.join(self.header("location")).unwrap();
        let parameters = location.query_pairs().into_owned().collect();
        (location, parameters)
    }
}

struct Form {
    action: String,
    hidden: Vec<(String, String)>,
}

impl Form {
    fn first_in(html: &str) -> Self {
        let start = html.find("<form").unwrap_or_else(|| panic!("no form in: {html}"));
        let form = &html[start..start + html[start..].find("</form>").unwrap()];
        let inputs = form
            .split("<input")
            .skip(1)
            .map(|input| &input[..input.find('>').unwrap()]);
        let hidden = inputs.filter(|input| attribute(input, "type").as_deref() == Some("hidden"));
        Self {
            action: attribute(&form[..form.find('>').unwrap()], "action").unwrap_or_default(),
            hidden: hidden
                .map(|input| {
                    (
                        attribute(input, "name").unwrap(),
                        attribute(input, "value").unwrap_or_default(),
                    )
                })
                .collect(),
        }
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = &tag[start..start + tag[start..].find('"')?];
    let entities = [
        ("&quot;", "\""),
        ("&#x27;", "'"),
        ("&#x2f;", "/"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ];
    Some(entities.iter().fold(value.to_owned(), |text, (entity, character)| {
        text.replace(entity, character)
    }))
}
