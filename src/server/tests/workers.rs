//! Threads that need one another.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::task::TaskTracker;

use super::*;

/// `/begin` begins something, and `/all` answers how much of it came to its end, when the gate is open.
#[derive(Default)]
struct Together {
    begun: TaskTracker,
    ended: Arc<AtomicUsize>,
    gate: CancellationToken,
    asked: Notify,
}

impl Handle for Together {
    async fn administer(&self, _: Request<Incoming>, _: IpAddr) -> Response<Body> {
        Response::new(Body::empty())
    }

    fn trusts(&self, _: IpAddr) -> bool {
        false
    }

    fn redirect(&self, _: &Request<Incoming>, _: &Peer) -> Response<Body> {
        Response::new(Body::empty())
    }

    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Body> {
        let (ended, gate) = (self.ended.clone(), self.gate.clone());
        if request.uri().path() == "/begin" {
            self.begun.spawn(async move {
                gate.cancelled().await;
                ended.fetch_add(1, Ordering::SeqCst);
            });
            return Response::new(Body::empty());
        }
        self.asked.notify_one();
        gate.cancelled().await;
        self.begun.close();
        self.begun.wait().await;
        Response::new(format!("{} ended", ended.load(Ordering::SeqCst)).into())
    }
}

#[tokio::test]
async fn a_thread_that_has_nobody_to_serve_stays_for_those_who_have() {
    let handler = Arc::<Together>::default();
    let server = Server::bind(settings(), None, handler.clone(), Arc::default()).unwrap();
    let running = server.start().unwrap();
    let address = running.addresses()[0];
    // The kernel deals them out to both threads.
    for _ in 0..16 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(exchange(&mut stream, get("/begin")).await.contains(" 200 "));
    }
    let mut last = TcpStream::connect(address).await.unwrap();
    last.write_all(get("/all").as_bytes()).await.unwrap();
    handler.asked.notified().await;
    running.drain();
    while TcpStream::connect(address).await.is_ok() {
        sleep(Duration::from_millis(10)).await;
    }
    handler.gate.cancel();
    let answer = exchange(&mut last, "").await;
    assert!(answer.ends_with("16 ended"), "{answer}");
    timeout(Duration::from_secs(5), running.stop()).await.unwrap();
}
