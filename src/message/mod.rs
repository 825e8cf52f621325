//! IFMessage v2.1: types, JSON Schema, canonical bytes (RFC 8785), sign, verify.
//!
//! Implements `wire.md`, section *IFMessage v2.1*. Pure: time and randomness are arguments.
//! A message that was not verified cannot be delivered: [`Verified`] has no public
//! constructor but [`verify`].
//!
//! ```text
//! Draft ── sign ──> Signed ── bytes ──> verify ──> Verified<IfMessage>
//!                                          └─────> Refusal: reason, detail, claim
//! ```

mod canonical;
mod draft;
mod ifmessage;
mod json;
mod names;
mod read;
mod refusal;
#[cfg(test)]
mod schema_tests;
mod sdp_reason;
mod shape;
mod sign;
#[cfg(test)]
mod tests;
mod timestamp;
mod verify;

pub use canonical::canonical;
pub(crate) use canonical::write_object;
pub use draft::{Draft, DraftError};
pub use ifmessage::IfMessage;
pub(crate) use json::MAX_DEPTH;
pub use json::{Malformed, parse_strict};
pub use names::{Destination, Level, Performative, UnknownName};
pub use refusal::{Claim, Reason, Refusal};
pub use sdp_reason::SdpReason;
pub(crate) use shape::one_line;
pub use sign::{Author, Signed, sign};
pub use timestamp::{InvalidTimestamp, Timestamp};
pub(crate) use verify::revoked_note;
pub use verify::{Keys, Verified, verify, verify_integrity};

/// Bytes of the largest message that anybody accepts. Larger things go as files.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// The JSON Schema (draft 2020-12) of a signed IFMessage, for other programs.
///
/// It cannot express all: that `signed_fields` covers all members, that integers are written
/// without point or exponent, that a date exists. [`verify`] checks those too.
pub fn schema() -> &'static str {
    include_str!("ifmessage.schema.json")
}
