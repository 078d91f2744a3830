//! The same limits where a connection speaks HTTP/2, frame by frame.

use std::collections::HashMap;

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Types of frames (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

// Their flags.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

// What a reset or a farewell says (RFC 9113 §7).
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Where pings are beside the point.
fn patient() -> Settings {
    let mut settings = settings();
    settings.limits.header_timeout = Duration::from_secs(10);
    settings
}

#[derive(Debug, PartialEq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// Of a reset, or of a farewell.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

#[derive(Debug, PartialEq)]
enum Answer {
    Good(Vec<u8>),
    Other(Vec<u8>),
}

impl Answer {
    fn body(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Good(body) | Self::Other(body) => body,
        }
    }
}

fn good(body: &str) -> Result<Answer, u32> {
    Ok(Answer::Good(body.into()))
}

/// A client that writes frames, and answers pings and settings.
struct Client(TcpStream);

impl House {
    async fn speak(&self) -> Client {
        self.speak_with(&[]).await
    }

    /// With these settings.
    async fn speak_with(&self, settings: &[(u16, u32)]) -> Client {
        let mut client = Client(self.connect().await);
        client.0.write_all(PREFACE).await.unwrap();
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        client.send(SETTINGS, 0, 0, &settings).await;
        client
    }

    /// Waits until no connection is open.
    async fn is_left(&self) {
        let left = async {
            while !self.metrics.encode().contains("vestibule_connections 0\n") {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(10), left).await.expect("it stays open");
    }
}

impl Client {
    /// Whether it could be written.
    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        self.0.write_all(&bytes).await.is_ok()
    }

    async fn get(&mut self, stream: u32, path: &str, fields: &[(&str, &str)]) -> bool {
        let head = head(path, fields);
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &head).await
    }

    /// None when the connection has closed.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        let read = timeout(Duration::from_secs(10), self.0.read_exact(&mut head));
        read.await.expect("nothing comes").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        let [kind, flags] = [head[3], head[4]];
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        if matches!(kind, PING | SETTINGS) && flags & ACK == 0 {
            let echo: &[u8] = if kind == PING { &payload } else { &[] };
            self.send(kind, ACK, 0, echo).await;
        }
        Some(Frame {
            kind,
            flags,
            stream,
            payload,
        })
    }

    /// The next frame of a type.
    async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("it closes");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The body of an answer whose status is 200, or of another; or why there is none.
    async fn answer(&mut self, stream: u32) -> Result<Answer, u32> {
        let mut answer = Answer::Other(Vec::new());
        loop {
            let frame = self.next().await.expect("it closes");
            match frame.kind {
                GOAWAY if frame.code() != 0 => return Err(frame.code()),
                _ if frame.stream != stream => {}
                RST_STREAM => return Err(frame.code()),
                // The first field, from the static table (RFC 7541 Appendix A).
                HEADERS if frame.payload.contains(&0x88) => answer = Answer::Good(Vec::new()),
                DATA => answer.body().extend(&frame.payload),
                _ => {}
            }
            if matches!(frame.kind, HEADERS | DATA) && frame.stream == stream && frame.flags & END_STREAM != 0 {
                return Ok(answer);
            }
        }
    }

    /// Reads until it closes; the codes of farewells on the way.
    async fn farewells(&mut self) -> Vec<u32> {
        let mut codes = Vec::new();
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                codes.push(frame.code());
            }
        }
        codes
    }
}

/// A head of literal fields (RFC 7541 §6.2.2).
fn head(path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", path),
    ];
    let mut block = Vec::new();
    for (name, value) in pseudo.iter().chain(fields) {
        block.push(0);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend(text.as_bytes());
        }
    }
    block
}

/// With seven bits in the first byte (RFC 7541 §5.1).
fn length(length: usize, block: &mut Vec<u8>) {
    let Some(mut rest) = length.checked_sub(127) else {
        return block.push(length as u8);
    };
    block.push(127);
    while rest >= 128 {
        block.push(128 | (rest % 128) as u8);
        rest /= 128;
    }
    block.push(rest as u8);
}

#[tokio::test]
async fn f_10_every_limit_is_told_the_client() {
    let house = open(settings());
    let mut client = house.speak().await;
    let told = client.next_of(SETTINGS).await;
    let told: HashMap<_, _> = told
        .payload
        .chunks(6)
        .map(|setting| {
            let (id, value) = setting.split_at(2);
            let value = u32::from_be_bytes(value.try_into().unwrap());
            (u16::from_be_bytes(id.try_into().unwrap()), value)
        })
        .collect();
    // RFC 9113 §6.5.2: table size, concurrent streams, window, frame size, head; RFC 8441 §3: the extended CONNECT.
    let limits = [
        (1, 4_096),
        (3, 100),
        (4, 64 * 1_024),
        (5, 16 * 1_024),
        (6, 4_096),
        (8, 1),
    ];
    assert_eq!(told, limits.into());
    let window = client.next_of(WINDOW_UPDATE).await;
    assert_eq!(window.stream, 0);
    assert_eq!(window.code(), 1_024 * 1_024 - 65_535);
}

#[tokio::test]
async fn both_versions_are_answered_where_it_is_asked_for_and_one_where_it_is_not() {
    let house = open(patient());
    let mut client = house.speak().await;
    for stream in [1, 3] {
        client.get(stream, "/a", &[]).await;
        assert_eq!(client.answer(stream).await, good("127.0.0.1 /a"));
    }
    let mut old = house.connect().await;
    assert!(exchange(&mut old, get("/b")).await.ends_with("127.0.0.1 /b"));
    let http1 = open(Settings {
        spoken: Spoken::Http1,
        ..settings()
    });
    for mut deaf in [http1.connect().await, house.connect_admin().await] {
        deaf.write_all(PREFACE).await.unwrap();
        assert!(closes_after(&mut deaf).await < Duration::from_millis(1_400));
    }
}

#[tokio::test]
async fn f_08_who_does_not_come_to_the_point_is_cut_off() {
    let house = open(settings());
    let mut silent = house.connect().await;
    let waited = closes_after(&mut silent).await;
    assert!(
        waited > Duration::from_millis(1_200) && waited < Duration::from_secs(3),
        "{waited:?}"
    );
    let mut halfway = house.connect().await;
    halfway.write_all(&PREFACE[..16]).await.unwrap();
    let waited = closes_after(&mut halfway).await;
    assert!(
        waited > Duration::from_millis(250) && waited < Duration::from_millis(1_200),
        "{waited:?}"
    );
    // Half a head: nothing else may be sent before its rest, not even the answer to a ping (RFC 9113 §6.10).
    let mut half = house.speak().await;
    half.send(HEADERS, END_STREAM, 1, &head("/", &[])[..9]).await;
    let start = Instant::now();
    while let Ok(1..) = half.0.read(&mut [0; 1_024]).await {}
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    house.is_left().await;
}

#[tokio::test]
async fn f_08_who_asks_for_nothing_is_sent_away_though_it_lives() {
    let house = open(patient());
    let mut client = house.speak().await;
    client.get(1, "/", &[]).await;
    assert_eq!(client.answer(1).await, good("127.0.0.1 /"));
    let start = Instant::now();
    assert_eq!(client.next_of(GOAWAY).await.code(), 0);
    let waited = start.elapsed();
    assert!(
        waited > Duration::from_millis(1_200) && waited < Duration::from_secs(3),
        "{waited:?}"
    );
    client.farewells().await;
    house.is_left().await;
}

#[tokio::test]
async fn one_more_than_allowed_waits_for_a_place_whatever_it_speaks() {
    let mut settings = settings();
    settings.limits.connections = 1;
    let house = open(settings);
    let mut first = house.speak().await;
    first.get(1, "/", &[]).await;
    assert_eq!(first.answer(1).await, good("127.0.0.1 /"));
    let mut second = house.connect().await;
    second.write_all(get("/").as_bytes()).await.unwrap();
    assert!(read(&mut second, Duration::from_millis(200)).await.is_empty());
    drop(first);
    assert!(exchange(&mut second, "").await.contains(" 200 "));
}

#[tokio::test]
async fn an_answer_that_takes_long_keeps_its_connection() {
    let house = open(patient());
    let mut client = house.speak().await;
    client.get(1, "/slow", &[]).await;
    let wait = async {
        sleep(Duration::from_millis(2_000)).await;
        house.stub.gate.notify_one();
    };
    let (answer, ()) = tokio::join!(client.answer(1), wait);
    assert_eq!(answer, good("late"));
}

#[tokio::test]
async fn f_09_what_is_too_long_is_refused_and_the_connection_goes_on() {
    let house = open(patient());
    let (mut client, connection) = h2::client::handshake(house.connect().await).await.unwrap();
    tokio::spawn(connection);
    let field = |length| vec![("x", "y".repeat(length))];
    let fields = |count| vec![("x", "y".to_owned()); count];
    for (path, fields, expected) in [
        ("x".repeat(1_022), fields(0), 200),
        ("x".repeat(1_024), fields(0), 414),
        (String::new(), field(3_000), 200),
        (String::new(), field(4_096), 431),
        (String::new(), fields(20), 200),
        (String::new(), fields(21), 431),
        (String::new(), fields(0), 200),
    ] {
        let mut request = Request::get(format!("http://a/{path}"));
        for (name, value) in &fields {
            request = request.header(*name, value);
        }
        client = client.ready().await.unwrap();
        let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        let status = answer.await.unwrap().status();
        assert_eq!(status, expected, "{} bytes, {} fields", path.len(), fields.len());
    }
}

#[tokio::test]
async fn n_147_what_concerns_a_connection_has_no_place_in_a_stream() {
    let house = open(patient());
    let mut client = house.speak().await;
    let fields = [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
    ];
    for (stream, field) in (1..).step_by(2).zip(fields) {
        client.get(stream, "/", &[field]).await;
        assert_eq!(client.answer(stream).await, Err(PROTOCOL_ERROR), "{field:?}");
    }
    client.get(99, "/", &[("te", "trailers")]).await;
    assert_eq!(client.answer(99).await, good("127.0.0.1 /"));
    client.get(101, "/", &[("X-Upper", "case")]).await;
    assert_eq!(client.answer(101).await, Err(PROTOCOL_ERROR));
}

#[tokio::test]
async fn f_10_more_streams_than_allowed_are_refused() {
    let house = open(patient());
    let mut client = house.speak().await;
    // Otherwise the client may not know yet.
    client.next_of(SETTINGS).await;
    for stream in (1..=201).step_by(2) {
        client.get(stream, "/slow", &[]).await;
    }
    assert_eq!(client.answer(201).await, Err(REFUSED_STREAM));
}

#[tokio::test]
async fn f_10_who_resets_what_it_opens_again_and_again_is_sent_away() {
    let house = open(settings());
    let mut client = house.speak().await;
    let mut bytes = Vec::new();
    for stream in (1_u32..=400).step_by(2) {
        let head = head("/slow", &[]);
        for (kind, flags, payload) in [
            (HEADERS, END_HEADERS | END_STREAM, &*head),
            (RST_STREAM, 0, &CANCEL.to_be_bytes()),
        ] {
            bytes.extend([0, 0, payload.len() as u8, kind, flags]);
            bytes.extend(stream.to_be_bytes());
            bytes.extend(payload);
        }
    }
    client.0.write_all(&bytes).await.unwrap();
    assert_eq!(client.farewells().await, [ENHANCE_YOUR_CALM]);
    house.is_left().await;
}

#[tokio::test]
async fn f_10_who_makes_us_reset_streams_again_and_again_is_sent_away() {
    // CVE-2025-8671: each stream ends by a mistake of the client, and its request would go on.
    let house = open(patient());
    let mut client = house.speak().await;
    let mut bytes = Vec::new();
    for stream in (1_u32..=2_000).step_by(2) {
        let head = head("/slow", &[]);
        for (kind, flags, payload) in [
            (HEADERS, END_HEADERS | END_STREAM, &*head),
            // More than a window can be (RFC 9113 §6.9.1).
            (WINDOW_UPDATE, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ] {
            bytes.extend([0, 0, payload.len() as u8, kind, flags]);
            bytes.extend(stream.to_be_bytes());
            bytes.extend(payload);
        }
    }
    let _ = client.0.write_all(&bytes).await;
    assert_eq!(client.farewells().await, [ENHANCE_YOUR_CALM]);
    house.is_left().await;
}

#[tokio::test]
async fn f_08_a_connection_is_not_used_for_ever() {
    let mut settings = patient();
    settings.limits.connection_age = Duration::from_millis(300);
    let house = open(settings);
    let mut client = house.speak().await;
    client.get(1, "/slow", &[]).await;
    assert_eq!(client.next_of(GOAWAY).await.code(), 0);
    house.stub.gate.notify_one();
    assert_eq!(client.answer(1).await, good("late"), "what is under way is finished");
    house.is_left().await;
}

#[tokio::test]
async fn f_10_a_head_without_end_is_not_read_for_ever() {
    let house = open(settings());
    let mut client = house.speak().await;
    client.send(HEADERS, END_STREAM, 1, &head("/", &[])).await;
    let fields = head("/", &[("x", &"y".repeat(10_000))]);
    let mut sent = 0;
    while client.send(CONTINUATION, 0, 1, &fields).await {
        sent += fields.len();
        assert!(sent < 64 << 20, "it reads on and on");
        tokio::task::yield_now().await;
    }
    house.is_left().await;
}

#[tokio::test]
async fn f_10_frames_that_cost_only_us_are_not_answered_for_ever() {
    let house = open(settings());
    for (kind, flags, stream, payload) in [(PING, 0, 0, &[0; 8][..]), (SETTINGS, 0, 0, &[]), (DATA, 0, 1, &[])] {
        let mut client = house.speak().await;
        let post = head("/slow", &[]);
        client.send(HEADERS, END_HEADERS, 1, &post).await;
        let mut one = vec![0, 0, payload.len() as u8, kind, flags];
        one.extend(u32::to_be_bytes(stream));
        one.extend(payload);
        let many = one.repeat(1_000);
        // It reads nothing, and so not the answers either.
        let flood = async {
            let mut sent = 0;
            while client.0.write_all(&many).await.is_ok() {
                sent += many.len();
                assert!(sent < 64 << 20, "it reads on and on: {kind}");
            }
        };
        timeout(Duration::from_secs(10), flood).await.expect("it is kept");
        house.is_left().await;
    }
}

#[tokio::test]
async fn f_10_whoever_floods_is_cut_off_though_it_takes_every_answer() {
    let house = open(patient());
    for (kind, stream, payload) in [
        (PING, 0, &[0; 8][..]),
        (SETTINGS, 0, &[]),
        (PRIORITY, 1, &[0, 0, 0, 0, 9]),
    ] {
        let client = house.speak().await;
        let mut one = vec![0, 0, payload.len() as u8, kind, 0];
        one.extend(u32::to_be_bytes(stream));
        one.extend(payload);
        let many = one.repeat(100);
        let (mut reader, mut writer) = client.0.into_split();
        let taking = tokio::spawn(async move { while matches!(reader.read(&mut [0; 4_096]).await, Ok(1..)) {} });
        let mut sent = 0;
        while writer.write_all(&many).await.is_ok() {
            sent += 100;
            assert!(sent < 1_000_000, "it goes on and on: {kind}");
        }
        assert!(sent >= 9_900, "cut off after {sent}");
        taking.await.unwrap();
        house.is_left().await;
    }
}

#[tokio::test]
async fn f_08_a_stream_that_nobody_takes_is_reset_and_its_sibling_goes_on() {
    let house = open(patient());
    // No stream may send more than a few bytes unasked.
    let mut client = house.speak_with(&[(4, 10)]).await;
    client.get(1, "/long", &[]).await;
    client.get(3, "/slow", &[]).await;
    let start = Instant::now();
    let reset = client.next_of(RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    let waited = start.elapsed();
    assert!(
        waited > Duration::from_millis(500) && waited < Duration::from_secs(3),
        "{waited:?}"
    );
    house.stub.gate.notify_one();
    assert_eq!(client.answer(3).await, good("late"));
}

#[tokio::test]
async fn a_stream_that_is_taken_slowly_goes_on() {
    let house = open(patient());
    let mut client = house.speak_with(&[(4, 16 * 1_024)]).await;
    client.get(1, "/long", &[]).await;
    client.next_of(DATA).await;
    for _ in 0..8 {
        sleep(Duration::from_millis(150)).await;
        for stream in [0, 1] {
            let more = (16_u32 * 1_024).to_be_bytes();
            client.send(WINDOW_UPDATE, 0, stream, &more).await;
        }
        let frame = loop {
            match client.next().await.expect("it closes") {
                frame if matches!(frame.kind, DATA | RST_STREAM) => break frame,
                _ => {}
            }
        };
        assert_eq!(frame.kind, DATA, "{frame:?}");
    }
}

#[tokio::test]
async fn f_14_a_drain_says_farewell_and_lets_streams_finish() {
    let house = open(patient());
    let mut client = house.speak().await;
    client.get(1, "/slow", &[]).await;
    house.stub.asked.notified().await;
    let mut idle = house.speak().await;
    idle.next_of(SETTINGS).await;
    house.running.drain();
    assert_eq!(client.next_of(GOAWAY).await.code(), 0);
    assert_eq!(idle.farewells().await.first(), Some(&0));
    house.stub.gate.notify_one();
    assert_eq!(client.answer(1).await, good("late"));
    client.farewells().await;
    timeout(Duration::from_secs(5), house.running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_bug_ends_one_stream_only() {
    let house = open(patient());
    let mut client = house.speak().await;
    client.get(1, "/panic", &[]).await;
    let answer = client.answer(1).await;
    assert_eq!(answer, Ok(Answer::Other(b"Something went wrong here.\n".to_vec())));
    client.get(3, "/", &[]).await;
    assert_eq!(client.answer(3).await, good("127.0.0.1 /"));
    assert!(house.metrics.encode().contains("vestibule_panics_total 1\n"));
}

#[tokio::test]
async fn a_websocket_keeps_its_connection_and_its_stream_as_long_as_it_is_open() {
    let house = open(patient());
    let (client, connection) = h2::client::handshake(house.connect().await).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let mut request = Request::builder()
        .method("CONNECT")
        .uri("http://a/upgrade")
        .body(())
        .unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from("websocket"));
    let (answer, mut send) = client.send_request(request, false).unwrap();
    let mut answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    // Longer than a connection may be without a request, and than a client may take nothing.
    sleep(Duration::from_millis(3_000)).await;
    send.send_data(Bytes::from_static(b"!"), true).unwrap();
    assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), "!");
    drop((answer, send));
    // Without it, the connection is one that rests.
    timeout(Duration::from_secs(10), connection)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
