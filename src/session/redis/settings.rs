//! Where Redis is, and how to get in.

use std::{fmt, time::Duration};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::{secret::Secret, trust::TrustRoots};

/// What a URL says about a Redis, and what the file adds to it.
///
/// | | |
/// |---|---|
/// | `redis://user:password@host:6379/0` | one server and its database |
/// | `redis+sentinel://user:password@host1:26379,host2,host3/mymaster/0` | the master that the Sentinels name |
/// | `redis+cluster://user:password@host1:6379,host2,host3` | a cluster, found through some of its nodes |
///
/// With `rediss` in place of `redis` every connection is TLS. Whoever logs in to the Sentinels themselves adds
/// `?sentinel_user=…&sentinel_password=…`. Names and passwords are percent-encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisSettings {
    pub(super) topology: Topology,
    pub(super) hosts: Vec<Host>,
    pub(super) tls: bool,
    pub(super) login: Credentials,
    pub(super) database: i64,
    pub(super) key_prefix: Box<str>,
    /// The authorities that TLS connections are verified against.
    pub trust: TrustRoots,
    /// How long a request waits for the store at most.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Topology {
    Single,
    Sentinel { master: Box<str>, login: Credentials },
    Cluster,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Credentials {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
}

/// Secrets have no `==` of their own; here it tells whether anything changed at a reload.
impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        let same_password = match (&self.password, &other.password) {
            (Some(one), Some(other)) => one.matches(other.expose()),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_password && self.user == other.user
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

/// Why a URL or a prefix cannot be used; never repeats what may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisSettingsError {
    #[error("it starts with none of redis://, rediss://, redis+sentinel:// and redis+cluster://")]
    Scheme,
    #[error("a host in it is missing or malformed")]
    Host,
    #[error("it names several hosts, which only redis+sentinel:// and redis+cluster:// may")]
    SeveralHosts,
    #[error("a user name or password in it is not percent-encoded UTF-8")]
    Credentials,
    #[error("the name of the Sentinels' master is missing: redis+sentinel://host/name")]
    Master,
    #[error("the database in it is not a number")]
    Database,
    #[error("a cluster has no databases to choose from")]
    ClusterDatabase,
    #[error("it asks for something unknown after the `?`")]
    Query,
    #[error("a key prefix has up to 64 letters, digits, and `:`, `_`, `-`, `.`")]
    KeyPrefix,
}

const TIMEOUT: Duration = Duration::from_millis(250);
const PREFIX: &str = "vestibule:";
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const MAX_PREFIX: usize = 64;

impl RedisSettings {
    /// Reads a URL, which is a secret as a whole when there is a password in it.
    ///
    /// # Errors
    /// What is wrong with it, without its text.
    pub fn parse(url: &str) -> Result<Self, RedisSettingsError> {
        let (scheme, rest) = url.trim().split_once("://").ok_or(RedisSettingsError::Scheme)?;
        let (kind, tls) = kind_of(scheme).ok_or(RedisSettingsError::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let default_port = if matches!(kind, Kind::Sentinel) {
            SENTINEL_PORT
        } else {
            PORT
        };
        let hosts = hosts
            .split(',')
            .map(|text| host(text, default_port))
            .collect::<Result<Vec<_>, _>>()?;
        if matches!(kind, Kind::Single) && hosts.len() > 1 {
            return Err(RedisSettingsError::SeveralHosts);
        }
        let (topology, database) = topology(kind, path, query)?;
        Ok(Self {
            topology,
            hosts,
            tls,
            login: credentials(login)?,
            database,
            key_prefix: PREFIX.into(),
            trust: TrustRoots::default(),
            timeout: TIMEOUT,
        })
    }

    /// With another start of all keys than `vestibule:`, for gateways that share a Redis and not their sessions.
    ///
    /// # Errors
    /// When it has characters that mean something to Redis.
    pub fn with_key_prefix(self, prefix: &str) -> Result<Self, RedisSettingsError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_-.".contains(&byte);
        if prefix.len() > MAX_PREFIX || !prefix.bytes().all(plain) {
            return Err(RedisSettingsError::KeyPrefix);
        }
        Ok(Self {
            key_prefix: prefix.into(),
            ..self
        })
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Single,
    Sentinel,
    Cluster,
}

fn kind_of(scheme: &str) -> Option<(Kind, bool)> {
    Some(match scheme {
        "redis" => (Kind::Single, false),
        "rediss" => (Kind::Single, true),
        "redis+sentinel" => (Kind::Sentinel, false),
        "rediss+sentinel" => (Kind::Sentinel, true),
        "redis+cluster" => (Kind::Cluster, false),
        "rediss+cluster" => (Kind::Cluster, true),
        _ => return None,
    })
}

fn topology(kind: Kind, path: &str, query: &str) -> Result<(Topology, i64), RedisSettingsError> {
    let number = |text: &str| match text {
        "" => Ok(0),
        text => text
            .parse::<u16>()
            .map(i64::from)
            .map_err(|_| RedisSettingsError::Database),
    };
    if !query.is_empty() && !matches!(kind, Kind::Sentinel) {
        return Err(RedisSettingsError::Query);
    }
    match kind {
        Kind::Single => Ok((Topology::Single, number(path)?)),
        Kind::Cluster if path.is_empty() => Ok((Topology::Cluster, 0)),
        Kind::Cluster => Err(RedisSettingsError::ClusterDatabase),
        Kind::Sentinel => {
            let (master, database) = path.split_once('/').unwrap_or((path, ""));
            let master = decoded(master)?.ok_or(RedisSettingsError::Master)?.into();
            let login = sentinel_login(query)?;
            Ok((Topology::Sentinel { master, login }, number(database)?))
        }
    }
}

fn sentinel_login(query: &str) -> Result<Credentials, RedisSettingsError> {
    let mut login = Credentials::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "sentinel_user" => login.user = Some(value.into_owned()),
            "sentinel_password" => login.password = Some(Secret::new(value)),
            _ => return Err(RedisSettingsError::Query),
        }
    }
    Ok(login)
}

/// `user:password`, `:password`, or nothing.
fn credentials(text: &str) -> Result<Credentials, RedisSettingsError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Ok(Credentials {
        user: decoded(user)?,
        password: decoded(password)?.map(Secret::new),
    })
}

fn decoded(text: &str) -> Result<Option<String>, RedisSettingsError> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| RedisSettingsError::Credentials)?.into_owned();
    Ok(Some(decoded).filter(|text| !text.is_empty()))
}

fn host(text: &str, default_port: u16) -> Result<Host, RedisSettingsError> {
    let url = Url::parse(&format!("redis://{text}")).map_err(|_| RedisSettingsError::Host)?;
    let name = url.host_str().filter(|name| !name.is_empty());
    let plain = url.path().is_empty() && url.fragment().is_none() && url.username().is_empty();
    if !plain {
        return Err(RedisSettingsError::Host);
    }
    Ok(Host {
        name: name
            .ok_or(RedisSettingsError::Host)?
            .trim_matches(['[', ']'])
            .to_owned(),
        port: url.port().unwrap_or(default_port),
    })
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_a_database_and_a_user() {
        let settings = RedisSettings::parse("rediss://gate:p%40ss%2Fword@cache.example:6380/3").unwrap();
        assert!(matches!(settings.topology, Topology::Single));
        assert!(settings.tls);
        assert_eq!(settings.hosts[0].to_string(), "cache.example:6380");
        assert_eq!(settings.database, 3);
        assert_eq!(settings.login.user.as_deref(), Some("gate"));
        assert!(settings.login.password.unwrap().matches("p@ss/word"));
    }

    #[test]
    fn sentinels_name_a_master_and_have_passwords_of_their_own() {
        let url = "redis+sentinel://:pw@s1,s2:1,[::1]:2/mymaster/1?sentinel_password=x%26y";
        let settings = RedisSettings::parse(url).unwrap();
        let Topology::Sentinel { master, login } = settings.topology else {
            panic!("not Sentinels");
        };
        assert_eq!(&*master, "mymaster");
        assert!(login.password.unwrap().matches("x&y"));
        let hosts: Vec<_> = settings.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["s1:26379", "s2:1", "::1:2"]);
        assert_eq!(settings.database, 1);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (url, error) in [
            ("http://h", RedisSettingsError::Scheme),
            ("redis:h", RedisSettingsError::Scheme),
            ("redis://", RedisSettingsError::Host),
            ("redis://h:99999", RedisSettingsError::Host),
            ("redis://a,b", RedisSettingsError::SeveralHosts),
            ("redis://u:%ff@h", RedisSettingsError::Credentials),
            ("redis+sentinel://h", RedisSettingsError::Master),
            ("redis://h/first", RedisSettingsError::Database),
            ("redis+cluster://h/1", RedisSettingsError::ClusterDatabase),
            ("redis://h?timeout=3", RedisSettingsError::Query),
            ("redis+cluster://h,,g", RedisSettingsError::Host),
        ] {
            assert_eq!(RedisSettings::parse(url).map(|_| ()), Err(error), "{url}");
        }
    }

    #[test]
    fn a_key_prefix_means_nothing_to_redis() {
        let settings = RedisSettings::parse("redis://h").unwrap();
        assert!(settings.clone().with_key_prefix("team-a:").is_ok());
        for prefix in ["{x}", "a*", "a b", "ü"] {
            let refused = settings.clone().with_key_prefix(prefix).map(|_| ());
            assert_eq!(refused, Err(RedisSettingsError::KeyPrefix));
        }
    }

    #[test]
    fn no_password_is_printed() {
        let url = "redis+sentinel://u:hunter2@h/m?sentinel_password=hunter3";
        let printed = format!("{:?}", RedisSettings::parse(url).unwrap());
        assert!(!printed.contains("hunter"), "{printed}");
    }
}
