//! Ed25519 keys and signatures, one context string per purpose (RFC 8032, verified strictly).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use ed25519_dalek::Signer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{hex_bytes, hex_text};

/// What a signature is for. What is signed is always the purpose's context followed by the bytes,
/// so that a signature of one kind can never be passed off as another: no context is a prefix of
/// another, and what has none begins as no context does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An IFMessage: canonical JSON, which begins with `{`; no context.
    Message,
    /// Proof of a key towards a signaling server.
    Registration,
    /// An offer or an answer.
    Sdp,
    /// A goodbye, on a data channel or to the signaling server.
    Goodbye,
    /// A checkpoint of a witness log, whose text begins with `ifswarm-log/`; no context (C2SP).
    Checkpoint,
    /// A cosignature, whose text begins with `cosignature/v1` and a newline; no context (C2SP).
    Cosignature,
}

/// An agent's key pair. The secret half is wiped from memory when dropped and never printed.
#[derive(Clone)]
pub struct KeyPair(ed25519_dalek::SigningKey);

/// An agent's public key, 32 bytes; on the wire 64 lower-case hex digits.
///
/// Holds the decompressed point, so that verifying does not decode it again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

/// An Ed25519 signature, 64 bytes; on the wire 128 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// The signature is not one of these bytes under this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify under this key")]
pub struct BadSignature;

/// Text that is no public key or no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not as many lower-case hex digits as expected.
    #[error("expected {expected} lower-case hex digits, found {found} characters")]
    Hex {
        /// How many digits there should be.
        expected: usize,
        /// How many characters there are.
        found: usize,
    },
    /// The digits are no point of the curve, or one of small order, under which forgeries verify.
    #[error("these digits are no usable Ed25519 public key; make one with `ifswarm keygen`")]
    Point,
}

impl Purpose {
    /// The bytes that precede what is signed.
    pub fn context(self) -> &'static [u8] {
        match self {
            // What is signed tells them apart by its first byte, and from all that follow.
            Self::Message | Self::Checkpoint | Self::Cosignature => b"",
            Self::Registration => b"ifswarm/register/v1\n",
            Self::Sdp => b"ifswarm/sdp/v1\n",
            Self::Goodbye => b"ifswarm/goodbye/v1\n",
        }
    }

    /// Borrows where there is no context: messages are the many.
    fn with_context(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        match self.context() {
            [] => bytes.into(),
            context => [context, bytes].concat().into(),
        }
    }
}

impl KeyPair {
    /// A new key pair from the operating system's randomness.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self::from_secret(&secret))
    }

    /// The key pair of 32 secret bytes (RFC 8032, section 5.1.5).
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `bytes` for `purpose`.
    pub fn sign(&self, purpose: Purpose, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&purpose.with_context(bytes)).to_bytes())
    }

    pub(super) fn signing_key(&self) -> &ed25519_dalek::SigningKey {
        &self.0
    }

    pub(super) fn from_signing_key(key: ed25519_dalek::SigningKey) -> Self {
        Self(key)
    }
}

impl PublicKey {
    /// The key of 32 bytes.
    ///
    /// # Errors
    /// [`InvalidKey::Point`] when they are no point of the curve or one of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidKey> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| InvalidKey::Point)?;
        if key.is_weak() {
            return Err(InvalidKey::Point);
        }
        Ok(Self(key))
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Verifies strictly: no small-order keys, no malleable `S` (RFC 8032, section 5.1.7).
    ///
    /// # Errors
    /// [`BadSignature`], whatever the cause: a verifier owes a forger no explanation.
    pub fn verify(
        &self,
        purpose: Purpose,
        bytes: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0
            .verify_strict(&purpose.with_context(bytes), &signature)
            .map_err(|_| BadSignature)
    }
}

impl Signature {
    /// The signature of 64 bytes; whether it verifies is another question.
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Self::from_bytes(&decode_hex(text)?)
    }
}

impl FromStr for Signature {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Ok(Self(decode_hex(text)?))
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.public_key())
    }
}

macro_rules! hex_impls {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex_text(self.as_bytes()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_impls!(PublicKey);
hex_impls!(Signature);

fn decode_hex<const N: usize>(text: &str) -> Result<[u8; N], InvalidKey> {
    hex_bytes(text).ok_or_else(|| InvalidKey::Hex {
        expected: 2 * N,
        found: text.chars().count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_of_one_purpose_is_none_of_another() {
        let key = KeyPair::from_secret(&[7; 32]);
        let purposes = [
            Purpose::Message,
            Purpose::Registration,
            Purpose::Sdp,
            Purpose::Goodbye,
        ];
        for signed in purposes {
            let signature = key.sign(signed, b"{}");
            for read in purposes {
                let ok = key.public_key().verify(read, b"{}", &signature).is_ok();
                assert_eq!(ok, signed == read, "{signed:?} read as {read:?}");
            }
        }
    }

    #[test]
    fn refuses_a_small_order_key() {
        // The neutral element: every signature with R = [S]B would verify under it.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(PublicKey::from_bytes(&neutral), Err(InvalidKey::Point));
    }

    #[test]
    fn refuses_a_signature_whose_s_was_raised_by_the_group_order() {
        // L, little-endian (RFC 8032, section 5.1): S + L names the same scalar.
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
            .unwrap();
        let key = KeyPair::from_secret(&[7; 32]);
        let mut bytes = *key.sign(Purpose::Message, b"{}").as_bytes();
        let mut carry = 0u16;
        for (s, l) in bytes[32..].iter_mut().zip(order) {
            carry += u16::from(*s) + u16::from(l);
            *s = carry as u8;
            carry >>= 8;
        }
        let malleable = Signature::from_bytes(bytes);
        assert_eq!(
            key.public_key().verify(Purpose::Message, b"{}", &malleable),
            Err(BadSignature)
        );
    }

    #[test]
    fn reads_only_lower_case_hex() {
        let key = KeyPair::from_secret(&[7; 32]).public_key();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!(key.to_string().to_uppercase().parse::<PublicKey>().is_err());
        assert!(key.to_string()[1..].parse::<PublicKey>().is_err());
    }

    #[test]
    fn never_prints_the_secret() {
        let key = KeyPair::from_secret(&[7; 32]);
        assert!(!format!("{key:?}").contains("0707"));
    }
}
