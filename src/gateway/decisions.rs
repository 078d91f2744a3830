//! The last refusals, so that whoever is told a reference id finds out why.
//!
//! Refusals only: what is let in costs nothing here. Nothing that opens anything is kept, and of claims not what they say.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

use super::visit::Id;
use crate::{
    identity::Identity,
    policy::{Access, Case, Check, Requirement, Requirements, Route},
    secret::pseudonym,
    time::Timestamp,
};

/// The longest text of each kind that is kept, in bytes; a longer one loses its end.
const MAX_WORD: usize = 128;
const MAX_TEXT: usize = 256;
const MAX_PATH: usize = 512;
/// As many verdicts are kept of one refusal, which is 10 KiB at the very most.
const MAX_CHECKS: usize = 24;

/// Refusals of people who are known, and of strangers; a flood of the ones does not push out the others.
#[derive(Debug)]
pub(super) struct Decisions {
    known: Ring,
    strangers: Ring,
}

/// Each place has a lock of its own, so that two who write hardly ever meet, and a reader holds up nobody for long.
#[derive(Debug)]
struct Ring {
    places: Box<[Mutex<Option<Arc<Refusal>>>]>,
    next: AtomicUsize,
}

/// Why somebody was not let in, or would not have been.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) id: Id,
    pub(super) at: Timestamp,
    pub(super) method: Box<str>,
    pub(super) host: Box<str>,
    /// Without query.
    pub(super) path: Box<str>,
    pub(super) status: u16,
    pub(super) route: Option<Box<str>>,
    pub(super) decision: &'static str,
    /// What would have been decided, were the route not in the shadow.
    pub(super) would: Option<&'static str>,
    pub(super) reason: Option<Box<str>>,
    pub(super) authentication: Option<&'static str>,
    pub(super) person: Option<Person>,
    pub(super) client: IpAddr,
    pub(super) asked: Option<Asked>,
}

#[derive(Clone, Debug)]
pub(super) struct Person {
    provider: Box<str>,
    issuer: Box<str>,
    subject: Box<str>,
    username: Option<Box<str>>,
}

/// What the table asked that decided.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// `allow`, or the `deny` table that applied.
    table: Box<str>,
    verdicts: Vec<Verdict>,
}

/// What the route asked, and whether it was met; not what was found.
#[derive(Clone, Debug)]
struct Verdict {
    requirement: Requirement,
    /// The claim, by its name only.
    claim: Option<Box<str>>,
    /// What the file wants, where that names nobody.
    wanted: Option<Box<str>>,
    met: bool,
}

impl Decisions {
    /// So many of people who are known, and as many of strangers; 0: none.
    pub(super) fn keeping(count: usize) -> Self {
        Self {
            known: Ring::of(count),
            strangers: Ring::of(count),
        }
    }

    /// The same decisions, as far as there is room for them by now.
    pub(super) fn moved_to(&self, count: usize) -> Self {
        let moved = Self::keeping(count);
        let mut kept = self.matching(|_| true);
        kept.sort_by_key(|refusal| refusal.id);
        for refusal in kept {
            moved.keep(refusal);
        }
        moved
    }

    pub(super) fn count(&self) -> usize {
        self.known.places.len()
    }

    pub(super) fn are_kept(&self) -> bool {
        self.count() > 0
    }

    pub(super) fn keep(&self, refusal: Arc<Refusal>) {
        match refusal.person {
            Some(_) => self.known.keep(refusal),
            None => self.strangers.keep(refusal),
        }
    }

    pub(super) fn by_id(&self, id: &str) -> Option<Arc<Refusal>> {
        self.matching(|refusal| refusal.id.to_string() == id).pop()
    }

    /// Those that a question is about, in no order.
    pub(super) fn matching(&self, wanted: impl Fn(&Refusal) -> bool) -> Vec<Arc<Refusal>> {
        let rings = [&self.known, &self.strangers].into_iter();
        let places = rings.flat_map(|ring| ring.places.iter());
        let kept = places.filter_map(|place| {
            let kept = place.lock().unwrap_or_else(PoisonError::into_inner);
            kept.as_ref().filter(|refusal| wanted(refusal)).cloned()
        });
        kept.collect()
    }
}

impl Ring {
    fn of(count: usize) -> Self {
        Self {
            places: (0..count).map(|_| Mutex::default()).collect(),
            next: AtomicUsize::new(0),
        }
    }

    fn keep(&self, refusal: Arc<Refusal>) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let place = turn.checked_rem(self.places.len());
        let Some(place) = place.and_then(|place| self.places.get(place)) else {
            return;
        };
        let refusal = Some(refusal);
        let mut kept = place.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *kept, refusal);
        drop(kept);
        // What was there is freed when nobody waits for the lock.
        drop(before);
    }
}

impl Person {
    pub(super) fn of(identity: &Identity) -> Self {
        Self {
            provider: identity.provider.as_str().into(),
            issuer: cut(identity.issuer.as_str(), MAX_TEXT),
            subject: identity.subject.as_str().into(),
            username: identity.username.as_deref().map(|name| cut(name, MAX_TEXT)),
        }
    }

    fn pseudonym(&self) -> String {
        pseudonym(&self.issuer, &self.subject)
    }

    /// By the provider's `sub`, or by the pseudonym that the log has.
    pub(super) fn is(&self, name: &str) -> bool {
        *self.subject == *name || self.pseudonym() == name
    }
}

impl Asked {
    /// What the decision looked at, once more: nothing for somebody whose refusal has no case.
    pub(super) fn of(route: &Route, case: Case<'_>) -> Option<Self> {
        let Access::Protected(admission) = &route.access else {
            return None;
        };
        let applies = admission.deny.iter().enumerate().find(|(_, rule)| rule.all_apply(case));
        let (table, requirements) = match applies {
            Some((index, rule)) => (format!("deny[{index}]"), rule),
            None => ("allow".to_owned(), &admission.allow),
        };
        let verdicts = requirements.checks(case).take(MAX_CHECKS);
        Some(Self {
            table: table.into(),
            verdicts: verdicts.map(|check| Verdict::of(check, requirements)).collect(),
        })
    }

    fn shown(&self) -> Value {
        let verdicts = self.verdicts.iter().map(|verdict| {
            json!({
                "requirement": verdict.requirement.to_string(),
                "claim": verdict.claim,
                "wanted": verdict.wanted,
                "met": verdict.met,
            })
        });
        json!({ "table": self.table, "requirements": verdicts.collect::<Vec<_>>() })
    }
}

impl Verdict {
    fn of(check: Check<'_>, requirements: &Requirements) -> Self {
        let wanted = match check.requirement {
            Requirement::Groups
            | Requirement::Scopes
            | Requirement::Cidrs
            | Requirement::Acr
            | Requirement::Amr
            | Requirement::MaxAge => Some(cut(&requirements.wanted(check.requirement), MAX_WORD)),
            // They name people, or what a claim says.
            Requirement::Emails
            | Requirement::EmailDomains
            | Requirement::Subjects
            | Requirement::Claims
            | Requirement::ClientCertificates
            | Requirement::Expression => None,
        };
        Self {
            requirement: check.requirement,
            claim: check.claim.map(|rule| cut(&rule.path.to_string(), MAX_WORD)),
            wanted,
            met: check.met,
        }
    }
}

impl Refusal {
    pub(super) fn shown(&self) -> Value {
        let person = self.person.as_ref();
        json!({
            "id": self.id.to_string(),
            "at": self.at,
            "method": self.method,
            "host": self.host,
            "path": self.path,
            "status": self.status,
            "route": self.route,
            "decision": self.decision,
            "would": self.would,
            "reason": self.reason,
            "authentication": self.authentication,
            "provider": person.map(|person| &person.provider),
            "subject": person.map(|person| &person.subject),
            "pseudonym": person.map(Person::pseudonym),
            "username": person.and_then(|person| person.username.as_ref()),
            "client": self.client,
            "asked": self.asked.as_ref().map(Asked::shown),
        })
    }
}

pub(super) fn word(text: &str) -> Box<str> {
    cut(text, MAX_WORD)
}

pub(super) fn text(text: &str) -> Box<str> {
    cut(text, MAX_TEXT)
}

pub(super) fn path(text: &str) -> Box<str> {
    cut(text, MAX_PATH)
}

fn cut(text: &str, most: usize) -> Box<str> {
    match text.len() <= most {
        true => text.into(),
        false => {
            let starts = text.char_indices().map(|(start, _)| start);
            let end = starts.take_while(|start| *start <= most).last();
            format!("{}…", text.get(..end.unwrap_or(0)).unwrap_or("")).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::visit::Ids;

    fn refusal(ids: &Ids, person: Option<&str>) -> Arc<Refusal> {
        Arc::new(Refusal {
            id: ids.next(),
            at: Timestamp::default(),
            method: "GET".into(),
            host: "a".into(),
            path: "/".into(),
            status: 403,
            route: None,
            decision: "deny",
            would: None,
            reason: None,
            authentication: None,
            person: person.map(|subject| Person {
                provider: "corp".into(),
                issuer: "https://id.example.com".into(),
                subject: subject.into(),
                username: None,
            }),
            client: [127, 0, 0, 1].into(),
            asked: None,
        })
    }

    #[test]
    fn a_flood_of_strangers_pushes_out_strangers_only() {
        let (ids, decisions) = (Ids::default(), Decisions::keeping(3));
        let ann = refusal(&ids, Some("ann"));
        decisions.keep(ann.clone());
        for _ in 0..1_000 {
            decisions.keep(refusal(&ids, None));
        }
        assert_eq!(decisions.matching(|_| true).len(), 4);
        let found = decisions.by_id(&ann.id.to_string()).unwrap();
        assert!(found.person.as_ref().unwrap().is("ann"));
    }

    #[test]
    fn a_reload_keeps_the_newest_that_it_has_room_for() {
        let (ids, decisions) = (Ids::default(), Decisions::keeping(4));
        let kept: Vec<_> = (0..4).map(|_| refusal(&ids, None)).collect();
        for refusal in &kept {
            decisions.keep(refusal.clone());
        }
        let moved = decisions.moved_to(2);
        let has = |refusal: &Arc<Refusal>| moved.by_id(&refusal.id.to_string()).is_some();
        assert_eq!(kept.iter().map(has).collect::<Vec<_>>(), [false, false, true, true]);
        assert!(!decisions.moved_to(0).are_kept());
        decisions.moved_to(0).keep(refusal(&ids, None));
    }

    #[test]
    fn a_person_is_found_by_subject_and_by_the_pseudonym_of_the_log() {
        let person = refusal(&Ids::default(), Some("ann")).person.clone().unwrap();
        assert!(person.is("ann") && person.is(&pseudonym("https://id.example.com", "ann")));
        assert!(!person.is("bob"));
    }

    #[test]
    fn a_text_has_a_length() {
        assert_eq!(&*cut("äöü", 3), "ä…");
        assert_eq!(&*cut("äöü", 6), "äöü");
    }
}
