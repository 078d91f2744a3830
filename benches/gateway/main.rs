//! What the gateway costs, beside other proxies: `cargo bench --bench gateway`, or some of it: `… -- nginx public idle`.
//!
//! Counts the processor time of the process under test, for machines are shared and throughput is not stable. Those
//! that are compared take turns, and the median of the rounds counts. See `docs/performance.md`.

mod anchors;
mod application;
mod bare_hyper;
mod bodies;
mod client;
mod gateways;
mod handshakes;
mod idle;
mod load;
mod process;
mod provider;
#[path = "../shared/redis.rs"]
mod redis;
mod reload;
mod report;
mod requests;
mod scene;
mod start;
mod websocket;

use std::process::ExitCode;

use report::Table;
use scene::Scene;

/// As in the gateway, for the floor to be measured by.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Measure = fn(&Scene, &Wanted) -> Result<Vec<Table>, String>;

/// What is measured, and by whom.
const KINDS: [(&str, Measure); 7] = [
    ("requests", requests::measure),
    ("bodies", bodies::measure),
    ("websocket", websocket::measure),
    ("idle", idle::measure),
    ("handshakes", handshakes::measure),
    ("start", start::measure),
    ("reload", |_, _| reload::measure().map(|()| Vec::new())),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((word, rest)) if word == bare_hyper::WORD => bare_hyper::run(rest),
        Some((word, rest)) if word == application::WORD => application::run(rest),
        // Whoever tests the benches wants to know that they build.
        _ if !arguments.iter().any(|argument| argument == "--bench") => {}
        _ => return bench(arguments),
    }
    ExitCode::SUCCESS
}

fn bench(arguments: Vec<String>) -> ExitCode {
    let names = arguments.into_iter().filter(|argument| !argument.starts_with('-'));
    let complaints = measure(&Wanted(names.collect())).unwrap_or_else(|complaint| vec![complaint]);
    for complaint in &complaints {
        eprintln!("\nNOT MEASURED: {complaint}\n");
    }
    if complaints.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Why what could not be measured was not; the rest is.
///
/// # Errors
/// When nothing can be.
fn measure(wanted: &Wanted) -> Result<Vec<String>, String> {
    wanted.is_known()?;
    process::all_installed()?;
    process::make_room()?;
    let scene = Scene::open()?;
    let mut complaints = Vec::new();
    for (kind, measure) in KINDS.into_iter().filter(|(kind, _)| wanted.has_any_of(kind)) {
        match measure(&scene, wanted) {
            Ok(tables) => tables.iter().for_each(|table| println!("{table}")),
            Err(complaint) => complaints.push(format!("{kind}: {complaint}")),
        }
    }
    Ok(complaints)
}

/// What is named on the command line: kinds of measurements, and single requests; all where nothing is.
pub(crate) struct Wanted(Vec<String>);

impl Wanted {
    fn is_known(&self) -> Result<(), String> {
        let kinds = KINDS.into_iter().map(|(kind, _)| kind);
        let known: Vec<_> = kinds.chain(requests::names()).collect();
        match self.0.iter().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(format!("there is no `{name}`; there are: {}", known.join("; "))),
        }
    }

    fn has_any_of(&self, kind: &str) -> bool {
        let is_request = |name: &String| requests::names().any(|request| request == name);
        self.0.is_empty() || self.names(kind) || kind == "requests" && self.0.iter().any(is_request)
    }

    /// Whether one of a kind is to be measured.
    pub(crate) fn is_wanted(&self, kind: &str, name: &str) -> bool {
        self.0.is_empty() || self.names(kind) || self.names(name)
    }

    fn names(&self, name: &str) -> bool {
        self.0.iter().any(|wanted| wanted == name)
    }
}
