//! Redis as it is run: alone, behind TLS and a login, watched by Sentinels, and as a cluster.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use vestibule::{
    session::{RedisSettings, store::Replaced},
    trust::TrustRoots,
};

use crate::{
    stores::{LIFE, Replicas, eventually, keeps_the_contract, new_id, patient, record},
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
        assert!((1..=60_000).contains(&ends_in), "{key} ends in {ends_in} ms");
    }
}

/// All that the gateway asks of Redis, and of no other keys than its own.
const LEAST_RIGHTS: &str = "user gate on >p@ss/word resetkeys ~vestibule:* resetchannels &vestibule:ended -@all \
    +hello +select +ping +subscribe +publish +hmget +hget +hset +del +exists +set +get +mget +pexpire \
    +pttl +zadd +zscore +zrange +zrem +zremrangebyscore +scan +multi +exec +evalsha +script|load +time";

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

    // An authority that nobody vouched for is not believed, and a wrong password does not get into an error.
    let distrustful = Replicas::unheard(settings);
    distrustful.here.read("x").await.unwrap_err();
    let mut wrong = RedisSettings::parse(&url.replace("p%40ss", "hunter2")).unwrap();
    wrong.trust = trusting.trust;
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
async fn a_cluster_keeps_the_contract() {
    if !redis_is_installed() {
        return;
    }
    let cluster = Cluster::start();
    keeps_the_contract(Replicas::on(&cluster.url()).await).await;
    for node in &cluster.nodes {
        assert_ne!(node.say(&["DBSIZE"]), "0", "a node has no part in it");
    }
    // One that is known leads to the others.
    let through_one = format!("redis+cluster://127.0.0.1:{}", cluster.nodes[1].port);
    keeps_the_contract(Replicas::on(&through_one).await).await;
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
