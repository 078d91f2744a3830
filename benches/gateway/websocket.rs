//! What a message over a WebSocket costs that comes back.

use std::{
    thread::scope,
    time::{Duration, Instant},
};

use super::{
    Wanted,
    application::{FROM_CLIENT, FROM_SERVER, MESSAGE},
    client::Client,
    report::{Aim, Table},
    scene::{Door, GATEWAY, Scene},
};

const ROUNDS: usize = 3;
const CONNECTIONS: usize = 8;
const LASTS: Duration = Duration::from_millis(1_500);

/// The example of RFC 6455, section 1.3.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const AIMS: [Aim; 4] = [
    Aim::Times(GATEWAY, "bare hyper", Some(1.1)),
    Aim::Times(GATEWAY, "nginx", None),
    Aim::Times(GATEWAY, "haproxy", None),
    Aim::Times(GATEWAY, "envoy", None),
];

/// # Errors
/// When a WebSocket is not opened, or a message does not come back as it should.
pub(crate) fn measure(scene: &Scene, _: &Wanted) -> Result<Vec<Table>, String> {
    let mut table = Table::of(
        format!("processor time of a WebSocket message of {MESSAGE} bytes and its echo, µs"),
        &AIMS,
    );
    for round in 1..=ROUNDS {
        eprintln!("websocket, round {round}");
        for door in scene.doors() {
            let cost = cost(&door).map_err(|complaint| format!("{}: {complaint}", door.name))?;
            table.add(door.name, cost);
        }
    }
    Ok(vec![table])
}

fn cost(door: &Door<'_>) -> Result<f64, String> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(open(door)?);
    }
    door.process.cost(|| {
        let end = Instant::now() + LASTS;
        scope(|scope| {
            let talks: Vec<_> = clients
                .into_iter()
                .map(|client| scope.spawn(move || talk(client, end)))
                .collect();
            talks.into_iter().map(|talk| talk.join().unwrap()).sum()
        })
    })
}

fn open(door: &Door<'_>) -> Result<Client, String> {
    let mut client = Client::connect(door.address)?;
    let lines = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
    );
    client.begin("GET", "/large/live", &lines)?;
    client.head("101")?;
    Ok(client)
}

/// Says something, waits for the echo, and so on; counts the messages.
fn talk(mut client: Client, end: Instant) -> Result<u64, String> {
    let mut says = [0x2a; FROM_CLIENT];
    // A binary message that is whole, its length in two bytes, and a mask that changes nothing.
    says[..8].copy_from_slice(&[0x82, 0xfe, 0, MESSAGE as u8, 0, 0, 0, 0]);
    let mut expected = [0x2a; FROM_SERVER];
    expected[..4].copy_from_slice(&[0x82, 0x7e, 0, MESSAGE as u8]);
    let mut count = 0;
    while Instant::now() < end {
        client.send(&says)?;
        let mut heard = [0; FROM_SERVER];
        client.receive_exactly(&mut heard)?;
        if heard != expected {
            return Err("the echo is another message".to_owned());
        }
        count += 1;
    }
    Ok(count)
}
