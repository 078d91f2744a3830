//! What a request costs, beside nginx: `cargo bench --bench gateway`, or of some kinds only: `… -- nginx public`.
//!
//! Counts the processor time of the process under test, for machines are shared and throughput is not stable. The
//! workloads take turns, and the median of the rounds counts. See `docs/performance.md`.

mod load;
mod process;
#[path = "../shared/redis.rs"]
mod redis;
mod reload;
mod scene;

use std::process::ExitCode;

use scene::Scene;

const ROUNDS: usize = 5;
const SECONDS: u32 = 3;

/// A workload, what it is compared to, and how many times that it may cost where there is an aim.
const RATIOS: [(&str, &str, Option<f64>); 9] = [
    ("public", "nginx", Some(1.25)),
    ("jwt", "public", Some(1.2)),
    ("opaque", "public", Some(1.2)),
    ("cookie", "public", Some(1.3)),
    ("cookie, 1 KiB", "public", None),
    ("cookie, 3 KiB", "public", None),
    ("cookie, 8 KiB", "public", None),
    ("redis", "public", None),
    ("redis, read each time", "public", None),
];

fn main() -> ExitCode {
    // Whoever tests the benches wants to know that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    if std::env::args().any(|argument| argument == "reload") {
        return match process::all_installed().and_then(|()| reload::measure()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(complaint) => not_measured(&complaint),
        };
    }
    match process::all_installed().and_then(|()| measure_all()) {
        Ok(workloads) => {
            report(&workloads);
            ExitCode::SUCCESS
        }
        Err(complaint) => not_measured(&complaint),
    }
}

fn not_measured(complaint: &str) -> ExitCode {
    eprintln!("\nNOT MEASURED: {complaint}\n");
    ExitCode::FAILURE
}

/// A kind of request, and what one took in each round.
struct Workload {
    name: &'static str,
    microseconds: Vec<f64>,
    requests_per_second: Vec<f64>,
}

/// Those that are named on the command line, or all.
fn wanted(scene: &Scene) -> Vec<Workload> {
    let names: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let is_wanted = |name: &&str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    scene
        .workloads()
        .into_iter()
        .filter(is_wanted)
        .map(Workload::new)
        .collect()
}

fn measure_all() -> Result<Vec<Workload>, String> {
    let scene = Scene::open()?;
    let workloads = wanted(&scene);
    measure(&scene, workloads)
}

fn measure(scene: &Scene, mut workloads: Vec<Workload>) -> Result<Vec<Workload>, String> {
    println!("processor time of a request in µs, {ROUNDS} rounds of {SECONDS} s each");
    for round in 1..=ROUNDS {
        print!("round {round}:");
        for workload in &mut workloads {
            let name = workload.name;
            let cost = workload
                .measure(scene)
                .map_err(|complaint| format!("{name}: {complaint}"))?;
            print!("  {name} {cost:.1}");
        }
        println!();
    }
    Ok(workloads)
}

impl Workload {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            microseconds: Vec::new(),
            requests_per_second: Vec::new(),
        }
    }

    /// One round; the first requests, which fill caches and open connections, are not counted.
    fn measure(&mut self, scene: &Scene) -> Result<f64, String> {
        let (process, request) = scene.workload(self.name)?;
        request.load(1)?;
        let before = process.cpu();
        let count = request.load(SECONDS)? as f64;
        let cost = (process.cpu() - before).as_secs_f64() * 1e6 / count;
        self.microseconds.push(cost);
        self.requests_per_second.push(count / f64::from(SECONDS));
        Ok(cost)
    }

    /// How many times as much as the other it costs, round by round.
    fn ratios_to(&self, other: &Self) -> Vec<f64> {
        self.microseconds
            .iter()
            .zip(&other.microseconds)
            .map(|(ours, theirs)| ours / theirs)
            .collect()
    }
}

fn report(workloads: &[Workload]) {
    println!(
        "\n{:<30} {:>8} {:>8} {:>8} {:>12}",
        "workload", "µs", "least", "most", "requests/s"
    );
    for workload in workloads {
        let [least, cost, most] = spread(&workload.microseconds);
        let [_, speed, _] = spread(&workload.requests_per_second);
        println!(
            "{:<30} {cost:>8.1} {least:>8.1} {most:>8.1} {speed:>12.0}",
            workload.name
        );
    }
    println!(
        "\n{:<30} {:>8} {:>8} {:>8} {:>12}",
        "ratio", "is", "least", "most", "aim"
    );
    let named = |name: &str| workloads.iter().find(|workload| workload.name == name);
    for (name, to, aim) in RATIOS {
        let (Some(ours), Some(theirs)) = (named(name), named(to)) else {
            continue;
        };
        let [least, ratio, most] = spread(&ours.ratios_to(theirs));
        let verdict = aim.map_or(String::new(), |aim| {
            let verdict = if ratio <= aim { "" } else { "  missed" };
            format!("{aim:>12.2}{verdict}")
        });
        let what = format!("{name} / {to}");
        println!("{what:<30} {ratio:>8.2} {least:>8.2} {most:>8.2} {verdict}");
    }
}

/// The least, the median and the most.
fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]]
}
