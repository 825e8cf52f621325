//! The frames among the fixtures: an offer and candidates, and spoilt offers named after what is
//! wrong.

use ifswarm::identity::{AgentId, KeyPair, LinkId, Purpose};
use ifswarm::message::canonical;
use ifswarm::signal::{Candidate, Candidates, ClientFrame, SdpBody, SdpFrame, SdpKind};
use serde_json::{Map, Value, json};

use crate::support::{FixtureAgent, bytes_of};

/// Frames that are right, by file name.
pub(crate) fn valid() -> [(&'static str, Vec<u8>); 2] {
    let candidates = Candidates {
        from: id("finance"),
        to: id("legal"),
        link: link(),
        candidates: vec![Candidate {
            candidate: CANDIDATE.into(),
            sdp_mid: Some("0".into()),
            sdp_mline_index: Some(0),
        }],
        end: true,
    };
    let candidates = ClientFrame::IceCandidates(candidates).to_text();
    [
        ("valid_sdp_offer.json", line(&offer())),
        (
            "valid_ice_candidates.json",
            format!("{candidates}\n").into(),
        ),
    ]
}

/// Spoilt offers, by name. But for what the name says each is right: signed, by finance.
pub(crate) fn invalid() -> Vec<(&'static str, Vec<u8>)> {
    let finance = &FixtureAgent::new("finance").key;
    let mut files = Vec::new();
    let mut add = |name, spoil: &dyn Fn(&mut Value)| {
        let mut frame = offer();
        spoil(&mut frame);
        files.push((name, line(&frame)));
    };
    add("schema-session-missing", &|frame| {
        members(frame).remove("session");
        seal(frame, finance);
    });
    add("schema-link-too-short", &|frame| {
        frame["link"] = json!("00112233445566");
        seal(frame, finance);
    });
    add("schema-offer-of-type-answer", &|frame| {
        frame["offer"]["type"] = json!("answer");
    });
    add("schema-signature-in-upper-case", &|frame| {
        let hex = frame["signature"].as_str().unwrap().to_uppercase();
        frame["signature"] = json!(hex);
    });
    add("unsigned-no-signature", &|frame| {
        members(frame).remove("signature");
    });
    add("unknown-source-not-in-the-roster", &|frame| {
        let intruder = FixtureAgent::new("intruder");
        frame["from"] = json!("intruder");
        frame["public_key"] = json!(intruder.public_key());
        seal(frame, &intruder.key);
    });
    // What a server in the middle would do: everything its own, and well signed.
    add("key-mismatch-other-members-key", &|frame| {
        let legal = FixtureAgent::new("legal");
        frame["public_key"] = json!(legal.public_key());
        seal(frame, &legal.key);
    });
    add("bad-signature-fingerprint-swapped", &|frame| {
        let other = sdp("the server in the middle");
        frame["offer"]["sdp"] = json!(other);
    });
    add("bad-signature-other-recipient", &|frame| {
        frame["to"] = json!("macro");
    });
    add("bad-signature-other-link", &|frame| {
        frame["link"] = json!(LinkId::from_bytes(bytes_of("link", "another")));
    });
    add("bad-signature-signed-as-a-message", &|frame| {
        // Without the context that separates offers from messages.
        let signature = finance.sign(Purpose::Message, &signed_bytes(frame));
        frame["signature"] = json!(signature);
    });
    files
}

/// Finance offers a link to legal.
fn offer() -> Value {
    let finance = FixtureAgent::new("finance");
    let body = SdpBody {
        swarm: "five-agent".parse().unwrap(),
        from: finance.id.clone(),
        to: id("legal"),
        session: finance.session,
        to_session: FixtureAgent::new("legal").session,
        link: link(),
        kind: SdpKind::Offer,
        sdp: sdp("finance"),
    };
    json!(SdpFrame::sign(body, &finance.key))
}

/// An SDP as the link room makes it (RFC 8829, RFC 8841), with the fingerprint of `whose`.
fn sdp(whose: &str) -> String {
    let fingerprint: [u8; 32] = bytes_of("fingerprint", whose);
    let fingerprint = fingerprint.map(|byte| format!("{byte:02X}")).join(":");
    let ufrag = hex::encode(bytes_of::<8>("ufrag", whose));
    let pwd = hex::encode(bytes_of::<16>("pwd", whose));
    let lines = [
        "v=0",
        "o=- 2930349436494324336 969487054 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        &format!("a=fingerprint:sha-256 {fingerprint}"),
        "a=extmap-allow-mixed",
        "a=group:BUNDLE 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=setup:actpass",
        "a=mid:0",
        "a=sendrecv",
        "a=sctp-port:5000",
        "a=max-message-size:65536",
        &format!("a=ice-ufrag:{ufrag}"),
        &format!("a=ice-pwd:{pwd}"),
        &format!("a={CANDIDATE}"),
        "a=end-of-candidates",
    ];
    lines.map(|line| format!("{line}\r\n")).concat()
}

/// Signs `frame` again with `key`, whatever its members are now.
fn seal(frame: &mut Value, key: &KeyPair) {
    let signature = key.sign(Purpose::Sdp, &signed_bytes(frame));
    frame["signature"] = json!(signature);
}

/// What `wire.md` says that an offer signs, written down independently of the program.
fn signed_bytes(frame: &Value) -> Vec<u8> {
    let names = [
        "from",
        "link",
        "public_key",
        "session",
        "swarm",
        "to",
        "to_session",
        "type",
    ];
    let mut signed: Map<_, _> = names
        .iter()
        .filter_map(|name| Some(((*name).into(), frame.get(*name)?.clone())))
        .collect();
    signed.insert("sdp".into(), frame["offer"]["sdp"].clone());
    canonical(&signed)
}

fn link() -> LinkId {
    LinkId::from_bytes(bytes_of("link", "finance to legal"))
}

fn id(text: &str) -> AgentId {
    text.parse().unwrap()
}

fn members(frame: &mut Value) -> &mut Map<String, Value> {
    frame.as_object_mut().unwrap()
}

/// The frame as a line of a file.
fn line(frame: &Value) -> Vec<u8> {
    format!("{frame}\n").into_bytes()
}

/// RFC 8839, section 5.1
const CANDIDATE: &str = "candidate:2693830880 1 udp 2130706431 127.0.0.1 48172 typ host";
