//! Where the gateway listens: TCP, Unix sockets, and what systemd opened for it.

use std::{
    fs,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::PermissionsExt,
            net::{UnixDatagram, UnixListener},
        },
    },
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use crate::support::{
    browser::client,
    process::{PROGRAM, Process, free_address},
    upstream::{EchoUpstream, told},
    wire::PATIENCE,
};

/// A gateway before an application that everybody may use, with these lines of `[server]` and `[admin]`.
fn file(lines: &str, upstream: &EchoUpstream) -> String {
    format!(
        r#"
{lines}
server.drain_delay = "0s"

[provider.corp]
issuer = "http://127.0.0.1:9"
client_id = "wiki"
client_auth = "none"

[route.public]
url = "http://wiki.example.com/"
upstream = "http://{}"
auth = ["public"]
"#,
        upstream.address
    )
}

fn start(lines: &str, upstream: &EchoUpstream) -> Process {
    let nowhere = free_address();
    Process::start(&file(lines, upstream), &[], nowhere, nowhere)
}

/// Why it does not start.
fn failure(lines: &str, upstream: &EchoUpstream) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vestibule.toml");
    fs::write(&path, file(lines, upstream)).unwrap();
    let output = Command::new(PROGRAM)
        .args(["run", "--config"])
        .arg(path)
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

async fn get(socket: &Path, path: &str, headers: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: wiki.example.com\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

struct Sockets(TempDir);

impl Sockets {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

#[tokio::test]
async fn a_unix_socket_is_a_door_like_any_other() {
    let (sockets, upstream) = (Sockets::new(), EchoUpstream::start().await);
    let (http, admin) = (sockets.path("http"), sockets.path("admin"));
    let address = free_address();
    let lines = format!(
        "server.listen = [\"unix:{}\", \"{address}\"]\nserver.unix_mode = \"0600\"\nserver.trusted_proxies = [\"unix\"]\n\
         admin.listen = \"unix:{}\"",
        http.display(),
        admin.display()
    );
    let mut gateway = start(&lines, &upstream);
    for socket in [&http, &admin] {
        assert_eq!(fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o600);
    }

    // A proxy at the socket says where clients are.
    let answer = get(&http, "/a", "X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = upstream.last();
    assert_eq!(told(&seen, "x-forwarded-for"), ["203.0.113.9"]);
    let forwarded = told(&seen, "forwarded").concat();
    assert!(forwarded.starts_with("for=203.0.113.9, for=unknown;"), "{forwarded}");
    let line = gateway.line_with("vestibule::access");
    assert!(line.contains("203.0.113.9"), "{line}");

    let over_tcp = client().get(format!("http://{address}/b"));
    let over_tcp = over_tcp
        .header("host", "wiki.example.com")
        .header("x-forwarded-for", "6.6.6.6");
    assert_eq!(over_tcp.send().await.unwrap().status(), 200);
    assert_eq!(told(&upstream.last(), "x-forwarded-for"), ["127.0.0.1"]);

    let ready = get(&admin, "/readyz", "").await;
    assert!(ready.ends_with("\r\n\r\nok\n"), "{ready}");
    gateway.stop();
    assert!(sockets.names().is_empty(), "left behind: {:?}", sockets.names());
}

#[tokio::test]
async fn i_7_who_comes_over_a_unix_socket_that_nobody_vouches_for_has_no_address() {
    let (sockets, upstream) = (Sockets::new(), EchoUpstream::start().await);
    let http = sockets.path("http");
    let lines = format!(
        "server.listen = [\"unix:{}\"]\nserver.trusted_proxies = [\"127.0.0.0/8\"]\nadmin.listen = \"{}\"",
        http.display(),
        free_address()
    );
    let _gateway = start(&lines, &upstream);
    get(&http, "/a", "X-Forwarded-For: 127.0.0.1\r\n").await;
    let seen = upstream.last();
    assert!(told(&seen, "x-forwarded-for").is_empty(), "{seen}");
    let forwarded = told(&seen, "forwarded").concat();
    assert!(forwarded.starts_with("for=unknown;"), "{forwarded}");
}

#[tokio::test]
async fn over_a_unix_socket_a_trusted_proxy_may_send_the_header_of_the_proxy_protocol() {
    let (sockets, upstream) = (Sockets::new(), EchoUpstream::start().await);
    let ask = async |proxies: &str, name: &str| {
        let lines = format!(
            "server.listen = [\"unix:{}\"]\nserver.trusted_proxies = [\"{proxies}\"]\nserver.proxy_protocol = true\nadmin.listen = \"{}\"",
            sockets.path(name).display(),
            free_address()
        );
        let _gateway = start(&lines, &upstream);
        let mut stream = UnixStream::connect(sockets.path(name)).await.unwrap();
        let header = "PROXY TCP6 2001:db8::9 2001:db8::1 50000 443\r\n";
        let request = "GET / HTTP/1.1\r\nHost: wiki.example.com\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(format!("{header}{request}").as_bytes()).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    assert!(ask("unix", "a").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(told(&upstream.last(), "x-forwarded-for"), ["2001:db8::9"]);
    assert_eq!(ask("10.0.0.0/8", "b").await, "", "whoever else is there");
}

#[tokio::test]
async fn a_socket_that_nobody_listens_at_is_taken_over_and_no_other_file() {
    let (sockets, upstream) = (Sockets::new(), EchoUpstream::start().await);
    let http = sockets.path("http");
    let lines = format!(
        "server.listen = [\"unix:{}\"]\nadmin.listen = \"{}\"",
        http.display(),
        free_address()
    );
    // Whoever listened here was killed.
    drop(UnixListener::bind(&http).unwrap());
    let mut gateway = start(&lines, &upstream);
    assert!(get(&http, "/", "").await.starts_with("HTTP/1.1 200 "));

    let second = failure(&lines, &upstream);
    assert!(
        second.contains(&format!("cannot listen at unix:{}", http.display()))
            && second.contains("another program listens there: stop it"),
        "{second}"
    );
    assert!(
        get(&http, "/", "").await.starts_with("HTTP/1.1 200 "),
        "the first goes on"
    );
    assert_eq!(sockets.names(), ["http"]);
    gateway.stop();

    fs::write(&http, "somebody's diary").unwrap();
    let third = failure(&lines, &upstream);
    assert!(third.contains("there is a file that is no socket"), "{third}");
    assert_eq!(fs::read_to_string(&http).unwrap(), "somebody's diary");
}

#[tokio::test]
async fn the_commands_for_operators_ask_over_a_unix_socket_too() {
    let (sockets, upstream) = (Sockets::new(), EchoUpstream::start().await);
    let admin = format!("unix:{}", sockets.path("admin").display());
    let lines = format!(
        "server.listen = [\"{}\"]\nadmin.listen = \"{admin}\"\nadmin.token_file = \"token\"\nsession.store = \"memory\"",
        free_address()
    );
    let nowhere = free_address();
    let gateway = Process::start(
        &file(&lines, &upstream),
        &[("token", "the-token-of-the-operator")],
        nowhere,
        nowhere,
    );
    let token = gateway.path("token");
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(PROGRAM);
        command
            .args(["sessions", "list", "--json", "--admin", &admin, "--token-file"])
            .arg(token);
        command.output().unwrap()
    });
    let output = output.await.unwrap();
    let (said, error) = [output.stdout, output.stderr]
        .map(|text| String::from_utf8(text).unwrap())
        .into();
    assert!(
        output.status.success() && said.contains("\"sessions\""),
        "{said}{error}"
    );
}

/// Hands two sockets over as systemd does: as descriptors 3 and 4, with names.
fn activated(file: &Path, first: OwnedFd, second: OwnedFd, names: &str) -> Command {
    let script = "exec 3<&0 4<&2 0</dev/null 2>&1; export LISTEN_PID=$$; exec \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh", PROGRAM, "run", "--config"])
        .arg(file)
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", names)
        .stdin(Stdio::from(first))
        .stderr(Stdio::from(second));
    command
}

#[tokio::test]
async fn sockets_that_systemd_opened_are_taken_by_name() {
    let (sockets, upstream) = (Sockets::new(), EchoUpstream::start().await);
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let admin = UnixListener::bind(sockets.path("admin")).unwrap();
    let text = file(
        "server.listen = [\"systemd\"]\nserver.workers = 2\nadmin.listen = \"systemd:admin\"",
        &upstream,
    );
    let run = |file: &Path| activated(file, admin.into(), tcp.into(), "admin:vestibule.socket");
    // Before anybody serves, the socket takes connections: they wait.
    let early = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut gateway = Process::start_by(run, &text, &[], address, address);
    let mut early = early;
    let request = "GET / HTTP/1.1\r\nHost: wiki.example.com\r\nConnection: close\r\n\r\n";
    early.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, early.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(get(&sockets.path("admin"), "/livez", "").await.ends_with("ok\n"));
    gateway.stop();
    assert_eq!(sockets.names(), ["admin"], "systemd's file is systemd's");
}

#[tokio::test]
async fn where_systemd_opened_nothing_the_error_says_what_to_do() {
    let upstream = EchoUpstream::start().await;
    let error = failure("server.listen = [\"systemd\"]", &upstream);
    assert!(
        error.contains("cannot listen at systemd: systemd opened no such socket; start the program by a socket unit"),
        "{error}"
    );
}

#[tokio::test]
async fn systemd_is_told_when_it_serves_reloads_and_stops() {
    let (sockets, upstream) = (Sockets::new(), EchoUpstream::start().await);
    let told = UnixDatagram::bind(sockets.path("notify")).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut room = [0; 64];
        let length = told.recv(&mut room).unwrap();
        String::from_utf8(room[..length].to_vec()).unwrap()
    };
    let lines = format!(
        "server.listen = [\"{}\"]\nadmin.listen = \"{}\"",
        free_address(),
        free_address()
    );
    let run = |file: &Path| {
        let mut command = Command::new(PROGRAM);
        command.env("NOTIFY_SOCKET", sockets.path("notify"));
        command.args(["run", "--config"]).arg(file);
        command
    };
    let nowhere = free_address();
    let mut gateway = Process::start_by(run, &file(&lines, &upstream), &[], nowhere, nowhere);
    assert_eq!(hear(), "READY=1");
    gateway.signal("-HUP");
    assert_eq!((hear(), hear()), ("RELOADING=1".into(), "READY=1".into()));
    gateway.stop();
    assert_eq!(hear(), "STOPPING=1");
}
