//! What an application is told of somebody, written once for many requests.

use std::sync::OnceLock;

use http::{HeaderName, HeaderValue};

/// The headers that told the first application of somebody: most people use one.
#[derive(Debug, Default)]
pub struct Words(OnceLock<Kept>);

#[derive(Debug)]
struct Kept {
    /// Of what the application asks to be told.
    number: u64,
    headers: Box<[(HeaderName, HeaderValue)]>,
}

impl Words {
    /// Those of this number, if they are kept.
    pub fn kept(&self, number: u64) -> Option<&[(HeaderName, HeaderValue)]> {
        let kept = self.0.get()?;
        (kept.number == number).then_some(&*kept.headers)
    }

    /// Keeps these, unless others are.
    pub fn keep(&self, number: u64, headers: Vec<(HeaderName, HeaderValue)>) {
        let headers = headers.into();
        // The others go on serving the application that they are of.
        let _ = self.0.set(Kept { number, headers });
    }
}

/// A copy may be made somebody else, who is not told of in the same words.
impl Clone for Words {
    fn clone(&self) -> Self {
        Self::default()
    }
}
