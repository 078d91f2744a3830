//! A process that has run out of descriptors.

use std::{path::Path, process::Command, time::Duration};

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
    let text = format!(
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
    );
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
