use std::{net::Ipv4Addr, thread};

use http::Method;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    identity::{Claims, Identity, Issuer, Proof, ProviderId, Scopes, Subject, Words},
    policy::{Client, Initiator, RequestFacts},
    time::Timestamp,
};

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

static REQUEST: RequestFacts<'static> = RequestFacts {
    method: &Method::GET,
    host: "wiki.example.com",
    port: None,
    path: "/teams/red/page",
    query: None,
    client: Client::Programmatic,
    initiator: Initiator::OwnSite,
    address: std::net::IpAddr::V4(Ipv4Addr::LOCALHOST),
    certificate: None,
};

fn ann() -> Identity {
    let claims = json!({
        "department": "finance", "level": 3, "ratio": 0.5, "big": 18_446_744_073_709_551_615_u64, "nothing": null,
        "realm_access": {"roles": ["reporter", "auditor"]}, "https://example.com/team": "red",
        "teams": [{"name": "red", "lead": true}, {"name": "blue"}], "auth_time": NOW.unix() - 60,
    });
    Identity {
        provider: ProviderId::new("corp"),
        issuer: Issuer::new("https://id.example.com"),
        subject: Subject::new("248").unwrap(),
        proof: Proof::Session,
        username: Some("ann".into()),
        email: Some("ann@example.com".into()),
        groups: vec!["staff".into(), "finance".into()],
        groups_unknown: false,
        scopes: Scopes::parse("openid read"),
        claims: Claims::from_json(claims.to_string().as_bytes()).unwrap(),
        expires_at: NOW,
        words: Words::default(),
    }
}

fn nobody_in_particular() -> Identity {
    Identity {
        username: None,
        email: None,
        groups: Vec::new(),
        scopes: Scopes::default(),
        claims: Claims::default(),
        ..ann()
    }
}

fn verdict(source: &str, identity: &Identity) -> Result<bool, Uncertain> {
    let expression = Expression::compile(source, Side::Allow).unwrap_or_else(|refusal| panic!("{source}: {refusal:?}"));
    expression.verdict(Case {
        identity,
        request: &REQUEST,
        now: NOW,
    })
}

fn is_met(source: &str, side: Side, identity: &Identity) -> bool {
    Expression::compile(source, side).unwrap().is_met(Case {
        identity,
        request: &REQUEST,
        now: NOW,
    })
}

#[test]
fn everything_that_it_names_is_there() {
    for source in [
        "claims.department == 'finance'",
        "claims['department'] == 'finance' && claims.level >= 3 && claims.ratio < 1.0",
        "claims.level in [1, 2, 3] && claims.big > 1 && claims.nothing == null",
        "'reporter' in claims.realm_access.roles && size(claims.realm_access.roles) == 2",
        "claims.realm_access.roles[0] == 'reporter'",
        "claims['https://example.com/team'] == 'red' && 'https://example.com/team' in claims",
        "has(claims.department) && !has(claims.manager) && has(claims.realm_access.roles)",
        "claims.teams.exists(team, team.name == 'red' && has(team.lead) && team.lead)",
        "claims.teams.filter(team, has(team.lead)).all(team, team.name == 'red')",
        "claims.teams.exists_one(team, team.name == 'blue')",
        "'staff' in groups && groups.exists(group, group.startsWith('fin')) && groups.size() == 2",
        "['staff', 'finance'].all(wanted, wanted in groups)",
        "'read' in scopes && size(scopes) == 2",
        "email.endsWith('@example.com') && email == username + '@example.com' && email.contains('nn@')",
        "subject == '248' && issuer == 'https://id.example.com' && provider == 'corp'",
        "request.method == 'GET' && request.host == 'wiki.example.com' && request.address == '127.0.0.1'",
        "request.path.startsWith('/teams/' + claims['https://example.com/team'] + '/')",
        "now - claims.auth_time <= 60 && int('7') == 7 && string(claims.level) == '3' && double(1) < 1.5",
        "claims.level > 5 ? false : claims.department != 'sales'",
        "\n  'staff' in groups\n  || 'admins' in groups\n",
    ] {
        assert!(
            matches!(verdict(source, &ann()), Ok(true)),
            "{source}: {:?}",
            verdict(source, &ann())
        );
    }
}

#[test]
fn what_is_missing_is_never_a_yes() {
    for source in [
        "claims.department == 'finance'",
        "claims.department != 'sales'",
        "!(claims.department in ['sales'])",
        "claims.realm_access.roles.all(role, role != 'guest')",
        "!claims.locked",
        "email != 'eve@example.com'",
        "username != 'eve'",
        "!has(claims.realm_access.roles)",
        "claims.level < 5 || claims.department == 'finance'",
        "'staff' in groups || claims.department == 'finance'",
    ] {
        let outcome = verdict(source, &nobody_in_particular());
        assert!(outcome.is_err(), "{source}: {outcome:?}");
        assert!(!is_met(source, Side::Allow, &nobody_in_particular()), "{source}");
        assert!(is_met(source, Side::Deny, &nobody_in_particular()), "{source}");
    }
}

#[test]
fn a_certain_side_of_or_and_and_decides_whatever_the_other_is() {
    // So the standard has it, and so the handbook says.
    let nobody = nobody_in_particular();
    assert!(matches!(
        verdict("claims.level == 1 || provider == 'corp'", &nobody),
        Ok(true)
    ));
    assert!(matches!(
        verdict("claims.level == 1 && provider == 'other'", &nobody),
        Ok(false)
    ));
    assert!(matches!(
        verdict("has(claims.level) ? claims.level > 5 : true", &nobody),
        Ok(true)
    ));
    assert!(matches!(verdict("!('contractors' in groups)", &nobody), Ok(true)));
}

#[test]
fn what_is_no_boolean_counts_against_the_person() {
    let outcome = verdict("claims.department", &ann());
    assert!(matches!(outcome, Err(Uncertain::NotBoolean)), "{outcome:?}");
    assert!(!is_met("claims.department", Side::Allow, &ann()));
    assert!(is_met("claims.department", Side::Deny, &ann()));
}

fn refusal(source: &str) -> Refusal {
    Expression::compile(source, Side::Allow).expect_err(source)
}

#[test]
fn what_is_not_known_is_refused_where_it_stands() {
    let unknown = |name: &str| Why::UnknownName(name.into());
    let function = |name: &str| Why::UnknownFunction(name.into());
    for (source, line, column, why) in [
        ("clams.level == 3", 1, 1, unknown("clams")),
        ("'ä' in groups && emial == ''", 1, 18, unknown("emial")),
        ("'a' in groups\n && request.query == ''", 2, 5, unknown("request.query")),
        ("email.matches('.*')", 1, 14, function("matches")),
        ("claims.a.map(x, x + x).exists(y, y == 1)", 1, 13, function("map")),
        ("claims.a.exists(x, claims.b.exists(y, x == y))", 1, 35, Why::NestedLoop),
        ("size(claims) > 0", 1, 6, Why::Whole("claims")),
        ("claims[username] == 1", 1, 1, Why::Whole("claims")),
        (
            "has(request.path)",
            1,
            4,
            Why::Unsupported("`has` of something that is no claim"),
        ),
        ("groups == ['a']", 1, 1, Why::Whole("groups")),
        (
            "claims.a.exists(email, email == 'a')",
            1,
            16,
            Why::Shadowed("email".into()),
        ),
        ("{'a': 1}.a == claims.a", 1, 1, Why::Unsupported("a map")),
        ("1 < 2", 1, 3, Why::Constant),
        ("size(groups)", 1, 5, Why::NotBoolean),
        ("email", 1, 1, Why::NotBoolean),
    ] {
        assert_eq!(refusal(source), Refusal { line, column, why }, "{source}");
    }
}

#[test]
fn a_mistake_of_syntax_is_shown_where_it_is() {
    for (source, line, column) in [
        ("'a' in groups &", 1, 15),
        ("email == \n= 'a'", 2, 1),
        ("email.endsWith('a'", 1, 19),
    ] {
        let Refusal {
            line: l,
            column: c,
            why,
        } = refusal(source);
        assert!(
            matches!(why, Why::Syntax(_)) && (l, c) == (line, column),
            "{source}: {l}:{c} {why:?}"
        );
    }
}

#[test]
fn only_what_is_named_is_kept_and_copied() {
    let expression = "has(claims.a.b) && claims.a.c[0] == 'x' && claims['https://x/y'] == claims.d && claims.d.e == 1";
    let expression = Expression::compile(expression, Side::Allow).unwrap();
    let mut paths: Vec<String> = expression.claims().iter().map(ToString::to_string).collect();
    paths.sort();
    assert_eq!(paths, ["a.b", "a.c", "d", "https://x/y"]);
    assert!(!expression.uses_email());
}

/// Texts that are as deep as their length allows.
fn deep() -> Vec<String> {
    let nested = |open: &str, middle: &str, close: &str| {
        let times = MAX_BYTES.saturating_sub(middle.len()) / (open.len() + close.len());
        format!("{}{middle}{}", open.repeat(times), close.repeat(times))
    };
    vec![
        nested("(", "email", ")"),
        nested("[", "email", "]"),
        nested("{1:", "email", "}"),
        nested("!", "claims.a", ""),
        nested("-", "claims.a", ""),
        nested("! -", "claims.a", ""),
        nested("size(", "email", ")"),
        nested("claims.a?", "claims.b", ":1"),
        nested("", "claims.a", ".a"),
        nested("", "claims.a", "['a']"),
        nested("", "claims.a", "[0]"),
        nested("", "now", "+1"),
        nested("", "claims.a", "&&claims.a"),
        nested("", "claims.a", "||!claims.a&&claims.b"),
        nested("", "now", "==1"),
        nested("", "claims.a", ".filter(x,x==1)"),
        nested("claims.a.exists(x,", "x", ")"),
        nested("", "claims.a", ".startsWith('a')"),
        // As deep as is evaluated.
        format!("now{} == 7", " + 1".repeat(28)),
        format!("{}claims.a{} == 1", "(1 + ".repeat(28), ")".repeat(28)),
        format!("claims.list{}.all(x, x == 1)", ".filter(x, x == 1)".repeat(28)),
        format!("1 in {}claims.a{}", "[".repeat(28), "]".repeat(28)),
        format!("{}true", "now == 1 ? false : ".repeat(28)),
        format!("claims.a{} == 1", "['a']".repeat(28)),
        nested("((((((((", "", ""),
        nested("", "", ")"),
        nested("[", "", ""),
        nested("a(", "", ""),
        nested("'", "", ""),
        nested("\"\\", "", ""),
        nested("\u{1F980}", "", ""),
    ]
}

#[test]
fn nesting_is_refused_or_harmless_within_a_small_stack() {
    let small = thread::Builder::new().stack_size(2 * 1_024 * 1_024);
    let all = || {
        for source in deep() {
            if let Ok(expression) = Expression::compile(&source, Side::Deny) {
                let _ = expression.is_met(Case {
                    identity: &ann(),
                    request: &REQUEST,
                    now: NOW,
                });
            }
        }
    };
    small.spawn(all).unwrap().join().unwrap();
    assert_eq!(refusal(&"a".repeat(MAX_BYTES + 1)).why, Why::TooLong);
    assert_eq!(
        refusal(&format!("{}email{}", "(".repeat(100), ")".repeat(100))).why,
        Why::TooDeep
    );
    assert_eq!(refusal(&format!("now{} == 7", " + 1".repeat(100))).why, Why::TooDeep);
}

#[test]
fn what_would_take_long_is_not_evaluated() {
    let many: Vec<Json> = (0..5_000).map(|number| json!(format!("team-{number}"))).collect();
    let claims = json!({"one": many, "other": many});
    let crowd = Identity {
        claims: Claims::from_json(claims.to_string().as_bytes()).unwrap(),
        ..ann()
    };
    assert!(matches!(verdict("'team-4999' in claims.one", &crowd), Ok(true)));
    assert!(matches!(
        verdict("claims.one.exists(team, team == 'team-4999')", &crowd),
        Ok(true)
    ));
    let square = "claims.one.all(team, team in claims.other)";
    assert!(matches!(verdict(square, &crowd), Err(Uncertain::TooCostly)));
    assert!(!is_met(square, Side::Allow, &crowd) && is_met(square, Side::Deny, &crowd));
    // The same is fine with few.
    let few = json!({"one": ["a", "b"], "other": ["b", "a"]});
    let few = Identity {
        claims: Claims::from_json(few.to_string().as_bytes()).unwrap(),
        ..ann()
    };
    assert!(matches!(verdict(square, &few), Ok(true)));
}

proptest! {
    /// Whatever the text and whatever the claims: an answer, and no panic.
    #[test]
    fn any_text_is_refused_or_evaluated(words in prop::collection::vec(prop::sample::select(vec![
        "claims", ".a", ".b", "['a']", "[0]", "groups", "email", "now", "'a'", "1", "1.5", "-", "!", "(", ")", "&&", "||",
        "==", "!=", "<", "+", "*", "/", "%", " in ", "?", ":", "[", "]", ",", ".exists(x,", ".filter(x,", "x", "size(",
        "has(", ".startsWith(", "int(", "null", "true", "u", "b'", "\\",
    ]), 0..24), a in prop::sample::select(vec![json!(null), json!(0), json!(-1), json!("a"), json!([1, "a", null]), json!({"b": [0]})])) {
        if let Ok(expression) = Expression::compile(&words.concat(), Side::Allow) {
            let identity = Identity { claims: Claims::from_iter([("a", a)]), ..ann() };
            let case = Case { identity: &identity, request: &REQUEST, now: NOW };
            let verdict = expression.verdict(case);
            prop_assert!(!matches!(verdict, Err(Uncertain::Broken)), "{}", words.concat());
        }
    }
}

#[test]
fn what_the_provider_keeps_elsewhere_is_uncertain_whatever_is_asked() {
    let elsewhere = Identity {
        groups_unknown: true,
        claims: Claims::from_iter([("_claim_names", json!({ "groups": "src1", "roles": "src1" }))]),
        ..nobody_in_particular()
    };
    for source in ["!('staff' in groups)", "!has(claims.roles)", "size(groups) == 0"] {
        let verdict = verdict(source, &elsewhere);
        assert!(matches!(verdict, Err(Uncertain::Elsewhere(_))), "{source}: {verdict:?}");
    }
    assert_eq!(verdict("!has(claims.department)", &elsewhere).ok(), Some(true));
}
