mod bad;
mod bad_routes;
mod behind;
mod reference;
mod schema;
mod tls;
mod vouching;

use std::{collections::BTreeSet, fs, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::{
    identity::ProviderId,
    policy::{Access, Admission},
    secret::random_text,
    server::{Listen, Spoken},
    session::StoreSettings,
    upstream::{Asker, DestinationScheme, Onward},
};

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000); // 2027-01-15

const PROVIDER: &str = "[provider.corp]
issuer = \"https://id.example.com\"
client_id = \"wiki\"
client_auth = \"none\"
";

const ROUTE: &str = "[route.wiki]
url = \"https://wiki.example.com\"
upstream = \"http://127.0.0.1:3000\"
";

const SIX_LINES: &str = "[provider.corp]
issuer = \"https://id.example.com/realms/corp\"
client_id = \"wiki\"
client_secret_file = \"client\"

[route.wiki]
url = \"https://wiki.example.com\"
upstream = \"http://127.0.0.1:3000\"
";

/// A directory of its own, gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("vestibule-{}", random_text::<12>()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn with(self, name: &str, content: &str) -> Self {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        chmod(&path, 0o600);
        self
    }

    fn parse(&self, text: &str) -> Result<Settings, Problems> {
        let variable = |name: &str| (name == "SECRET").then(|| "s3cret".into());
        parse(
            text,
            "test.toml",
            Surroundings {
                directory: &self.0,
                variable,
            },
            NOW,
        )
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn chmod(path: &Path, mode: u32) {
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(path, permissions).unwrap();
}

fn read(text: &str) -> Result<Settings, Problems> {
    let variable = |name: &str| (name == "SECRET").then(|| "s3cret".into());
    let directory = Path::new("/nonexistent");
    parse(text, "test.toml", Surroundings { directory, variable }, NOW)
}

fn admission(settings: &Settings) -> &Admission {
    match &settings.routes.iter().next().unwrap().access {
        Access::Protected(admission) => admission,
        Access::Public => panic!("the route is public"),
    }
}

fn warnings(settings: &Settings) -> String {
    settings
        .warnings
        .iter()
        .map(|warning| format!("{}\n", warning.snippet))
        .collect()
}

fn tcp(address: &str) -> Listen {
    Listen::Tcp(address.parse().unwrap())
}

#[test]
fn http_2_is_spoken_in_clear_text_where_it_is_asked_for() {
    let six = || Folder::new().with("client", "s3cret\n");
    let settings = six().parse(SIX_LINES).unwrap();
    assert_eq!(settings.server.spoken, Spoken::Http1);
    assert_eq!(
        settings.upstreams[0].onward.destinations()[0].scheme,
        DestinationScheme::Http
    );
    let text = SIX_LINES.replace("http://127.0.0.1:3000", "h2c://[::1]:50051");
    let settings = six().parse(&format!("server.h2c = true\n{text}")).unwrap();
    assert_eq!(settings.server.spoken, Spoken::Either);
    let destination = &settings.upstreams[0].onward.destinations()[0];
    let expected = (DestinationScheme::H2c, "h2c://[::1]:50051".to_owned());
    assert_eq!((destination.scheme, destination.to_string()), expected);
    for wrong in ["h2c://a/b", "h2c:a", "h3://a"] {
        assert!(
            six().parse(&SIX_LINES.replace("http://127.0.0.1:3000", wrong)).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn another_proxy_may_pass_requests_on() {
    for (word, asker) in [("forward-auth", Asker::ForwardAuth), ("ext-authz", Asker::ExtAuthz)] {
        let route = ROUTE.replace("http://127.0.0.1:3000", word);
        let asked = |more: &str| {
            read(&format!(
                "server.trusted_proxies = [\"127.0.0.1/32\"]\n{PROVIDER}{route}{more}"
            ))
        };
        assert_eq!(asked("").unwrap().upstreams[0].onward, Onward::AskedBy(asker));
        for meaningless in [
            "preserve_host = true",
            "timeouts.idle = \"1s\"",
            "upstream_tls.ca_file = \"x\"",
            "identity.groups_delimiter = \"repeat\"\nidentity.headers = { X-Groups = \"{groups}\" }",
        ] {
            assert!(asked(meaningless).is_err(), "{meaningless}");
        }
        let unasked = read(&format!("{PROVIDER}{route}")).unwrap_err().to_string();
        assert!(unasked.contains("trusted_proxies"), "{unasked}");
    }
}

#[test]
fn six_lines_work() {
    let settings = Folder::new().with("client", "s3cret\n").parse(SIX_LINES).unwrap();
    assert_eq!(settings.server.listen, [tcp("127.0.0.1:4180")]);
    assert_eq!(settings.server.admin, Some(tcp("127.0.0.1:4181")));
    assert!(admission(&settings).session && !admission(&settings).bearer);
    assert_eq!(*admission(&settings).providers, [ProviderId::new("corp")]);
    assert_eq!(settings.scrub.identity_headers.len(), 5);
    assert!(warnings(&settings).contains("no `key_files`"));
}

#[test]
fn a_secret_loses_its_line_end_and_nothing_else() {
    let settings = Folder::new().with("client", " s3 cret\r\n").parse(SIX_LINES).unwrap();
    let crate::oauth::client::ClientAuth::SecretBasic(secret) = &settings.providers[0].client.auth else {
        panic!("another authentication");
    };
    assert!(secret.matches(" s3 cret"));
}

#[test]
fn a_secret_that_everybody_can_read_is_warned_about() {
    let folder = Folder::new().with("client", "s3cret");
    chmod(&folder.0.join("client"), 0o644);
    let settings = folder.parse(SIX_LINES).unwrap();
    assert!(warnings(&settings).contains("chmod o-rwx client"));
}

#[test]
fn a_secret_may_stand_in_the_file_of_a_provider_on_this_machine() {
    let provider = PROVIDER.replace("https://id.example.com", "http://localhost:8080");
    let text = provider.replace("client_auth = \"none\"", "client_secret = \"s3cret\"");
    assert!(read(&format!("{text}{ROUTE}")).is_ok());
}

#[test]
fn session_keys_come_from_files_in_their_order() {
    let key = crate::session::SealingKey::random().to_text();
    let folder = Folder::new().with("a", key.expose()).with("b", key.expose());
    let text = format!("[session]\nkey_files = [\"a\", \"b\"]\n{PROVIDER}{ROUTE}");
    let session = folder.parse(&text).unwrap().session;
    assert_eq!((session.keys.len(), session.ephemeral_keys), (2, false));
    let problems = Folder::new().with("a", "short").with("b", "").parse(&text).unwrap_err();
    assert!(problems.iter().all(|problem| problem.message.contains("holds no s")));
    assert_eq!(problems.iter().count(), 2);
}

#[test]
fn a_redis_beside_cookies_is_for_their_endings_and_beside_memory_for_nothing() {
    let folder = Folder::new().with("redis.url", "redis://cache.example");
    let kept_in = |store: &str| {
        let redis = "redis = { url_file = \"redis.url\" }";
        folder.parse(&format!("[session]\nstore = \"{store}\"\n{redis}\n{PROVIDER}{ROUTE}"))
    };
    let store = kept_in("cookie").unwrap().session.store;
    assert!(matches!(store, StoreSettings::Cookie { shared: Some(_) }), "{store:?}");
    let alone = read(&format!("{PROVIDER}{ROUTE}")).unwrap().session.store;
    assert!(matches!(alone, StoreSettings::Cookie { shared: None }), "{alone:?}");
    let problems = kept_in("memory").unwrap_err();
    assert!(
        problems
            .iter()
            .any(|problem| problem.message.contains("[session.redis] means nothing"))
    );
}

#[test]
fn bearer_counts_by_default_where_a_provider_offers_it() {
    let text = format!("{PROVIDER}[provider.corp.bearer]\naudiences = [\"a\"]\n{ROUTE}");
    assert!(admission(&read(&text).unwrap()).bearer);
    let only_session = format!("{text}auth = [\"session\"]");
    assert!(!admission(&read(&only_session).unwrap()).bearer);
}

#[test]
fn an_exception_ends_after_its_last_day() {
    let route = |until: &str| {
        let exception = format!("insecure_cross_site_requests = {{ reason = \"intranet\", until = {until} }}");
        read(&format!("{PROVIDER}{ROUTE}{exception}")).unwrap()
    };
    assert!(admission(&route("\"2027-01-15\"")).cross_site);
    assert!(admission(&route("2027-01-15")).cross_site);
    let ended = route("\"2027-01-14\"");
    assert!(!admission(&ended).cross_site);
    assert!(warnings(&ended).contains("ended on 2027-01-14"));
}

#[test]
fn what_weakens_a_check_is_warned_about() {
    let exception = "insecure_unverified_email = { reason = \"ldap\", until = \"2027-01-31\" }\n";
    let settings = read(&format!("{PROVIDER}{exception}{ROUTE}")).unwrap();
    let until = settings.providers[0].claim_names.unverified_email_until.unwrap();
    assert_eq!(until.unix(), 1_801_440_000);
    assert!(warnings(&settings).contains("weakens a check until 2027-01-31: ldap"));
}

#[test]
fn claims_that_routes_ask_for_are_wanted_once() {
    let route =
        format!("{ROUTE}[route.wiki.allow]\nemails = [\"a@b.c\"]\nclaims = {{ \"r.s\" = [1], groups = [\"x\"] }}\n");
    let headers = "[route.wiki.identity]\nheaders = { X-A = \"{a}\", X-Email = \"{email}\" }\n";
    let other = "[route.b]\nurl = \"https://b\"\nupstream = \"http://b\"\nauth = [\"public\"]\n";
    let settings = read(&format!("{PROVIDER}{route}{headers}{other}")).unwrap();
    let wanted: Vec<String> = settings.providers[0]
        .wanted_claims
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        wanted,
        ["preferred_username", "groups", "email", "email_verified", "r.s", "a"]
    );
}

#[test]
fn claims_that_expressions_look_at_are_wanted_too() {
    let allow = "[route.wiki.allow]\nexpression = \"claims.level > 1 && 'a' in claims.r.s && email != ''\"\n";
    let deny = "[[route.wiki.deny]]\nexpression = \"has(claims.locked) && claims['https://x/y'] == 1\"\n";
    let settings = read(&format!("{PROVIDER}{ROUTE}{allow}{deny}")).unwrap();
    let wanted: BTreeSet<String> = settings.providers[0]
        .wanted_claims
        .iter()
        .map(ToString::to_string)
        .collect();
    let expressions = ["email", "email_verified", "level", "r.s", "locked", "https://x/y"];
    assert!(expressions.iter().all(|claim| wanted.contains(*claim)), "{wanted:?}");
}

#[test]
fn i4_every_header_of_every_route_is_scrubbed() {
    let headers = "[route.wiki.identity]\nheaders = { X-A = \"{sub}\" }\n";
    let other = "[route.b]\nurl = \"https://b.example\"\nupstream = \"http://b\"\n";
    let settings = read(&format!("{PROVIDER}{ROUTE}{headers}{other}")).unwrap();
    let names: Vec<&str> = settings
        .scrub
        .identity_headers
        .iter()
        .map(|name| name.as_str())
        .collect();
    assert_eq!((names[0], names.len()), ("x-a", 6));
}

#[test]
fn what_looks_like_a_rule_and_is_another_one_is_warned_about() {
    let warned = |rules: &str| {
        let route = "[route.a]\nurl = \"http://a.localhost\"\nupstream = \"http://127.0.0.1:3000\"\n";
        warnings(&read(&format!("{PROVIDER}{route}{rules}\n")).unwrap())
    };
    let starred = "the group \"wiki-*\" is compared as it stands";
    assert!(warned("allow.groups = [\"wiki-*\"]").contains(starred));
    assert!(warned("[[route.a.deny]]\ngroups = [\"wiki-*\"]").contains(starred));
    assert!(warned("allow.claims = { role = [\"*-admin\"] }").contains("only a star at the end"));
    assert!(!warned("allow.claims = { role = [\"admin-*\"] }").contains("only a star"));
    for raw in [
        "claims = { email = [\"ann@example.com\"] }",
        "expression = \"claims.email == 'ann@example.com'\"",
    ] {
        assert!(
            warned(&format!("[route.a.allow]\n{raw}")).contains("though nobody verified"),
            "{raw}"
        );
    }
    assert!(!warned("allow.emails = [\"ann@example.com\"]").contains("verified"));
}

#[test]
fn unencrypted_sessions_are_warned_about() {
    let route = "[route.a]\nurl = \"http://a.example\"\nupstream = \"http://a\"\n";
    let settings = read(&format!("[server]\nlisten = [\"0.0.0.0:4180\"]\n{PROVIDER}{route}")).unwrap();
    let warnings = warnings(&settings);
    assert!(warnings.contains("travels unencrypted"));
    assert!(warnings.contains("0.0.0.0:4180 takes unencrypted requests"));
}

#[test]
fn i7_clients_that_nobody_tells_apart_are_warned_about() {
    let with = |proxies: &str| {
        let server = format!("[server]\nlisten = [\"unix:/run/a.sock\"]\ntrusted_proxies = [{proxies}]\n");
        warnings(&read(&format!("{server}{PROVIDER}{ROUTE}")).unwrap())
    };
    let words = "whoever comes over unix:/run/a.sock has no address";
    assert!(with("").contains(words) && with("\"10.0.0.0/8\"").contains(words));
    assert!(!with("\"unix\"").contains(words));
}

#[test]
fn a_scope_that_no_login_asks_for_is_warned_about() {
    let allow = "[route.wiki.allow]\nscopes = [\"openid\", \"wiki.read\"]\n";
    let settings = read(&format!("{PROVIDER}{ROUTE}{allow}")).unwrap();
    assert!(warnings(&settings).contains("\"wiki.read\" is needed here"));
    assert!(!warnings(&settings).contains("\"openid\" is needed here"));
}

#[test]
fn a_deep_nest_does_not_exhaust_the_stack() {
    let nest = |open: &str| format!("a = {}", open.repeat(100_000));
    for text in [
        nest("["),
        nest("{a="),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
    ] {
        assert!(read(&text).is_err());
    }
}

#[test]
fn a_missing_file_is_one_problem() {
    let path = Folder::new().0.join("none.toml");
    let problems = load(&path, NOW).unwrap_err();
    assert_eq!(problems.iter().count(), 1);
    assert!(problems.to_string().contains("cannot read"));
}

#[test]
fn settings_hold_no_secret_in_their_debug_text() {
    let settings = read(&format!(
        "{}{ROUTE}",
        PROVIDER.replace("client_auth = \"none\"", "client_secret_env = \"SECRET\"")
    ));
    assert!(!format!("{settings:?}").contains("s3cret"));
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = read(&text).map_err(|problems| problems.to_string());
    }

    #[test]
    fn no_damage_to_a_file_panics(at in 0..include_str!("../../../config/reference.toml").len(), length in 0_usize..40, filling in "[\\[\\]\"{}=.,\n a-z0ü]{0,8}") {
        let mut text = include_str!("../../../config/reference.toml").to_owned();
        let boundary = |index: usize| (0..=index.min(text.len())).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
        text.replace_range(boundary(at)..boundary(at + length), &filling);
        let outcome = read(&text).map(|settings| settings.warnings.len()).map_err(|problems| problems.to_string());
        // Whatever is refused is refused with a reason.
        prop_assert!(outcome.as_ref().err().is_none_or(|problems| problems.contains("help")));
    }
}
