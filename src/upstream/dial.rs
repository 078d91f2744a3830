//! How a connection to a server is opened.

#[cfg(test)]
use std::sync::Mutex;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Destination, DestinationScheme, destination::Place, settings::UpstreamTls};

/// What is known beforehand of the way to one server.
pub(super) struct Dialer {
    pub(super) destination: Destination,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    names: Names,
    /// No connection to a name serves for longer; absent: it is an address, which leads to the same place for ever.
    longest_life: Option<Duration>,
}

/// Who knows the addresses of names.
enum Names {
    /// The machine's resolver, asked for each connection.
    System,
    #[cfg(test)]
    Given(Arc<Mutex<Vec<SocketAddr>>>),
}

/// One that is encrypted.
pub(super) type Encrypted = TlsStream<TcpStream>;

/// A connection, as it was opened.
pub(super) enum Dialed {
    Tcp(TcpStream),
    Tls(Box<Encrypted>),
    Unix(UnixStream),
}

/// A name that leads elsewhere counts after this time at the latest, also where one connection serves all.
const LONGEST_LIFE: Duration = Duration::from_secs(2 * 60);
/// An address that has not answered for so long is not waited for alone (RFC 8305 §8).
const A_WHILE: Duration = Duration::from_millis(250);
/// No name's addresses are tried beyond these.
const MOST: usize = 16;

/// What a server has to choose that is spoken HTTP/2 with (RFC 7301).
const H2: &[u8] = b"h2";

impl Dialer {
    /// # Errors
    /// When TLS cannot be set up for this destination.
    pub(super) fn new(destination: Destination, tls: &UpstreamTls) -> Result<Self, rustls::Error> {
        let tls = match (destination.scheme.is_encrypted(), &destination.place) {
            (true, Place::Tcp { host, .. }) => Some(encryption(destination.scheme, host, tls)?),
            (false, _) | (true, Place::Unix(_)) => None,
        };
        let is_name = match &destination.place {
            Place::Tcp { host, .. } => host.parse::<IpAddr>().is_err(),
            Place::Unix(_) => false,
        };
        Ok(Self {
            destination,
            tls,
            names: Names::System,
            longest_life: is_name.then_some(LONGEST_LIFE),
        })
    }

    /// Whether a connection is so old that its name may lead elsewhere by now.
    pub(super) fn is_outdated(&self, opened: Instant) -> bool {
        self.longest_life.is_some_and(|longest| opened.elapsed() >= longest)
    }

    pub(super) async fn dial(&self) -> io::Result<Dialed> {
        let tcp = match &self.destination.place {
            Place::Unix(path) => return unix(path).await.map(Dialed::Unix),
            Place::Tcp { host, port } => self.names.reach(host, *port).await?,
        };
        tcp.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else {
            return Ok(Dialed::Tcp(tcp));
        };
        let stream = connector.connect(name.clone(), tcp).await?;
        let spoken = stream.get_ref().1.alpn_protocol();
        if self.destination.scheme == DestinationScheme::H2 && spoken != Some(H2) {
            return Err(io::Error::other("it does not speak HTTP/2"));
        }
        Ok(Dialed::Tls(Box::new(stream)))
    }
}

fn encryption(
    scheme: DestinationScheme,
    host: &str,
    tls: &UpstreamTls,
) -> Result<(TlsConnector, ServerName<'static>), rustls::Error> {
    let name = match &tls.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(host.to_owned()).map_err(|error| rustls::Error::General(error.to_string()))?,
    };
    let mut config: ClientConfig = tls.roots.client_config_of(tls.certificate.as_ref())?;
    if scheme == DestinationScheme::H2 {
        config.alpn_protocols = vec![H2.to_vec()];
    }
    Ok((TlsConnector::from(Arc::new(config)), name))
}

async fn unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

impl Names {
    async fn reach(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        match host.parse::<IpAddr>() {
            Ok(address) => TcpStream::connect((address, port)).await,
            Err(_) => first_of(by_turns(self.addresses(host, port).await?)).await,
        }
    }

    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(lookup_host((host, port)).await?.collect()),
            #[cfg(test)]
            Self::Given(addresses) => Ok(addresses.lock().unwrap().clone()),
        }
    }
}

/// The two families by turns, each in the order of the resolver, so that none keeps the other from being tried (RFC 8305 §4).
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let mut turns: Vec<(usize, SocketAddr)> = first.into_iter().enumerate().collect();
    turns.extend(second.into_iter().enumerate());
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, address)| address).collect()
}

/// Whoever answers first: the next is tried when one has failed, or has not answered for a while (RFC 8305 §5).
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut left = addresses.into_iter().take(MOST).peekable();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::other("the name has no address");
    loop {
        if let Some(address) = left.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        let is_last = left.peek().is_none();
        tokio::select! {
            attempt = attempts.join_next() => match attempt {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last = error,
                Some(Err(_)) => {}
                None => return Err(last),
            },
            () = sleep(A_WHILE), if !is_last => {}
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::TcpListener as StdListener;

    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    pub(in crate::upstream) const PATIENCE: Duration = Duration::from_secs(20);

    /// The way to a name that leads wherever the list says, for as short a time as this.
    pub(in crate::upstream) fn by_name(
        scheme: DestinationScheme,
        life: Duration,
    ) -> (Dialer, Arc<Mutex<Vec<SocketAddr>>>) {
        let place = Place::Tcp {
            host: "app.test".into(),
            port: 80,
        };
        let mut dialer = Dialer::new(Destination { scheme, place }, &UpstreamTls::default()).unwrap();
        assert_eq!(dialer.longest_life, Some(LONGEST_LIFE));
        let addresses = Arc::new(Mutex::new(Vec::new()));
        dialer.names = Names::Given(addresses.clone());
        dialer.longest_life = Some(life);
        (dialer, addresses)
    }

    async fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn nobody() -> SocketAddr {
        StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn f_21_an_address_where_nobody_listens_costs_nothing_but_the_next_one() {
        let (dialer, addresses) = by_name(DestinationScheme::Http, LONGEST_LIFE);
        let (_listener, there) = listening().await;
        *addresses.lock().unwrap() = vec![nobody(), "[::1]:1".parse().unwrap(), nobody(), there];
        let Ok(Dialed::Tcp(stream)) = dialer.dial().await else {
            panic!("not connected")
        };
        assert_eq!(stream.peer_addr().unwrap(), there);
        addresses.lock().unwrap().pop();
        assert!(dialer.dial().await.is_err());
        addresses.lock().unwrap().clear();
        assert!(dialer.dial().await.is_err());
    }

    #[tokio::test]
    async fn f_21_an_address_that_says_nothing_is_not_waited_for() {
        let (dialer, addresses) = by_name(DestinationScheme::Http, LONGEST_LIFE);
        // A queue that is full takes no more, and says nothing.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let silent = socket.local_addr().unwrap().as_socket().unwrap();
        let _fill: Vec<_> = (0..4).map(|_| tokio::spawn(TcpStream::connect(silent))).collect();
        let (_listener, there) = listening().await;
        *addresses.lock().unwrap() = vec![silent, silent, there];
        let dialed = timeout(PATIENCE, dialer.dial()).await.expect("it waits for ever");
        assert!(dialed.is_ok());
    }

    #[test]
    fn the_families_are_tried_by_turns() {
        let read = |list: &[&str]| {
            list.iter()
                .map(|text| text.parse().unwrap())
                .collect::<Vec<SocketAddr>>()
        };
        let given = read(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        assert_eq!(
            by_turns(given),
            read(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"])
        );
    }

    #[test]
    fn an_address_leads_to_the_same_place_for_ever() {
        let life = |host: &str| {
            let place = Place::Tcp {
                host: host.into(),
                port: 80,
            };
            let scheme = DestinationScheme::H2c;
            let dialer = Dialer::new(Destination { scheme, place }, &UpstreamTls::default());
            dialer.unwrap().longest_life
        };
        assert_eq!((life("::1"), life("10.0.0.5")), (None, None));
        assert_eq!(life("app.internal"), Some(LONGEST_LIFE));
    }
}
