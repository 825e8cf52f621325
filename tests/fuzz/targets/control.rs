//! Control frames: `agent::Control::parse`.

use ifswarm::agent::Control;

use super::oracle::{assert_json_place, assert_one_line, members};

pub(super) fn target(bytes: &[u8]) {
    let read = members(bytes, MAX_CONTROL);
    match Control::parse(bytes) {
        Ok(Control::Unknown) => {
            let name = read.expect("an object")["type"].clone();
            let name = name.as_str().expect("a type is text");
            assert!(!TYPES.contains(&name), "`{name}` is known");
        }
        Ok(frame) => {
            let text = frame.to_text();
            assert_eq!(Control::parse(text.as_bytes()), Ok(frame));
            // Whatever else stood there is gone; what is left says the same.
            let read = read.expect("an object");
            for (name, value) in members(text.as_bytes(), MAX_CONTROL).expect("an object") {
                assert_eq!(read[&name], value);
            }
        }
        Err(detail) => {
            assert_one_line(&detail, MAX_DETAIL);
            if read.is_none() && detail != "found no object, expected one" {
                assert_json_place(bytes, &detail);
            }
        }
    }
}

/// As `wire.md` lists them.
const TYPES: [&str; 10] = [
    "hello",
    "ack",
    "refused",
    "ping",
    "pong",
    "goodbye",
    "checkpoint",
    "cosign",
    "consistency",
    "file-ack",
];
const MAX_CONTROL: usize = 64 * 1024;
/// The bound on foreign text in frames.
const MAX_DETAIL: usize = 300;
