//! How a connection to a server is opened.

use std::{io, path::Path, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Destination, DestinationScheme, destination::Place, settings::UpstreamTls};

/// What is known beforehand of the way to one server.
pub(super) struct Dialer {
    pub(super) destination: Destination,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A connection, as it was opened.
pub(super) enum Dialed {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

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
        Ok(Self { destination, tls })
    }

    pub(super) async fn dial(&self) -> io::Result<Dialed> {
        let tcp = match &self.destination.place {
            Place::Unix(path) => return unix(path).await.map(Dialed::Unix),
            Place::Tcp { host, port } => reach(host, *port).await?,
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

async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => TcpStream::connect((address, port)).await,
        Err(_) => TcpStream::connect((host, port)).await,
    }
}
