//! `[route.NAME.request_headers]`, `[route.NAME.response_headers]` and `security_headers`.

use http::{HeaderName, HeaderValue};

use super::{
    file,
    load::Load,
    read::{At, Field, FromText, Wrong, wrong},
    route::Placed,
    shape::Named,
};
use crate::upstream::{
    edits::{Edits, RouteEdits, is_untouchable},
    headers::folded,
};

/// The name of a header that the operator may edit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EditedName(pub(super) HeaderName);

impl FromText for EditedName {
    const EXAMPLE: &'static str = "\"X-Api-Key\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let name = HeaderName::from_bytes(text.as_bytes()).ok();
        let name = name.ok_or_else(|| {
            wrong(
                format!("is not the name of a header: \"{text}\""),
                "write one like \"X-Api-Key\"",
            )
        })?;
        match is_untouchable(&name) {
            true => Err(wrong(
                format!(
                    "is not to be edited: `{name}` frames the message, is a credential, or only the gateway says it"
                ),
                "leave it out; what the application is told of people stands in `identity`",
            )),
            false => Ok(Self(name)),
        }
    }
}

/// The value of such a header.
#[derive(Clone, Debug)]
pub(super) struct EditedValue(pub(super) HeaderValue);

impl FromText for EditedValue {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let plain = !text.is_empty() && text.bytes().all(|b| (0x20..0x7f).contains(&b)) && text.trim() == text;
        let value = plain.then(|| HeaderValue::try_from(text).ok()).flatten();
        value.map(Self).ok_or_else(|| {
            wrong(
                "cannot be the value of a header",
                "write some plain ASCII, without blanks around it",
            )
        })
    }
}

/// The three keys of a route.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) request: Field<file::Edits>,
    pub(super) response: Field<file::Edits>,
    pub(super) security: Field<bool>,
}

pub(super) fn edits(keys: Keys, load: &mut Load<'_>) -> RouteEdits {
    RouteEdits {
        request: of(keys.request.or_default(), load),
        response: of(keys.response.or_default(), load),
        security: keys.security.or(false),
    }
}

fn of(table: file::Edits, load: &mut Load<'_>) -> Edits {
    let remove = table.remove.into_value().map_or_else(Vec::new, |list| list.0);
    let (set, add) = (table.set.or_default(), table.add.or_default());
    let names = set.0.iter().chain(&add.0).map(|(name, _)| name).chain(&remove);
    let names: Vec<&At<EditedName>> = names.collect();
    for (index, name) in names.iter().enumerate() {
        if let Some(first) = names.iter().take(index).find(|other| other.value == name.value) {
            let message = format!("`{}` is edited twice", name.value.0);
            load.findings
                .problem(name.at, message, "keep one of them")
                .see(first.at, "the first time");
        }
    }
    let pairs = |list: Named<EditedName, EditedValue>| {
        let pair = |(name, value): (At<EditedName>, At<EditedValue>)| (name.value.0, value.value.0);
        list.0.into_iter().map(pair).collect()
    };
    Edits {
        remove: remove.into_iter().map(|name| name.value.0).collect(),
        set: pairs(set),
        add: pairs(add),
    }
}

/// What tells an application who somebody is, on whatever route, is nobody else's to write (I4).
pub(super) fn identity_headers(routes: &[Placed], load: &mut Load<'_>) {
    let mut told: Vec<String> = Vec::new();
    for placed in routes {
        let upstream = &placed.upstream;
        let headers = upstream.identity_headers.iter().map(|header| &header.name);
        let asserted = upstream.vouching.assertion.iter().map(|assertion| &assertion.header);
        let all = headers.chain(asserted).chain(&upstream.strip);
        told.extend(all.map(|name| folded(name.as_str())));
    }
    for placed in routes {
        let edited = placed.upstream.edits.request.names();
        for name in edited.filter(|name| told.contains(&folded(name.as_str()))) {
            let message = format!(
                "[route.{}.request_headers] edits `{name}`, by which an application is told who somebody is",
                placed.route.name
            );
            load.findings
                .problem(placed.at, message, "leave it out, or tell it in `identity`");
        }
    }
}
