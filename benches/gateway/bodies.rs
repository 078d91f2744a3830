//! Large bodies, in both directions: what a MiB costs, and what is kept in memory of one whose other end is slow.

use std::{
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use super::{
    Wanted,
    application::{BODY, MIB, SLOW},
    client::Client,
    report::{Aim, Table},
    scene::{Door, GATEWAY, Scene},
};

const ROUNDS: usize = 3;
/// Bodies one after the other in each round.
const BODIES: u64 = 8;
/// Bodies at once whose other end is slow, and how long they are looked at.
const STREAMS: usize = 20;
const LOOKED_AT: Duration = Duration::from_secs(2);

const COST: [Aim; 4] = [
    Aim::Times(GATEWAY, "bare hyper", Some(1.2)),
    Aim::Times(GATEWAY, "nginx", None),
    Aim::Times(GATEWAY, "haproxy", None),
    Aim::Times(GATEWAY, "envoy", None),
];
/// Of a stream, in KiB.
const MEMORY: [Aim; 1] = [Aim::AtMost(GATEWAY, 1_024.0)];

/// # Errors
/// When a body does not arrive.
pub(crate) fn measure(scene: &Scene, _: &Wanted) -> Result<Vec<Table>, String> {
    let doors = scene.doors();
    let mut down = Table::of("processor time of a MiB down, µs", &COST);
    let mut up = Table::of("processor time of a MiB up, µs", &COST);
    for round in 1..=ROUNDS {
        eprintln!("bodies, round {round}");
        for door in &doors {
            down.add(door.name, cost(door, load)?);
            up.add(door.name, cost(door, send)?);
        }
    }
    let title = |direction| format!("memory at its peak for each of {STREAMS} slow bodies {direction}, KiB");
    let mut slow_down = Table::of(title("down"), &MEMORY);
    let mut slow_up = Table::of(title("up"), &MEMORY);
    for door in &doors {
        eprintln!("slow bodies, {}", door.name);
        slow_down.add(door.name, memory(door, load_slowly)?);
        slow_up.add(door.name, memory(door, send_to_slow)?);
    }
    Ok(vec![down, up, slow_down, slow_up])
}

fn cost(door: &Door<'_>, once: fn(&mut Client) -> Result<(), String>) -> Result<f64, String> {
    let named = |complaint| format!("{}: {complaint}", door.name);
    let mut client = Client::connect(door.address)?;
    once(&mut client).map_err(named)?;
    let all = || {
        (0..BODIES).try_for_each(|_| once(&mut client))?;
        Ok(BODIES * BODY / MIB)
    };
    door.process.cost(all).map_err(named)
}

fn load(client: &mut Client) -> Result<(), String> {
    let length = client.ask("GET", "/large/down", "")?;
    assert_eq!(length, BODY);
    client.skip(length)
}

fn send(client: &mut Client) -> Result<(), String> {
    begin(client, "/large/up")?;
    let piece = vec![0; 64 * 1_024];
    (0..BODY / piece.len() as u64).try_for_each(|_| client.send(&piece))?;
    client.head("200").map(drop)
}

fn begin(client: &mut Client, path: &str) -> Result<(), String> {
    client.begin("POST", path, &format!("Content-Length: {BODY}\r\n"))
}

/// How much more memory it takes at the peak, for each body that is under way.
fn memory(door: &Door<'_>, slowly: fn(&mut Client, Instant) -> Result<(), String>) -> Result<f64, String> {
    let before = door.process.memory();
    door.process.forget_peak();
    let end = Instant::now() + LOOKED_AT;
    scope(|scope| {
        let streams =
            std::array::from_fn::<_, STREAMS, _>(|_| scope.spawn(|| slowly(&mut Client::connect(door.address)?, end)));
        let results = streams.map(|stream| stream.join().unwrap());
        results.into_iter().collect::<Result<(), _>>()
    })
    .map_err(|complaint| format!("{}: {complaint}", door.name))?;
    Ok((door.process.peak() - before) / STREAMS as f64 / 1_024.0)
}

/// Reads for a while, and not as fast as the application sends.
fn load_slowly(client: &mut Client, end: Instant) -> Result<(), String> {
    client.ask("GET", "/large/down", "")?;
    while Instant::now() < end {
        let piece = SLOW / 20;
        client.skip(piece)?;
        sleep(Duration::from_secs_f64(piece as f64 / SLOW as f64));
    }
    Ok(())
}

/// Sends as fast as it can, for a while, what the application does not read as fast.
fn send_to_slow(client: &mut Client, end: Instant) -> Result<(), String> {
    begin(client, "/large/up/slowly")?;
    client.send_until(end)
}
