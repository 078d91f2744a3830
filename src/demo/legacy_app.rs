//! A guestbook as they were once written: it believes whatever headers say who somebody is, and has no login.

mod live;
mod pages;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};

use self::live::Sockets;
use super::site::{self, Answer, Open, Parameters, Site};

const MOST_ENTRIES: usize = 100;
const MOST_CHARACTERS: usize = 500;

/// The guestbook, served on loopback until it is dropped.
#[derive(Debug)]
pub struct LegacyApp {
    address: SocketAddr,
    _open: Open,
}

impl LegacyApp {
    /// Starts serving.
    ///
    /// # Errors
    /// `InvalidInput` for anything but a loopback address, and what binding the socket says.
    pub async fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = site::bind(address).await?;
        let address = listener.local_addr()?;
        let guestbook = Arc::new(Guestbook {
            entries: Mutex::new(VecDeque::from([Entry::first()])),
            sockets: Sockets::default(),
        });
        Ok(Self {
            address,
            _open: Open::serve(listener, guestbook),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[derive(Debug)]
struct Guestbook {
    entries: Mutex<VecDeque<Entry>>,
    sockets: Sockets,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    message: String,
}

impl Entry {
    fn first() -> Self {
        Self {
            name: "webmaster".to_owned(),
            message: "Welcome to our new home page! Please sign the guestbook.".to_owned(),
        }
    }
}

/// Who a request says it is from.
struct Visitor<'a> {
    user: Option<&'a str>,
    email: Option<&'a str>,
    groups: Option<&'a str>,
}

impl<'a> Visitor<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            user: header("x-forwarded-user"),
            email: header("x-forwarded-email"),
            groups: header("x-forwarded-groups"),
        }
    }
}

impl Guestbook {
    fn route(&self, request: &Request<Bytes>) -> Answer {
        let visitor = Visitor::of(request.headers());
        let method = if request.method() == http::Method::HEAD {
            "GET"
        } else {
            request.method().as_str()
        };
        match (method, request.uri().path()) {
            (_, "/echo") => site::json(StatusCode::OK, &echo(request)),
            ("GET", "/") => pages::guestbook(&visitor, self.entries().iter()),
            ("POST", "/sign") => self.sign(&visitor, &Parameters::parse(request.body())),
            ("GET", "/entries/archive") => {
                let parameters = Parameters::of_query(request);
                pages::archive(&visitor, parameters.value("year").unwrap_or("every year"))
            }
            ("GET", "/admin" | "/admin/") => pages::admin(&visitor, self.entries().len()),
            ("GET", "/live" | "/live/") => pages::live(&visitor),
            ("GET", "/live/events") => live::events(),
            ("GET", "/live/socket") => self.sockets.open(request),
            ("GET", "/public" | "/public/") => pages::public(&visitor),
            ("GET", "/api/whoami") => site::json(StatusCode::OK, &whoami(&visitor)),
            _ => pages::nothing(&visitor),
        }
    }

    fn sign(&self, visitor: &Visitor<'_>, form: &Parameters) -> Answer {
        if let Some(message) = form.value("message") {
            let name = visitor.user.unwrap_or("somebody").to_owned();
            let mut entries = self.entries();
            entries.push_front(Entry {
                name,
                message: message.chars().take(MOST_CHARACTERS).collect(),
            });
            entries.truncate(MOST_ENTRIES);
        }
        site::see_other("/")
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Site for Guestbook {
    async fn answer(self: Arc<Self>, request: Request<Bytes>) -> Answer {
        self.route(&request)
    }
}

fn whoami(visitor: &Visitor<'_>) -> Value {
    json!({ "user": visitor.user, "email": visitor.email, "groups": visitor.groups })
}

/// What arrived here, for whoever wants to see what the gateway lets through.
fn echo(request: &Request<Bytes>) -> Value {
    let headers = request.headers().iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    json!({ "method": request.method().as_str(), "path": request.uri().to_string(), "headers": headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, user: &str) -> Request<Bytes> {
        Request::get(path)
            .header("x-forwarded-user", user)
            .body(Bytes::new())
            .unwrap()
    }

    async fn body(answer: Answer) -> String {
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn it_knows_people_by_a_header_and_writes_down_what_they_say() {
        let guestbook = Guestbook {
            entries: Mutex::default(),
            sockets: Sockets::default(),
        };
        let sign = Request::post("/sign").header("x-forwarded-user", "<ann>");
        let answer = guestbook.route(&sign.body(Bytes::from("message=a+%26+b")).unwrap());
        assert_eq!(
            (answer.status(), &answer.headers()["location"]),
            (StatusCode::SEE_OTHER, &"/".parse().unwrap())
        );
        let page = body(guestbook.route(&get("/", "<bob>"))).await;
        assert!(
            page.contains("Hello <strong>&lt;bob&gt;") && page.contains("&lt;ann&gt;") && page.contains("a &amp; b"),
            "{page}"
        );
        let told = body(guestbook.route(&get("/api/whoami", "ann"))).await;
        assert_eq!(
            told,
            r#"{"user":"ann","email":null,"groups":null}"#.parse::<Value>().unwrap().to_string()
        );
    }

    #[tokio::test]
    async fn nothing_but_loopback_is_listened_on() {
        let refused = LegacyApp::listen("0.0.0.0:0".parse().unwrap()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
