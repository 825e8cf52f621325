//! Signaling frames: `signal::parse_frame`, `ClientFrame::parse`, `ServerFrame::parse`.

use std::sync::LazyLock;

use ifswarm::signal::{
    ClientFrame, Frame, FrameError, FrameReason, MAX_FRAME, MAX_SDP, ServerFrame, parse_frame,
    schema,
};
use jsonschema::Validator;
use serde_json::Value;

use super::oracle::{assert_json_place, assert_one_line, members, validator};

pub(super) fn target(bytes: &[u8]) {
    let client = ClientFrame::parse(bytes);
    let server = ServerFrame::parse(bytes);
    match parse_frame(bytes) {
        Ok(Frame::Client(frame)) => {
            let text = frame.to_text();
            fits_schema(bytes);
            fits_schema(text.as_bytes());
            assert_eq!(ClientFrame::parse(text.as_bytes()).as_ref(), Ok(&frame));
            assert_eq!(client, Ok(frame));
        }
        Ok(Frame::Server(frame)) => {
            let text = frame.to_text();
            fits_schema(bytes);
            fits_schema(text.as_bytes());
            assert_eq!(ServerFrame::parse(text.as_bytes()).as_ref(), Ok(&frame));
            assert_eq!(server, Ok(frame));
            explained(bytes, &client.expect_err("only the server's"));
        }
        Err(err) => {
            explained(bytes, &err);
            refused_by_schema(bytes, &err);
            explained(bytes, &client.expect_err("no frame"));
            explained(bytes, &server.expect_err("no frame"));
            return;
        }
    }
    // What a server relays, its client reads as the same thing.
    if let (Ok(client), Ok(server)) = (ClientFrame::parse(bytes), ServerFrame::parse(bytes)) {
        assert_eq!(client.to_text(), server.to_text());
    }
}

fn explained(bytes: &[u8], err: &FrameError) {
    assert_one_line(&err.detail, MAX_DETAIL);
    let read = members(bytes, MAX_FRAME);
    assert_eq!(
        read.is_none(),
        err.reason == FrameReason::Malformed,
        "{err}"
    );
    match (read, err.frame_type) {
        (None, _) if err.detail == "expected a JSON object" => {}
        (None, _) => assert_json_place(bytes, &err.detail),
        (Some(members), Some(name)) => assert_eq!(members["type"], name),
        (Some(_), None) => assert_eq!(err.reason, FrameReason::Schema),
    }
}

fn fits_schema(bytes: &[u8]) {
    let members = members(bytes, MAX_FRAME).expect("a frame");
    let value = Value::Object(members);
    if let Err(err) = SCHEMA.validate(&value) {
        panic!("the reader takes what the schema refuses: {err}");
    }
}

/// The schema takes nothing that the reader refuses, but for what no schema can say.
fn refused_by_schema(bytes: &[u8], err: &FrameError) {
    let Some(members) = members(bytes, MAX_FRAME) else {
        return;
    };
    let value = Value::Object(members);
    // Which digits are a key, which integers are written as such, and how many bytes there are.
    let beyond_schema = err.detail.contains("no usable Ed25519 public key")
        || err.detail.contains("floating point")
        || err.detail.contains("bytes");
    let sdp = ["offer", "answer"].map(|name| value[name]["sdp"].as_str().map_or(0, str::len));
    assert!(
        beyond_schema || sdp.into_iter().any(|size| size > MAX_SDP) || !SCHEMA.is_valid(&value),
        "the schema takes what the reader refuses: {err}"
    );
}

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| validator(schema()));
/// The bound that `signal` promises.
const MAX_DETAIL: usize = 300;
