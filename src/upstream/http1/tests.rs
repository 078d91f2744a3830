//! Whole exchanges over a socket, and beside another implementation.

use std::{future::poll_fn, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    runtime::Builder,
    time::timeout,
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A connection, and its other end.
fn pair() -> (Connection, UnixStream) {
    let (here, there) = UnixStream::pair().unwrap();
    (Connection::over(Dialed::Unix(here)), there)
}

fn get() -> Request<RequestBody> {
    asking("GET")
}

fn asking(method: &str) -> Request<RequestBody> {
    let request = Request::builder()
        .method(method)
        .uri("/a?b")
        .header(header::HOST, "wiki");
    request.body(RequestBody::Empty).unwrap()
}

/// An answer, whole.
#[derive(Debug, PartialEq)]
struct Whole {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

async fn whole(connection: &mut Connection, request: &mut Request<RequestBody>) -> Result<Whole, Broken> {
    let mut answer = connection.begin(request);
    poll_fn(|cx| connection.poll_answer(&mut answer, cx)).await?;
    let mut body = Vec::new();
    while let Some(data) = poll_fn(|cx| connection.poll_data(cx)).await {
        body.extend_from_slice(&data?);
    }
    let (parts, ()) = answer.into_parts();
    Ok(Whole {
        status: parts.status,
        headers: parts.headers,
        body,
    })
}

/// What comes of an answer that comes in pieces of this size, and whether another request may follow.
async fn answered(request: &mut Request<RequestBody>, bytes: &[u8], size: usize) -> (Result<Whole, Broken>, bool) {
    let (mut connection, there) = pair();
    let (mut hears, mut says) = there.into_split();
    let speech = async {
        for piece in bytes.chunks(size) {
            // Where what was said before is wrong, nobody is there any more.
            let _ = says.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        drop(says);
    };
    let listen = async {
        let mut heard = Vec::new();
        let _ = hears.read_to_end(&mut heard).await;
    };
    let exchange = async {
        let whole = whole(&mut connection, request).await;
        let is_good = connection.is_good();
        drop(connection);
        (whole, is_good)
    };
    let (outcome, (), ()) = timeout(PATIENCE, async { tokio::join!(exchange, speech, listen) })
        .await
        .unwrap();
    outcome
}

async fn got(bytes: &str) -> (Result<Whole, Broken>, bool) {
    answered(&mut get(), bytes.as_bytes(), usize::MAX).await
}

#[tokio::test]
async fn a_body_ends_where_its_head_says_and_the_connection_serves_again_where_it_may() {
    for (answer, body, serves_again) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwiki", "wiki", true),
        ("HTTP/1.1 200 OK\nContent-Length: 4\n\nwiki", "wiki", true),
        (
            "HTTP/1.1 200\r\nContent-Length: 4, 4\r\nContent-Length: 4\r\n\r\nwiki",
            "wiki",
            true,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", "", true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n4\r\nwiki\r\n0\r\n\r\n",
            "wiki",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n4\r\nwiki\r\n0\r\n\r\n",
            "wiki",
            true,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: a\r\nContent-Length: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nw",
            "w",
            true,
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 4\r\n\r\nwiki",
            "wiki",
            true,
        ),
        // The rest is not for another request.
        ("HTTP/1.1 200 OK\r\n\r\nwiki", "wiki", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nwiki",
            "wiki",
            false,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nwiki", "wiki", false),
        (
            "HTTP/1.1 200 OK\r\nConnection: x, close\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nwiki",
            "wiki",
            false,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwikipedia", "wiki", false),
        ("HTTP/1.1 204 No Content\r\n\r\nwiki", "", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "",
            false,
        ),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "", false),
    ] {
        for size in [1, 7, usize::MAX] {
            let (whole, is_good) = answered(&mut get(), answer.as_bytes(), size).await;
            let whole = whole.unwrap_or_else(|error| panic!("{answer}: {error}"));
            assert_eq!(whole.body, body.as_bytes(), "{answer}");
            // What is beyond an answer may not have come yet.
            if serves_again || size == usize::MAX {
                assert_eq!(is_good, serves_again, "{answer}");
            }
        }
    }
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    let (whole, is_good) = answered(&mut asking("HEAD"), head, usize::MAX).await;
    assert_eq!(
        (&whole.unwrap().headers[header::CONTENT_LENGTH], is_good),
        (&HeaderValue::from(4), true)
    );
}

#[tokio::test]
async fn what_two_programs_could_read_differently_is_no_answer() {
    for lines in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4, 5\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: 4 4\r\n",
        "Content-Length: 0x4\r\n",
        "Content-Length: \r\n",
        "Content-Length: 4,\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "A: b\r\n c\r\n",
        "A b: c\r\n",
        "A\r\n",
        ": a\r\n",
        "A: b\rc\r\n",
        "A: b\0c\r\n",
        &"A: b\r\n".repeat(101),
    ] {
        let outcome = got(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n4\r\nwiki\r\n0\r\n\r\n"))
            .await
            .0;
        assert!(matches!(outcome, Err(Broken::Nonsense(_))), "{lines}: {outcome:?}");
    }
    for start in [
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "ICY 200 OK",
        "wiki",
    ] {
        let outcome = got(&format!("{start}\r\n\r\n")).await.0;
        assert!(matches!(outcome, Err(Broken::Nonsense(_))), "{start}: {outcome:?}");
    }
    let http_1_0 = got("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        .await
        .0;
    assert!(matches!(http_1_0, Err(Broken::Nonsense(_))), "{http_1_0:?}");
    for end in ["", "\r\n\r\n"] {
        let long = got(&format!("HTTP/1.1 200 OK\r\nA: {}{end}", "b".repeat(MUCH))).await.0;
        assert!(matches!(long, Err(Broken::Nonsense(_))), "{long:?}");
    }
    let announced = got(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(INTERIM + 1)).await.0;
    assert!(matches!(announced, Err(Broken::Nonsense(_))), "{announced:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_none() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwiki",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwi",
    ] {
        let (outcome, is_good) = got(answer).await;
        assert!(
            matches!(outcome, Err(Broken::Closed)) && !is_good,
            "{answer}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn what_concerns_the_connection_alone_stays_there() {
    let answer = "HTTP/1.1 200 Fine\r\nServer: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\nSet-Cookie: a\r\nset-cookie: b\u{e9}\r\n\r\n0\r\n\r\n";
    let (mut connection, mut there) = pair();
    let bytes: Vec<u8> = answer.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    there.write_all(&bytes).await.unwrap();
    let mut answer = connection.begin(&mut get());
    poll_fn(|cx| connection.poll_answer(&mut answer, cx)).await.unwrap();
    let names: Vec<_> = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    assert_eq!(
        names,
        [("server", &b"a"[..]), ("set-cookie", b"a"), ("set-cookie", b"b\xe9")]
    );
    assert_eq!(
        answer
            .extensions()
            .get::<hyper::ext::ReasonPhrase>()
            .unwrap()
            .as_bytes(),
        b"Fine"
    );
    // Where the line names other headers, whoever passes the answer on has to know.
    let whole = got("HTTP/1.1 200 OK\r\nConnection: close, x-hop\r\nX-Hop: a\r\nContent-Length: 0\r\n\r\n")
        .await
        .0
        .unwrap();
    assert_eq!(whole.headers[header::CONNECTION], "close, x-hop");
}

#[tokio::test]
async fn a_request_says_once_how_its_body_is_framed() {
    let whole = || RequestBody::Whole(Full::new(Bytes::from_static(b"wiki")));
    for (method, body, framing) in [
        ("GET", RequestBody::Empty, ""),
        ("DELETE", RequestBody::Empty, ""),
        ("POST", RequestBody::Empty, "content-length: 0\r\n"),
        ("PUT", RequestBody::Empty, "content-length: 0\r\n"),
        ("POST", whole(), "content-length: 4\r\n"),
        ("GET", whole(), "content-length: 4\r\n"),
    ] {
        let (mut connection, mut there) = pair();
        let mut request = asking(method);
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            request.headers_mut().insert(name, HeaderValue::from_static("7"));
        }
        let is_empty = http_body::Body::is_end_stream(&body);
        *request.body_mut() = body;
        there.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        let mut answer = connection.begin(&mut request);
        poll_fn(|cx| connection.poll_answer(&mut answer, cx)).await.unwrap();
        assert!(connection.is_good());
        drop(connection);
        let mut heard = String::new();
        there.read_to_string(&mut heard).await.unwrap();
        let body = if is_empty { "" } else { "wiki" };
        assert_eq!(
            heard,
            format!("{method} /a?b HTTP/1.1\r\nhost: wiki\r\n{framing}\r\n{body}")
        );
    }
}

#[tokio::test]
async fn one_connection_serves_request_after_request_and_is_left_once_it_is_spoken_to() {
    let (mut connection, mut there) = pair();
    for number in 0..50 {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", number * 1_000);
        there.write_all(answer.as_bytes()).await.unwrap();
        let write = async { there.write_all(&vec![b'x'; number * 1_000]).await.unwrap() };
        let mut request = get();
        let (whole, ()) = tokio::join!(whole(&mut connection, &mut request), write);
        assert_eq!(whole.unwrap().body.len(), number * 1_000);
        assert!(connection.is_good() && connection.is_quiet());
        connection.reuse(std::mem::take(request.headers_mut()));
        connection.rest();
    }
    there.write_all(b"H").await.unwrap();
    let spoken_to = async {
        while connection.is_quiet() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, spoken_to).await.unwrap();
}

#[tokio::test]
async fn a_request_of_which_nothing_was_sent_is_given_back() {
    let (mut connection, there) = pair();
    drop(there);
    let mut answer = connection.begin(&mut get());
    let broken = poll_fn(|cx| connection.poll_answer(&mut answer, cx)).await;
    assert!(broken.is_err() && connection.take_untouched().is_some());
    let (mut connection, there) = pair();
    let mut answer = connection.begin(&mut get());
    assert!(
        poll_fn(|cx| Poll::Ready(connection.poll_answer(&mut answer, cx)))
            .await
            .is_pending()
    );
    drop(there);
    let broken = poll_fn(|cx| connection.poll_answer(&mut answer, cx)).await;
    assert!(broken.is_err() && connection.take_untouched().is_none());
}

#[tokio::test]
async fn a_connection_on_which_a_request_was_not_sent_to_its_end_serves_no_other() {
    let (mut connection, mut there) = pair();
    let mut request = asking("POST");
    // More than the sockets take.
    *request.body_mut() = RequestBody::Whole(Full::new(vec![b'x'; 8 * 1_024 * 1_024].into()));
    let mut answer = connection.begin(&mut request);
    assert!(
        poll_fn(|cx| Poll::Ready(connection.poll_answer(&mut answer, cx)))
            .await
            .is_pending()
    );
    there
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    drop(there);
    poll_fn(|cx| connection.poll_answer(&mut answer, cx)).await.unwrap();
    poll_fn(|cx| connection.poll_rest(cx)).await;
    assert!(connection.is_over() && connection.has_no_rest() && !connection.is_good());
}

/// How hyper reads the same.
async fn as_hyper_reads(method: &str, bytes: Vec<u8>) -> Option<Whole> {
    let (here, mut there) = UnixStream::pair().unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(here)).await.unwrap();
    let speech = async {
        let mut heard = [0; 1_024];
        let _ = there.read(&mut heard).await;
        let _ = there.write_all(&bytes).await;
        let _ = there.shutdown().await;
        while matches!(there.read(&mut heard).await, Ok(1..)) {}
    };
    let exchange = async {
        let request = Request::builder().method(method).uri("/").header(header::HOST, "wiki");
        let answer = sender
            .send_request(request.body(Empty::<Bytes>::new()).unwrap())
            .await
            .ok()?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.ok()?.to_bytes().to_vec();
        drop(sender);
        Some(Whole {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    };
    let all = async { tokio::join!(exchange, connection, speech).0 };
    timeout(PATIENCE, all).await.unwrap()
}

/// Lines of heads, most of them such as matter for where a body ends.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "Content-Length: ?[0-9, +]{0,3}",
        Just("Content-Length: 4".to_owned()),
        Just("Transfer-Encoding: chunked".to_owned()),
        "Transfer-Encoding: (chunked|gzip|identity|, |x){1,3}",
        "Connection: (close|keep-alive|x-hop|, ){1,3}",
        "[A-Za-z-]{1,5}: ?[ -~]{0,8}",
        "[ -~]{0,9}",
    ]
}

proptest! {
    /// Stricter is well, and laxer is not; what both take is the same.
    #[test]
    fn no_answer_is_read_otherwise_than_by_others(
        start in "HTTP/1\\.[01] (200|204|304|404|100) ?(OK)?",
        lines in prop::collection::vec(line(), 0..5),
        end in prop_oneof![9 => Just("\r\n"), 1 => Just("\n")],
        body in "(wiki|4\r\n|0\r\n\r\n|\r\n|;a|2\r\nab\r\n){0,6}",
        method in prop_oneof![4 => Just("GET"), 1 => Just("HEAD")],
        size in 1_usize..80,
    ) {
        let mut bytes = start;
        for line in lines {
            bytes.push_str(end);
            bytes.push_str(&line);
        }
        bytes.push_str(end);
        bytes.push_str(end);
        bytes.push_str(&body);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let ours = runtime.block_on(answered(&mut asking(method), bytes.as_bytes(), size)).0;
        let theirs = runtime.block_on(as_hyper_reads(method, bytes.clone().into_bytes()));
        if let Ok(mut ours) = ours {
            let Some(mut theirs) = theirs else {
                return Err(TestCaseError::fail(format!("{bytes:?} is an answer here alone: {ours:?}")));
            };
            let of_the_connection = [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH];
            for name in of_the_connection.iter().chain(&[HeaderName::from_static("keep-alive")]) {
                ours.headers.remove(name);
                theirs.headers.remove(name);
            }
            prop_assert_eq!(ours, theirs);
        }
    }
}
