//! `vestibule doctor`: whether what is around the gateway fits the file, found out by asking it.

mod upstream;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;
use serde_json::json;
use tokio::runtime::Builder;

use super::{ConfigFile, No, admin::harmless_words, check};
use crate::{
    config::{self, Settings},
    gateway::settings::redirect_endpoint,
    provider::{
        Providers,
        checkup::{Grade, Note},
    },
    telemetry::Metrics,
    time::{Clock, SystemClock, Timestamp},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// Somebody whose headers are measured: a JSON file with the claims that the provider would send. The people of
    /// the `[[test]]` tables are measured as well.
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
    /// Ask the providers only.
    #[arg(long, conflicts_with = "skip_providers")]
    skip_upstreams: bool,
    /// Ask the applications only.
    #[arg(long)]
    skip_providers: bool,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// What was found about one thing.
#[derive(Debug)]
struct Chart {
    name: String,
    notes: Vec<Note>,
}

pub(super) fn doctor(options: &Options) -> Result<(), No> {
    let now = SystemClock.now();
    let settings = config::load(&options.file.config, now)?;
    let person = options.claims.as_deref().map(upstream::person).transpose()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let charts = runtime.block_on(async {
        let mut charts = Vec::new();
        if !options.skip_providers {
            charts.extend(providers(&settings, now).await);
        }
        if !options.skip_upstreams {
            charts.extend(upstream::charts(&settings, person, now).await);
        }
        charts
    });
    let text = match options.json {
        true => format!("{:#}\n", as_json(&charts)),
        false => in_words(&charts),
    };
    write!(io::stdout(), "{text}")?;
    let notes = charts.iter().flat_map(|chart| &chart.notes);
    match notes.filter(|note| note.grade == Grade::Wrong).count() {
        0 => Ok(()),
        wrong => Err(No::Refused(format!("{wrong} wrong"))),
    }
}

async fn providers(settings: &Settings, now: Timestamp) -> Vec<Chart> {
    let providers = match Providers::new(settings.providers.clone(), &Arc::new(Metrics::default()), None) {
        Ok(providers) => providers,
        Err(error) => {
            return vec![Chart {
                name: "providers".into(),
                notes: vec![Note::wrong(format!("TLS cannot be set up: {error}"))],
            }];
        }
    };
    let mut charts = Vec::new();
    let count = settings.providers.len();
    for provider in providers.iter() {
        // Nobody can say beforehand which hosts a star stands for.
        let places = check::places(settings, provider.id());
        let redirect_uris: Vec<String> = places
            .iter()
            .filter(|place| !place.contains('*'))
            .map(|place| format!("{place}/{}", redirect_endpoint(provider.id(), count)))
            .collect();
        charts.push(Chart {
            name: format!("provider {}", provider.id()),
            notes: provider.checkup(&redirect_uris, now).await,
        });
    }
    charts
}

fn word(grade: Grade) -> &'static str {
    match grade {
        Grade::Fine => "ok",
        Grade::Doubtful => "look",
        Grade::Wrong => "wrong",
    }
}

fn in_words(charts: &[Chart]) -> String {
    let mut text = String::new();
    for chart in charts {
        let _ = writeln!(text, "{}", chart.name);
        for note in &chart.notes {
            let _ = writeln!(text, "  {:<5}  {}", word(note.grade), harmless_words(&note.text));
        }
    }
    text
}

fn as_json(charts: &[Chart]) -> serde_json::Value {
    let note = |note: &Note| json!({ "grade": word(note.grade), "text": note.text });
    let chart =
        |chart: &Chart| json!({ "about": chart.name, "notes": chart.notes.iter().map(note).collect::<Vec<_>>() });
    charts.iter().map(chart).collect()
}
