//! Bodies that come in chunks (RFC 9112 §7.1).

use bytes::{Buf as _, Bytes, BytesMut};
use httparse::Status;
use memchr::memmem;

use super::Broken;

/// Takes the data out of a row of chunks. What stands in their extensions and trailers is nobody's business.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// Bytes of extensions so far.
    extensions: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// Bytes of a chunk that are still to come.
    Data(u64),
    /// The line's end behind a chunk.
    End,
    Trailers,
    Over,
}

/// What the bytes at hand come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Data(Bytes),
    /// Nothing, without more of them.
    More,
    Over,
}

/// A line with a chunk's size, extensions and all.
const LONGEST_LINE: usize = 4 * 1_024;
/// All extensions together.
const MOST_EXTENSIONS: usize = 16 * 1_024;
/// What a line is without them: digits and its end.
const PLAIN_LINE: usize = 18;
/// Trailers of one body.
const TRAILERS: usize = 100;
/// All trailers together.
const LONGEST_TRAILERS: usize = 16 * 1_024;

impl Chunks {
    /// The next data, as much as there is of one chunk.
    ///
    /// # Errors
    /// When these are no chunks.
    pub(super) fn next(&mut self, read: &mut BytesMut) -> Result<Next, Broken> {
        self.skip(read)?;
        match self.state {
            State::Over => Ok(Next::Over),
            State::Data(left) if !read.is_empty() => {
                let length = usize::try_from(left).map_or(read.len(), |left| left.min(read.len()));
                let data = read.split_to(length).freeze();
                self.state = match left.saturating_sub(length.try_into().unwrap_or(u64::MAX)) {
                    0 => State::End,
                    left => State::Data(left),
                };
                // Whoever takes the last data sees that it is the last, where that is here, too. What is wrong behind it
                // is as wrong when the next is asked for.
                let _ = self.skip(read);
                Ok(Next::Data(data))
            }
            _ => Ok(Next::More),
        }
    }

    pub(super) fn are_over(&self) -> bool {
        self.state == State::Over
    }

    /// Goes past whatever is no data.
    fn skip(&mut self, read: &mut BytesMut) -> Result<(), Broken> {
        loop {
            let (length, next) = match self.state {
                // A line without any number would be taken for 0.
                State::Size if read.first().is_some_and(|first| !first.is_ascii_hexdigit()) => {
                    return Err(Broken::Nonsense("a chunk has no proper size"));
                }
                State::Size => match httparse::parse_chunk_size(read) {
                    Ok(Status::Complete((length, size))) if length < LONGEST_LINE => {
                        self.extensions = self.extensions.saturating_add(length.saturating_sub(PLAIN_LINE));
                        if self.extensions > MOST_EXTENSIONS {
                            return Err(Broken::Nonsense("its chunks have too many extensions"));
                        }
                        match size {
                            0 => (length, State::Trailers),
                            size => (length, State::Data(size)),
                        }
                    }
                    Ok(Status::Partial) if read.len() < LONGEST_LINE => return Ok(()),
                    Ok(_) | Err(_) => return Err(Broken::Nonsense("a chunk has no proper size")),
                },
                State::End => match &**read {
                    [b'\r', b'\n', ..] => (2, State::Size),
                    [] | [b'\r'] => return Ok(()),
                    _ => return Err(Broken::Nonsense("a chunk does not end where it says")),
                },
                State::Trailers => match (&**read, memmem::find(read, b"\r\n\r\n")) {
                    ([b'\r', b'\n', ..], _) => (2, State::Over),
                    (_, Some(at)) if at < LONGEST_TRAILERS => {
                        let mut lines = [httparse::EMPTY_HEADER; TRAILERS];
                        match httparse::parse_headers(read, &mut lines) {
                            Ok(Status::Complete((length, _))) => (length, State::Over),
                            Ok(Status::Partial) | Err(_) => return Err(Broken::Nonsense("its trailers are none")),
                        }
                    }
                    (short, None) if short.len() < LONGEST_TRAILERS => return Ok(()),
                    _ => return Err(Broken::Nonsense("its trailers are too long")),
                },
                State::Data(_) | State::Over => return Ok(()),
            };
            read.advance(length);
            self.state = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A body, and what is left behind it.
    type Whole = (Vec<u8>, Vec<u8>);

    /// The body, if it is over, from bytes that come in pieces of this size.
    fn body(bytes: &[u8], size: usize) -> Result<Option<Whole>, Broken> {
        let (mut chunks, mut read, mut body) = (Chunks::default(), BytesMut::new(), Vec::new());
        let mut pieces = bytes.chunks(size);
        loop {
            match chunks.next(&mut read)? {
                Next::Data(data) => body.extend_from_slice(&data),
                Next::Over => break,
                Next::More => match pieces.next() {
                    Some(piece) => read.extend_from_slice(piece),
                    None => return Ok(None),
                },
            }
        }
        read.extend_from_slice(&pieces.collect::<Vec<_>>().concat());
        Ok(Some((body, read.to_vec())))
    }

    #[test]
    fn extensions_and_trailers_are_passed_over_and_what_follows_is_left() {
        let bytes = b"4;a=\"b\"\r\nwiki\r\n0005\r\npedia\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\nHTTP/1.1";
        for size in 1..=bytes.len() {
            let (body, rest) = body(bytes, size).unwrap().unwrap();
            assert_eq!((&*body, &*rest), (&b"wikipedia"[..], &b"HTTP/1.1"[..]), "{size}");
        }
    }

    #[test]
    fn the_last_data_is_seen_to_be_the_last() {
        let (mut chunks, mut read) = (Chunks::default(), BytesMut::from(&b"4\r\nwiki\r\n0\r\n\r\n"[..]));
        assert_eq!(chunks.next(&mut read).unwrap(), Next::Data(Bytes::from_static(b"wiki")));
        assert!(chunks.are_over() && read.is_empty());
    }

    #[test]
    fn what_two_programs_could_read_differently_is_refused() {
        for bytes in [
            "4\nwiki\r\n",
            "4\r\nwikis\r\n",
            "4\r\nwiki0\r\n\r\n",
            "-4\r\nwiki\r\n",
            "+4\r\n",
            "0x4\r\n",
            " 4\r\nwiki\r\n",
            "\r\n",
            "g\r\n",
            "ffffffffffffffff0\r\n",
            "4\r\nwiki\n\n0\r\n\r\n",
            &format!("4;{}\r\n", "a".repeat(LONGEST_LINE)),
            &format!("0\r\nX: {}\r\n\r\n", "a".repeat(LONGEST_TRAILERS)),
            "0\r\nwiki\r\n\r\n",
            &format!("1;{}\r\nw\r\n", "a".repeat(200)).repeat(100),
        ] {
            for size in [1, 3, bytes.len()] {
                assert!(body(bytes.as_bytes(), size).is_err(), "{bytes:?}");
            }
        }
    }

    #[test]
    fn what_is_wrong_stays_wrong() {
        let (mut chunks, mut read) = (Chunks::default(), BytesMut::from(&b"4\r\nwiki!!"[..]));
        assert!(matches!(chunks.next(&mut read), Ok(Next::Data(_))));
        for _ in 0..2 {
            assert!(chunks.next(&mut read).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_however_it_is_cut(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            size in 1_usize..50,
        ) {
            let mut bytes = Vec::new();
            for piece in &pieces {
                bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(body(&bytes, size).unwrap(), Some((pieces.concat(), Vec::new())));
            bytes.pop();
            prop_assert_eq!(body(&bytes, size).unwrap(), None);
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'2'), any::<u8>()], 0..60), size in 1_usize..9) {
            let _ = body(&bytes, size);
        }
    }
}
