//! `vestibule doctor`, as a shell runs it, against a real provider and applications.

use std::process::Command;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{house::House, upstream::EchoUpstream};

/// An application that takes a header for a login, and no head of more than ten KiB.
async fn believer() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
                let status = match head.len() {
                    10_241.. => "431 Request Header Fields Too Large",
                    _ if text.contains("\r\nremote-user: ") => "200 OK",
                    _ => "401 Unauthorized",
                };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

/// What it prints, and its exit status.
async fn doctor(file: &str, more: &[&str]) -> (String, i32) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vestibule.toml");
    std::fs::write(&path, file).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command.arg("doctor").arg("--config").arg(path).args(more);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (text, output.status.code().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_where_it_is() {
    let house = House::open().await;
    let (text, status) = doctor(&house.file, &["--skip-upstreams"]).await;
    let callback = house.url("/oauth2/callback");
    for said in [
        "ok     metadata in the name of this issuer",
        "ok     it does PKCE with S256",
        "ok     it takes client_auth = \"client_secret_basic\"",
        "ok     its keys can be had",
        &format!("ok     it knows the redirect URI {callback}"),
        "ok     its token endpoint knows the client \"wiki\"",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(!text.contains("wrong"), "{text}");
    assert_eq!(status, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_named() {
    let house = House::open().await;
    let file = house
        .file
        .replace("s3cret", "another")
        .replace("\"offline_access\"", "\"payroll\"");
    let elsewhere = "url = \"http://127.0.0.1:1/elsewhere\"";
    let file = file.replace(&format!("url = \"{}\"", house.url("/admin")), elsewhere);
    let (text, status) = doctor(&file, &["--skip-upstreams"]).await;
    for said in [
        "look   it does not list the scope \"payroll\"",
        "register the redirect URI http://127.0.0.1:1/oauth2/callback, for the client \"wiki\"",
        "wrong  its token endpoint does not take the credentials of the client \"wiki\"",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert_eq!(status, 1);
    house.provider.stop().await;
    let (text, status) = doctor(&house.file, &["--skip-upstreams", "--json"]).await;
    let charts: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(charts[0]["about"], "provider corp");
    assert_eq!(charts[0]["notes"][0]["grade"], "wrong");
    assert_eq!(status, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_believes_anybody_is_found_and_so_is_how_much_it_reads() {
    let house = House::open().await;
    let (believer, echo) = (believer().await, EchoUpstream::start().await);
    let person = "as = { sub = \"ann\", preferred_username = \"ann\", groups = [\"staff\"] }";
    let more = format!(
        "\n[route.believer]\nurl = \"{}\"\nupstream = \"http://{believer}\"\nidentity.preset = \"remote-user\"\n\
         [route.echo]\nurl = \"{}\"\nupstream = \"http://{}\"\nidentity.preset = \"remote-user\"\n\
         [route.gone]\nurl = \"{}\"\nupstream = \"http://127.0.0.1:9\"\n\
         [[test]]\nrequest = \"GET {}\"\n{person}\nexpect = \"allow\"\n",
        house.url("/believer"),
        house.url("/echo"),
        echo.address,
        house.url("/gone"),
        house.url("/believer"),
    );
    let (text, status) = doctor(&format!("{}{more}", house.file), &["--skip-providers"]).await;
    let chart = |route: &str| {
        let from = text.find(&format!("route {route} ")).unwrap();
        let rest = &text[from..];
        rest.find("\nroute ").map_or(rest, |end| &rest[..end]).to_owned()
    };
    let believed =
        "from this machine anybody can be anybody to it: 401 Unauthorized without, and 200 OK with remote-user";
    assert!(chart("believer").contains(believed), "{text}");
    assert!(
        chart("believer").contains("it takes headers of 8 KiB, and none of 16 KiB"),
        "{text}"
    );
    assert!(
        chart("believer").contains("the identity headers have 40 bytes at most"),
        "{text}"
    );
    assert!(
        chart("echo").contains("it answers 200 OK to whoever comes past the gateway"),
        "{text}"
    );
    assert!(chart("gone").contains("it cannot be reached from here"), "{text}");
    assert_eq!(status, 0, "loopback is nobody's network");
}
