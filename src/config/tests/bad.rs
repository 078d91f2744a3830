//! Files that are refused: where, why, and what to write instead. A `§` stands before the place that is pointed at.

use super::{PROVIDER, ROUTE, read};

/// Expects one problem, at the mark.
pub(super) fn expect(text: &str, message: &str, instead: &str) {
    let (before, after) = text.split_once('§').unwrap_or(("", text));
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let Err(problems) = read(&format!("{before}{after}")) else {
        panic!("accepted:\n{text}");
    };
    let [problem] = &problems.iter().collect::<Vec<_>>()[..] else {
        panic!("{problems}\nin\n{text}");
    };
    assert_eq!((problem.line, problem.column), (line, column), "{}", problem.snippet);
    assert!(
        problem.message.contains(message),
        "{}\nlacks {message}",
        problem.message
    );
    assert!(
        problem.instead.contains(instead),
        "{}\nlacks {instead}",
        problem.instead
    );
}

fn in_file(lines: &str, message: &str, instead: &str) {
    expect(&format!("{lines}\n{PROVIDER}{ROUTE}"), message, instead);
}

fn in_provider(lines: &str, message: &str, instead: &str) {
    expect(&format!("{PROVIDER}{lines}\n{ROUTE}"), message, instead);
}

pub(super) fn in_route(lines: &str, message: &str, instead: &str) {
    expect(&format!("{PROVIDER}{ROUTE}{lines}\n"), message, instead);
}

#[test]
fn a_syntax_error_points_at_itself() {
    in_file("version = §", "not TOML", "toml.io");
    in_file("version = 1\n§version = 1", "duplicate key", "toml.io");
}

#[test]
fn an_unknown_key_names_its_neighbour_or_its_home() {
    in_file(
        "[server]\n§listne = [\"127.0.0.1:1\"]",
        "unknown key `listne` in [server]",
        "write `listen`",
    );
    in_file(
        "[server]\n§key_files = [\"a\"]",
        "unknown key `key_files`",
        "belongs in [session]",
    );
    in_file("[log]\n§zzzzzz = 1", "unknown key", "`format`, `level`, `access`");
    in_file("§zzzzzz = 1", "in the file", "`version`");
    in_route("§polcy = 1", "in [route.wiki]", "the keys here");
    in_file(
        "§include = [\"x\"]",
        "this version does not support `include`",
        "leave it out",
    );
    in_provider(
        "§par = \"auto\"",
        "does not support `par` in [provider.corp]",
        "leave it out",
    );
}

#[test]
fn a_wrong_type_shows_the_right_one() {
    in_file("version = §\"1\"", "`version` is a string, and must be an integer", "1");
    in_file("version = §2", "out of range", "write 1");
    in_file("server = §1", "must be a table", "[server]");
    in_file(
        "[server]\ndrain_delay = §5",
        "is an integer, and must be a string",
        "\"30s\"",
    );
    in_file("[server]\nworkers = §0", "out of range", "from 1 to 1024");
    in_file("[server]\nlisten = §\"127.0.0.1:1\"", "must be a list", "[");
    in_file("[log]\naccess = §\"yes\"", "must be a boolean", "true");
    in_route(
        "[route.wiki.allow]\nclaims = { §a.b = [1] }",
        "must be a list",
        "quotes",
    );
    in_route(
        "[route.wiki.allow]\nclaims = { a = [§[1]] }",
        "must be a string, a number or a boolean",
        "reporter",
    );
}

#[test]
fn a_wrong_word_names_the_right_ones() {
    in_file("[log]\nformat = §\"jsn\"", "cannot be \"jsn\"", "write \"json\"");
    in_file("[log]\nlevel = §\"inof\"", "cannot be \"inof\"", "write \"info\"");
    in_file(
        "[session]\nstore = §\"file\"",
        "cannot be \"file\"",
        "write one of \"cookie\", \"memory\", \"redis\"",
    );
    in_provider("id_token_algorithms = [§\"HS256\"]", "cannot be \"HS256\"", "S256\"");
    in_route(
        "auth = [§\"basic\"]",
        "cannot be \"basic\"",
        "\"session\", \"bearer\", \"public\"",
    );
}

#[test]
fn a_server_trusts_and_keeps_only_what_it_should() {
    in_file(
        "[server]\ntrusted_proxies = [§\"10.2.0.0/0\"]",
        "trusts everybody",
        "networks",
    );
    in_file(
        "[server]\ntrusted_proxies = [§\"128.0.0.0/1\"]",
        "trusts everybody",
        "networks",
    );
    in_file("[server]\nauth_prefix = §\"/\"", "not a path to keep", "/oauth2");
    in_file("[server]\nlisten = §[]", "empty list", "leave the key out");
    in_file(
        "[admin]\nlisten = §\"127.0.0.1:4180\"",
        "both listen at 127.0.0.1:4180",
        "address of its own",
    );
    in_file(
        "[server]\nlisten = [§\"unix:run/a.sock\"]",
        "not the path of a socket",
        "whole path",
    );
    in_file(
        "[server]\nlisten = [§\"localhost:80\"]",
        "not an address to listen at",
        "systemd",
    );
    in_file("[server]\nunix_mode = §\"660\"", "not the mode of a socket", "0660");
    in_file(
        "[server]\nproxy_protocol = §true",
        "it names nobody",
        "trusted_proxies = [",
    );
    in_file(
        "[admin]\nlisten = §\"systemd\"",
        "without a name are those of [server]",
        "systemd:admin",
    );
    in_file("[server.limits]\nheader_timeout = §\"0s\"", "no time at all", "30s");
}

#[test]
fn a_session_that_cannot_be_is_refused() {
    in_file(
        "[session]\nidle_timeout = \"2h\"\nmax_lifetime = §\"1h\"",
        "longer than `max_lifetime`",
        "shorter",
    );
    in_file(
        "[session]\nkey_files = [§\"none\"]",
        "cannot read none",
        "relative path",
    );
    in_file(
        "[session]\ncookie = { name = §\"__Host-a\" }",
        "not the name of a cookie",
        "added",
    );
    let text = format!("[session]\ncookie = {{ domain = \"example.org\" }}\n{PROVIDER}{ROUTE}");
    let marked = text.replace("\"https://wiki", "§\"https://wiki");
    expect(
        &marked,
        "route `wiki` is not in the cookie's domain example.org",
        "its own session",
    );
}

#[test]
fn a_provider_says_who_it_is() {
    let provider = |lines: &str, message: &str, instead: &str| expect(&format!("{lines}\n{ROUTE}"), message, instead);
    provider(
        "§[provider.corp]\nclient_id = \"a\"\nclient_auth = \"none\"",
        "`issuer` is missing in [provider.corp]",
        "issuer =",
    );
    provider(
        "§[provider.corp]\nissuer = \"https://a\"\nclient_auth = \"none\"",
        "`client_id` is missing",
        "client_id =",
    );
    provider(
        "[provider.corp]\nclient_id = \"a\"\nissuer = §\"http://a.example\"\nclient_auth = \"none\"",
        "not encrypted",
        "https",
    );
    provider(
        "[provider.§\"c p\"]\nclient_id = \"a\"\nissuer = \"https://a\"\nclient_auth = \"none\"",
        "name `c p`",
        "letters",
    );
}

#[test]
fn a_client_authenticates_in_exactly_one_way() {
    let client = |lines: &str, message: &str, instead: &str| {
        expect(
            &format!("§[provider.corp]\nclient_id = \"a\"\nissuer = \"https://a\"\n{lines}\n{ROUTE}"),
            message,
            instead,
        );
    };
    client("", "does not say how the client authenticates", "client_secret_file");
    let client = |lines: &str, message: &str, instead: &str| {
        expect(
            &format!("[provider.corp]\nclient_id = \"a\"\nissuer = \"https://a\"\n{lines}\n{ROUTE}"),
            message,
            instead,
        );
    };
    client("client_auth = §\"client_secret_post\"", "does not say how", "none");
    client(
        "client_secret = §\"hunter2\"",
        "does not belong in this file",
        "client_secret_file",
    );
    client("client_secret_env = §\"UNSET\"", "UNSET is not set", "set it");
    client("client_secret_file = §\"none\"", "cannot read none", "may read");
    client(
        "client_secret_env = \"SECRET\"\nclient_secret = §\"x\"",
        "several secrets",
        "keep one",
    );
    in_provider("client_secret_env = §\"SECRET\"", "\"none\" has no secret", "leave out");
}

#[test]
fn a_provider_is_asked_for_what_makes_sense() {
    in_provider("scopes = §[\"email\"]", "lacks \"openid\"", "add \"openid\"");
    in_provider("scopes = [§\"openid email\"]", "is not a scope", "of its own");
    in_provider(
        "authorization_params = { §state = \"x\" }",
        "`state` is a parameter that the gateway sets",
        "leave it out",
    );
    in_provider("authorization_params = { max_age = §300 }", "must be a string", "…");
    in_provider("clock_skew = §\"121s\"", "more than a clock may be off", "120s");
    in_provider(
        "token_endpoint = §\"http://id.example.com/t\"",
        "not encrypted",
        "https",
    );
    in_provider("ca_file = §\"none.pem\"", "cannot read none.pem", "may read");
    in_provider("insecure_unverified_email = §true", "must be a table", "[");
}

#[test]
fn bearer_tokens_have_an_audience() {
    in_provider(
        "§[provider.corp.bearer]",
        "`audiences` is missing in [provider.corp.bearer]",
        "audiences =",
    );
    in_provider("[provider.corp.bearer]\naudiences = §[]", "empty list", "at least one");
    in_provider(
        "[provider.corp.bearer]\naudiences = [\"a\"]\nkind = §\"introspection\"",
        "without a secret",
        "jwt",
    );
    in_route(
        "auth = [§\"bearer\"]",
        "no provider of [route.wiki] accepts bearer tokens",
        "bearer]",
    );
}

#[test]
fn n058_one_issuer_has_one_bearer_table() {
    let second = "[provider.b]\nissuer = §\"https://id.example.com\"\nclient_id = \"b\"\nclient_auth = \"none\"\n";
    let bearer = |name: &str| format!("[provider.{name}.bearer]\naudiences = [\"a\"]\n");
    let text = format!("{PROVIDER}{}{second}{}{ROUTE}", bearer("corp"), bearer("b"));
    expect(&text, "access tokens of the same issuer", "of both");
}

#[test]
fn all_problems_come_at_once_and_in_order() {
    let text = format!("versoin = 1\n[server]\nworkers = 0\n{PROVIDER}scopes = [\"a\"]\n{ROUTE}providers = [\"x\"]\n");
    let other = "[route.b]\nurl = \"https://b\"\nupstream = \"http://b\"\n[route.c]\nurl = \"https://b\"\nupstream = \"http://b\"";
    let problems = read(&format!("{text}{other}")).unwrap_err();
    let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 3, 8, 12, 17], "{problems}");
    assert!(problems.to_string().ends_with("5 problems"));
}

#[test]
fn a_snippet_has_file_line_column_and_caret() {
    let problems = read(&format!("versoin = 1\n{PROVIDER}{ROUTE}")).unwrap_err();
    let snippet = &problems.iter().next().unwrap().snippet;
    assert!(snippet.contains("test.toml:1:1") && snippet.contains("1 | versoin = 1") && snippet.contains("^^^^^^^"));
    assert!(snippet.contains("help: write `version`"), "{snippet}");
}
