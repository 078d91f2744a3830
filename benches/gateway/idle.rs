//! What a connection takes in memory whose client may come back.

use std::{net::SocketAddr, thread::scope};

use super::{
    Wanted,
    client::Client,
    process::{most_files, wait_for},
    report::{Aim, Table},
    scene::{GATEWAY, Scene},
};

const CONNECTIONS: usize = 10_000;
/// So many are opened, and asked over, at once.
const AT_ONCE: usize = 10;
/// Files that a program has open besides.
const OTHER_FILES: usize = 200;

const AIMS: [Aim; 1] = [Aim::AtMost(GATEWAY, 16.0)];

/// # Errors
/// When a request is not answered.
pub(crate) fn measure(scene: &Scene, _: &Wanted) -> Result<Vec<Table>, String> {
    let allowed = usize::try_from(most_files())
        .unwrap_or(usize::MAX)
        .saturating_sub(OTHER_FILES);
    let count = CONNECTIONS.min(allowed);
    if count < CONNECTIONS {
        eprintln!(
            "\nLEFT OUT: more than {count} idle connections; a process may not have more files open (`ulimit -Hn`)\n"
        );
    }
    let mut table = Table::of(format!("memory of each of {count} idle connections, KiB"), &AIMS);
    for kind in scene.kinds() {
        eprintln!("idle, {}", kind.name());
        // One that has not served others, for memory that was given back may not be the system's again.
        let (process, address) = scene.start(kind);
        wait_for(address);
        open(address, AT_ONCE)?;
        let before = process.memory();
        let connections = open(address, count)?;
        let more = process.memory() - before;
        table.add(kind.name(), more / connections.len() as f64 / 1_024.0);
    }
    Ok(vec![table])
}

/// Connections that each had one request answered.
fn open(address: SocketAddr, count: usize) -> Result<Vec<Client>, String> {
    let some = || -> Result<Vec<Client>, String> {
        let clients = (0..count / AT_ONCE).map(|_| {
            let mut client = Client::connect(address)?;
            client.get("/public")?;
            Ok(client)
        });
        clients.collect()
    };
    let all: Result<Vec<_>, _> = scope(|scope| {
        let threads = std::array::from_fn::<_, AT_ONCE, _>(|_| scope.spawn(some));
        threads.map(|thread| thread.join().unwrap()).into_iter().collect()
    });
    all.map(|clients| clients.into_iter().flatten().collect())
}
