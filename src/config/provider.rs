//! The `[provider.NAME]` tables.

use std::{mem::take, path::PathBuf, time::Duration};

use super::{
    address::{IssuerUrl, ProviderUrl},
    file::{self, ClientAuth},
    load::{Load, Table},
    measure::{Skew, Timeout},
    read::{At, Field},
    report::Span,
    shape::{Named, NonEmpty},
    value::{Name, Scope},
};
use crate::{
    identity::{ClaimNames, Issuer, ProviderId, Scopes},
    oauth::{
        client::{self, ClientRegistration},
        jwt::Algorithm,
    },
    provider::{BearerKind, BearerSettings, CallLimits, EndpointOverrides, Settings, UseUserinfo},
    secret::Secret,
};

/// What the routes must know of a provider, whether or not its table is right.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) id: ProviderId,
    pub(super) at: Span,
    pub(super) bearer: bool,
    /// What a login asks for.
    pub(super) scopes: Scopes,
}

pub(super) fn offers(tables: &[(At<Name>, At<file::Provider>)]) -> Vec<Offer> {
    let offer = |(name, table): &(At<Name>, At<file::Provider>)| Offer {
        id: ProviderId::new(&name.value.0),
        at: table.at,
        bearer: !table.value.bearer.is_absent(),
        scopes: table.value.scopes.value().map_or_else(default_scopes, collected),
    };
    tables.iter().map(offer).collect()
}

/// Refuses two providers that would both verify the same access tokens.
pub(super) fn check_issuers(tables: &[(At<Name>, At<file::Provider>)], load: &mut Load<'_>) {
    let issuers = tables.iter().filter(|(_, table)| !table.value.bearer.is_absent());
    let issuers: Vec<_> = issuers.filter_map(|(_, table)| table.value.issuer.given()).collect();
    for (index, issuer) in issuers.iter().enumerate() {
        let same = |other: &&&At<_>| same_issuer(other, issuer);
        if let Some(first) = issuers.iter().take(index).find(same) {
            let instead = "keep one `bearer` table for an issuer, with the `audiences` of both";
            let message = "two providers verify access tokens of the same issuer";
            load.findings
                .problem(issuer.at, message, instead)
                .see(first.at, "the other one");
        }
    }
}

fn same_issuer(one: &At<IssuerUrl>, other: &At<IssuerUrl>) -> bool {
    one.value.0.text == other.value.0.text
}

pub(super) fn settings(name: &str, table: At<file::Provider>, load: &mut Load<'_>) -> Option<Settings> {
    let here = Table::new(format!("provider.{name}"), table.at);
    let mut table = table.value;
    let auth = client_auth(&here, &table, load);
    let mut endpoints = endpoints(&mut table);
    let claim_names = claim_names(&here, &mut table, load);
    let groups_endpoint = take(&mut table.groups_endpoint);
    let issuer = load.required(&here, "issuer", table.issuer, "\"https://id.example.com/realms/corp\"");
    endpoints.groups = groups_listed_at(groups_endpoint, &claim_names, issuer.as_ref(), load);
    let client_id = load.required(&here, "client_id", table.client_id, "\"wiki\"");
    let scopes = scopes(table.scopes, load);
    let authorization_params = authorization_params(table.authorization_params, load);
    let trust = load.trust(&table.ca_file);
    let bearer = match table.bearer {
        Field::Given(bearer) => Some(self::bearer(&here.name, bearer, auth.as_ref(), load)?),
        Field::Absent | Field::Wrong => None,
    };
    Some(Settings {
        id: ProviderId::new(name),
        display_name: table.display_name.or(name.into()),
        issuer: Issuer::new(&issuer?.0.text),
        client: ClientRegistration {
            client_id: client_id?,
            auth: auth?,
        },
        scopes: scopes?,
        authorization_params,
        id_token_algorithms: table
            .id_token_algorithms
            .into_value()
            .map(|list| list.values().collect()),
        assumed_token_lifetime: table.assumed_token_lifetime.or(Timeout(Duration::from_secs(300))).0,
        clock_skew: table.clock_skew.or(CLOCK_SKEW).0,
        claim_names,
        userinfo: table.userinfo.or(UseUserinfo::default()),
        // The routes say, once they are known.
        wanted_claims: Vec::new(),
        endpoints,
        bearer,
        trust: trust?,
        limits: CallLimits::default(),
    })
}

fn claim_names(here: &Table, table: &mut file::Provider, load: &mut Load<'_>) -> ClaimNames {
    let exception = take(&mut table.insecure_unverified_email);
    let defaults = ClaimNames::default();
    ClaimNames {
        username: take(&mut table.username_claim).or(defaults.username),
        groups: take(&mut table.groups_claim).or(defaults.groups),
        unverified_email_until: load.exception(here, "insecure_unverified_email", exception),
    }
}

const CLOCK_SKEW: Skew = Skew(Duration::from_secs(30));

/// Where the file says that the secret is.
#[derive(Clone, Copy)]
enum SecretSource<'a> {
    File(&'a At<PathBuf>),
    Variable(&'a At<String>),
    Inline(&'a At<Secret>),
}

impl SecretSource<'_> {
    fn at(self) -> Span {
        match self {
            Self::File(file) => file.at,
            Self::Variable(variable) => variable.at,
            Self::Inline(secret) => secret.at,
        }
    }
}

/// How the client authenticates: by the one secret that is given, or by none where the file says so.
fn client_auth(here: &Table, table: &file::Provider, load: &mut Load<'_>) -> Option<client::ClientAuth> {
    let (file, variable, inline) = (
        &table.client_secret_file,
        &table.client_secret_env,
        &table.client_secret,
    );
    if table.client_auth.is_wrong() || file.is_wrong() || variable.is_wrong() || inline.is_wrong() {
        return None;
    }
    let file = file.given().map(SecretSource::File);
    let variable = variable.given().map(SecretSource::Variable);
    let inline = inline.given().map(SecretSource::Inline);
    let sources: Vec<SecretSource<'_>> = [file, variable, inline].into_iter().flatten().collect();
    let word = table.client_auth.value().copied();
    match (word, sources.as_slice()) {
        (Some(ClientAuth::None), []) => return Some(client::ClientAuth::None),
        (None | Some(ClientAuth::SecretBasic), [source]) => {
            return secret(*source, table, load).map(client::ClientAuth::SecretBasic);
        }
        (Some(ClientAuth::SecretPost), [source]) => {
            return secret(*source, table, load).map(client::ClientAuth::SecretPost);
        }
        (Some(ClientAuth::None), [source, ..]) => {
            let message = "a client that authenticates with \"none\" has no secret";
            load.findings.problem(
                source.at(),
                message,
                "leave out the secret, or write another `client_auth`",
            );
        }
        (None | Some(ClientAuth::SecretBasic | ClientAuth::SecretPost), []) => {
            let message = format!("[{}] does not say how the client authenticates", here.name);
            let instead =
                "write `client_secret_file` or `client_secret_env`, or client_auth = \"none\" for a public client";
            load.findings
                .problem(table.client_auth.at().unwrap_or(here.at), message, instead);
        }
        (None | Some(ClientAuth::SecretBasic | ClientAuth::SecretPost), [first, second, ..]) => {
            let message = format!("[{}] has several secrets", here.name);
            load.findings
                .problem(second.at(), message, "keep one of them")
                .see(first.at(), "the other one");
        }
    }
    None
}

fn secret(source: SecretSource<'_>, table: &file::Provider, load: &mut Load<'_>) -> Option<Secret> {
    match source {
        SecretSource::File(path) => load.secret_file(path),
        SecretSource::Variable(name) => load.secret_variable(name),
        SecretSource::Inline(inline) => {
            let local = table.issuer.value().is_none_or(|issuer| issuer.0.is_local);
            if !local {
                let instead = "put it into a file and write `client_secret_file`, or use `client_secret_env`";
                load.findings
                    .problem(inline.at, "a secret does not belong in this file", instead);
            }
            local.then(|| inline.value.clone())
        }
    }
}

fn endpoints(table: &mut file::Provider) -> EndpointOverrides {
    let text = |field: &mut Field<ProviderUrl>| take(field).into_value().map(|url| url.text);
    EndpointOverrides {
        authorization: text(&mut table.authorization_endpoint),
        token: text(&mut table.token_endpoint),
        userinfo: text(&mut table.userinfo_endpoint),
        introspection: text(&mut table.introspection_endpoint),
        revocation: text(&mut table.revocation_endpoint),
        end_session: text(&mut table.end_session_endpoint),
        jwks_uri: text(&mut table.jwks_uri),
        groups: None,
    }
}

/// Issuers of Entra ID, and where Microsoft Graph is for each.
const ENTRA: [(&str, &str); 4] = [
    ("https://login.microsoftonline.com/", "https://graph.microsoft.com"),
    ("https://sts.windows.net/", "https://graph.microsoft.com"),
    ("https://login.microsoftonline.us/", "https://graph.microsoft.us"),
    (
        "https://login.partner.microsoftonline.cn/",
        "https://microsoftgraph.chinacloudapi.cn",
    ),
];

/// Where the groups are that are too many for a token.
fn groups_listed_at(
    given: Field<ProviderUrl>,
    names: &ClaimNames,
    issuer: Option<&IssuerUrl>,
    load: &mut Load<'_>,
) -> Option<String> {
    if let Some(at) = given.at()
        && names.groups.is_nested()
    {
        let message = "`groups_endpoint` lists groups, which is no part of another claim";
        let instead = "write groups_claim = \"groups\", or leave `groups_endpoint` out";
        load.findings.problem(at, message, instead);
    }
    let entra = || {
        let issuer = issuer.filter(|_| !names.groups.is_nested())?;
        let (_, graph) = ENTRA.iter().find(|(issued, _)| issuer.0.text.starts_with(issued))?;
        Some(format!("{graph}/v1.0/me/transitiveMemberOf?$select=id&$top=999"))
    };
    given.into_value().map(|url| url.text).or_else(entra)
}

fn scopes(field: Field<NonEmpty<Scope>>, load: &mut Load<'_>) -> Option<Scopes> {
    let Field::Given(given) = field else {
        return Some(default_scopes());
    };
    let scopes = collected(&given.value);
    if !scopes.contains("openid") {
        let message = "`scopes` lacks \"openid\", without which there is no ID token";
        load.findings.problem(given.at, message, "add \"openid\"");
        return None;
    }
    Some(scopes)
}

fn default_scopes() -> Scopes {
    ["openid", "profile", "email"].into_iter().collect()
}

fn collected(list: &NonEmpty<Scope>) -> Scopes {
    list.0.iter().map(|scope| &*scope.value.0).collect()
}

/// Parameters that the gateway sets itself (RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 9101 §5, OIDC Core §3.1.2.1).
const PROTOCOL_PARAMETERS: &[&str] = &[
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "dpop_jkt",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "response_mode",
    "response_type",
    "scope",
    "state",
];

fn authorization_params(field: Field<Named<String, String>>, load: &mut Load<'_>) -> Vec<(String, String)> {
    let entries = field.or_default().0;
    for (name, _) in &entries {
        if PROTOCOL_PARAMETERS.contains(&&*name.value) {
            let message = format!("`{}` is a parameter that the gateway sets itself", name.value);
            let instead = if name.value == "scope" {
                "write `scopes` instead"
            } else {
                "leave it out"
            };
            load.findings.problem(name.at, message, instead);
        }
    }
    entries
        .into_iter()
        .map(|(name, value)| (name.value, value.value))
        .collect()
}

fn bearer(
    provider: &str,
    table: At<file::Bearer>,
    auth: Option<&client::ClientAuth>,
    load: &mut Load<'_>,
) -> Option<BearerSettings> {
    let here = Table::new(format!("{provider}.bearer"), table.at);
    let table = table.value;
    let example = "[\"https://wiki.example.com\"], what the provider puts into the `aud` of its access tokens";
    let audiences = load.required(&here, "audiences", table.audiences, example);
    let kind = table.kind.value().copied().unwrap_or_default();
    if kind == BearerKind::Introspection && matches!(auth, Some(client::ClientAuth::None)) {
        let instead = "give the client a secret, or write kind = \"jwt\"";
        let message = "a client without a secret may not introspect tokens";
        load.findings
            .problem(table.kind.at().unwrap_or(here.at), message, instead);
    }
    let exception = table.insecure_missing_audience;
    let missing_audience_until = load.exception(&here, "insecure_missing_audience", exception);
    let typ = table.typ.or("at+jwt".into());
    Some(BearerSettings {
        kind,
        audiences: audiences?.values().collect(),
        algorithms: table
            .algorithms
            .into_value()
            .map_or(ALGORITHMS.to_vec(), |list| list.values().collect()),
        typ: (typ != "any").then_some(typ),
        clock_skew: table.clock_skew.or(CLOCK_SKEW).0,
        cache_ttl: table.cache_ttl.or(Duration::from_secs(60)),
        negative_ttl: table.negative_ttl.or(Duration::from_secs(10)),
        cache_entries: table.cache_entries.value().map_or(10_000, |count| count.0),
        missing_audience_until,
    })
}

const ALGORITHMS: &[Algorithm] = &[Algorithm::RS256, Algorithm::ES256, Algorithm::PS256, Algorithm::EdDSA];
