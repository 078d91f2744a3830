//! WebSockets: after the upstream's 101, bytes in both directions (RFC 6455).

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    time::sleep,
};

use super::Timeouts;

/// Joins the two sides until one closes, nothing moves for `idle` to twice `idle`, or `stream` is over.
pub(super) async fn splice(client: OnUpgrade, upstream: OnUpgrade, timeouts: Timeouts) {
    let Ok(upstream) = upstream.await else { return };
    let Ok(client) = client.await else { return };
    let moved = AtomicU64::new(0);
    let mut client = Counted {
        io: TokioIo::new(client),
        moved: &moved,
    };
    let mut upstream = TokioIo::new(upstream);
    let copy = copy_bidirectional(&mut client, &mut upstream);
    let idle = async {
        let mut seen = None;
        loop {
            let now = moved.load(Ordering::Relaxed);
            if seen == Some(now) {
                return;
            }
            seen = Some(now);
            sleep(timeouts.idle).await;
        }
    };
    let over = async {
        match timeouts.stream {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // However it ends, both sides are closed by being dropped.
        _ = copy => {}
        () = idle => {}
        () = over => {}
    }
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
