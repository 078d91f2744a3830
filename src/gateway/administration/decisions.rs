//! Why somebody was refused: one by the reference id that they were shown, or the last ones.

use http::{Method, Request};
use serde_json::{Value, json};

use super::{Nonsense, Refusal, nonsense};
use crate::gateway::{Gateway, decisions};

/// As many are listed where nobody says how many.
const LISTED: usize = 50;
/// As many are listed in one answer.
const MAX_LISTED: usize = 1_000;
/// The decisions that there are to ask for.
const WORDS: [&str; 5] = ["login", "challenge", "deny", "error", "endpoint"];

/// What the refusals have in common; of what is absent, nothing is asked.
#[derive(Debug, Default)]
struct Question {
    route: Option<Box<str>>,
    decision: Option<Box<str>>,
    subject: Option<Box<str>>,
    limit: Option<usize>,
}

impl Gateway {
    /// Answers `/decisions`, and what follows it.
    pub(super) fn decided<B>(&self, request: &Request<B>, which: &str) -> Result<Value, Refusal> {
        if request.method() != Method::GET {
            return Err(nonsense("send GET to /decisions, or to /decisions/ID"));
        }
        if !self.decisions.are_kept() {
            return Err(nonsense("refusals are not kept: `decisions` in [admin] is 0"));
        }
        let question = Question::read(request.uri().query().unwrap_or(""))?;
        match which.strip_prefix('/') {
            None => Ok(self.decisions_listed(&question)),
            Some("") => Err(nonsense("say which reference after `/decisions/`")),
            Some(id) => match self.decisions.by_id(id) {
                Some(refusal) => Ok(refusal.shown()),
                None => Err(Refusal::NotFound(
                    "nothing is known of this reference: it is not a refusal, not one of the last, or another gateway's",
                )),
            },
        }
    }

    fn decisions_listed(&self, question: &Question) -> Value {
        let mut found = self.decisions.matching(|refusal| question.is_about(refusal));
        found.sort_by_key(|refusal| std::cmp::Reverse(refusal.id));
        let shown = found.iter().take(question.limit.unwrap_or(LISTED).min(MAX_LISTED));
        let shown: Vec<_> = shown.map(|refusal| refusal.shown()).collect();
        json!({
            "left_out": found.len().saturating_sub(shown.len()),
            "decisions": shown,
            "now": self.clock.now(),
        })
    }
}

impl Question {
    /// Of a query.
    fn read(query: &str) -> Result<Self, Nonsense> {
        let mut question = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let word = || Some(Box::from(&*value));
            match &*name {
                "route" => super::question::set(&mut question.route, &name, word(), ""),
                "decision" => {
                    let known = word().filter(|word| WORDS.contains(&&**word));
                    super::question::set(
                        &mut question.decision,
                        &name,
                        known,
                        "login, challenge, deny, error or endpoint",
                    )
                }
                "subject" => super::question::set(&mut question.subject, &name, word(), ""),
                "limit" => super::question::set(&mut question.limit, &name, value.parse().ok(), "a number"),
                _ => Err(format!("nothing is known of `{name}`: ask by route, decision, subject or limit").into()),
            }?;
        }
        Ok(question)
    }

    fn is_about(&self, refusal: &decisions::Refusal) -> bool {
        let decided = refusal.would.unwrap_or(refusal.decision);
        self.route
            .as_ref()
            .is_none_or(|route| refusal.route.as_ref() == Some(route))
            && self.decision.as_ref().is_none_or(|decision| **decision == *decided)
            && self
                .subject
                .as_ref()
                .is_none_or(|name| refusal.person.as_ref().is_some_and(|person| person.is(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_says_what_to_ask_instead() {
        for (query, instead) in [
            ("colour=red", "route, decision, subject or limit"),
            ("decision=allow", "challenge"),
            ("limit=all", "a number"),
            ("route=a&route=b", "one at a time"),
        ] {
            let said = Question::read(query).unwrap_err();
            assert!(said.contains(instead), "{query}: {said}");
        }
    }
}
