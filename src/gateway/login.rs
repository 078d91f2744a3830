//! Logging a browser in: from the request that needs it to the request that follows it.

use std::time::Duration;

use http::Response;
use moka::sync::Cache;

use super::{Error, Gateway, Visit, respond, settings::redirect_endpoint};
use crate::{
    identity::{ProviderId, Strength},
    oauth::authorization::{Account, AuthorizationResponse, CodeGrant, LoginSecrets, PendingLogin},
    policy::{LoginDemand, Origin},
    secret::{Fingerprint, FingerprintKey, Secret, random_text},
    session::{Context, CookieJar, KeepError, SameSite, Session},
    time::Timestamp,
    upstream::{body::Body, headers::Credential, target::Target},
};

/// How long a login attempt may take.
const ATTEMPT_LIFETIME: Duration = Duration::from_secs(600);
/// How many attempts of one browser may be under way: as many tabs.
const MAX_PENDING: usize = 5;
/// So many logins within [`LOOP_WINDOW`] that never led anywhere are a loop.
const LOOP_LOGINS: u32 = 3;
const LOOP_WINDOW: Duration = Duration::from_secs(60);
/// A longer way back does not fit into the attempt's cookie.
const MAX_RETURN_BYTES: usize = 1_500;
const MAX_USED: u64 = 20_000;

/// How long the choice of a provider is remembered.
const CHOICE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

const PENDING: &str = "login-";
/// The provider of the last login; it decides nothing but which of several is asked first.
pub(super) const CHOICE: &str = "provider";
pub(super) const TRIES: &str = "tries";

/// Attempts that were finished here: a response is taken once (N-017).
#[derive(Debug)]
pub(super) struct Logins {
    key: FingerprintKey,
    used: Cache<Fingerprint, ()>,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            key: FingerprintKey::random(),
            used: Cache::builder()
                .max_capacity(MAX_USED)
                .time_to_live(ATTEMPT_LIFETIME)
                .build(),
        }
    }
}

impl Logins {
    fn first_use(&self, state: &str) -> bool {
        self.used
            .entry(self.key.of(&[state.as_bytes()]))
            .or_insert(())
            .is_fresh()
    }
}

/// A login that is to begin.
pub(super) struct Attempt<'a> {
    pub(super) provider: &'a ProviderId,
    pub(super) return_to: &'a str,
    pub(super) strength: Strength,
    pub(super) account: Account,
}

/// A login that somebody needs, as soon as there is a provider for it.
pub(super) struct Wish<'a> {
    pub(super) demand: LoginDemand,
    pub(super) return_to: &'a str,
    pub(super) account: Account,
}

impl Gateway {
    /// To the provider where there is one to choose, else to the page that asks which.
    pub(super) async fn send_to_login(
        &self,
        wish: Wish<'_>,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        visit.decision = "login";
        let location = self.way_to_login(wish, credential, origin, visit, now).await?;
        Ok(respond::redirect(&location))
    }

    /// Where a browser goes that has to log in.
    pub(super) async fn way_to_login(
        &self,
        wish: Wish<'_>,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<String, Error> {
        let Wish {
            demand,
            return_to,
            account,
        } = wish;
        let provider = match &*demand.providers {
            [] => return Err(Error::NoEndpoint),
            [provider] => Some(provider),
            several => {
                visit.has_choice = true;
                let jar = self.sessions.jar(origin, &credential.cookies);
                let chosen = chosen_before(&jar, several);
                // Who wants to be somebody else may be known elsewhere; and who does not come back from a provider is
                // not sent there again and again.
                chosen.filter(|_| account == Account::Any && jar.suffixes(PENDING).next().is_none())
            }
        };
        let Some(provider) = provider else {
            return Ok(self.sign_in_path(return_to, account));
        };
        let attempt = Attempt {
            provider,
            return_to,
            strength: demand.strength,
            account,
        };
        self.begin_login(attempt, credential, origin, visit, now).await
    }

    /// The authorization request, with what must be remembered sealed into a cookie of its own (RFC 6749 §4.1.1).
    pub(super) async fn begin_login(
        &self,
        attempt: Attempt<'_>,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<String, Error> {
        let Attempt {
            provider,
            return_to,
            strength,
            account,
        } = attempt;
        let jar = self.sessions.jar(origin, &credential.cookies);
        // Whoever asks to be somebody else goes in no circles by themselves.
        if account == Account::Any && tries(&jar) >= LOOP_LOGINS {
            visit.cookies.extend(jar.delete(TRIES));
            return Err(Error::LoginLoop);
        }
        let provider = self.providers.by_id(provider).ok_or(Error::NoEndpoint)?;
        let attempt = attempt_id(now);
        let secrets = LoginSecrets {
            state: format!("{attempt}.{}", random_text::<24>()),
            nonce: random_text::<24>(),
            code_verifier: Secret::new(random_text::<32>()),
        };
        let redirect_uri = self.absolute(origin, &redirect_endpoint(provider.id(), self.providers.count()));
        let (location, pending) = provider
            .authorization_request(secrets, redirect_uri, fitting(return_to), strength, account, now)
            .await?;
        visit.cookies.extend(drop_oldest(&jar));
        visit.cookies.push(self.remember(&attempt, &pending, &jar, origin)?);
        Ok(location)
    }

    /// The authorization response: checked, redeemed, remembered, and back to where it began.
    pub(super) async fn finish_login(
        &self,
        target: &Target,
        credential: &Credential,
        origin: &Origin,
        visit: &mut Visit<'_>,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        let jar = self.sessions.jar(origin, &credential.cookies);
        let response = AuthorizationResponse::from_query(target.query().unwrap_or(""))?;
        let state = response.state().to_owned();
        let attempt = state.split_once('.').map_or("", |(attempt, _)| attempt);
        let suffix = format!("{PENDING}{attempt}");
        let pending = self.recall(&suffix, &jar, origin).ok_or(Error::LoginUnknown)?;
        // Before anything is used up, so that the browser can come again.
        self.limits.callbacks.count(visit.address)?;
        visit.cookies.extend(jar.delete(&suffix));
        visit.way_back = Some(pending.return_to().to_owned());
        visit.has_choice = self.providers.count() > 1;
        let provider = self.providers.by_id(pending.provider());
        // Another issuer may go by that name by now: it gets no code of the other's.
        let provider = provider.filter(|provider| provider.issuer() == pending.issuer());
        let provider = provider.ok_or(Error::LoginUnknown)?;
        let arrived_at = format!("{origin}{}", target.path());
        let grant: CodeGrant = pending.accept(response, &arrived_at, now)?;
        if !self.logins.first_use(&state) {
            return Err(Error::LoginUnknown);
        }
        let (return_to, strength) = (grant.return_to().to_owned(), grant.strength().clone());
        let login = provider.redeem(grant, now).await?;
        // To go back would only lead here again.
        let shortfall = strength.shortfall(&login.claims, now);
        let session = Session::begin(login, now).started_from(visit.address);
        if let Some(shortfall) = shortfall {
            visit.known_as(&session.identity(provider.claim_names(), now, now));
            return Err(Error::LoginTooWeak {
                shortfall,
                wanted: strength,
            });
        }
        visit
            .cookies
            .extend(self.sessions.begin(&session, &jar, origin, now).await.map_err(unkept)?);
        let tried = tries(&jar).saturating_add(1).to_string();
        visit.cookies.extend(jar.set(TRIES, &tried, LOOP_WINDOW));
        if visit.has_choice {
            visit
                .cookies
                .extend(jar.set(CHOICE, provider.id().as_str(), CHOICE_LIFETIME));
        }
        match self.sessions.settings().cookie.same_site {
            SameSite::Lax => Ok(respond::redirect(&return_to)),
            // A redirect would still count as the provider's navigation, and the session stay unseen.
            SameSite::Strict => Ok(self.pages.go_on("Logged in", &return_to, &visit.id())),
        }
    }

    fn remember(
        &self,
        attempt: &str,
        pending: &PendingLogin,
        jar: &CookieJar<'_>,
        origin: &Origin,
    ) -> Result<http::HeaderValue, Error> {
        let suffix = format!("{PENDING}{attempt}");
        let (name, tenant) = (jar.name(&suffix), self.sessions.tenant(origin));
        let sealed = self.sessions.ring().seal(context(&name, &tenant), &pending.to_json());
        let cookie = sealed.and_then(|sealed| jar.set(&suffix, &sealed, ATTEMPT_LIFETIME));
        cookie.ok_or(Error::Seal)
    }

    fn recall(&self, suffix: &str, jar: &CookieJar<'_>, origin: &Origin) -> Option<PendingLogin> {
        let (name, tenant) = (jar.name(suffix), self.sessions.tenant(origin));
        let opened = self.sessions.ring().open(context(&name, &tenant), jar.value(suffix)?)?;
        PendingLogin::from_json(&opened.plaintext)
    }

    /// An absolute URL below the reserved prefix, from the configured origin and nothing else (I8).
    pub(super) fn absolute(&self, origin: &Origin, endpoint: &str) -> String {
        format!("{origin}{}/{endpoint}", self.settings.auth_prefix)
    }
}

/// The code is spent by now: to ask for the same page again would not help.
fn unkept(error: KeepError) -> Error {
    match error {
        KeepError::TooLarge(error) => Error::SessionTooLarge(error),
        KeepError::Store(error) => Error::LoginUnkept(error),
    }
}

fn context<'a>(name: &'a str, tenant: &'a str) -> Context<'a> {
    Context {
        purpose: "login",
        name,
        tenant,
    }
}

/// Begins with the time, so that names sort by age.
fn attempt_id(now: Timestamp) -> String {
    format!("{:010x}{}", now.unix().max(0), random_text::<6>())
}

/// Deletes as many of the oldest attempts as make room for one more.
fn drop_oldest(jar: &CookieJar<'_>) -> Vec<http::HeaderValue> {
    let mut pending: Vec<&str> = jar.suffixes(PENDING).collect();
    pending.sort_unstable();
    let surplus = pending.len().saturating_add(1).saturating_sub(MAX_PENDING);
    pending
        .iter()
        .take(surplus)
        .filter_map(|suffix| jar.delete(suffix))
        .collect()
}

/// The provider of the last login, where it is still one to choose.
pub(super) fn chosen_before<'a>(jar: &CookieJar<'_>, offered: &'a [ProviderId]) -> Option<&'a ProviderId> {
    let chosen = jar.value(CHOICE)?;
    offered.iter().find(|provider| provider.as_str() == chosen)
}

fn tries(jar: &CookieJar<'_>) -> u32 {
    jar.value(TRIES).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// The way back, without its query or not at all where it is too long to remember.
fn fitting(return_to: &str) -> String {
    let path = return_to.split('?').next().unwrap_or("/");
    [return_to, path, "/"]
        .into_iter()
        .find(|candidate| candidate.len() <= MAX_RETURN_BYTES)
        .unwrap_or("/")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy::Scheme, session::CookieSettings};

    #[test]
    fn at_most_five_attempts_are_remembered_and_the_oldest_go() {
        let settings = CookieSettings::default();
        let origin = Origin {
            scheme: Scheme::Http,
            host: "a".into(),
            port: None,
        };
        let name = |age: usize| (format!("vestibule-login-{age:010x}abc"), String::new());
        let received: Vec<_> = [7, 3, 5, 4, 6, 9].map(name).into();
        let dropped = drop_oldest(&CookieJar::new(&settings, &origin, &received));
        let dropped: Vec<_> = dropped
            .iter()
            .map(|header| header.to_str().unwrap().split('=').next().unwrap())
            .collect();
        assert_eq!(
            dropped,
            ["vestibule-login-0000000003abc", "vestibule-login-0000000004abc"]
        );
        assert!(drop_oldest(&CookieJar::new(&settings, &origin, &received[..4])).is_empty());
    }

    #[test]
    fn attempts_sort_by_age() {
        let older = attempt_id(Timestamp::from_unix(0x6fff_ffff));
        let newer = attempt_id(Timestamp::from_unix(0x1_0000_0000));
        assert!(older < newer);
    }

    #[test]
    fn a_way_back_that_is_too_long_loses_its_query_first() {
        let query = format!("/search?q={}", "x".repeat(2_000));
        assert_eq!(fitting("/a?b=c"), "/a?b=c");
        assert_eq!(fitting(&query), "/search");
        assert_eq!(fitting(&format!("/{}", "x".repeat(2_000))), "/");
    }

    #[test]
    fn n_017_a_response_is_taken_once() {
        let logins = Logins::default();
        assert!(logins.first_use("a.b"));
        assert!(!logins.first_use("a.b"));
    }
}
