//! How often one address may do what costs something; who only asks for pages is never counted.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock,
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use moka::{policy::EvictionPolicy, sync::Cache};
use prometheus_client::metrics::counter::Counter;

use super::{Error, settings::PerMinute};
use crate::{
    provider::{BearerError, Finding, Verdict},
    telemetry::Metrics,
    time::{Clock, Timestamp},
};

/// What is limited, each by itself.
#[derive(Debug)]
pub(super) struct Limits {
    /// Logins that are begun at the gateway's own page.
    pub(super) starts: PerAddress,
    /// Authorization responses that are redeemed.
    pub(super) callbacks: PerAddress,
    /// Access tokens that turned out bad.
    pub(super) bad_tokens: PerAddress,
    /// Tokens of an administrator that were none.
    pub(super) bad_admins: PerAddress,
    /// Logout tokens that turned out bad; good ones are the provider's word, however many.
    pub(super) bad_logouts: PerAddress,
    /// Sessions that were ended by their name alone.
    pub(super) frames: PerAddress,
}

impl Limits {
    pub(super) fn new(settings: &PerMinute, clock: &Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let limit = |per_minute, kind| PerAddress::new(per_minute, clock.clone(), metrics.rate_limited(kind));
        Self {
            starts: limit(settings.logins, "login_start"),
            callbacks: limit(settings.logins, "login"),
            bad_tokens: limit(settings.failed_credentials, "bearer_token"),
            bad_admins: limit(settings.failed_credentials, "admin_token"),
            bad_logouts: limit(settings.logouts, "backchannel_logout"),
            frames: limit(settings.logouts, "frontchannel_logout"),
        }
    }

    /// What was found out of a token, once it is counted if it is bad.
    pub(super) fn counted(&self, finding: Finding, address: IpAddr) -> Result<Verdict, TooMany> {
        if finding.first && matches!(finding.verdict, Err(BearerError::Token(_))) {
            self.bad_tokens.count(address)?;
        }
        Ok(finding.verdict)
    }
}

/// It was more than one address may do; the door is open again after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany {
    /// At least a second.
    pub(super) retry_after: Duration,
}

impl From<TooMany> for Error {
    fn from(TooMany { retry_after }: TooMany) -> Self {
        Self::TooOften { retry_after }
    }
}

/// So many a minute for each address, all of them at once if need be.
#[derive(Debug)]
pub(super) struct PerAddress {
    /// Absent: no limit.
    quota: Option<Quota>,
    clock: Ticks,
    /// Those that did it lately. Who is pushed out by a crowd begins anew; a crowd is not what this holds against.
    lately: Cache<Neighbours, Arc<Account>>,
    refused: Counter,
}

/// Of each kind; an account is about 200 bytes.
const MAX_ACCOUNTS: u64 = 20_000;
const PERIOD: Duration = Duration::from_secs(60);

/// What one address did.
#[derive(Debug)]
struct Account {
    limiter: Limiter,
    /// Until then, one more would be too many.
    closed_until: AtomicI64,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Ticks, StateInformationMiddleware>;

impl PerAddress {
    fn new(per_minute: Option<NonZeroU32>, clock: Arc<dyn Clock>, refused: Counter) -> Self {
        Self {
            quota: per_minute.map(Quota::per_minute),
            clock: Ticks(clock),
            // After a minute without it, there is nothing left to remember.
            lately: Cache::builder()
                .max_capacity(MAX_ACCOUNTS)
                .time_to_idle(PERIOD)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            refused,
        }
    }

    /// Counts one more, unless it is too many.
    pub(super) fn count(&self, address: IpAddr) -> Result<(), TooMany> {
        let Some(quota) = self.quota else { return Ok(()) };
        let whose = Neighbours::of(address);
        let open = || Arc::new(Account::open(quota, self.clock.clone()));
        let counted = self.lately.get_with(whose, open).count(quota, self.clock.0.now());
        match counted {
            // No wait is so long, unless the clock was set back.
            Err(wait) if wait > PERIOD => {
                self.lately.invalidate(&whose);
                Ok(())
            }
            Err(wait) => Err(self.refuse(wait)),
            Ok(()) => Ok(()),
        }
    }

    /// Whether there were too many; counts nothing.
    pub(super) fn look(&self, address: IpAddr) -> Result<(), TooMany> {
        let Some(account) = self.quota.and_then(|_| self.lately.get(&Neighbours::of(address))) else {
            return Ok(());
        };
        match account.closed_for(self.clock.0.now()) {
            wait if wait.is_zero() || wait > PERIOD => Ok(()),
            wait => Err(self.refuse(wait)),
        }
    }

    fn refuse(&self, wait: Duration) -> TooMany {
        self.refused.inc();
        TooMany {
            retry_after: whole_seconds(wait),
        }
    }
}

impl Account {
    fn open(quota: Quota, clock: Ticks) -> Self {
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock).with_middleware(),
            closed_until: AtomicI64::default(),
        }
    }

    /// Counts one more, or says how long the next has to wait.
    fn count(&self, quota: Quota, now: Timestamp) -> Result<(), Duration> {
        match self.limiter.check() {
            Ok(state) if state.remaining_burst_capacity() == 0 => {
                self.close(quota.replenish_interval(), now);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(not_until) => {
                let wait = not_until.wait_time_from(Ticks::at(now));
                self.close(wait, now);
                Err(wait)
            }
        }
    }

    fn close(&self, wait: Duration, now: Timestamp) {
        let until = now.plus(whole_seconds(wait)).unix();
        self.closed_until.store(until, Ordering::Relaxed);
    }

    fn closed_for(&self, now: Timestamp) -> Duration {
        Timestamp::from_unix(self.closed_until.load(Ordering::Relaxed)).since(now)
    }
}

/// Rounded up, as the clock and `Retry-After` count.
fn whole_seconds(wait: Duration) -> Duration {
    let partly = u64::from(wait.subsec_nanos() > 0);
    Duration::from_secs(wait.as_secs().saturating_add(partly).max(1))
}

/// Those who count as one: an IPv4 address, or the /64 of an IPv6 address, all of which one customer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Neighbours(IpAddr);

impl Neighbours {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << 64);
                Self(Ipv6Addr::from_bits(network).into())
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

/// The gateway's clock, as the limiter reads it.
#[derive(Clone)]
struct Ticks(Arc<dyn Clock>);

impl Ticks {
    fn at(now: Timestamp) -> Nanos {
        let seconds = u64::try_from(now.unix()).unwrap_or(0);
        Nanos::new(seconds.saturating_mul(1_000_000_000))
    }
}

impl clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Self::at(self.0.now())
    }
}

impl std::fmt::Debug for Ticks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ManualClock;

    const HOME: &str = "203.0.113.7";

    struct Door {
        limit: PerAddress,
        clock: Arc<ManualClock>,
    }

    fn door(per_minute: u32) -> Door {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_unix(1_767_225_600)));
        let limit = PerAddress::new(NonZeroU32::new(per_minute), clock.clone(), Counter::default());
        Door { limit, clock }
    }

    impl Door {
        fn counts(&self, address: &str) -> bool {
            self.limit.count(address.parse().unwrap()).is_ok()
        }

        fn is_open(&self, address: &str) -> bool {
            self.limit.look(address.parse().unwrap()).is_ok()
        }

        fn later(&self, seconds: u64) {
            self.clock.advance(Duration::from_secs(seconds));
        }
    }

    #[test]
    fn so_many_count_and_no_more_until_time_goes_by() {
        let door = door(6);
        for _ in 0..6 {
            assert!(door.is_open(HOME) && door.counts(HOME));
        }
        let refused = Err(TooMany {
            retry_after: Duration::from_secs(10),
        });
        assert_eq!(door.limit.look(HOME.parse().unwrap()), refused);
        assert_eq!(door.limit.count(HOME.parse().unwrap()), refused);
        assert_eq!(door.limit.refused.get(), 2);
        door.later(9);
        assert!(!door.is_open(HOME) && !door.counts(HOME));
        door.later(1);
        assert!(door.is_open(HOME) && door.counts(HOME) && !door.counts(HOME));
        door.later(60);
        assert_eq!((0..10).filter(|_| door.counts(HOME)).count(), 6);
    }

    #[test]
    fn looking_counts_nothing() {
        let door = door(1);
        assert!((0..10).all(|_| door.is_open(HOME)));
        assert!(door.counts(HOME) && !door.is_open(HOME));
    }

    #[test]
    fn another_address_has_an_account_of_its_own() {
        let door = door(1);
        assert!(door.counts(HOME) && !door.counts(HOME));
        assert!(door.is_open("203.0.113.8") && door.counts("203.0.113.8"));
        assert!(!door.counts("::ffff:203.0.113.7"), "the same, written otherwise");
    }

    #[test]
    fn who_has_a_whole_network_counts_as_one() {
        let door = door(1);
        assert!(door.counts("2001:db8:1:2::1") && !door.counts("2001:db8:1:2:ffff::2"));
        assert!(door.counts("2001:db8:1:3::1"));
    }

    #[test]
    fn no_limit_is_no_limit() {
        let door = door(0);
        assert!((0..10_000).all(|_| door.counts(HOME) && door.is_open(HOME)));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let door = door(2);
        assert!(door.counts(HOME) && door.counts(HOME) && !door.counts(HOME));
        door.clock.set(Timestamp::from_unix(1_767_225_600 - 3_600));
        assert!(door.is_open(HOME) && door.counts(HOME));
        assert!(door.counts(HOME) && door.counts(HOME) && !door.counts(HOME));
    }

    #[test]
    fn strangers_without_number_take_no_more_room() {
        let door = door(1);
        for number in 0..u32::try_from(MAX_ACCOUNTS).unwrap() + 5_000 {
            let _ = door.limit.count(std::net::Ipv4Addr::from_bits(number).into());
        }
        door.limit.lately.run_pending_tasks();
        assert!(door.limit.lately.entry_count() <= MAX_ACCOUNTS);
        assert!(door.counts(HOME) && !door.counts(HOME), "and the latest is counted");
    }
}
