//! Taking something away from somebody never lets them in, unless it is what a `deny` table closed the door for.
//!
//! What holds, of every requirement that is a list or a limit (expressions have a `!`, and are not among them):
//!
//! - Of `allow`: whoever passes with less passes with more.
//! - Of `deny`: one more table never lets anybody in, and a table that applies is never overruled.
//! - Of both: whoever passes with less, and not with more, had something that a `deny` table asks for.

use super::*;

/// A few of a list, in its order.
fn some(of: &'static [&'static str]) -> impl Strategy<Value = Vec<Box<str>>> {
    prop::sample::subsequence(of, 0..=of.len()).prop_map(|list| names(&list))
}

/// Mostly nothing, so that tables ask for a few things and not for all.
fn seldom(of: &'static [&'static str]) -> impl Strategy<Value = Vec<Box<str>>> {
    prop_oneof![3 => Just(Vec::new()), 1 => some(of)]
}

const GROUPS: &[&str] = &["staff", "finance", "contractors"];
const EMAILS: &[&str] = &["ann@example.com", "bob@example.net"];
const DOMAINS: &[&str] = &["example.com", "example.net"];
const SUBJECTS: &[&str] = &["ann", "bob"];
const SCOPES: &[&str] = &["read", "write"];
const ACRS: &[&str] = &["urn:password", "urn:mfa"];
const AMRS: &[&str] = &["pwd", "otp"];
const NETWORKS: &[&str] = &["127.0.0.0/8", "10.0.0.0/8"];

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        prop::sample::select(vec![json!("editor-wiki"), json!("author"), json!(1), json!(true)])
            .prop_map(Wanted::Exactly),
        prop::sample::select(vec!["editor-", "a", ""]).prop_map(|beginning| Wanted::Beginning(beginning.into())),
    ]
}

fn claim_rules() -> impl Strategy<Value = Vec<ClaimRule>> {
    let path = prop::sample::select(vec!["roles", "realm.roles", "level"]);
    let rule = (path, prop::collection::vec(wanted(), 1..3)).prop_map(|(path, values)| ClaimRule {
        path: crate::identity::ClaimPath::parse(path).unwrap(),
        values,
    });
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(rule, 1..3)]
}

fn strength() -> impl Strategy<Value = Strength> {
    let max_age = prop_oneof![3 => Just(None), 1 => (30_u64..90).prop_map(|age| Some(Duration::from_secs(age)))];
    (seldom(ACRS), seldom(AMRS), max_age).prop_map(|(acr, amr, max_age)| Strength { acr, amr, max_age })
}

fn requirements() -> impl Strategy<Value = Requirements> {
    let who = (
        seldom(GROUPS),
        seldom(EMAILS),
        seldom(DOMAINS),
        seldom(SUBJECTS),
        seldom(SCOPES),
    );
    (who, claim_rules(), strength(), seldom(NETWORKS)).prop_map(|(who, claims, strength, networks)| {
        let (groups, emails, email_domains, subjects, scopes) = who;
        Requirements {
            groups: groups.into(),
            emails,
            email_domains,
            subjects,
            scopes: scopes.iter().map(|scope| &**scope).collect(),
            claims,
            strength,
            cidrs: networks.iter().map(|network| network.parse().unwrap()).collect(),
            client_certificates: Vec::new(),
            expression: None,
        }
    })
}

/// All that anybody in these tests can have.
fn everything() -> serde_json::Value {
    json!({
        "roles": ["editor-wiki", "author", 1], "realm": {"roles": ["author", true], "other": 1}, "level": 1,
        "acr": "urn:mfa", "amr": ["pwd", "otp"], "auth_time": NOW.unix() - 60,
    })
}

/// Takes a member, or an element, away wherever the next bit says so.
fn without(value: &serde_json::Value, keep: &mut impl Iterator<Item = bool>) -> serde_json::Value {
    match value {
        serde_json::Value::Object(members) => {
            let kept = members.iter().filter_map(|(name, member)| {
                let is_kept = keep.next().unwrap_or(true);
                is_kept.then(|| (name.clone(), without(member, keep)))
            });
            kept.collect::<serde_json::Map<_, _>>().into()
        }
        serde_json::Value::Array(elements) => {
            let kept = elements.iter().filter_map(|element| {
                let is_kept = keep.next().unwrap_or(true);
                is_kept.then(|| without(element, keep))
            });
            kept.collect::<Vec<_>>().into()
        }
        scalar => scalar.clone(),
    }
}

/// Somebody, and the same person with less.
fn somebody() -> impl Strategy<Value = (Identity, Identity)> {
    let bits = || prop::collection::vec(prop::bool::weighted(0.8), 40);
    (bits(), bits()).prop_map(|(first, second)| {
        let whole = Identity {
            groups: names(GROUPS),
            scopes: SCOPES.iter().copied().collect(),
            claims: Claims::from_json(everything().to_string().as_bytes()).unwrap(),
            ..identity(Proof::AccessToken)
        };
        let more = taken(&whole, first);
        let less = taken(&more, second);
        (more, less)
    })
}

fn taken(from: &Identity, keep: Vec<bool>) -> Identity {
    let mut keep = keep.into_iter();
    let mut next = || keep.next().unwrap();
    let mut less = from.clone();
    less.groups.retain(|_| next());
    less.scopes = from.scopes.iter().filter(|_| next()).collect();
    less.email = from.email.clone().filter(|_| next());
    less.username = from.username.clone().filter(|_| next());
    let claims = without(&serde_json::to_value(&from.claims).unwrap(), &mut keep);
    less.claims = Claims::from_json(claims.to_string().as_bytes()).unwrap();
    less
}

fn passes(allow: &Requirements, deny: &[Requirements], identity: &Identity) -> bool {
    let route = route(Access::Protected(Admission {
        allow: allow.clone(),
        deny: deny.to_vec(),
        ..admission()
    }));
    let decision = decide(&route, &AT_THE_WIKI, verified(identity.clone()), NOW);
    matches!(decision, Decision::Allow(_))
}

/// Every key of a table by itself, and every value of each list that is one of several.
fn apart(table: &Requirements) -> Vec<Vec<Requirements>> {
    let each = |list: &[Box<str>], put: fn(&mut Requirements) -> &mut Vec<Box<str>>| {
        let one = |value: &str| {
            let mut alone = Requirements::default();
            put(&mut alone).push(value.into());
            alone
        };
        list.iter().map(|value| one(value)).collect::<Vec<_>>()
    };
    let mut keys = vec![
        each(&table.emails, |alone| &mut alone.emails),
        each(&table.email_domains, |alone| &mut alone.email_domains),
        each(&table.subjects, |alone| &mut alone.subjects),
        each(&table.strength.acr, |alone| &mut alone.strength.acr),
        each(&table.strength.amr, |alone| &mut alone.strength.amr),
    ];
    let group = |group: &str| Requirements {
        groups: names(&[group]).into(),
        ..Requirements::default()
    };
    keys.push(table.groups.iter().map(|name| group(name)).collect());
    let network = |network: &ipnet::IpNet| Requirements {
        cidrs: vec![*network],
        ..Requirements::default()
    };
    keys.push(table.cidrs.iter().map(network).collect());
    // Of the scopes all are needed: each is a key of its own, with one value.
    keys.extend(table.scopes.iter().map(|scope| {
        vec![Requirements {
            scopes: Scopes::parse(scope),
            ..Requirements::default()
        }]
    }));
    keys.extend(table.claims.iter().map(|rule| {
        let one = |value: &Wanted| Requirements {
            claims: vec![ClaimRule {
                path: rule.path.clone(),
                values: vec![value.clone()],
            }],
            ..Requirements::default()
        };
        rule.values.iter().map(one).collect()
    }));
    keys.extend(table.strength.max_age.map(|max_age| {
        vec![Requirements {
            strength: Strength {
                max_age: Some(max_age),
                ..Strength::default()
            },
            ..Requirements::default()
        }]
    }));
    keys.retain(|values| !values.is_empty());
    keys
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn of_allow_whoever_passes_with_less_passes_with_more(allow in requirements(), (more, less) in somebody()) {
        prop_assert!(passes(&allow, &[], &more) || !passes(&allow, &[], &less));
    }

    #[test]
    fn one_more_denial_never_lets_anybody_in(
        allow in requirements(), deny in prop::collection::vec(requirements(), 0..3), another in requirements(), (somebody, _) in somebody(),
    ) {
        let all = [deny.clone(), vec![another]].concat();
        prop_assert!(passes(&allow, &deny, &somebody) || !passes(&allow, &all, &somebody));
    }

    #[test]
    fn a_denial_that_applies_is_never_overruled(
        allow in requirements(), deny in prop::collection::vec(requirements(), 1..3), (somebody, _) in somebody(),
    ) {
        let applies = deny.iter().any(|table| !apart(table).is_empty() && passes(table, &[], &somebody));
        prop_assert_eq!(passes(&allow, &deny, &somebody), passes(&allow, &[], &somebody) && !applies);
    }

    #[test]
    fn who_passes_only_with_less_had_what_a_denial_asks_for(
        allow in requirements(), deny in prop::collection::vec(requirements(), 0..3), (more, less) in somebody(),
    ) {
        if passes(&allow, &deny, &less) && !passes(&allow, &deny, &more) {
            prop_assert!(deny.iter().any(|table| passes(table, &[], &more) && !passes(table, &[], &less)));
        }
    }

    #[test]
    fn all_keys_are_needed_and_of_each_list_one(allow in requirements(), (somebody, _) in somebody()) {
        let apart = apart(&allow).iter().all(|values| values.iter().any(|value| passes(value, &[], &somebody)));
        prop_assert_eq!(passes(&allow, &[], &somebody), apart);
    }
}
