//! How soon a program that is started answers, and what it takes in memory then.

use std::{
    net::SocketAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Wanted,
    client::Client,
    report::{Aim, Table},
    scene::{GATEWAY, Scene},
};

const ROUNDS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(10);
/// What is done after the start in any case is done by then.
const SETTLED: Duration = Duration::from_millis(300);

/// # Errors
/// When somebody does not answer for a long time.
pub(crate) fn measure(scene: &Scene, _: &Wanted) -> Result<Vec<Table>, String> {
    let mut times = Table::of(
        "from the start of the process to the first 200, ms",
        &[Aim::AtMost(GATEWAY, 50.0)],
    );
    let mut memory = Table::of("memory once it is idle, MiB", &[Aim::AtMost(GATEWAY, 15.0)]);
    for round in 1..=ROUNDS {
        eprintln!("start, round {round}");
        for kind in scene.kinds() {
            let start = Instant::now();
            let (process, address) = scene.start(kind);
            let time = first_answer(address, start).map_err(|complaint| format!("{}: {complaint}", kind.name()))?;
            times.add(kind.name(), time.as_secs_f64() * 1e3);
            sleep(SETTLED);
            memory.add(kind.name(), process.memory() / 1_024.0 / 1_024.0);
        }
    }
    Ok(vec![times, memory])
}

/// Asks over and over; how long it took since then.
fn first_answer(address: SocketAddr, start: Instant) -> Result<Duration, String> {
    loop {
        let answer = Client::connect(address).and_then(|mut client| client.get("/public"));
        match answer {
            Ok(()) => return Ok(start.elapsed()),
            Err(complaint) if start.elapsed() > PATIENCE => return Err(complaint),
            Err(_) => {}
        }
    }
}
