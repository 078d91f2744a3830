//! Routes that are refused.

use super::{
    PROVIDER, ROUTE,
    bad::{expect, in_route},
};

#[test]
fn a_route_has_a_place_and_a_destination() {
    let route = |lines: &str, message: &str, instead: &str| expect(&format!("{PROVIDER}{lines}"), message, instead);
    route(
        "§[route.a]\nupstream = \"http://a\"",
        "`url` is missing in [route.a]",
        "url =",
    );
    route("§[route.a]\nurl = \"https://a\"", "`upstream` is missing", "upstream =");
    route(
        "[route.a]\nurl = §[]\nupstream = \"http://a\"",
        "empty list",
        "at least one",
    );
    route(
        "[route.a]\nurl = §\"a\"\nupstream = \"http://a\"",
        "not an http or https URL",
        "https://",
    );
    route(
        "[route.a]\nurl = §\"https://a/%41\"\nupstream = \"http://a\"",
        "different things",
        "letters",
    );
    route(
        "[route.a]\nurl = §\"https://a/oauth2/x\"\nupstream = \"http://a\"",
        "/oauth2 is the gateway's own",
        "auth_prefix",
    );
    route(
        "[route.a]\nurl = \"https://a\"\nupstream = §\"http://a/b\"",
        "has a path",
        "port only",
    );
    expect(PROVIDER, "there is no route", "[route.NAME]");
}

#[test]
fn i3_nothing_is_public_by_accident() {
    expect(&format!("§{ROUTE}"), "nobody can log in to [route.wiki]", "public");
    in_route("auth = [\"public\", §\"session\"]", "stands alone", "leave");
    in_route(
        "auth = [\"public\"]\n§[route.wiki.allow]\ngroups = [\"a\"]",
        "`allow` means nothing on a public route",
        "leave out",
    );
    in_route(
        "auth = [\"public\"]\nproviders = §[\"corp\"]",
        "`providers` means nothing",
        "leave out",
    );
    in_route(
        "§[route.wiki.allow]",
        "the `allow` table asks for nothing",
        "leave the table out",
    );
    in_route(
        "§[[route.wiki.deny]]",
        "the `deny` table asks for nothing",
        "leave the table out",
    );
    in_route("[route.wiki.allow]\ngroups = §[]", "empty list", "leave the key out");
}

#[test]
fn a_route_asks_for_what_can_be() {
    in_route("providers = [§\"crop\"]", "no provider `crop`", "write \"corp\"");
    in_route("providers = [\"corp\", §\"corp\"]", "twice", "take one away");
    in_route("methods = [§\"get\"]", "upper case", "\"GET\"");
    in_route("methods = [§\"TRACE\"]", "never forwarded", "leave it out");
    in_route("exact = §1", "must be a boolean", "true");
    let bearer = "[provider.corp.bearer]
audiences = [\"a\"]
";
    let redirect = "on_unauthenticated = §\"redirect\"
auth = [\"bearer\"]";
    expect(
        &format!("{PROVIDER}{bearer}{ROUTE}{redirect}"),
        "nobody can be redirected",
        "add \"session\"",
    );
    in_route(
        "[route.wiki.allow]\nemails = [§\"example.com\"]",
        "not an e-mail address",
        "email_domains",
    );
    in_route(
        "[route.wiki.allow]\nemail_domains = [§\"@example.com\"]",
        "not the domain",
        "follows the `@`",
    );
    in_route(
        "[route.wiki.allow]\nclaims = { §\"a..b\" = [1] }",
        "not the path of a claim",
        "realm_access",
    );
    in_route(
        "resource_metadata = §true",
        "tells clients to get a token, and [route.wiki] takes none",
        "bearer",
    );
    in_route(
        "auth = [\"public\"]\nresource_metadata = §true",
        "`resource_metadata` means nothing on a public route",
        "leave out",
    );
    let expression = |text: &str, message: &str, instead: &str| {
        in_route(
            &format!("[route.wiki.allow]\nexpression = §\"{text}\""),
            message,
            instead,
        );
    };
    expression(
        "clams.level == 3",
        "unknown name `clams`, at column 1",
        "write `claims`",
    );
    expression("email.endWith('x')", "unknown function `endWith`", "write `endsWith`");
    expression("email.matches('x')", "unknown function `matches`", "startsWith");
    expression("'a' in groups and email == ''", "is not CEL", "&&");
    expression("size(claims) > 1", "`claims` as a whole", "name a claim");
    expression("", "is empty", "in groups");
    in_route(
        "[[route.wiki.deny]]\nexpression = §'''\n'a' in groups\n&& nwo > 1'''",
        "the `expression` of `deny` uses the unknown name `nwo`, at line 2, column 4",
        "write `now`",
    );
    in_route(
        "insecure_cross_site_requests = §{ until = \"2027-01-31\" }",
        "`reason` is missing",
        "reason =",
    );
    in_route(
        "insecure_cross_site_requests = { reason = \"x\", until = §\"soon\" }",
        "is not a date",
        "2027-01-31",
    );
}

#[test]
fn i4_headers_are_the_gateways_to_give() {
    in_route(
        "[route.wiki.identity]\nheaders = { §Cookie = \"{user}\" }",
        "belongs to the message",
        "X-User",
    );
    in_route(
        "[route.wiki.identity]\nheaders = { X-A = §\"{user\" }",
        "brace that does not fit",
        "{user}",
    );
    let twice = "headers = { X-A = \"{user}\", §x_a = \"{sub}\" }";
    in_route(
        &format!("[route.wiki.identity]\n{twice}"),
        "`x_a` and `x-a` are the same header",
        "keep one",
    );
    in_route(
        "§[route.wiki.upstream_tls]",
        "without an https upstream",
        "leave it out",
    );
}

#[test]
fn a_tie_names_both_routes() {
    let second = "[route.b]\nurl = [\"https://b\", §\"https://wiki.example.com:443/\"]\nupstream = \"http://b\"\n";
    in_route(
        second,
        "routes `wiki` and `b` would both take https://wiki.example.com/",
        "methods",
    );
    let twice = "[route.b]\nurl = [\"https://b/a\", §\"https://b/a/\"]\nupstream = \"http://b\"\n";
    in_route(twice, "route `b` has https://b/a/ twice", "its own");
}

#[test]
fn i8_a_host_has_one_scheme() {
    let second = |url: &str| format!("[route.b]\nurl = §\"{url}\"\nupstream = \"http://b\"\n");
    in_route(
        &second("http://wiki.example.com/b"),
        "used with http and with https",
        "one scheme",
    );
    in_route(
        &second("http://wiki.example.com:443/b"),
        "used with http and with https",
        "one scheme",
    );
}
