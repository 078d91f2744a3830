//! How things are called in Redis, and what is done to one of them without anybody in between.

use std::{fmt::Write, sync::LazyLock};

use redis::Script;

use crate::secret::Fingerprint;

/// The names of all keys; none stands for a person to who has no key of the gateway.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Box<str>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// A hash: `v` the version, `d` the sealed session, `l` its label, `i` its indices, 32 bytes each, `u` the millisecond
    /// until which these lead to it.
    pub(super) fn session(&self, id: &str) -> String {
        format!("{}s:{id}", self.prefix)
    }

    /// The id in the name of a session.
    pub(super) fn id_of<'a>(&self, session: &'a str) -> Option<&'a str> {
        session.strip_prefix(&*self.prefix)?.strip_prefix("s:")
    }

    pub(super) fn all_sessions(&self) -> String {
        self.session("*")
    }

    /// A sorted set of ids, by the millisecond in which they end.
    pub(super) fn index(&self, index: &Fingerprint) -> String {
        format!("{}i:{}", self.prefix, hex(index))
    }

    /// Since when sessions under an index have ended, in seconds.
    pub(super) fn ended(&self, index: &Fingerprint) -> String {
        format!("{}e:{}", self.prefix, hex(index))
    }

    /// A sorted set of endings, in the order in which they were told: index, second, and the millisecond in which it is
    /// over.
    pub(super) fn log(&self) -> String {
        format!("{}endings", self.prefix)
    }

    /// Who refreshes a session.
    pub(super) fn lock(&self, id: &str) -> String {
        format!("{}l:{id}", self.prefix)
    }

    pub(super) fn used(&self, what: &Fingerprint) -> String {
        format!("{}u:{}", self.prefix, hex(what))
    }

    /// The channel on which endings are told.
    pub(super) fn channel(&self) -> String {
        format!("{}ended", self.prefix)
    }
}

pub(super) fn hex(fingerprint: &Fingerprint) -> String {
    fingerprint.as_bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn from_hex(text: &str) -> Option<Fingerprint> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        let at = index.checked_mul(2)?;
        *byte = u8::from_str_radix(text.get(at..at.checked_add(2)?)?, 16).ok()?;
    }
    Some(Fingerprint::from_bytes(bytes))
}

// Each script has one key, and so works in a cluster too.

/// Makes an id findable for so many milliseconds, and forgets those whose time is over.
pub(super) static INDEX: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local time = redis.call('TIME')
          local now = time[1] * 1000 + math.floor(time[2] / 1000)
          local ends = now + ARGV[2]
          redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
          local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
          if not known or tonumber(known) < ends then
              redis.call('ZADD', KEYS[1], string.format('%.0f', ends), ARGV[1])
          end
          if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
              redis.call('PEXPIRE', KEYS[1], ARGV[2])
          end",
    )
});

/// Keeps a new session, whose indices were made before to last for so long.
pub(super) static CREATE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local time = redis.call('TIME')
          local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[6]
          redis.call('DEL', KEYS[1])
          redis.call('HSET', KEYS[1], 'v', ARGV[1], 'd', ARGV[2], 'l', ARGV[3], 'i', ARGV[4],
                     'u', string.format('%.0f', ends))
          redis.call('PEXPIRE', KEYS[1], ARGV[5])",
    )
});

/// Replaces a session that is at the version that was seen: 2 when done, 3 when it is done and may outlive its indices,
/// 1 when it is at another version, 0 when it is gone.
pub(super) static REPLACE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local version = redis.call('HGET', KEYS[1], 'v')
          if not version then return 0 end
          if version ~= ARGV[1] then return 1 end
          redis.call('HSET', KEYS[1], 'v', ARGV[2], 'd', ARGV[3], 'l', ARGV[4])
          redis.call('PEXPIRE', KEYS[1], ARGV[5])
          local time = redis.call('TIME')
          local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[5]
          if ends > tonumber(redis.call('HGET', KEYS[1], 'u') or 0) then return 3 end
          return 2",
    )
});

/// Replaces the indices of a session, which were made before to last for so long: 1 when there is one.
pub(super) static REINDEX: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
          local time = redis.call('TIME')
          local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
          redis.call('HSET', KEYS[1], 'i', ARGV[1], 'u', string.format('%.0f', ends))
          return 1",
    )
});

/// Takes a session out and returns its indices.
pub(super) static END: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local indices = redis.call('HGET', KEYS[1], 'i')
          if redis.call('DEL', KEYS[1]) == 0 then return false end
          return indices or ''",
    )
});

/// Notes for so many milliseconds since when an index has ended; an earlier moment takes nothing back.
pub(super) static MARK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local before = tonumber(redis.call('GET', KEYS[1]) or ARGV[1])
          local at = math.max(before, tonumber(ARGV[1]))
          redis.call('SET', KEYS[1], string.format('%.0f', at), 'PX', ARGV[2])",
    )
});

/// Writes endings into the log, each at a place of its own behind all others.
///
/// Takes how many it holds at most, what of it is over after so many milliseconds (0: nothing), and for each ending its
/// index, its second and its life. Ends are rounded up to ten seconds, so that replicas that know the same write the same.
pub(super) static TELL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local time = redis.call('TIME')
          local now = time[1] * 1000 + math.floor(time[2] / 1000)
          local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
          local place = math.max(now, (tonumber(last[2]) or 0) + 1)
          local longest = 0
          for i = 3, #ARGV, 3 do
              local over = math.ceil((now + ARGV[i + 2]) / 10000) * 10000
              local ending = ARGV[i] .. ' ' .. ARGV[i + 1] .. ' ' .. string.format('%.0f', over)
              place = place + redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', place), ending)
              longest = math.max(longest, over - now)
          end
          if tonumber(ARGV[2]) > 0 then
              redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
          end
          redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[1])
          if redis.call('PTTL', KEYS[1]) < longest then
              redis.call('PEXPIRE', KEYS[1], string.format('%.0f', longest))
          end",
    )
});

/// Reads from a place in the log on: the time, and some endings with their places.
///
/// It writes, though nothing new: a server that only follows another does not answer, whose log may be an old one.
pub(super) static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[1])
          local time = redis.call('TIME')
          local now = time[1] * 1000 + math.floor(time[2] / 1000)
          return {now, redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])}",
    )
});

/// Gives a lock back that is this holder's.
pub(super) static UNLOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
          return 0",
    )
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::random_bytes;

    #[test]
    fn a_fingerprint_survives_hexadecimal() {
        let fingerprint = Fingerprint::from_bytes(random_bytes());
        assert_eq!(from_hex(&hex(&fingerprint)), Some(fingerprint));
        for other in ["", "00", &"+1".repeat(32), &"xy".repeat(32)] {
            assert_eq!(from_hex(other), None);
        }
    }

    #[test]
    fn an_id_is_found_in_the_name_of_its_session_only() {
        let keys = Keys::new("vestibule:");
        assert_eq!(keys.id_of(&keys.session("a:b")), Some("a:b"));
        assert_eq!(keys.id_of(&keys.lock("a")), None);
    }
}
