//! What it costs to meet a client for the first time: whole handshakes of TLS 1.3, so many in a second.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, Stream,
    client::Resumption,
    crypto::{SupportedKxGroup, aws_lc_rs},
    version::TLS13,
};

use super::{
    Wanted,
    report::{Aim, Table, spread},
    scene::{Door, GATEWAY, Scene},
};

const ROUNDS: usize = 3;
const RATE: u32 = 200;
const SECONDS: u32 = 2;
/// So many may be under way at once.
const THREADS: u32 = 4;

const AIMS: [Aim; 4] = [
    Aim::Times(GATEWAY, "bare hyper", None),
    Aim::Times(GATEWAY, "nginx", None),
    Aim::Times(GATEWAY, "haproxy", None),
    Aim::Times(GATEWAY, "envoy", None),
];

/// The gateway with clients that want a key exchange that no quantum computer breaks, as browsers do.
const HYBRID: &str = "gateway, X25519MLKEM768";

/// # Errors
/// When a handshake fails.
pub(crate) fn measure(scene: &Scene, _: &Wanted) -> Result<Vec<Table>, String> {
    let usual = config(scene, aws_lc_rs::kx_group::X25519);
    let hybrid = config(scene, aws_lc_rs::kx_group::X25519MLKEM768);
    let mut costs = Table::of("processor time of a TLS handshake, µs", &AIMS);
    let mut shares = Table::of(
        format!("share of a processor with {RATE} handshakes in a second, %"),
        &[],
    );
    let mut times = Table::of("time of a handshake for the client, ms", &[]);
    for round in 1..=ROUNDS {
        eprintln!("handshakes, round {round}");
        for door in scene.tls_doors() {
            let mut add = |name: &str, config: &Arc<ClientConfig>| -> Result<(), String> {
                let seen = meet(&door, config).map_err(|complaint| format!("{name}: {complaint}"))?;
                costs.add(name, seen.cost);
                shares.add(name, seen.share);
                times.add(name, seen.time);
                Ok(())
            };
            add(door.name, &usual)?;
            if door.name == GATEWAY {
                add(HYBRID, &hybrid)?;
            }
        }
    }
    Ok(vec![costs, shares, times])
}

fn config(scene: &Scene, exchange: &'static dyn SupportedKxGroup) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(scene.certificate.clone()).unwrap();
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![exchange];
    let builder = ClientConfig::builder_with_provider(provider.into());
    let builder = builder.with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.into()
}

/// What was seen of many handshakes.
struct Seen {
    /// In microseconds of processor time for each.
    cost: f64,
    /// In percent of the time that all took.
    share: f64,
    /// In milliseconds, the median.
    time: f64,
}

fn meet(door: &Door<'_>, config: &Arc<ClientConfig>) -> Result<Seen, String> {
    handshake(door.address, config)?;
    let (start, before) = (Instant::now(), door.process.cpu());
    let times: Result<Vec<_>, String> = scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| scope.spawn(move || one_after_the_other(door.address, config, start, first)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let times: Vec<_> = times?.into_iter().flatten().collect();
    let (used, elapsed) = (door.process.cpu() - before, start.elapsed());
    Ok(Seen {
        cost: used.as_secs_f64() * 1e6 / times.len() as f64,
        share: used.as_secs_f64() / elapsed.as_secs_f64() * 100.0,
        time: spread(&times)[1],
    })
}

/// Every so many of the handshakes, each at its time; how many milliseconds they took from then on.
fn one_after_the_other(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    start: Instant,
    first: u32,
) -> Result<Vec<f64>, String> {
    let mut times = Vec::new();
    for number in (first..RATE * SECONDS).step_by(THREADS as usize) {
        let due = start + Duration::from_secs(1) * number / RATE;
        sleep(due.saturating_duration_since(Instant::now()));
        times.push((handshake(address, config)? - due).as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Shakes hands and says farewell; when hands were shaken.
fn handshake(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Instant, String> {
    let failed = |error: std::io::Error| format!("a handshake failed: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let name = address.ip().into();
    let mut connection = ClientConnection::new(config.clone(), name).map_err(|error| error.to_string())?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(failed)?;
    }
    let done = Instant::now();
    connection.send_close_notify();
    let mut stream = Stream::new(&mut connection, &mut stream);
    stream.flush().map_err(failed)?;
    // The other end answers, or closes at once.
    let _ = stream.read(&mut [0; 64]);
    Ok(done)
}
