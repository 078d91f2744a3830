//! Sealing: what a browser keeps for the gateway, it can neither read nor change. The only file that touches the AEAD.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest, hkdf,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::secret::{FingerprintKey, Secret, random_bytes};

const VERSION: u8 = 1;
const KEY_ID_LENGTH: usize = 4;
const SALT_LENGTH: usize = 24;
const HEAD_LENGTH: usize = 1 + KEY_ID_LENGTH + SALT_LENGTH;
const TAG_LENGTH: usize = 16;

/// 32 bytes that seal cookies.
#[derive(Clone, Debug)]
pub struct SealingKey {
    text: Secret,
    id: KeyId,
}

/// Says which key sealed something, and nothing about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId([u8; KEY_ID_LENGTH]);

impl SealingKey {
    pub const LENGTH: usize = 32;

    /// Reads base64 or base64url text of exactly 32 bytes, as `vestibule keygen` prints it; blanks around it are ignored.
    pub fn from_text(text: &str) -> Option<Self> {
        let canonical = text.trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
        let bytes = URL_SAFE_NO_PAD.decode(&canonical).ok()?;
        (bytes.len() == Self::LENGTH).then(|| Self::from_bytes(&bytes))
    }

    pub fn random() -> Self {
        Self::from_bytes(&random_bytes::<{ Self::LENGTH }>())
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let mut id = [0; KEY_ID_LENGTH];
        let hash = digest::digest(&digest::SHA256, bytes);
        id.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
        Self {
            text: Secret::new(URL_SAFE_NO_PAD.encode(bytes)),
            id: KeyId(id),
        }
    }

    /// The text that [`Self::from_text`] reads.
    pub fn to_text(&self) -> Secret {
        self.text.clone()
    }
}

/// What a sealed value is for: it opens for this and for nothing else (I14).
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// `session`, `login`: two kinds of cookie cannot be taken for each other.
    pub purpose: &'a str,
    /// The name of the cookie.
    pub name: &'a str,
    /// The origin or cookie domain that it belongs to.
    pub tenant: &'a str,
}

/// Seals with the first key, opens with all.
#[derive(Debug)]
pub struct KeyRing(Vec<RingKey>);

struct RingKey {
    id: KeyId,
    /// Ready to expand: HKDF's extract step takes the salt, which is new each time, so the input key is kept.
    bytes: zeroize::Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for RingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RingKey([redacted])")
    }
}

impl KeyRing {
    /// `None` when there is no key.
    pub fn new(keys: &[SealingKey]) -> Option<Self> {
        let ring: Vec<_> = keys.iter().filter_map(RingKey::new).collect();
        (!ring.is_empty() && ring.len() == keys.len()).then_some(Self(ring))
    }

    /// The key that seals.
    pub fn first(&self) -> KeyId {
        self.0.first().map_or(KeyId([0; KEY_ID_LENGTH]), |key| key.id)
    }

    /// Whether what this key sealed can be opened.
    pub fn has(&self, id: KeyId) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// For each key, one that turns names into what only those who have the key can find again.
    pub(super) fn index_keys(&self) -> Vec<FingerprintKey> {
        self.0
            .iter()
            .map(|key| FingerprintKey::derived(&key.bytes, b"vestibule index"))
            .collect()
    }

    /// Seals into base64url text: version, key id, salt and ciphertext with its tag.
    ///
    /// Each value has a key of its own, derived from a fresh 24-byte salt, so there is no count of messages to watch.
    pub fn seal(&self, context: Context<'_>, plaintext: &[u8]) -> Option<String> {
        let key = self.0.first()?;
        let salt = random_bytes::<SALT_LENGTH>();
        let mut sealed = Vec::with_capacity(HEAD_LENGTH.saturating_add(plaintext.len()).saturating_add(TAG_LENGTH));
        sealed.push(VERSION);
        sealed.extend_from_slice(&key.id.0);
        sealed.extend_from_slice(&salt);
        let mut body = plaintext.to_vec();
        key.derive(&salt)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), context.aad(&key.id.0), &mut body)
            .ok()?;
        sealed.extend_from_slice(&body);
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens what [`Self::seal`] made for the same context; every failure is the same `None`.
    pub fn open(&self, context: Context<'_>, text: &str) -> Option<Opened> {
        let mut sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (head, body) = sealed.split_at_mut_checked(HEAD_LENGTH)?;
        let (version, head) = head.split_first()?;
        let (id, salt) = head.split_at_checked(KEY_ID_LENGTH)?;
        if *version != VERSION {
            return None;
        }
        let position = self.0.iter().position(|key| key.id.0 == id)?;
        let key = self.0.get(position)?;
        let plaintext = key
            .derive(salt)?
            .open_in_place(Nonce::assume_unique_for_key([0; 12]), context.aad(&key.id.0), body)
            .ok()?;
        Some(Opened {
            plaintext: plaintext.to_vec(),
            key: key.id,
            old_key: (position > 0).then_some(key.id),
        })
    }

    /// Whether these are the keys of another ring, in the same order.
    pub(super) fn has_keys_of(&self, other: &Self) -> bool {
        self.0.iter().map(|key| key.id).eq(other.0.iter().map(|key| key.id))
    }

    /// Whether there are keys that only open.
    pub(super) fn has_old_keys(&self) -> bool {
        self.0.len() > 1
    }

    /// Whether this key only opens; one that the ring does not have is none of its keys.
    pub(super) fn is_old(&self, id: KeyId) -> bool {
        self.0.iter().position(|key| key.id == id).is_some_and(|at| at > 0)
    }
}

/// A value that was opened.
#[derive(Debug)]
pub struct Opened {
    pub plaintext: Vec<u8>,
    /// The key that had sealed it.
    pub key: KeyId,
    /// The same, when it should be sealed anew with the first one.
    pub old_key: Option<KeyId>,
}

impl KeyId {
    /// Of the key that sealed a text, unless it was not sealed at all.
    pub(super) fn of_sealed(text: &[u8]) -> Option<Self> {
        // Whole groups of four characters, of which the first two hold the version and the id.
        let head = URL_SAFE_NO_PAD.decode(text.get(..8)?).ok()?;
        match *head.first_chunk()? {
            [VERSION, a, b, c, d] => Some(Self([a, b, c, d])),
            _ => None,
        }
    }

    pub(super) fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(super) fn from_text(text: &[u8]) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl RingKey {
    fn new(key: &SealingKey) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(key.text.expose()).ok()?;
        Some(Self {
            id: key.id,
            bytes: bytes.into(),
        })
    }

    fn derive(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.bytes);
        let expanded = extracted.expand(&[b"vestibule cookie"], &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(expanded)))
    }
}

impl Context<'_> {
    /// Each part behind its length, so that no two contexts read alike.
    fn aad(&self, key_id: &[u8]) -> Aad<Vec<u8>> {
        let mut aad = Vec::with_capacity(128);
        aad.push(VERSION);
        for part in [
            key_id,
            self.purpose.as_bytes(),
            self.name.as_bytes(),
            self.tenant.as_bytes(),
        ] {
            aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
            aad.extend_from_slice(part);
        }
        Aad::from(aad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONTEXT: Context<'static> = Context {
        purpose: "session",
        name: "__Host-vestibule",
        tenant: "https://wiki.example.com",
    };

    fn ring(keys: &[&SealingKey]) -> KeyRing {
        KeyRing::new(&keys.iter().map(|key| (*key).clone()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_key_survives_its_text() {
        let key = SealingKey::random();
        let again = SealingKey::from_text(&format!(" {}\n", key.to_text().expose())).unwrap();
        let sealed = ring(&[&key]).seal(CONTEXT, b"hello").unwrap();
        assert_eq!(ring(&[&again]).open(CONTEXT, &sealed).unwrap().plaintext, b"hello");
    }

    #[test]
    fn a_key_of_another_length_is_none() {
        for text in [
            "",
            "c2hvcnQ",
            &URL_SAFE_NO_PAD.encode([0; 31]),
            &URL_SAFE_NO_PAD.encode([0; 33]),
        ] {
            assert!(SealingKey::from_text(text).is_none());
        }
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let (old, new) = (SealingKey::random(), SealingKey::random());
        let sealed = ring(&[&old]).seal(CONTEXT, b"hello").unwrap();
        let opened = ring(&[&new, &old]).open(CONTEXT, &sealed).unwrap();
        assert_eq!(opened.old_key, Some(old.id));
        assert!(ring(&[&new]).open(CONTEXT, &sealed).is_none());
        assert_eq!(ring(&[&old, &new]).open(CONTEXT, &sealed).unwrap().old_key, None);
    }

    #[test]
    fn what_is_sealed_says_by_which_key_to_who_cannot_open_it() {
        let (old, new) = (SealingKey::random(), SealingKey::random());
        let sealed = ring(&[&old]).seal(CONTEXT, b"").unwrap();
        let id = KeyId::of_sealed(sealed.as_bytes()).unwrap();
        assert_eq!(id, old.id);
        assert_eq!(KeyId::from_text(id.to_text().as_bytes()), Some(id));
        assert!(ring(&[&new, &old]).is_old(id));
        assert!(!ring(&[&old, &new]).is_old(id) && !ring(&[&new]).is_old(id));
        assert!(!ring(&[&old, &old]).is_old(id), "named twice it is the first still");
        assert_eq!(KeyId::of_sealed(b"AAAAAAAAAAAA"), None);
    }

    #[test]
    fn what_is_sealed_for_one_purpose_name_or_tenant_opens_for_no_other() {
        let ring = ring(&[&SealingKey::random()]);
        let sealed = ring.seal(CONTEXT, b"hello").unwrap();
        let others = [
            Context {
                purpose: "login",
                ..CONTEXT
            },
            Context {
                name: "vestibule",
                ..CONTEXT
            },
            Context {
                tenant: "https://other.example.com",
                ..CONTEXT
            },
        ];
        assert!(others.iter().all(|other| ring.open(*other, &sealed).is_none()));
    }

    #[test]
    fn two_seals_of_the_same_differ() {
        let ring = ring(&[&SealingKey::random()]);
        assert_ne!(ring.seal(CONTEXT, b"hello"), ring.seal(CONTEXT, b"hello"));
    }

    #[test]
    fn n_120_every_flipped_bit_is_noticed() {
        let ring = ring(&[&SealingKey::random()]);
        let sealed = URL_SAFE_NO_PAD.decode(ring.seal(CONTEXT, b"hello").unwrap()).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut tampered = sealed.clone();
            tampered[bit / 8] ^= 1 << (bit % 8);
            assert!(
                ring.open(CONTEXT, &URL_SAFE_NO_PAD.encode(tampered)).is_none(),
                "bit {bit}"
            );
        }
    }

    proptest! {
        #[test]
        fn opening_gives_back_what_was_sealed(plaintext: Vec<u8>, purpose: String, name: String, tenant: String) {
            let ring = ring(&[&SealingKey::random()]);
            let context = Context { purpose: &purpose, name: &name, tenant: &tenant };
            let sealed = ring.seal(context, &plaintext).unwrap();
            prop_assert_eq!(ring.open(context, &sealed).unwrap().plaintext, plaintext);
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            prop_assert!(ring(&[&SealingKey::random()]).open(CONTEXT, &text).is_none());
        }
    }
}
