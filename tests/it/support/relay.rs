//! A wire between two programs that can be cut, stretched and swallowed by the ground.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nothing arrives any more, and nobody says so.
    BlackHole,
    /// Everything arrives, so much later.
    Late(Duration),
    /// Every connection is reset, the new ones too.
    Reset,
}

/// Passes bytes between whoever connects and one server.
pub struct Relay {
    pub port: u16,
    fault: watch::Sender<Fault>,
}

impl Relay {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let fault = watch::Sender::new(Fault::None);
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        tokio::spawn(accept(listener, target, fault.subscribe()));
        Self { port: own, fault }
    }

    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

/// Ends with the relay, whose end it sees as a closed channel.
async fn accept(listener: TcpListener, target: SocketAddr, mut fault: watch::Receiver<Fault>) {
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            changed = fault.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok(server) = TcpStream::connect(target).await else {
            continue;
        };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        // A connection that is dropped is reset, not closed politely.
        client.set_zero_linger().unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (there, back) = (fault.clone(), fault.clone());
        tokio::spawn(async move {
            // When one direction is over, so is the other.
            tokio::select! {
                () = pump(from_client, to_server, there) => {}
                () = pump(from_server, to_client, back) => {}
            }
        });
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut fault: watch::Receiver<Fault>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = fault.wait_for(|fault| *fault == Fault::Reset) => return,
        };
        let Ok(length @ 1..) = read else { return };
        // What was sent into a hole is sent again when the hole is gone, as TCP does.
        let fault = fault.wait_for(|fault| *fault != Fault::BlackHole).await.map(|it| *it);
        match fault {
            Ok(Fault::Late(delay)) => tokio::time::sleep(delay).await,
            Ok(Fault::None) => {}
            Ok(Fault::Reset | Fault::BlackHole) | Err(_) => return,
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
