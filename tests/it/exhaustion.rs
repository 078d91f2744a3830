//! A process that has run out of descriptors, or of a disk.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::support::{
    browser::client,
    process::{PROGRAM, Process, free_address},
    upstream::EchoUpstream,
    wire::{PATIENCE, head},
};

fn configuration(address: SocketAddr, admin: SocketAddr, upstream: &EchoUpstream) -> String {
    format!(
        r#"
server.listen = ["{address}"]
server.workers = 2
server.drain_delay = "0s"
admin.listen = "{admin}"

[provider.corp]
issuer = "http://127.0.0.1:9"
client_id = "wiki"
client_auth = "none"

[route.public]
url = "http://{address}/"
upstream = "http://{}"
auth = ["public"]
"#,
        upstream.address
    )
}

/// Clock ticks of the processor that a process has used, in its own code and in the kernel.
fn ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<_> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn f_22_without_descriptors_it_rests_serves_those_it_has_and_recovers() {
    let (address, admin, upstream) = (free_address(), free_address(), EchoUpstream::start().await);
    let text = configuration(address, admin, &upstream);
    let limited = |file: &Path| {
        let mut command = Command::new("sh");
        let script = "ulimit -n 64; exec \"$@\"";
        command.args(["-c", script, "sh", PROGRAM, "run", "--config"]).arg(file);
        command
    };
    let mut gateway = Process::start_by(limited, &text, &[], address, admin);
    let mut first = TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    first.write_all(request.as_bytes()).await.unwrap();
    assert!(
        timeout(PATIENCE, head(&mut first))
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200 ")
    );

    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    gateway.line_with("cannot accept connections");
    let (before, moment) = (ticks(gateway.child.id()), Duration::from_secs(1));
    sleep(moment).await;
    let used = ticks(gateway.child.id()) - before;
    assert!(used < 50, "it does nothing, and has used {used} hundredths of a second");

    drop(crowd);
    let recovered = async {
        let ask = async || Some(client().get(format!("http://{address}/")).send().await.ok()?.status());
        while ask().await != Some(http::StatusCode::OK) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, recovered).await.expect("it does not recover");
    gateway.stop();
}

#[tokio::test]
async fn f_15_a_log_on_a_full_disk_stops_nothing() {
    let (address, admin, upstream) = (free_address(), free_address(), EchoUpstream::start().await);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vestibule.toml");
    std::fs::write(&file, configuration(address, admin, &upstream)).unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut gateway = Command::new(PROGRAM)
        .args(["run", "--config"])
        .arg(&file)
        .stdout(full)
        .spawn()
        .unwrap();
    let client = client();
    let ready = async {
        while client.get(format!("http://{admin}/readyz")).send().await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ready).await.expect("it does not start");
    for _ in 0..200 {
        let asked = client.get(format!("http://{address}/")).send();
        assert_eq!(
            timeout(PATIENCE, asked).await.expect("it stopped").unwrap().status(),
            200
        );
    }
    let pid = gateway.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = tokio::task::spawn_blocking(move || gateway.wait().unwrap());
    assert!(
        timeout(PATIENCE, ended)
            .await
            .expect("it does not end")
            .unwrap()
            .success()
    );
}
