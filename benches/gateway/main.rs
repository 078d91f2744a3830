//! What a request costs, beside nginx: `cargo bench --bench gateway`.
//!
//! Counts the processor time of the process under test, for machines are shared and throughput is not stable. All
//! workloads take turns, and of each the median of its rounds counts. See `docs/performance.md`.

mod load;
mod process;
mod scene;

use std::process::ExitCode;

use scene::Scene;

const ROUNDS: usize = 5;
const SECONDS: u32 = 3;

/// The aims: a workload, what it is compared to, and how often its cost it may be.
const AIMS: [(&str, &str, f64); 4] = [
    ("public", "nginx", 1.25),
    ("jwt", "public", 1.2),
    ("opaque", "public", 1.2),
    ("cookie", "public", 1.3),
];

fn main() -> ExitCode {
    // Whoever tests the benches wants to know that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match process::all_installed().and_then(|()| measure(&Scene::open())) {
        Ok(workloads) => {
            report(&workloads);
            ExitCode::SUCCESS
        }
        Err(complaint) => {
            eprintln!("\nNOT MEASURED: {complaint}\n");
            ExitCode::FAILURE
        }
    }
}

/// A kind of request, and what it took in each round.
struct Workload {
    name: &'static str,
    rounds: Vec<Cost>,
}

#[derive(Clone, Copy)]
struct Cost {
    microseconds: f64,
    requests_per_second: f64,
}

fn measure(scene: &Scene) -> Result<Vec<Workload>, String> {
    let names = Scene::WORKLOADS.iter();
    let mut workloads: Vec<_> = names
        .map(|name| Workload {
            name,
            rounds: Vec::new(),
        })
        .collect();
    println!("processor time of a request in µs, {ROUNDS} rounds of {SECONDS} s each");
    for round in 1..=ROUNDS {
        for workload in &mut workloads {
            let cost = cost_of(workload.name, scene);
            workload
                .rounds
                .push(cost.map_err(|complaint| format!("{}: {complaint}", workload.name))?);
        }
        let costs = workloads
            .iter()
            .filter_map(|workload| workload.rounds.last().map(|cost| (workload.name, cost)));
        let costs: Vec<_> = costs
            .map(|(name, cost)| format!("{name} {:.1}", cost.microseconds))
            .collect();
        println!("round {round}: {}", costs.join(", "));
    }
    Ok(workloads)
}

/// Of one round; the first requests, which fill caches and open connections, are not counted.
fn cost_of(workload: &str, scene: &Scene) -> Result<Cost, String> {
    let (process, request) = scene.workload(workload)?;
    request.load(1)?;
    let before = process.cpu();
    let count = request.load(SECONDS)?;
    let spent = process.cpu() - before;
    Ok(Cost {
        microseconds: spent.as_secs_f64() * 1e6 / count as f64,
        requests_per_second: count as f64 / f64::from(SECONDS),
    })
}

fn report(workloads: &[Workload]) {
    println!(
        "\n{:<22} {:>8} {:>8} {:>8} {:>12}",
        "workload", "µs", "least", "most", "requests/s"
    );
    for workload in workloads {
        let costs = sorted(workload, |cost| cost.microseconds);
        let speeds = sorted(workload, |cost| cost.requests_per_second);
        let (least, most) = (costs[0], costs[costs.len() - 1]);
        let (cost, speed) = (median(&costs), median(&speeds));
        println!(
            "{:<22} {cost:>8.1} {least:>8.1} {most:>8.1} {speed:>12.0}",
            workload.name
        );
    }
    let cost = |name: &str| {
        let workload = workloads.iter().find(|workload| workload.name == name).unwrap();
        median(&sorted(workload, |cost| cost.microseconds))
    };
    println!("\n{:<22} {:>8} {:>8}", "ratio", "is", "aim");
    for (name, to, aim) in AIMS {
        let ratio = cost(name) / cost(to);
        let verdict = if ratio <= aim { "" } else { "  over the aim" };
        println!("{:<22} {ratio:>8.2} {aim:>8.2}{verdict}", format!("{name} / {to}"));
    }
}

fn sorted(workload: &Workload, what: impl Fn(&Cost) -> f64) -> Vec<f64> {
    let mut values: Vec<_> = workload.rounds.iter().map(what).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
