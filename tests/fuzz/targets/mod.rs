//! Every decoder, and what must hold for whatever bytes it is given: the one list that both
//! `tests/it/fuzz.rs` (stable Rust, a fixed number of executions) and cargo-fuzz run.
//!
//! A target panics when something does not hold. More is asked than that the decoder itself does
//! not: what it takes is written, read again and the same; what it refuses is refused for a
//! documented reason, in one bounded line, at a place that exists; and where the contract is
//! published as a JSON Schema, both say the same. Signed things are also signed anew, with a key of
//! the target's own, so that changed bytes get past the signature to what is checked behind it.
//!
//! No clock and no randomness: the same bytes give the same result.

mod control;
mod description;
mod entries;
mod export;
mod frame;
mod ifmessage;
mod key_file;
mod note;
mod oracle;
mod proof;
mod sdp;
mod swarm;

/// What must hold for some bytes.
type Target = fn(&[u8]);

/// The decoders by name. Each has its seeds in `corpus/NAME` and a file in `fuzz_targets`.
pub(crate) const TARGETS: [(&str, Target); 11] = [
    ("ifmessage", ifmessage::target),
    ("frame", frame::target),
    ("control", control::target),
    ("sdp", sdp::target),
    ("description", description::target),
    ("swarm", swarm::target),
    ("entries", entries::target),
    ("note", note::target),
    ("proof", proof::target),
    ("export", export::target),
    ("key_file", key_file::target),
];

/// The target of this name.
pub(crate) fn named(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.expect("a name of the list").1
}
