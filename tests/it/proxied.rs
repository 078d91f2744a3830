//! Behind a proxy that passes connections on, and says in the PROXY protocol whose they are.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::support::{
    authority::{Authority, ask},
    browser::{PROXY, client_at},
    house::House,
    process::free_address,
    programs::installed,
    upstream::told,
    wire::PATIENCE,
};

const CLIENT: &str = "203.0.113.9";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

async fn house_behind_proxies(server: &str) -> House {
    House::open_serving(&format!("server.proxy_protocol = true\n{server}"), |_| String::new()).await
}

async fn connect_from(source: &str, house: &House) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    socket.connect(house.address).await.unwrap()
}

/// What comes of a connection that begins like this; nothing when it is closed without an answer.
async fn answer(source: &str, house: &House, beginning: &[u8], headers: &str) -> String {
    let mut stream = connect_from(source, house).await;
    let request = format!(
        "GET /public/ HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n",
        house.address
    );
    let _ = stream.write_all(&[beginning, request.as_bytes()].concat()).await;
    let mut answer = Vec::new();
    // A connection that was refused may be reset.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("it stays open");
    String::from_utf8(answer).unwrap()
}

fn version_1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.2 50000 443\r\n").into()
}

fn version_2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, block].concat()
}

fn version_2_of(client: &str, more: &[u8]) -> Vec<u8> {
    let client: Ipv4Addr = client.parse().unwrap();
    let block = [&client.octets()[..], &[192, 0, 2, 2, 195, 80, 1, 187], more].concat();
    version_2(0x21, 0x11, &block)
}

#[tokio::test]
async fn i_7_the_client_is_where_the_trusted_proxy_says() {
    let house = house_behind_proxies("").await;
    let told_of_tls = [0x20, 0, 8, 1, 0, 0, 0, 0, 0x21, 0, 0];
    for header in [
        version_1(CLIENT),
        version_2_of(CLIENT, &[]),
        version_2_of(CLIENT, &told_of_tls),
    ] {
        let answer = answer(PROXY, &house, &header, "X-Forwarded-For: 6.6.6.6\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let seen = house.upstream.last();
        assert_eq!(
            told(&seen, "x-forwarded-for"),
            [CLIENT],
            "the client's own word does not count"
        );
        assert!(
            told(&seen, "forwarded").concat().starts_with("for=203.0.113.9;"),
            "{seen}"
        );
    }
}

#[tokio::test]
async fn i_7_the_header_of_anybody_else_ends_the_connection() {
    let house = house_behind_proxies("").await;
    for header in [version_1(CLIENT), version_2_of(CLIENT, &[]), Vec::new()] {
        assert_eq!(answer("127.0.0.1", &house, &header, "").await, "");
    }
    assert_eq!(house.upstream.requests(), 0);
}

#[tokio::test]
async fn a_connection_without_a_whole_header_is_closed() {
    let house = house_behind_proxies("server.limits.handshake_timeout = \"300ms\"\n").await;
    let no_room = [&version_2(0x21, 0x11, &[])[..14], &[0xff, 0xff]].concat();
    let bad = [
        b"".as_slice(),
        b"PROXY TCP4 203.0.113.9\r\n",
        b"PROXY TCP5 203.0.113.9 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.2 1 2\n",
        b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c............",
        &no_room,
        &version_2(0x21, 0x11, &[0; 12]),
    ];
    for beginning in bad {
        assert_eq!(answer(PROXY, &house, beginning, "").await, "", "{beginning:?}");
    }
    // Half of one, and then nothing.
    for beginning in [b"".as_slice(), b"PROXY TCP4 203", &version_2_of(CLIENT, &[])[..20]] {
        let mut stream = connect_from(PROXY, &house).await;
        stream.write_all(beginning).await.unwrap();
        let end = timeout(PATIENCE, stream.read(&mut [0; 8]))
            .await
            .expect("it waits for ever");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    assert_eq!(house.upstream.requests(), 0);
    assert!(
        answer(PROXY, &house, &version_1(CLIENT), "")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn a_header_that_names_nobody_is_of_the_proxy_itself_or_of_somebody_unknown() {
    let house = house_behind_proxies("").await;
    let local = version_2(0x20, 0x00, &[]);
    answer(PROXY, &house, &local, "").await;
    assert_eq!(told(&house.upstream.last(), "x-forwarded-for"), [PROXY]);
    for unknown in [b"PROXY UNKNOWN\r\n".to_vec(), version_2(0x21, 0x00, &[1, 2, 3])] {
        let answer = answer(PROXY, &house, &unknown, "X-Forwarded-For: 6.6.6.6\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let seen = house.upstream.last();
        assert!(told(&seen, "x-forwarded-for").is_empty(), "{seen}");
        assert!(told(&seen, "forwarded").concat().starts_with("for=unknown;"), "{seen}");
    }
}

#[tokio::test]
async fn what_comes_too_often_is_counted_by_the_address_in_the_header() {
    let house = house_behind_proxies("server.limits.failed_credentials_per_minute = 1\n").await;
    let ask = async |client: &str, token: &str| {
        let mut stream = connect_from(PROXY, &house).await;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n",
            house.address
        );
        let bytes = [version_1(client), request.into()].concat();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(ask("203.0.113.1", "bad-1").await, "401");
    assert_eq!(ask("203.0.113.1", "bad-2").await, "429");
    assert_eq!(ask("203.0.113.2", "bad-3").await, "401", "somebody else");
}

#[tokio::test]
async fn a_reload_that_trusts_a_proxy_no_more_counts_at_once() {
    let house = house_behind_proxies("").await;
    assert!(
        answer(PROXY, &house, &version_1(CLIENT), "")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let other = house.file.replace(&format!("{PROXY}/32"), "127.0.0.3/32");
    house.reload(&other).unwrap();
    assert_eq!(answer(PROXY, &house, &version_1(CLIENT), "").await, "");
    assert!(
        answer("127.0.0.3", &house, &version_1(CLIENT), "")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

/// A real HAProxy that passes bytes on, from the address of the trusted proxy.
struct Haproxy {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Haproxy {
    async fn before(gateway: SocketAddr, how: &str) -> Self {
        let (directory, address) = (tempfile::tempdir().unwrap(), free_address());
        let text = format!(
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 10s\n timeout server 10s\n\
             listen all\n bind {address}\n server gateway {gateway} source {PROXY} {how}\n"
        );
        let file = directory.path().join("haproxy.cfg");
        fs::write(&file, text).unwrap();
        let child = Command::new("/usr/sbin/haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, listens).await.expect("haproxy does not listen");
        Self {
            child,
            address,
            _directory: directory,
        }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn haproxy_is_there() -> bool {
    installed(&["/usr/sbin/haproxy"], "apt-get install haproxy")
}

#[tokio::test]
async fn behind_a_real_haproxy_the_client_is_seen() {
    if !haproxy_is_there() {
        return;
    }
    let house = house_behind_proxies("").await;
    for how in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options unique-id,crc32c",
    ] {
        let haproxy = Haproxy::before(house.address, how).await;
        let asked = client_at("127.0.0.7")
            .get(format!("http://{}/public/", haproxy.address))
            .header("host", house.address.to_string());
        assert_eq!(asked.send().await.unwrap().status(), 200, "{how}");
        assert_eq!(told(&house.upstream.last(), "x-forwarded-for"), ["127.0.0.7"], "{how}");
    }
}

#[tokio::test]
async fn the_header_stands_before_the_handshake_of_tls() {
    if !haproxy_is_there() {
        return;
    }
    let authority = Authority::new();
    let lines = format!("server.proxy_protocol = true\n{}", authority.tls(&["localhost"]));
    let house = House::open_at("https://localhost", &lines, |_| String::new()).await;
    let haproxy = Haproxy::before(house.address, "send-proxy-v2").await;
    for offer in ["h2", "http/1.1"] {
        let client = authority.client().offering(&[offer]);
        let stream = client.connect(haproxy.address, "localhost").await.unwrap();
        let host = format!("localhost:{}", house.address.port());
        let answer = ask(stream, &host, "/public/", "").await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(told(&house.upstream.last(), "x-forwarded-for"), ["127.0.0.1"]);
    }
}
