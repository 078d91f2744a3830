//! Where a connection comes from, in the words of the proxy that passed it on: the PROXY protocol, versions 1 and 2.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Once,
};

use super::{Handle, Limits, listen::Guest, protocol::within};
use crate::identity::UNKNOWN;

/// The longest line of version 1, with its end.
const LINE: usize = 107;
/// The longest header of version 2: no proxy has more to say, and what it says beside the addresses is not read.
const LONGEST: usize = 4 * 1_024;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// Whom the header speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    At(IpAddr),
    /// The proxy itself, which looks whether somebody is here.
    Proxy,
    /// Somebody whose address is of another kind, or whom the proxy does not know.
    Somebody,
}

/// Says one time that there is something to mend in the network or in the file; the log is not for strangers to fill.
static STRANGER: Once = Once::new();

/// Puts the client in the place of the proxy.
///
/// # Errors
/// When the peer is no proxy whose word counts, and when it does not send the header, in time.
pub(super) async fn unveil<H: Handle>(guest: &mut Guest, handler: &H, limits: &Limits) -> io::Result<()> {
    let proxy = guest.peer;
    if !handler.trusts(proxy) {
        STRANGER.call_once(|| {
            tracing::warn!(peer = %proxy, "refused: with `proxy_protocol`, only those in `trusted_proxies` may connect");
        });
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is no trusted proxy",
        ));
    }
    let (client, length) = within(limits.handshake_timeout, header(guest)).await?;
    guest.stream.drop_ahead(length);
    match client {
        Client::At(address) => guest.peer = address,
        // Without a client to speak of, the peer is who it is.
        Client::Proxy => {}
        Client::Somebody => guest.peer = UNKNOWN,
    }
    Ok(())
}

async fn header(guest: &mut Guest) -> io::Result<(Client, usize)> {
    loop {
        match read(guest.stream.ahead()) {
            Read::Header(client, length) => return Ok((client, length)),
            Read::Nothing => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it does not begin with a header of the PROXY protocol",
                ));
            }
            Read::More => {}
        }
        let room = LONGEST.saturating_sub(guest.stream.ahead().len());
        if guest.stream.fetch(room).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// A header, of so many bytes.
    Header(Client, usize),
    /// What could become one.
    More,
    /// What never will.
    Nothing,
}

fn read(bytes: &[u8]) -> Read {
    match bytes.first() {
        None => Read::More,
        Some(b'P') => line(bytes),
        Some(_) => binary(bytes).unwrap_or(Read::Nothing),
    }
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`, and a line end.
fn line(bytes: &[u8]) -> Read {
    const BEGINNING: &[u8] = b"PROXY ";
    let begun = bytes.get(..BEGINNING.len()).unwrap_or(bytes);
    if !BEGINNING.starts_with(begun) {
        return Read::Nothing;
    }
    let seen = bytes.get(..LINE).unwrap_or(bytes);
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if seen.len() < LINE { Read::More } else { Read::Nothing };
    };
    let text = bytes
        .get(BEGINNING.len()..end)
        .and_then(|text| str::from_utf8(text).ok());
    match (text.and_then(words), end.checked_add(2)) {
        (Some(client), Some(length)) => Read::Header(client, length),
        _ => Read::Nothing,
    }
}

fn words(text: &str) -> Option<Client> {
    let mut words = text.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Client::Somebody);
    }
    let (from, to) = (words.next()?, words.next()?);
    let ports = [words.next()?, words.next()?];
    let is_port = |port: &&str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if words.next().is_some() || !ports.iter().all(is_port) {
        return None;
    }
    match family {
        "TCP4" => to.parse::<Ipv4Addr>().ok().and(client(from.parse::<Ipv4Addr>().ok()?)),
        "TCP6" => to.parse::<Ipv6Addr>().ok().and(client(from.parse::<Ipv6Addr>().ok()?)),
        _ => None,
    }
}

/// Version 2; what stands behind the addresses is passed over.
fn binary(bytes: &[u8]) -> Option<Read> {
    let begun = bytes.get(..SIGNATURE.len()).unwrap_or(bytes);
    if !SIGNATURE.starts_with(begun) {
        return None;
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Some(Read::More);
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let total = length.checked_add(FIXED).filter(|total| *total <= LONGEST)?;
    // LOCAL speaks of nobody, whatever else it says.
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return None,
    };
    let Some(block) = rest.get(..length) else {
        return Some(Read::More);
    };
    let client = if is_local {
        Client::Proxy
    } else {
        addressed(family, block)?
    };
    Some(Read::Header(client, total))
}

/// The source, of an address block that has room for its family.
fn addressed(family: u8, block: &[u8]) -> Option<Client> {
    match family {
        // TCP over IPv4, then over IPv6.
        0x11 => {
            let (source, _) = block.get(..12)?.split_first_chunk::<4>()?;
            client(*source)
        }
        0x21 => {
            let (source, _) = block.get(..36)?.split_first_chunk::<16>()?;
            client(*source)
        }
        // Unspecified, and a Unix socket of its own.
        0x00 => Some(Client::Somebody),
        0x31 => block.get(..216).map(|_| Client::Somebody),
        _ => None,
    }
}

/// Nobody sends from an unspecified address; here, it would be taken for another kind of peer.
fn client(address: impl Into<IpAddr>) -> Option<Client> {
    let address = address.into().to_canonical();
    (!address.is_unspecified()).then_some(Client::At(address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(address: &str) -> Client {
        Client::At(address.parse().unwrap())
    }

    fn version_2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, block].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0, 80, 1, 187];

    #[test]
    fn a_line_says_who_connects() {
        for (line, client) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", at("192.0.2.1")),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", at("2001:db8::1")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", at("192.0.2.1")),
            ("PROXY UNKNOWN\r\n", Client::Somebody),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", Client::Somebody),
        ] {
            let bytes = format!("{line}GET / HTTP/1.1\r\n");
            assert_eq!(read(bytes.as_bytes()), Read::Header(client, line.len()), "{line}");
            for end in 0..line.len() {
                assert_eq!(read(&bytes.as_bytes()[..end]), Read::More, "{line} up to {end}");
            }
        }
    }

    #[test]
    fn what_is_no_line_is_nothing() {
        let endless = format!("PROXY UNKNOWN {}", "a".repeat(LINE));
        for bad in [
            "GET / HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n",
            "PROXYTCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
            "PROXY TCP4 0.0.0.0 192.0.2.2 1 2\r\n",
            "PROXY TCP6 :: ::1 1 2\r\n",
            "PROXY TCP6 ::ffff:0.0.0.0 ::1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY \r\n",
            &*endless,
        ] {
            assert_eq!(read(bad.as_bytes()), Read::Nothing, "{bad}");
        }
    }

    #[test]
    fn a_header_of_version_2_says_who_connects() {
        let v6: [u8; 36] = std::array::from_fn(|index| if index == 15 { 1 } else { 0 });
        let more = [&V4[..], &[0x04, 0, 1, 0]].concat();
        for (header, client) in [
            (version_2(0x21, 0x11, &V4), at("192.0.2.1")),
            (version_2(0x21, 0x11, &more), at("192.0.2.1")),
            (version_2(0x21, 0x21, &v6), at("::1")),
            (version_2(0x20, 0x00, &[]), Client::Proxy),
            (version_2(0x20, 0x11, &V4), Client::Proxy),
            (version_2(0x21, 0x00, &[]), Client::Somebody),
            (version_2(0x21, 0x31, &[b'a'; 216]), Client::Somebody),
        ] {
            let bytes = [&header[..], b"GET /"].concat();
            assert_eq!(read(&bytes), Read::Header(client, header.len()), "{header:?}");
            for end in 0..header.len() {
                assert_eq!(read(&bytes[..end]), Read::More, "{header:?} up to {end}");
            }
        }
    }

    #[test]
    fn what_version_2_does_not_allow_is_nothing() {
        let from_nowhere = [[0; 4], [192, 0, 2, 2], [0, 1, 0, 2]].concat();
        for bad in [
            version_2(0x11, 0x11, &V4),
            version_2(0x22, 0x11, &V4),
            version_2(0x21, 0x12, &V4),
            version_2(0x21, 0x41, &V4),
            version_2(0x21, 0x11, &V4[..11]),
            version_2(0x21, 0x21, &V4),
            version_2(0x21, 0x11, &from_nowhere),
            version_2(0x21, 0x11, &[1; LONGEST]),
            b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
        ] {
            assert_eq!(read(&bad), Read::Nothing, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_the_same_way_with_more_behind_it(
            begun in prop_oneof![Just(&b"PROXY "[..]), Just(&SIGNATURE[..]), Just(&b""[..])],
            rest in proptest::collection::vec(any::<u8>(), 0..300),
            more in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let bytes = [begun, &rest].concat();
            let seen = read(&bytes);
            if let Read::Header(_, length) = seen {
                prop_assert!(length <= bytes.len() && length <= LONGEST);
            }
            if seen != Read::More {
                prop_assert_eq!(read(&[&bytes[..], &more].concat()), seen);
            }
        }
    }
}
