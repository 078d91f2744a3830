//! Which sessions an administrator asks for.

use std::{borrow::Cow, fmt, net::IpAddr, time::Duration};

use ipnet::IpNet;

use crate::{
    identity::{Issuer, ProviderId, Subject},
    secret::pseudonym,
    session::Label,
    time::{
        Timestamp,
        duration::{self, Shown},
    },
};

/// What the sessions have in common; of what is absent, nothing is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    pub(super) provider: Option<ProviderId>,
    pub(super) subject: Option<Subject>,
    /// Where the login or the last request came from.
    address: Option<IpNet>,
    /// Since the login.
    older_than: Option<Duration>,
    younger_than: Option<Duration>,
    /// Since the last request.
    idle_for: Option<Duration>,
}

/// What is wrong with a question, and what to ask instead.
pub(super) type Nonsense = Cow<'static, str>;

impl Question {
    /// Of a query.
    pub(super) fn read(query: &str) -> Result<Self, Nonsense> {
        let mut question = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "provider" => set(&mut question.provider, &name, Some(ProviderId::new(&value)), ""),
                "subject" => set(&mut question.subject, &name, Subject::new(&value), "a provider's `sub`"),
                "address" => set(
                    &mut question.address,
                    &name,
                    network(&value),
                    "an address like 203.0.113.7, or a network like 10.0.0.0/8",
                ),
                "older_than" => set(&mut question.older_than, &name, duration::read(&value), DURATION),
                "younger_than" => set(&mut question.younger_than, &name, duration::read(&value), DURATION),
                "idle_for" => set(&mut question.idle_for, &name, duration::read(&value), DURATION),
                _ => Err(format!(
                    "nothing is known of `{name}`: ask by provider, subject, address, older_than, younger_than or idle_for"
                )
                .into()),
            }?;
        }
        Ok(question)
    }

    pub(super) fn is_about(&self, label: &Label, now: Timestamp) -> bool {
        let from = [label.started_from, label.seen_from];
        let came_from = |network: &IpNet| from.iter().flatten().any(|address| network.contains(address));
        let age = now.since(label.started_at);
        self.provider.as_ref().is_none_or(|id| *id == label.provider)
            && self.subject.as_ref().is_none_or(|subject| *subject == label.subject)
            && self.address.as_ref().is_none_or(came_from)
            && self.older_than.is_none_or(|least| age >= least)
            && self.younger_than.is_none_or(|most| age < most)
            && self.idle_for.is_none_or(|least| now.since(label.seen_at) >= least)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.provider.is_none() && self.subject.is_none() && !self.needs_labels()
    }

    /// Whether it asks for what only sessions in a store tell.
    pub(super) fn needs_labels(&self) -> bool {
        self.address.is_some() || self.older_than.is_some() || self.younger_than.is_some() || self.idle_for.is_some()
    }

    /// For the log, which names nobody.
    pub(super) fn logged(&self, issuer: Option<&Issuer>) -> impl fmt::Display {
        let subject = self.subject.as_ref().map(|subject| match issuer {
            Some(issuer) => pseudonym(issuer.as_str(), subject.as_str()),
            None => "of any provider".to_owned(),
        });
        let words = [
            ("provider", self.provider.as_ref().map(ToString::to_string)),
            ("subject", subject),
            ("address", self.address.map(|address| address.to_string())),
            ("older_than", self.older_than.map(|age| Shown(age).to_string())),
            ("younger_than", self.younger_than.map(|age| Shown(age).to_string())),
            ("idle_for", self.idle_for.map(|time| Shown(time).to_string())),
        ];
        let given = words
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        given.collect::<Vec<_>>().join(" ")
    }
}

const DURATION: &str = "a number and a unit like 30m, 8h or 7d";

pub(super) fn set<T>(field: &mut Option<T>, name: &str, value: Option<T>, instead: &str) -> Result<(), Nonsense> {
    if field.is_some() {
        return Err(format!("`{name}` stands more than once: ask for one at a time").into());
    }
    match value {
        Some(value) => *field = Some(value),
        None => return Err(format!("`{name}` cannot be read: write {instead}").into()),
    }
    Ok(())
}

fn network(text: &str) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().map(|address| address.to_canonical().into());
    address.or_else(|_| text.parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn label() -> Label {
        Label {
            provider: ProviderId::new("corp"),
            subject: Subject::new("ann").unwrap(),
            started_at: NOW.minus(Duration::from_secs(7_200)),
            seen_at: NOW.minus(Duration::from_secs(600)),
            started_from: Some("203.0.113.7".parse().unwrap()),
            seen_from: Some("2001:db8::1".parse().unwrap()),
        }
    }

    fn is_about(query: &str) -> bool {
        Question::read(query).unwrap().is_about(&label(), NOW)
    }

    #[test]
    fn sessions_are_asked_for_by_what_they_have_in_common() {
        for query in [
            "",
            "provider=corp",
            "subject=ann&provider=corp",
            "address=203.0.113.7",
            "address=203.0.113.0/24",
            "address=::ffff:203.0.113.7",
            "address=2001:db8::/32",
            "older_than=2h",
            "younger_than=2h1s",
            "idle_for=10m&older_than=1h&younger_than=1d",
        ] {
            assert!(is_about(query), "{query}");
        }
        for query in [
            "provider=other",
            "subject=bob",
            "address=203.0.113.8",
            "address=10.0.0.0/8",
            "older_than=2h1s",
            "younger_than=2h",
            "idle_for=11m",
            "provider=corp&older_than=1d",
        ] {
            assert!(!is_about(query), "{query}");
        }
    }

    #[test]
    fn what_nobody_knows_is_about_no_address() {
        let label = Label {
            started_from: None,
            seen_from: None,
            ..label()
        };
        assert!(!Question::read("address=0.0.0.0/0").unwrap().is_about(&label, NOW));
    }

    #[test]
    fn nonsense_says_what_to_ask_instead() {
        for (query, instead) in [
            ("colour=red", "older_than"),
            ("address=home", "10.0.0.0/8"),
            ("older_than=old", "30m"),
            ("idle_for=-1s", "30m"),
            ("subject=", "`sub`"),
            ("provider=a&provider=b", "one at a time"),
        ] {
            let said = Question::read(query).unwrap_err();
            assert!(said.contains(instead), "{query}: {said}");
        }
    }

    #[test]
    fn the_log_names_nobody() {
        let question = Question::read("provider=corp&subject=ann&older_than=90m").unwrap();
        let logged = question
            .logged(Some(&Issuer::new("https://id.example.com")))
            .to_string();
        assert!(
            !logged.contains("ann") && logged.starts_with("provider=corp subject="),
            "{logged}"
        );
        assert!(logged.ends_with(" older_than=1h30m"), "{logged}");
    }
}
