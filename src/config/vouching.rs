//! How an application can tell that a request is the gateway's: `assertion`, `access_token` and `basic` in
//! `[route.NAME.identity]`, and the keys of `[assertion]`.

use std::path::PathBuf;

use http::HeaderName;

use super::{
    file,
    load::{Load, Table},
    measure::AssertionLife,
    read::{At, Field},
    report::Span,
    shape::NonEmpty,
};
use crate::{
    oauth::jwt::SigningKey,
    secret::Secret,
    upstream::{
        assertion::{Assertion, LONGEST_LIFE},
        headers::{Form, IdentityHeader, Piece, Template, folded},
        vouch::{Basic, TokenHeader, Vouching},
    },
};

/// The three keys of `[route.NAME.identity]`.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) assertion: Field<file::Assertion>,
    pub(super) access_token: Field<Option<TokenHeader>>,
    pub(super) basic: Field<file::Basic>,
}

/// `told` are the headers beside which these stand, and `form` is how groups and long values are treated in them.
pub(super) fn vouching(
    route: &Table,
    keys: Keys,
    told: &[IdentityHeader],
    form: &Form,
    load: &mut Load<'_>,
) -> Vouching {
    let (assertion_at, token_at) = (keys.assertion.at(), keys.access_token.at());
    only_one_authorization(&keys, load);
    let access_token = keys.access_token.into_value().flatten();
    let assertion = keys.assertion.into_value().map(|table| assertion(route, table, form));
    let names = [
        (
            assertion.as_ref().map(|assertion| assertion.header.clone()),
            assertion_at,
        ),
        (access_token.map(TokenHeader::name), token_at),
    ];
    let names: Vec<_> = names.into_iter().filter_map(|(name, at)| name.zip(at)).collect();
    distinct(&names, told, load);
    Vouching {
        assertion,
        access_token,
        basic: basic(route, keys.basic, load),
    }
}

/// A request has one `Authorization` (RFC 9110 §11.6.2).
fn only_one_authorization(keys: &Keys, load: &mut Load<'_>) {
    if let (Some(Some(TokenHeader::Authorization)), Some(at), Some(basic)) =
        (keys.access_token.value(), keys.access_token.at(), keys.basic.at())
    {
        let message = "`access_token` and `basic` both want the `Authorization` header";
        let instead = "leave one of them out, or write access_token = \"x-forwarded-access-token\"";
        load.findings.problem(at, message, instead).see(basic, "the other one");
    }
}

fn assertion(route: &Table, table: file::Assertion, form: &Form) -> Assertion {
    let name = route.name.strip_prefix("route.").unwrap_or(&route.name);
    Assertion {
        header: table
            .header
            .into_value()
            .unwrap_or(HeaderName::from_static("x-vestibule-assertion")),
        audience: table
            .audience
            .into_value()
            .map_or_else(|| name.into(), String::into_boxed_str),
        ttl: table.ttl.or(AssertionLife(LONGEST_LIFE)).0,
        groups: form.groups.clone(),
        max_bytes: form.max_bytes,
    }
}

/// No two headers may be one to a program that folds names (I4).
fn distinct(names: &[(HeaderName, Span)], told: &[IdentityHeader], load: &mut Load<'_>) {
    let same = |one: &HeaderName, other: &HeaderName| folded(one.as_str()) == folded(other.as_str());
    for (index, (name, at)) in names.iter().enumerate() {
        let others = names.iter().take(index).map(|(name, _)| name);
        if let Some(twin) = others
            .chain(told.iter().map(|header| &header.name))
            .find(|other| same(name, other))
        {
            let message = format!("`{twin}` is told already, and to many programs the same header");
            load.findings
                .problem(*at, message, "choose another header, or leave one out");
        }
    }
}

fn basic(route: &Table, field: Field<file::Basic>, load: &mut Load<'_>) -> Option<Basic> {
    let Field::Given(At { at, value: table }) = field else {
        return None;
    };
    let here = Table::new(format!("{}.identity.basic", route.name), at);
    let username_at = table.username.at().unwrap_or(at);
    let username = load.required(&here, "username", table.username, "\"{preferred_username}\"");
    let password = password(&here, &table.password_file, &table.password_env, load);
    let username = username?;
    if has_colon(&username) {
        let message = "`username` has a colon: what stands behind it would be read as the password";
        load.findings.problem(username_at, message, "write a name without one");
    }
    Some(Basic {
        username,
        password: password?,
    })
}

fn has_colon(username: &Template) -> bool {
    let mut pieces = username.pieces.iter();
    pieces.any(|piece| matches!(piece, Piece::Text(text) if text.contains(':')))
}

fn password(here: &Table, file: &Field<PathBuf>, variable: &Field<String>, load: &mut Load<'_>) -> Option<Secret> {
    match (file, variable) {
        (Field::Given(file), Field::Given(variable)) => {
            let message = "`password_file` and `password_env` are both there";
            load.findings
                .problem(variable.at, message, "leave one of them out")
                .see(file.at, "the other one");
            None
        }
        (Field::Given(file), _) => load.secret_file(file),
        (_, Field::Given(variable)) => load.secret_variable(variable),
        (Field::Absent, Field::Absent) => {
            let message = format!("there is no password in [{}]", here.name);
            load.findings.problem(
                here.at,
                message,
                "name a file with it: password_file = \"application.password\"",
            );
            None
        }
        (Field::Absent | Field::Wrong, Field::Absent | Field::Wrong) => None,
    }
}

/// The keys of `[assertion]`; `asserting` is a route that needs one.
pub(super) fn signing_keys(
    table: Field<file::Signing>,
    asserting: Option<Span>,
    load: &mut Load<'_>,
) -> Vec<SigningKey> {
    match (table.or_default().key_files, asserting) {
        (Field::Given(files), _) => keys(&files.value, load),
        (Field::Absent, Some(route)) => {
            let message = "no `key_files` in [assertion]: the key that signs is another one after every start, and each of \
                           several gateways has its own";
            let instead = "run `vestibule keygen --kind es256 --output assertion.pem`, and write \
                           key_files = [\"assertion.pem\"] in [assertion]";
            load.findings.warning(route, message, instead);
            Vec::new()
        }
        (Field::Absent | Field::Wrong, _) => Vec::new(),
    }
}

fn keys(files: &NonEmpty<PathBuf>, load: &mut Load<'_>) -> Vec<SigningKey> {
    load.no_twins(&files.0);
    files.0.iter().filter_map(|file| key(file, load)).collect()
}

fn key(file: &At<PathBuf>, load: &mut Load<'_>) -> Option<SigningKey> {
    let text = load.secret_file(file)?;
    let key = SigningKey::from_pem(text.expose());
    if key.is_none() {
        let message = format!(
            "{} holds no private key on the curve P-256 or Ed25519, PKCS #8 in PEM",
            file.value.display()
        );
        let instead = format!(
            "make one: vestibule keygen --kind es256 --output {}",
            file.value.display()
        );
        load.findings.problem(file.at, message, instead);
    }
    key
}
