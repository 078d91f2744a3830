//! The application of large bodies and of WebSockets. It runs in a process of its own: this program, asked to.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};

/// Of a body, in either direction.
pub(crate) const BODY: u64 = 100 * MIB;
pub(crate) const MIB: u64 = 1024 * 1024;
/// What a slow reader takes in a second; both ends have such ones.
pub(crate) const SLOW: u64 = MIB;
/// Of what a WebSocket message says.
pub(crate) const MESSAGE: usize = 128;
/// A head of two bytes, a length of two, and from a client a mask of four.
pub(crate) const FROM_CLIENT: usize = 8 + MESSAGE;
pub(crate) const FROM_SERVER: usize = 4 + MESSAGE;

/// What this program is called with to be this.
pub(crate) const WORD: &str = "application";

/// Pieces in which a body is sent.
static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];

pub(crate) fn run(arguments: &[String]) {
    let [address] = arguments else {
        panic!("the application does not understand {arguments:?}");
    };
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    runtime.block_on(async {
        let address: SocketAddr = address.parse().unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(connection.with_upgrades());
        }
    });
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Zeros>, Infallible> {
    match request.uri().path() {
        "/large/down" => return Ok(Response::new(Zeros(BODY))),
        "/large/up" => while request.frame().await.is_some_and(|frame| frame.is_ok()) {},
        "/large/up/slowly" => read_slowly(request.into_body()).await,
        "/large/live" => {
            tokio::spawn(echo(hyper::upgrade::on(&mut request)));
            return Ok(switching(&request));
        }
        _ => {}
    }
    Ok(Response::new(Zeros(0)))
}

async fn read_slowly(mut body: Incoming) {
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        sleep(Duration::from_secs_f64(length as f64 / SLOW as f64)).await;
    }
}

fn switching(request: &Request<Incoming>) -> Response<Zeros> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).expect("no key");
    // The clients of this bench all send the same.
    assert_eq!(key, super::websocket::KEY);
    let mut response = Response::new(Zeros(0));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let says = [
        (header::UPGRADE, "websocket"),
        (header::CONNECTION, "upgrade"),
        (header::SEC_WEBSOCKET_ACCEPT, super::websocket::ACCEPT),
    ];
    for (name, value) in says {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Sends back what each message says, which is always of the same length.
async fn echo(upgrade: OnUpgrade) {
    let Ok(stream) = upgrade.await else { return };
    let mut stream = TokioIo::new(stream);
    let mut message = [0; FROM_CLIENT];
    while stream.read_exact(&mut message).await.is_ok() {
        let (head, said) = message.split_at(8);
        let mut back = vec![head[0], head[1] & 0x7f, head[2], head[3]];
        back.extend(
            said.iter()
                .zip(head[4..].iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        if stream.write_all(&back).await.is_err() {
            return;
        }
    }
}

/// So many of them.
struct Zeros(u64);

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.min(PIECE.len() as u64);
        self.0 -= length;
        let piece = Bytes::from_static(&PIECE[..length as usize]);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}
