//! What an application is told: `[route.NAME.identity]`, and the presets of well-known applications.

use std::sync::LazyLock;

use http::HeaderName;
use toml::de::DeTable;

use super::{
    file,
    load::{Load, Table},
    read::{self, At, Field, FromText, Wrong, wrong},
    report::Findings,
    shape::Named,
    value::Name,
    vocabulary::nearest,
    vouching::{self, Keys},
};
use crate::{
    identity::ClaimPath,
    upstream::{
        headers::{Form, IdentityHeader, Lists, MAX_VALUE_BYTES, Piece, Source, Template, folded},
        vouch::Vouching,
    },
};

/// The headers of a route, and what else is taken out of requests for its sake.
pub(super) struct Told {
    pub(super) headers: Vec<IdentityHeader>,
    pub(super) strip: Vec<HeaderName>,
    pub(super) vouching: Vouching,
}

pub(super) fn told(route: &Table, field: Field<file::Identity>, load: &mut Load<'_>) -> Told {
    let Some(table) = field.into_value() else {
        return Told {
            headers: default_headers(),
            strip: Vec::new(),
            vouching: Vouching::default(),
        };
    };
    let preset = table.preset.into_value().map(|Preset(preset)| preset);
    let lists = table.groups_delimiter.into_value();
    let lists = lists.or_else(|| preset.and_then(|preset| preset.delimiter.clone()));
    let form = Form {
        lists: lists.unwrap_or_default(),
        encoding: table.encoding.or_default(),
        groups: table
            .groups_filter
            .into_value()
            .map_or_else(Vec::new, |list| list.values().collect()),
        max_bytes: table
            .max_value_bytes
            .value()
            .map_or(MAX_VALUE_BYTES, |size| size.to_usize()),
    };
    let own = match &table.headers {
        Field::Given(given) => named(&given.value.0, load),
        Field::Absent if preset.is_none() => default_templates(),
        Field::Absent | Field::Wrong => Vec::new(),
    };
    let of_preset = preset.map_or(&[][..], |preset| &preset.headers);
    let kept = of_preset
        .iter()
        .filter(|(name, _)| own.iter().all(|(other, _)| !same(name, other)));
    let all = kept.chain(&own).map(|(name, template)| IdentityHeader {
        name: name.clone(),
        template: template.clone(),
        form: form.clone(),
    });
    let headers: Vec<_> = all.collect();
    let keys = Keys {
        assertion: table.assertion,
        access_token: table.access_token,
        basic: table.basic,
    };
    Told {
        vouching: vouching::vouching(route, keys, &headers, &form, load),
        headers,
        strip: preset.map_or_else(Vec::new, |preset| preset.strip.clone()),
    }
}

/// The headers of a file; no two may be one to a program that folds names (I4).
fn named(given: &[(At<HeaderName>, At<Template>)], load: &mut Load<'_>) -> Vec<(HeaderName, Template)> {
    for (index, (name, _)) in given.iter().enumerate() {
        let twin = given
            .iter()
            .take(index)
            .find(|(other, _)| same(&other.value, &name.value));
        if let Some((first, _)) = twin {
            let message = format!(
                "to many programs, `{}` and `{}` are the same header",
                name.value, first.value
            );
            load.findings
                .problem(name.at, message, "keep one of them")
                .see(first.at, "the other one");
        }
    }
    let header = |(name, template): &(At<HeaderName>, At<Template>)| (name.value.clone(), template.value.clone());
    given.iter().map(header).collect()
}

fn same(one: &HeaderName, other: &HeaderName) -> bool {
    folded(one.as_str()) == folded(other.as_str())
}

/// What an application is told when its route does not say.
pub(super) fn default_headers() -> Vec<IdentityHeader> {
    let header = |(name, template)| IdentityHeader {
        name,
        template,
        form: Form::default(),
    };
    default_templates().into_iter().map(header).collect()
}

fn default_templates() -> Vec<(HeaderName, Template)> {
    let username = ClaimPath::parse("preferred_username").map(Source::Claim);
    let headers = [
        ("x-forwarded-user", Some(Source::User)),
        ("x-forwarded-preferred-username", username),
        ("x-forwarded-email", Some(Source::Email)),
        ("x-forwarded-groups", Some(Source::Groups)),
        ("x-forwarded-subject", Some(Source::Subject)),
    ];
    let template = |source: Option<Source>| Template {
        pieces: source
            .map(|source| Piece::Hole(source, Vec::new()))
            .into_iter()
            .collect(),
    };
    let header = |(name, source)| (HeaderName::from_static(name), template(source));
    headers.map(header).into()
}

/// A preset by its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preset(&'static Known);

/// The headers of one application.
#[derive(Debug)]
struct Known {
    name: String,
    headers: Vec<(HeaderName, Template)>,
    delimiter: Option<Lists>,
    strip: Vec<HeaderName>,
}

impl FromText for Preset {
    const EXAMPLE: &'static str = "\"grafana\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        if let Some(known) = PRESETS.iter().find(|known| known.name == text) {
            return Ok(Self(known));
        }
        let names: Vec<&str> = PRESETS.iter().map(|known| &*known.name).collect();
        let instead = match nearest(text, &names) {
            Some(near) => format!("write \"{near}\""),
            None => format!("the presets are {}", names.join(", ")),
        };
        Err(wrong(format!("is not a preset: \"{text}\""), instead))
    }
}

static PRESETS: LazyLock<Vec<Known>> = LazyLock::new(|| presets().unwrap_or_default());

/// The file of presets; that it is right is for a test to see.
fn presets() -> Option<Vec<Known>> {
    let document = DeTable::parse(include_str!("presets.toml")).ok()?;
    let mut findings = Findings::default();
    let tables: Named<Name, file::Preset> = read::document(document, &mut findings)?;
    let known = tables.0.into_iter().map(|(name, table)| {
        let At { value: table, .. } = table;
        Known {
            name: name.value.0,
            headers: table
                .headers
                .or_default()
                .0
                .into_iter()
                .map(|(name, template)| (name.value, template.value))
                .collect(),
            delimiter: table.delimiter.into_value(),
            strip: table
                .strip
                .into_value()
                .map_or_else(Vec::new, |list| list.values().collect()),
        }
    });
    (!findings.has_problems()).then(|| known.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_right() {
        let presets = presets().unwrap();
        assert!(presets.len() >= 12, "{}", presets.len());
        let papers = include_str!("../../docs/applications.md");
        for preset in presets {
            assert!(!preset.headers.is_empty(), "{}", preset.name);
            assert!(
                papers.contains(&format!("| `{}` |", preset.name)),
                "{} is not in the papers",
                preset.name
            );
        }
    }

    #[test]
    fn a_preset_that_is_not_there_names_the_nearest() {
        assert!(
            Preset::from_text("grafanna")
                .unwrap_err()
                .instead
                .contains("\"grafana\"")
        );
        assert!(Preset::from_text("word").unwrap_err().instead.contains("jenkins"));
    }
}
