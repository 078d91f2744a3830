//! WebSockets: after the upstream's 101, bytes in both directions (RFC 6455).

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional},
    time::{sleep, timeout},
};

use super::{http1::Upgraded, lifeline::Lifeline};

/// Joins the two sides until one closes, nothing moves for `idle` to twice `idle`, or the lifeline's time is over.
///
/// Cut off, and when the gateway goes away, the client is told by a close frame.
pub(super) async fn splice(client: OnUpgrade, mut upstream: Upgraded, idle: Duration, mut lifeline: Lifeline) {
    let Ok(client) = client.await else { return };
    let moved = AtomicU64::new(0);
    let mut client = Counted {
        io: TokioIo::new(client),
        moved: &moved,
    };
    let copy = copy_bidirectional(&mut client, &mut upstream);
    let silent = async {
        let mut seen = None;
        loop {
            let now = moved.load(Ordering::Relaxed);
            if seen == Some(now) {
                return;
            }
            seen = Some(now);
            sleep(idle).await;
        }
    };
    let left = lifeline.left();
    let over = async {
        match left {
            Some(left) => sleep(left).await,
            None => std::future::pending().await,
        }
    };
    let leaving = lifeline.leaving();
    let why = tokio::select! {
        // However it ends, both sides are closed by being dropped.
        _ = copy => None,
        () = silent => None,
        () = over => None,
        () = lifeline.cut() => Some((POLICY, Duration::from_secs(2))),
        () = leaving.cancelled() => Some((GOING_AWAY, Duration::from_secs(5))),
    };
    if let Some((frame, patience)) = why {
        drop(upstream);
        // Whatever goes wrong, the connection is closed by being dropped.
        let _ = timeout(patience, say_why(frame, &mut client.io)).await;
    }
}

/// Close frames, which servers do not mask (RFC 6455 §5.5.1, §7.4.1): 1008, "policy violation".
const POLICY: [u8; 4] = [0x88, 0x02, 0x03, 0xF0];
/// 1001, "going away".
const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xE9];

/// Says that it is over, and listens until the client has closed, so that no reset overtakes the frame.
///
/// Where a message of the upstream is half through, the client takes these bytes for the next of its payload, and sees
/// the connection break off instead: following every frame of every message would be the price of the better word.
async fn say_why(frame: [u8; 4], client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    client.write_all(&frame).await?;
    client.shutdown().await?;
    let mut rest = [0; 1_024];
    while client.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Counts what moves on the client's side; everything moves there.
struct Counted<'a, I> {
    io: I,
    moved: &'a AtomicU64,
}

impl<I> Counted<'_, I> {
    fn count<T>(&self, polled: Poll<T>) -> Poll<T> {
        if polled.is_ready() {
            self.moved.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<'_, I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.count(polled)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<'_, I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.count(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
