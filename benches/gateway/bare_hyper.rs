//! The floor: as little as hyper can do and still pass requests on, with connections of its own to the application.
//!
//! One thread that does everything, no timers, no headers looked at but those that need it. It runs in a process of
//! its own: this program, asked to.

use std::{
    cell::RefCell,
    fs,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, Version, header};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1::{SendRequest, handshake},
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};
use tokio_rustls::TlsAcceptor;

/// What this program is called with to be this.
pub(crate) const WORD: &str = "bare-hyper";

/// What the command line says: three addresses to listen at, two applications, and the folder of the certificate.
pub(crate) fn run(arguments: &[String]) {
    let [plain, h2c, tls, small, large, folder] = arguments else {
        panic!("bare hyper does not understand {arguments:?}");
    };
    let address = |text: &String| -> SocketAddr { text.parse().unwrap() };
    let proxy = Rc::new(Proxy {
        small: Pool::to(address(small)),
        large: Pool::to(address(large)),
    });
    let acceptor = acceptor(folder);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_io().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let [plain, h2c, tls] = [plain, h2c, tls].map(|text| TcpListener::bind(address(text)));
        let (plain, h2c, tls) = (plain.await.unwrap(), h2c.await.unwrap(), tls.await.unwrap());
        spawn_local(accept(h2c, proxy.clone(), async |stream, proxy| {
            serve_2(stream, proxy).await
        }));
        spawn_local(accept(plain, proxy.clone(), async |stream, proxy| {
            serve_1(stream, proxy).await;
        }));
        accept(tls, proxy, async move |stream, proxy| {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => serve_2(stream, proxy).await,
                _ => serve_1(stream, proxy).await,
            }
        })
        .await;
    });
}

fn acceptor(folder: &str) -> TlsAcceptor {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| fs::read(format!("{folder}/{name}")).unwrap());
    let certificates = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<_, _>>()
        .unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let mut config = config
        .with_single_cert(certificates, PrivateKeyDer::from_pem_slice(&key).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config).into()
}

async fn accept(listener: TcpListener, proxy: Rc<Proxy>, serve: impl AsyncFn(TcpStream, Rc<Proxy>) + 'static) {
    let serve = Rc::new(serve);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (serve, proxy) = (serve.clone(), proxy.clone());
        spawn_local(async move { serve(stream, proxy).await });
    }
}

async fn serve_1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, proxy: Rc<Proxy>) {
    let service = service_fn(move |request| proxy.clone().pass(request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = connection.with_upgrades().await;
}

async fn serve_2(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, proxy: Rc<Proxy>) {
    let service = service_fn(move |request| proxy.clone().pass(request));
    let _ = http2::Builder::new(Here)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Runs tasks on the thread that we are on.
#[derive(Clone)]
struct Here;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Here {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

struct Proxy {
    small: Rc<Pool>,
    large: Rc<Pool>,
}

impl Proxy {
    async fn pass(self: Rc<Self>, mut request: Request<Incoming>) -> Result<Response<Passed>, hyper::Error> {
        let path = request.uri().path();
        let pool = if path.starts_with("/large") {
            &self.large
        } else {
            &self.small
        };
        if request.version() == Version::HTTP_2 {
            turn_into_1(&mut request);
        }
        let wants_upgrade = request.headers().contains_key(header::UPGRADE);
        let ours = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
        let mut sender = pool.connection().await?;
        let mut response = sender.send_request(request).await?;
        if let Some(ours) = ours {
            let theirs = hyper::upgrade::on(&mut response);
            spawn_local(async move {
                let (Ok(ours), Ok(theirs)) = (ours.await, theirs.await) else {
                    return;
                };
                let _ = copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
            });
        }
        Ok(response.map(|body| Passed {
            body,
            sender: Some(sender),
            pool: pool.clone(),
        }))
    }
}

/// A request of HTTP/2 names its host in its target.
fn turn_into_1(request: &mut Request<Incoming>) {
    *request.version_mut() = Version::HTTP_11;
    let target = std::mem::take(request.uri_mut()).into_parts();
    if let Some(host) = target.authority {
        let host = HeaderValue::from_str(host.as_str()).unwrap();
        request.headers_mut().insert(header::HOST, host);
    }
    if let Some(path) = target.path_and_query {
        *request.uri_mut() = Uri::from(path);
    }
}

/// Connections to an application that nobody uses now.
struct Pool {
    application: SocketAddr,
    idle: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Pool {
    fn to(application: SocketAddr) -> Rc<Self> {
        Rc::new(Self {
            application,
            idle: RefCell::default(),
        })
    }

    async fn connection(&self) -> Result<SendRequest<Incoming>, hyper::Error> {
        loop {
            let Some(mut sender) = self.idle.borrow_mut().pop() else {
                break;
            };
            if sender.is_ready() || sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(self.application).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        spawn_local(connection.with_upgrades());
        Ok(sender)
    }
}

/// A body of the application, whose connection serves again once the body is at its end.
struct Passed {
    body: Incoming,
    sender: Option<SendRequest<Incoming>>,
    pool: Rc<Pool>,
}

impl Body for Passed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.pool.idle.borrow_mut().extend(self.sender.take());
        }
    }
}
