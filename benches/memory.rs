//! What sessions take in the memory of the gateway: `cargo bench --bench memory`. Needs Linux.
//!
//! Each measurement has a process of its own, with the allocator of the gateway, that begins sessions as a login does and
//! looks at how much more of it is resident then. See `docs/sessions.md`.

#[path = "shared/login.rs"]
mod login;

use std::{
    fs,
    path::Path,
    pin::pin,
    process::{Command, ExitCode},
    task::{Context, Poll, Waker},
};

use vestibule::{
    config::{self, Settings, Surroundings},
    identity::Issuer,
    policy::{Origin, Scheme},
    session::{Session, Sessions, StoreSettings, Whose},
    time::{Clock, SystemClock, Timestamp},
};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MEBIBYTE: u64 = 1024 * 1024;
const COUNT: usize = 100_000;
/// Bytes of claims and tokens.
const SIZES: [usize; 3] = [1_024, 2_253, 8_192];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--live", bytes] => live(bytes.parse().unwrap()),
        ["--full", bytes, mebibytes] => full(bytes.parse().unwrap(), mebibytes.parse().unwrap()),
        // Whoever tests the benches wants to know that they build.
        _ if !arguments.iter().any(|argument| argument == "--bench") => {}
        _ => return all(),
    }
    ExitCode::SUCCESS
}

fn all() -> ExitCode {
    let sizes = SIZES.map(|bytes| bytes.to_string());
    let live = sizes.iter().map(|bytes| vec!["--live", bytes]);
    let full = sizes
        .iter()
        .flat_map(|bytes| ["16", "128"].map(|room| vec!["--full", bytes, room]));
    for arguments in live.chain(full) {
        let program = std::env::current_exe().unwrap();
        let status = Command::new(program).args(&arguments).status().unwrap();
        if !status.success() {
            eprintln!("\nNOT MEASURED: {arguments:?}\n");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// A hundred thousand sessions that all live.
fn live(bytes: usize) {
    let house = House::with_room(u64::MAX);
    let before = resident();
    (1..=COUNT).for_each(|person| house.begin(person, bytes));
    let taken = resident() - before;
    println!(
        "{bytes} bytes of claims and tokens: {} bytes for each of {COUNT} sessions",
        taken / COUNT as u64
    );
    assert_eq!(house.alive(), COUNT);
    let issuer = Issuer::new(login::ISSUER);
    let ended = house.sessions.end_of(&issuer, Whose::Everybody, now(), now());
    assert_eq!(house.runtime.block_on(ended).unwrap(), COUNT);
    assert_eq!(house.alive(), 0);
}

/// More sessions than fit.
fn full(bytes: usize, mebibytes: u64) {
    let room = mebibytes * MEBIBYTE;
    let house = House::with_room(room);
    let before = resident();
    let enough = usize::try_from(room).unwrap() / bytes;
    (1..=enough).for_each(|person| house.begin(person, bytes));
    let taken = resident() - before;
    let alive = house.alive();
    assert!((1..enough).contains(&alive), "{alive} of {enough} live");
    println!(
        "max_bytes = \"{mebibytes}MiB\", {bytes} bytes of claims and tokens: {:.1} MiB taken, {alive} of {enough} live",
        taken as f64 / MEBIBYTE as f64
    );
}

struct House {
    runtime: tokio::runtime::Runtime,
    sessions: Sessions,
    origin: Origin,
}

impl House {
    fn with_room(max_bytes: u64) -> Self {
        let mut settings = settings().session;
        settings.store = StoreSettings::Memory { max_bytes };
        let house = Self {
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            sessions: Sessions::new(settings).unwrap(),
            origin: Origin {
                scheme: Scheme::Https,
                host: "wiki.example.com".into(),
                port: None,
            },
        };
        // What is made once is not a session's.
        house.begin(0, SIZES[0]);
        let first = house.runtime.block_on(house.sessions.listed(1)).unwrap();
        assert!(house.runtime.block_on(house.sessions.end_id(&first.0[0].0)).unwrap());
        house
    }

    fn begin(&self, person: usize, bytes: usize) {
        let session = Session::begin(login::login(person, bytes, now()), now());
        let jar = self.sessions.jar(&self.origin, &[]);
        at_once(self.sessions.begin(&session, &jar, &self.origin, now())).unwrap();
    }

    fn alive(&self) -> usize {
        self.runtime.block_on(self.sessions.listed(usize::MAX)).unwrap().0.len()
    }
}

fn settings() -> Settings {
    let text = r#"
version = 1
[provider.corp]
issuer = "http://127.0.0.1:9"
client_id = "wiki"
client_secret = "wiki"
[route.wiki]
url = "https://wiki.example.com/"
upstream = "http://127.0.0.1:9"
"#;
    let surroundings = Surroundings {
        directory: Path::new(""),
        variable: |_| None,
    };
    config::parse(text, "memory.toml", surroundings, now()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn now() -> Timestamp {
    SystemClock.now()
}

/// What a store in memory answers without waiting.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waited"),
    }
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this needs Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes * 1_024
}
