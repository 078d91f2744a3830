//! WebSockets in streams of HTTP/2 (RFC 8441).

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest, ext::Protocol};
use http::{Method, Request, Response};
use tokio::{net::TcpStream, time::timeout};

use super::wire::PATIENCE;

/// A connection to a gateway that has said that it knows the extended CONNECT.
pub async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let knows = async {
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, knows)
        .await
        .expect("it does not say that it knows it");
    client
}

/// Asks for something by CONNECT; the protocol stands in it unless it is empty.
pub async fn ask(
    client: &SendRequest<Bytes>,
    url: &str,
    protocol: &str,
    headers: &[(&str, &str)],
) -> Result<(Response<RecvStream>, SendStream<Bytes>), h2::Error> {
    let mut request = Request::builder().method(Method::CONNECT).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.header("sec-websocket-version", "13").body(()).unwrap();
    if !protocol.is_empty() {
        request.extensions_mut().insert(Protocol::from(protocol));
    }
    let mut client = client.clone().ready().await?;
    let (answer, send) = client.send_request(request, false)?;
    let answer = timeout(PATIENCE, answer).await.expect("no answer")?;
    Ok((answer, send))
}

/// A WebSocket at whose other end everything is said twice.
pub struct Socket {
    pub answer: Response<RecvStream>,
    pub send: SendStream<Bytes>,
}

impl Socket {
    pub async fn open(client: &SendRequest<Bytes>, url: &str, headers: &[(&str, &str)]) -> Self {
        let (answer, send) = ask(client, url, "websocket", headers).await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut socket = Self { answer, send };
        socket.is_answered("hi").await;
        socket
    }

    pub async fn is_answered(&mut self, word: &str) {
        self.send.send_data(Bytes::from(word.to_owned()), false).unwrap();
        let mut heard = Vec::new();
        while heard.len() < word.len() * 2 {
            heard.extend(self.hear().await.unwrap().unwrap());
        }
        assert_eq!(heard, word.repeat(2).as_bytes());
    }

    /// The next bytes; none at the end.
    pub async fn hear(&mut self) -> Option<Result<Bytes, h2::Error>> {
        loop {
            let heard = timeout(PATIENCE, self.answer.body_mut().data());
            let heard = heard.await.expect("nothing comes")?;
            if let Ok(bytes) = &heard {
                let flow = self.answer.body_mut().flow_control();
                flow.release_capacity(bytes.len()).unwrap();
                if bytes.is_empty() {
                    continue;
                }
            }
            return Some(heard);
        }
    }
}
