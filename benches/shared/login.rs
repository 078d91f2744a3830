//! Logins of a given size, as ordinary providers grant them.

use std::time::Duration;

use serde_json::{Value, json};
use vestibule::{
    identity::{Claims, Issuer, ProviderId, Scopes, Subject},
    oauth::token::Login,
    secret::Secret,
    time::Timestamp,
};

pub(crate) const ISSUER: &str = "https://login.example.com";

/// Of a person with so many bytes of claims and tokens: six parts claims, three the access, one the refresh token.
pub(crate) fn login(person: usize, bytes: usize, now: Timestamp) -> Login {
    let tenth = bytes / 10;
    let subject = format!("person-{person:06}");
    let claims = claims(&subject, bytes - 4 * tenth).to_string();
    Login {
        provider: ProviderId::new("corp"),
        issuer: Issuer::new(ISSUER),
        subject: Subject::new(&subject).unwrap(),
        claims: Claims::from_json(claims.as_bytes()).unwrap(),
        scopes: Scopes::parse("openid profile email"),
        access_token: Some(Secret::new("a".repeat(3 * tenth))),
        access_received_at: now,
        access_expires_at: now.plus(Duration::from_secs(3_600)),
        refresh_token: Some(Secret::new("r".repeat(tenth))),
        id_token: None,
    }
}

/// Claims of so many bytes of JSON, most of them groups.
fn claims(subject: &str, bytes: usize) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "sub": subject, "sid": format!("at-the-provider-{subject}"), "name": "Ann Example",
        "email": format!("{subject}@example.com"), "email_verified": true, "groups": [""],
    });
    let length = claims.to_string().len();
    let mut missing = bytes.checked_sub(length).expect("no claims are that short");
    let groups = claims["groups"].as_array_mut().unwrap();
    while missing > 50 {
        let group = format!("department-{:05}", groups.len());
        missing -= group.len() + 3;
        groups.push(group.into());
    }
    groups[0] = "x".repeat(missing).into();
    claims
}
