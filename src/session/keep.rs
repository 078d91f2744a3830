//! How a session is kept: from the login, at every use, until it is ended.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Waker},
    time::Duration,
};

use http::HeaderValue;

use super::{
    CookieJar, KeepError, Place, Presented, Replaced, Session, Sessions, StoreError, StoreSettings, Ticket, TooLarge,
    context, store::Record, stored,
};
use crate::{policy::Origin, time::Timestamp};

impl Sessions {
    /// Keeps a new session, and ends the one that the browser came with (I15).
    pub async fn begin(
        &self,
        session: &Session,
        jar: &CookieJar<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Vec<HeaderValue>, KeepError> {
        if matches!(self.settings.store, StoreSettings::Cookie { .. }) {
            return Ok(self.in_cookies(session, jar, origin, now)?);
        }
        let (name, tenant) = (jar.name(""), self.tenant(origin));
        if let Some(old) = jar
            .joined()
            .and_then(|text| Ticket::open(&self.ring, &name, &tenant, &text))
        {
            self.store.end(&old.id).await?;
        }
        let ticket = Ticket::issue(&self.ring);
        let (record, life) = self.record(&ticket, session, 1, &tenant, now)?;
        let indices = self.indices(session);
        self.store.create(&ticket.id, record, indices, life).await?;
        if self.began_before_an_ending(session).await? {
            // Whoever ended it while the login was under way did not find it yet.
            self.store.end(&ticket.id).await?;
        }
        let sealed = ticket.seal(&self.ring, &name, &tenant).unwrap_or_default();
        Ok(jar.set_split(&sealed, self.last_moment(session).since(now))?)
    }

    /// Keeps a session as seen `now`, and yields the cookies that the browser needs for that.
    pub async fn keep(
        &self,
        session: &Session,
        place: &Place,
        jar: &CookieJar<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Vec<HeaderValue>, KeepError> {
        match place {
            Place::Browser => Ok(self.in_cookies(session, jar, origin, now)?),
            Place::Store {
                ticket,
                version,
                tenant,
            } => {
                let session = session.seen(now);
                if ticket.old_key.is_none() {
                    self.note_beside(&session, ticket, *version, tenant, now);
                    return Ok(Vec::new());
                }
                // Before it is taken to the first key: it must be found when the old one is gone.
                let noted = self.index_and_note(&session, ticket, *version, tenant, now).await;
                // The browser gets a ticket under another key only when the label says that it may have one.
                if !noted
                    .inspect_err(not_noted)
                    .is_ok_and(|replaced| replaced == Replaced::Done)
                {
                    return Ok(Vec::new());
                }
                let sealed = ticket.seal(&self.ring, &jar.name(""), tenant).unwrap_or_default();
                Ok(jar.set_split(&sealed, self.last_moment(&session).since(now))?)
            }
        }
    }

    /// Notes that a session was seen, beside the answer: nobody waits for that. Who was faster has seen the same browser.
    fn note_beside(&self, session: &Session, ticket: &Ticket, seen: u64, tenant: &str, now: Timestamp) {
        let (record, life) = match self.record(ticket, session, seen.saturating_add(1), tenant, now) {
            Ok(made) => made,
            Err(error) => return not_noted(&error),
        };
        let (store, id) = (self.store.clone(), ticket.id.clone());
        let mut noting = Box::pin(async move {
            if let Err(error) = store.replace(&id, seen, record, life).await {
                not_noted(&error);
            }
        });
        // It is on its way before the answer is, so that whatever is asked next is asked after it.
        if noting
            .as_mut()
            .poll(&mut TaskContext::from_waker(Waker::noop()))
            .is_pending()
        {
            tokio::spawn(noting);
        }
    }

    async fn index_and_note(
        &self,
        session: &Session,
        ticket: &Ticket,
        version: u64,
        tenant: &str,
        now: Timestamp,
    ) -> Result<Replaced, StoreError> {
        let life = self.ends_at(session).since(now);
        self.store.index(&ticket.id, self.indices(session), life).await?;
        self.replace(ticket, version, session, tenant, now).await
    }

    /// Ends the session that the browser's cookies lead to; deleting them is the caller's.
    pub async fn end(
        &self,
        jar: &CookieJar<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Option<Arc<Session>>, StoreError> {
        let Some(Presented { held, .. }) = self.present(jar, origin, now).await? else {
            return Ok(None);
        };
        self.end_at(&held.session, &held.place, now).await?;
        if let Some(parts) = jar.parts() {
            self.opened.invalidate(&self.fingerprint(origin, &parts));
        }
        Ok(Some(held.session.clone()))
    }

    async fn end_at(&self, session: &Session, place: &Place, now: Timestamp) -> Result<(), StoreError> {
        match place {
            Place::Store { ticket, .. } => self.end_ticket(ticket).await?,
            Place::Browser => drop(self.end_under(&["session", &session.id], now).await?),
        }
        Ok(())
    }

    pub(super) async fn replace(
        &self,
        ticket: &Ticket,
        seen: u64,
        session: &Session,
        tenant: &str,
        now: Timestamp,
    ) -> Result<Replaced, StoreError> {
        let (record, life) = self.record(ticket, session, seen.saturating_add(1), tenant, now)?;
        self.store.replace(&ticket.id, seen, record, life).await
    }

    fn record(
        &self,
        ticket: &Ticket,
        session: &Session,
        version: u64,
        tenant: &str,
        now: Timestamp,
    ) -> Result<(Record, Duration), StoreError> {
        let record = ticket.record(session, version, &self.ring, tenant);
        let record = record.ok_or_else(|| StoreError::Unavailable("sealing failed".into()))?;
        Ok((record, self.ends_at(session).since(now)))
    }

    fn in_cookies(
        &self,
        session: &Session,
        jar: &CookieJar<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Vec<HeaderValue>, TooLarge> {
        let session = session.seen(now);
        let (name, tenant) = (jar.name(""), self.tenant(origin));
        let max_age = self.last_moment(&session).since(now);
        let seal = |session: &Session| {
            let sealed = self.ring.seal(context(&name, &tenant), &stored::write(session));
            jar.set_split(&sealed.unwrap_or_default(), max_age)
        };
        // The raw ID token only makes signing out at the provider smoother: it goes first when room is short. The access
        // token is spent once userinfo was asked, unless an application gets it; who the person is, and the way to fresh
        // tokens, stay.
        let without_both = |error| match self.settings.keep_access_token {
            true => Err(error),
            false => seal(&session.without_id_and_access_token()),
        };
        seal(&session)
            .or_else(|_| seal(&session.without_id_token()))
            .or_else(without_both)
    }
}

fn not_noted(error: &StoreError) {
    tracing::warn!(%error, "a session was not noted as seen");
}
