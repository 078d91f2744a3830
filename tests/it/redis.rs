//! Redis as it is run: alone, behind TLS and a login, watched by Sentinels, and as a cluster.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use vestibule::{
    session::{
        RedisSettings, SharedEndings,
        store::{Ended, Replaced, SessionStore},
    },
    time::Timestamp,
    trust::TrustRoots,
};

use crate::{
    stores::{LIFE, Replicas, eventually, hears, keeps_the_contract, new_id, new_index, patient, record},
    support::{
        redis::{Redis, redis_is_installed},
        redis_groups::{Cluster, Watched},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn one_redis_keeps_the_contract() {
    if !redis_is_installed() {
        return;
    }
    let redis = Redis::start();
    keeps_the_contract(Replicas::on(&redis.url()).await).await;
    assert_eq!(
        redis
            .say(&["--scan"])
            .lines()
            .find(|key| !key.starts_with("vestibule:")),
        None
    );
    for key in redis.say(&["--scan"]).lines() {
        let ends_in: i64 = redis.say(&["PTTL", key]).parse().unwrap();
        // Indices last for sixteen lives of a session, so that they need not be touched whenever it is used.
        let longest = if key.starts_with("vestibule:i:") {
            16 * 60_000
        } else {
            60_000
        };
        assert!((1..=longest).contains(&ends_in), "{key} ends in {ends_in} ms");
    }
}

/// All that the gateway asks of Redis, and of no other keys than its own.
const LEAST_RIGHTS: &str = "user gate on >p@ss/word resetkeys ~vestibule:* resetchannels &vestibule:ended -@all \
    +hello +select +ping +subscribe +publish +hmget +hget +hset +del +exists +set +get +mget +pexpire \
    +pttl +zadd +zscore +zrange +zrangebyscore +zrem +zremrangebyscore +zremrangebyrank +scan +multi +exec +evalsha \
    +script|load +time";

#[test]
fn the_documentation_names_all_that_the_gateway_asks_of_redis() {
    let words: Vec<_> = include_str!("../../docs/sessions.md").split_whitespace().collect();
    let rights: Vec<_> = LEAST_RIGHTS.split_whitespace().skip(4).collect();
    assert!(words.windows(rights.len()).any(|found| found == rights));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_behind_tls_and_a_login_keeps_the_contract() {
    if !redis_is_installed() {
        return;
    }
    let papers = Papers::new();
    let lines = [
        papers.lines(),
        format!("{LEAST_RIGHTS}\nuser default off\nuser probe on >x +ping"),
    ]
    .join("\n");
    let ca_file = papers.file("ca.pem").display().to_string();
    let access = ["--tls", "--cacert", &ca_file, "--user", "probe", "--pass", "x"];
    let redis = Redis::start_tls(&[&lines], &access);
    let url = format!("rediss://gate:p%40ss%2Fword@localhost:{}/1", redis.port);
    let settings = patient(RedisSettings::parse(&url).unwrap());
    let mut trusting = settings.clone();
    trusting.trust = TrustRoots::from_pem(&std::fs::read(papers.file("ca.pem")).unwrap()).unwrap();
    keeps_the_contract(Replicas::with(trusting.clone()).await).await;
    shares_endings(&trusting).await;

    // An authority that nobody vouched for is not believed, and a wrong password does not get into an error.
    let distrustful = Replicas::unheard(settings);
    distrustful.here.read("x").await.unwrap_err();
    let mut wrong = RedisSettings::parse(&url.replace("p%40ss", "hunter2")).unwrap();
    wrong.trust = trusting.trust;
    // A busy machine may take its time to shake hands.
    wrong.timeout = Duration::from_secs(5);
    let shut_out = Replicas::unheard(wrong);
    let error = shut_out.here.read("x").await.unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    assert!(!format!("{error:?} {shut_out:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_survive_their_master() {
    if !redis_is_installed() {
        return;
    }
    let mut watched = Watched::start();
    let replicas = Replicas::on(&watched.url()).await;
    keeps_the_contract(replicas.clone()).await;
    let Replicas { here, there } = &replicas;
    let ids: Vec<String> = (0..50).map(|_| new_id()).collect();
    for id in &ids {
        here.create(id, record(1), &[], LIFE).await.unwrap();
    }
    assert_eq!(watched.master.say(&["WAIT", "1", "2000"]), "1");

    watched.master.kill();
    let since = Instant::now();
    eventually(async || {
        here.replace(&ids[0], 1, record(2), LIFE)
            .await
            .is_ok_and(|it| it == Replaced::Done)
    })
    .await;
    assert!(since.elapsed() < Duration::from_secs(10));
    eventually(async || there.read(&ids[0]).await.is_ok()).await;
    for id in &ids[1..] {
        assert_eq!(there.read(id).await.unwrap(), Some(record(1)));
    }
    // They hear of each other through the new master.
    crate::stores::until_one_hears_the_other(here, there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endings_survive_their_master() {
    if !redis_is_installed() {
        return;
    }
    let mut watched = Watched::start();
    let settings = patient(RedisSettings::parse(&watched.url()).unwrap());
    shares_endings(&settings).await;
    let [here, there] = [(); 2].map(|()| SharedEndings::connect(settings.clone()));
    let (before, after) = (new_index(), new_index());
    here.end_all(&before, AT, LIFE).await.unwrap();
    assert_eq!(watched.master.say(&["WAIT", "1", "2000"]), "1");
    watched.master.kill();
    eventually(async || here.end_all(&after, AT, LIFE).await.is_ok()).await;
    let anew = SharedEndings::connect(settings);
    for index in [before, after] {
        for store in [&there, &anew] {
            eventually(async || store.ended_at(&[index]).await.is_ok_and(|at| at == Some(AT))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endings_that_redis_lost_are_told_again_by_who_knows_them() {
    if !redis_is_installed() {
        return;
    }
    let redis = Redis::start();
    let settings = patient(RedisSettings::parse(&redis.url()).unwrap());
    let [here, there] = [(); 2].map(|()| SharedEndings::connect(settings.clone()));
    let [first, last, next] = [(); 3].map(|()| new_index());
    for index in [&first, &last] {
        here.end_all(index, AT, LIFE).await.unwrap();
    }
    eventually(async || there.ended_at(&[last]).await.unwrap() == Some(AT)).await;
    // As a server does that had not heard everything when it took over, and goes on from there.
    assert!(!redis.say(&["ZPOPMAX", "vestibule:endings"]).is_empty());
    here.end_all(&next, AT, LIFE).await.unwrap();
    // Whoever comes anew gets to know all of them in the end; both may have told the lost one, each in a line.
    for index in [first, last, next] {
        let anew = SharedEndings::connect(settings.clone());
        for store in [&there, &anew] {
            eventually(async || store.ended_at(&[index]).await.is_ok_and(|at| at == Some(AT))).await;
        }
    }
    let told: usize = redis.say(&["ZCARD", "vestibule:endings"]).parse().unwrap();
    assert!((3..=4).contains(&told), "{told} lines");
    // Lives are rounded up to ten seconds, those of the lost one twice where it was heard of.
    let ends_in: i64 = redis.say(&["PTTL", "vestibule:endings"]).parse().unwrap();
    assert!((40_000..=80_000).contains(&ends_in), "{ends_in} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_the_contract() {
    if !redis_is_installed() {
        return;
    }
    let cluster = Cluster::start();
    keeps_the_contract(Replicas::on(&cluster.url()).await).await;
    for node in &cluster.nodes {
        assert_ne!(node.say(&["DBSIZE"]), "0", "a node has no part in it");
    }
    shares_endings(&RedisSettings::parse(&cluster.url()).unwrap()).await;
    // One that is known leads to the others.
    let through_one = format!("redis+cluster://127.0.0.1:{}", cluster.nodes[1].port);
    keeps_the_contract(Replicas::on(&through_one).await).await;
}

const AT: Timestamp = Timestamp::from_unix(1_700_000_000);

/// What one ends all know, also those who come later.
async fn shares_endings(settings: &RedisSettings) {
    let [here, there] = [(); 2].map(|()| SharedEndings::connect(settings.clone()));
    let unknown = new_index();
    eventually(async || here.none_ended(&[unknown]) && there.none_ended(&[unknown])).await;
    // More than are read at once.
    let mut indices: Vec<_> = (0..1_234).map(|_| new_index()).collect();
    for index in &indices {
        assert_eq!(here.end_all(index, AT, LIFE).await.unwrap(), 0);
    }
    let (first, last) = (indices[0], new_index());
    indices.push(last);
    let mut heard = there.endings();
    here.end_all(&last, AT, LIFE).await.unwrap();
    hears(&mut heard, &Ended::Before { index: last, at: AT }).await;
    // Whoever ends less than somebody did before brings nothing back.
    there.end_all(&first, Timestamp::from_unix(1), LIFE).await.unwrap();
    let anew = SharedEndings::connect(settings.clone());
    for store in [&here, &there, &anew] {
        for index in &indices {
            assert_eq!(store.ended_at(&[unknown, *index]).await.unwrap(), Some(AT));
            assert!(!store.none_ended(&[unknown, *index]));
        }
        assert_eq!(store.ended_at(&[unknown]).await.unwrap(), None);
    }
    let what = new_index();
    assert!(!there.is_used(&what).await.unwrap());
    assert!(here.first_use(&what, LIFE).await.unwrap());
    assert!(there.is_used(&what).await.unwrap());
    assert!(!there.first_use(&what, LIFE).await.unwrap() && !here.first_use(&what, LIFE).await.unwrap());
}

/// A private authority, and a server that it vouches for.
struct Papers(TempDir);

impl Papers {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // To OpenSSL an authority and a server of one name are the same.
        params
            .distinguished_name
            .push(DnType::CommonName, "the authority of this test");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        let server = server.signed_by(&key, &issuer).unwrap();
        let papers = Self(tempfile::tempdir().unwrap());
        for (file, text) in [
            ("ca.pem", issuer.pem()),
            ("cert.pem", server.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            std::fs::write(papers.file(file), text).unwrap();
        }
        papers
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn lines(&self) -> String {
        format!(
            "tls-cert-file {0}/cert.pem\ntls-key-file {0}/key.pem\ntls-ca-cert-file {0}/ca.pem\ntls-auth-clients no",
            self.0.path().display()
        )
    }
}
