//! Bodies as they are: pieces of files, answers before their time, and more than any memory holds.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    time::{sleep, timeout},
};

use crate::support::{
    browser::client,
    house::House,
    process::{Process, free_address},
    programs,
    wire::{PATIENCE, answering, exchange, head},
};

async fn house_before(upstream: &str) -> House {
    let mut house = House::open().await;
    let route = format!(
        "\n[route.raw]\nurl = \"http://{}/raw\"\nupstream = \"{upstream}\"\nauth = [\"public\"]\n",
        house.address
    );
    house.file.push_str(&route);
    house.reload(&house.file).unwrap();
    house
}

fn get(house: &House) -> Vec<u8> {
    format!("GET /raw HTTP/1.1\r\nHost: {}\r\n\r\n", house.address).into_bytes()
}

#[tokio::test]
async fn what_an_upstream_says_before_its_answer_is_not_the_answer() {
    let upstream = answering(
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    )
    .await;
    let house = house_before(&format!("http://{upstream}")).await;
    let answer = exchange(house.address, &get(&house)).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hi"),
        "{answer}"
    );
    assert!(!answer.contains("a.css"), "{answer}");
}

#[tokio::test]
async fn trailers_of_http_1_end_with_the_connection_that_they_came_by() {
    let upstream = answering(
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n",
    )
    .await;
    let house = house_before(&format!("http://{upstream}")).await;
    let answer = exchange(house.address, &get(&house)).await.to_ascii_lowercase();
    assert!(answer.ends_with("2\r\nhi\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_upload_that_is_refused_before_its_end_has_its_answer() {
    let upstream =
        answering("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig").await;
    let house = house_before(&format!("http://{upstream}")).await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let start = format!(
        "POST /raw HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\nfirst",
        house.address
    );
    stream.write_all(start.as_bytes()).await.unwrap();
    let answer = timeout(PATIENCE, head(&mut stream))
        .await
        .expect("it waits for the rest");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

/// nginx with a file to give, at a socket in the file system.
struct Nginx(Child);

impl Nginx {
    async fn start(directory: &Path) -> Self {
        let here = directory.display();
        let configuration = format!(
            "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;\n\
             fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
             server {{ listen unix:{here}/nginx.sock; location / {{ alias {here}/; }} }} }}\n"
        );
        fs::write(directory.join("nginx.conf"), configuration).unwrap();
        let child = Command::new("nginx")
            .args(["-c", &format!("{here}/nginx.conf"), "-e", &format!("{here}/error.log")])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let socket = directory.join("nginx.sock");
        let listens = async {
            while UnixStream::connect(&socket).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE * 2, listens).await.expect("nginx does not listen");
        Self(child)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn pieces_of_a_file_come_from_nginx_as_they_were_asked_for() {
    if !programs::installed(&["nginx"], "apt-get install nginx-light") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("raw"), "0123456789").unwrap();
    let _nginx = Nginx::start(directory.path()).await;
    let house = house_before(&format!("unix:{}/nginx.sock", directory.path().display())).await;
    let ask = |name: &'static str, value: &str| client().get(house.url("/raw")).header(name, value.to_owned()).send();
    let part = ask("range", "bytes=2-4").await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], "bytes 2-4/10");
    let etag = part.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(part.text().await.unwrap(), "234");
    let several = ask("range", "bytes=0-1,5-6").await.unwrap();
    assert_eq!(several.status(), 206);
    assert!(
        several.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("multipart/byteranges")
    );
    assert!(several.text().await.unwrap().contains("Content-Range: bytes 5-6/10"));
    let beyond = ask("range", "bytes=20-").await.unwrap();
    assert_eq!(
        (beyond.status().as_u16(), &beyond.headers()["content-range"]),
        (416, &"bytes */10".parse().unwrap())
    );
    let known = ask("if-none-match", &etag).await.unwrap();
    assert_eq!(known.status(), 304);
    let only_head = client().head(house.url("/raw")).send().await.unwrap();
    assert_eq!(only_head.headers()["content-length"], "10");
    assert_eq!(ask("accept", "*/*").await.unwrap().text().await.unwrap(), "0123456789");
}

const MIB: usize = 1 << 20;
const LENGTH: usize = 2_048 * MIB;

/// Gives so many zeros to whoever asks, and says of what it is sent how much it was.
async fn counting() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = head(&mut stream).await;
            let piece = vec![0; MIB];
            if asked.starts_with("GET") {
                let start = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {LENGTH}\r\n\r\n");
                stream.write_all(start.as_bytes()).await.unwrap();
                for _ in 0..LENGTH / MIB {
                    stream.write_all(&piece).await.unwrap();
                }
            } else {
                let mut upload = (&mut stream).take(LENGTH as u64);
                let read = tokio::io::copy(&mut upload, &mut tokio::io::sink()).await.unwrap();
                let said = read.to_string();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{said}",
                    said.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_26_what_no_memory_holds_passes_both_ways() {
    let (upstream, address, admin) = (counting().await, free_address(), free_address());
    let text = format!(
        "server.listen = [\"{address}\"]\nserver.workers = 1\nserver.drain_delay = \"0s\"\nserver.limits.body_bytes = \"2GiB\"\nadmin.listen = \"{admin}\"\n\
         [route.raw]\nurl = \"http://{address}\"\nupstream = \"http://{upstream}\"\nauth = [\"public\"]\n"
    );
    let gateway = Process::start(&text, &[], address, admin);
    let small = exchange(
        address,
        format!("GET /oauth2/x HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes(),
    )
    .await;
    assert!(small.starts_with("HTTP/1.1 404 "), "{small}");
    let before = gateway.peak();

    let mut stream = TcpStream::connect(address).await.unwrap();
    let ask = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    head(&mut stream).await;
    let read = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
    assert_eq!(read, LENGTH as u64);

    let mut stream = TcpStream::connect(address).await.unwrap();
    let ask = format!("POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {LENGTH}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let piece = vec![0; MIB];
    for _ in 0..LENGTH / MIB {
        stream.write_all(&piece).await.unwrap();
    }
    head(&mut stream).await;
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, LENGTH.to_string());
    let grown = gateway.peak() - before;
    assert!(grown < 32 * 1024, "{grown} KiB more for bodies of {} MiB", LENGTH / MIB);
}
