//! What a member that has gone bad sends over its link: messages that are forged, changed, taken
//! from others, said twice, said out of turn, or that are none.

use ifswarm::agent::AgentEvent;
use ifswarm::identity::Session;
use ifswarm::message::{Draft, Signed, Timestamp};
use serde_json::{Value, json};

use super::stage::{Play, Stage};
use super::table::{By, Seen};
use crate::liar::{NEUTRAL, plus_the_order};
use crate::live::draft;
use crate::raw::{Frame, Raw, present, sign_as, sign_at};
use crate::support::FixtureAgent;

/// The bad member: its link to Ann, and the last number that it used.
struct Mel {
    raw: Raw,
    number: u64,
}

/// A message of Mel's that is good, as it would be sent.
struct Good<'a> {
    raw: &'a Raw,
    number: u64,
    signed: Signed,
}

/// What is sent in place of a good message.
type Forge = fn(&Good<'_>) -> Frame;

const MEL: &str = "mel";

pub(super) async fn play(play: &mut Play) {
    let mut mel = Mel::join(&mut play.stage, FixtureAgent::new(MEL).session).await;
    // The first number of a session may be any: the window is counted from here.
    mel.delivers(&mut play.stage).await;
    for (attack, reason, forge) in FORGERIES {
        play.act(By::Peer, attack, async |stage| {
            mel.tries(stage, reason, *forge).await
        })
        .await;
    }
    play.act(
        By::Peer,
        "members reordered, after the original",
        async |stage| {
            let good = mel.delivers(stage).await;
            mel.sends(stage, "replayed", Frame::message(reordered(&good)))
                .await
        },
    )
    .await;
    play.act(By::Peer, "replay in the same session", async |stage| {
        let good = mel.delivers(stage).await;
        mel.sends(stage, "replayed", Frame::message(good)).await
    })
    .await;
    play.act(By::Peer, "an old number, signed anew", async |stage| {
        let again = mel.raw.sign(mel.number, order());
        mel.sends(stage, "replayed", Frame::message(again.text()))
            .await
    })
    .await;
    oversize(play, &mut mel).await;
    control_frames(play, &mut mel).await;
    older_session(play, mel).await;
}

/// Messages above what Ann's SDP allows, of which her agent learns nothing: the WebRTC stack throws
/// them away before anybody could read, refuse or witness them. The link goes on.
async fn oversize(play: &mut Play, mel: &mut Mel) {
    for kib in [65, 257, 900] {
        let attack = format!("oversize: {kib} KiB on a link of 64 KiB");
        play.act(By::Peer, &attack, async |stage| {
            let (mark, before) = (stage.entries("ann"), stage.ann.agent.stats());
            mel.number += 1;
            let text = "x".repeat(kib << 10);
            let too_much = mel
                .raw
                .sign(mel.number, draft("ann", json!({})))
                .text()
                .to_owned();
            let too_much =
                too_much.replace(r#""payload":{"#, &format!(r#""payload":{{"x":"{text}""#));
            mel.raw.send(&too_much);
            // What comes behind it on the same channel: so it has come, and is gone.
            mel.delivers(stage).await;
            let of_mel = |entry: &Value| entry["peer_id"] == MEL;
            assert!(
                stage
                    .entry("ann", mark, "ifmessage_rejected", of_mel)
                    .is_none()
            );
            assert_eq!(stage.ann.agent.stats().rejected, before.rejected);
            Seen::new(
                "ann's WebRTC stack",
                "over a=max-message-size: dropped unread",
                "NONE: the stack does not tell",
            )
        })
        .await;
    }
}

/// Frames on the control channel that are none: counted, and no entry by design.
async fn control_frames(play: &mut Play, mel: &mut Mel) {
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let binary = Frame {
        is_text: false,
        ..Frame::control(r#"{"type":"ping","t":1}"#)
    };
    let not_utf8 = Frame {
        bytes: b"{\"type\":\"ping\xff\",\"t\":1}".to_vec(),
        ..Frame::control("")
    };
    for (attack, frame) in [
        ("control frame: binary", binary),
        ("control frame: not UTF-8", not_utf8),
        (
            "control frame: nested 65 deep",
            Frame::control(format!(r#"{{"type":"ping","t":1,"x":{deep}}}"#)),
        ),
        (
            "control frame: duplicate keys",
            Frame::control(r#"{"type":"ping","t":1,"t":2}"#),
        ),
        (
            "goodbye forged in Mel's own name",
            Frame::control(forged_goodbye()),
        ),
    ] {
        play.act(By::Peer, attack, async |stage| {
            let before = stage.ann.agent.stats().bad_control;
            mel.raw.link.send(frame);
            mel.raw.say(&json!({"type": "ping", "t": 7}));
            assert_eq!(mel.raw.control("pong").await["t"], 7);
            let refused = stage.ann.agent.stats().bad_control - before;
            assert_eq!(refused, 1, "refused control frames");
            Seen::new(
                "ann",
                "refused and counted",
                "none: control frames are counted (wire.md)",
            )
        })
        .await;
    }
}

/// Mel starts anew, and sends what it had said in its earlier session.
async fn older_session(play: &mut Play, mut mel: Mel) {
    let mut old = None;
    play.act(By::Peer, "replay from an older session", async |stage| {
        let good = mel.delivers(stage).await;
        let later = Session::new(mel.raw.session.unix_ms() + 1, [1; 10]);
        let mut again = Mel::join(stage, later).await;
        drop(mel);
        again.delivers(stage).await;
        let seen = again.sends(stage, "replayed", Frame::message(good)).await;
        old = Some(again);
        seen
    })
    .await;
    // Kept to the end of the scene, so that Ann does not see it leave meanwhile.
    drop(old);
}

impl Mel {
    async fn join(stage: &mut Stage, session: Session) -> Self {
        let raw = Raw::join_in(stage.server.url(), MEL, "ann", session).await;
        raw.say_hello();
        raw.link.answer_pings();
        let up = stage.ann.until(|event| match event {
            AgentEvent::PeerUp { peer, .. } if peer.as_str() == MEL => Some(()),
            _ => None,
        });
        up.await;
        Self { raw, number: 0 }
    }

    /// Sends a good message, which is delivered; its text.
    async fn delivers(&mut self, stage: &mut Stage) -> String {
        self.number += 1;
        let signed = self.raw.sign(self.number, order());
        self.raw.send(signed.text());
        stage.ann_hears(MEL, "for ann").await;
        signed.text().to_owned()
    }

    /// Sends what `forge` makes of a good message.
    async fn tries(&mut self, stage: &mut Stage, reason: &str, forge: Forge) -> Seen {
        self.number += 1;
        let good = Good {
            raw: &self.raw,
            number: self.number,
            signed: self.raw.sign(self.number, order()),
        };
        let frame = forge(&good);
        self.sends(stage, reason, frame).await
    }

    /// Sends this, which is refused for this reason, and witnessed.
    async fn sends(&mut self, stage: &mut Stage, reason: &str, frame: Frame) -> Seen {
        let mark = stage.entries("ann");
        self.raw.link.send(frame);
        assert_eq!(stage.ann_refuses(MEL).await, reason);
        let of_mel = |entry: &Value| entry["peer_id"] == MEL;
        assert!(
            stage
                .entry("ann", mark, "ifmessage_received", of_mel)
                .is_none()
        );
        let entry = stage.has_entry("ann", mark, "ifmessage_rejected", of_mel);
        assert_eq!(entry.metadata["reason"], reason);
        Seen::new("ann", reason, entry.to_string())
    }
}

impl Good<'_> {
    /// As JSON, to be changed.
    fn changed(&self, change: impl FnOnce(&mut Value)) -> Frame {
        let mut message = serde_json::from_str(self.signed.text()).unwrap();
        change(&mut message);
        Frame::message(message.to_string())
    }

    fn signed_fields(&self, change: impl FnOnce(&mut Vec<Value>)) -> Frame {
        self.changed(|message| {
            change(
                message["signature"]["signed_fields"]
                    .as_array_mut()
                    .unwrap(),
            );
        })
    }

    /// The good message with this text before its first member.
    fn prefixed(&self, members: &str) -> Frame {
        Frame::message(format!("{{{members},{}", &self.signed.text()[1..]))
    }

    /// Signed by Mel's key, but at this distance from now, and in a session that nobody knows.
    fn at(&self, minutes: i64) -> Frame {
        let time = Timestamp::from_unix_ms(present().unix_ms() + minutes * 60_000);
        let session = Session::new(self.raw.session.unix_ms() + 60_000, [9; 10]);
        let signed = sign_at(time, MEL, session, &self.raw.key, 1, order());
        Frame::message(signed.text())
    }

    /// Signed well, to somebody else than Ann.
    fn to(&self, destination: &str) -> Frame {
        let signed = self.raw.sign(self.number, draft(destination, json!({})));
        Frame::message(signed.text())
    }
}

/// What Mel says to Ann when it is good.
fn order() -> Draft {
    let payload = json!({"text": "for ann", "order": {"pay": [{"amount": 100, "to": "eve"}]}});
    Draft {
        citation_ids: vec!["if://citation/one".into()],
        ..draft("ann", payload)
    }
}

/// The same members, the last first.
fn reordered(text: &str) -> String {
    let message: Value = serde_json::from_str(text).unwrap();
    let members = message.as_object().unwrap().iter();
    let mut members: Vec<_> = members
        .map(|(name, value)| format!("{}: {value}", json!(name)))
        .collect();
    members.sort_by(|a, b| b.cmp(a));
    let reordered = format!("{{ {} }}", members.join(" , "));
    assert_ne!(reordered.split(':').next(), text.split(':').next());
    reordered
}

fn forged_goodbye() -> String {
    let signature = FixtureAgent::new("eve")
        .key
        .sign(ifswarm::identity::Purpose::Goodbye, b"anything");
    json!({"type": "goodbye", "reason": "", "last": {}, "signature": signature}).to_string()
}

/// Attack, reason, and what is sent.
const FORGERIES: &[(&str, &str, Forge)] = &[
    ("forged signature", "bad-signature", |good| {
        good.changed(|message| {
            let signature = FixtureAgent::new(MEL).sign("another", 1, order());
            let other: Value = serde_json::from_str(signature.text()).unwrap();
            message["signature"]["signature_bytes"] = other["signature"]["signature_bytes"].clone();
        })
    }),
    (
        "signature by another roster member",
        "key-mismatch",
        |good| {
            let eve = FixtureAgent::new("eve").key;
            let foreign = sign_as(MEL, good.raw.session, &eve, good.number, order());
            Frame::message(foreign.text())
        },
    ),
    (
        "the same, under the author's key",
        "bad-signature",
        |good| {
            let eve = FixtureAgent::new("eve").key;
            let foreign = sign_as(MEL, good.raw.session, &eve, good.number, order());
            Frame::message(foreign.text().replace(
                &eve.public_key().to_string(),
                &good.raw.key.public_key().to_string(),
            ))
        },
    ),
    ("nested payload changed", "bad-signature", |good| {
        good.changed(|message| message["payload"]["order"]["pay"][0]["amount"] = json!(900))
    }),
    ("top-level member added, unknown", "schema", |good| {
        good.changed(|message| message["bonus"] = json!(1))
    }),
    (
        "top-level member added, known",
        "partial-coverage",
        |good| good.changed(|message| message["hazards"] = json!(["legal"])),
    ),
    (
        "top-level member added and listed",
        "bad-signature",
        |good| {
            good.changed(|message| {
                message["hazards"] = json!(["legal"]);
                let fields = message["signature"]["signed_fields"]
                    .as_array_mut()
                    .unwrap();
                fields.push(json!("hazards"));
                fields.sort_by_key(Value::to_string);
            })
        },
    ),
    ("top-level member removed, required", "schema", |good| {
        good.changed(|message| {
            message.as_object_mut().unwrap().remove("timestamp");
        })
    }),
    (
        "top-level member removed, optional",
        "partial-coverage",
        |good| {
            good.changed(|message| {
                message.as_object_mut().unwrap().remove("citation_ids");
            })
        },
    ),
    (
        "top-level member removed and unlisted",
        "bad-signature",
        |good| {
            good.changed(|message| {
                message.as_object_mut().unwrap().remove("citation_ids");
                let fields = message["signature"]["signed_fields"]
                    .as_array_mut()
                    .unwrap();
                fields.retain(|field| field != "citation_ids");
            })
        },
    ),
    ("top-level member renamed", "schema", |good| {
        good.changed(|message| {
            let members = message.as_object_mut().unwrap();
            let trace = members.remove("traceId").unwrap();
            members.insert("traceid".into(), trace);
        })
    }),
    ("signed_fields shortened", "partial-coverage", |good| {
        good.signed_fields(|fields| fields.retain(|field| field != "payload"))
    }),
    ("signed_fields lengthened", "partial-coverage", |good| {
        good.signed_fields(|fields| fields.push(json!("zzz")))
    }),
    ("signed_fields repeated", "partial-coverage", |good| {
        good.signed_fields(|fields| fields.insert(0, fields[0].clone()))
    }),
    ("signed_fields unsorted", "partial-coverage", |good| {
        good.signed_fields(|fields| fields.swap(0, 1))
    }),
    ("signature stripped", "unsigned", |good| {
        good.changed(|message| {
            message.as_object_mut().unwrap().remove("signature");
        })
    }),
    ("another algorithm named", "schema", |good| {
        good.changed(|message| message["signature"]["algorithm"] = json!("none"))
    }),
    ("malleable S", "bad-signature", |good| {
        good.changed(|message| {
            let signature = &mut message["signature"]["signature_bytes"];
            *signature = plus_the_order(signature);
        })
    }),
    ("key of small order", "key-mismatch", |good| {
        good.changed(|message| {
            // With the neutral point as key and as R, and S = 0, a lax verifier takes anything.
            message["signature"]["public_key"] = json!(NEUTRAL);
            message["signature"]["signature_bytes"] = json!(format!("{NEUTRAL}{:064}", 0));
        })
    }),
    ("R of small order", "bad-signature", |good| {
        good.changed(|message| {
            message["signature"]["signature_bytes"] = json!(format!("{NEUTRAL}{:064}", 0));
        })
    }),
    ("duplicate JSON keys", "malformed", |good| {
        good.prefixed(r#""payload":{"text":"two"}"#)
    }),
    ("duplicate JSON keys, nested", "malformed", |good| {
        let text = good.signed.text();
        Frame::message(text.replace(r#""amount":100"#, r#""amount":900,"amount":100"#))
    }),
    ("sequence out of window", "out-of-window", |good| {
        let ahead = good.raw.sign(good.number + (1 << 21), order());
        Frame::message(ahead.text())
    }),
    ("wrong recipient", "wrong-recipient", |good| good.to("bob")),
    ("wrong peer: what Eve signed for Ann", "wrong-peer", |_| {
        let eve = FixtureAgent::new("eve");
        let stolen = sign_as("eve", eve.session, &eve.key, 1, order());
        Frame::message(stolen.text())
    }),
    ("stale first message", "stale", |good| good.at(-6)),
    ("future timestamp", "stale", |good| good.at(6)),
    ("source that is on no roster", "unknown-source", |good| {
        let key = FixtureAgent::new("mallory").key;
        let stranger = sign_as("mallory", good.raw.session, &key, 1, order());
        Frame::message(stranger.text())
    }),
    ("nested 65 deep", "malformed", |good| {
        // The object and `payload` are two of them.
        let deep = format!("{}{}", "[".repeat(63), "]".repeat(63));
        let text = good.signed.text();
        Frame::message(text.replace(r#""amount":100"#, &format!(r#""amount":{deep}"#)))
    }),
    ("nested 50,000 deep", "malformed", |good| {
        good.prefixed(&format!(r#""x":{}"#, "[".repeat(50_000)))
    }),
    ("not UTF-8", "malformed", |good| {
        let mut frame = Frame::message(good.signed.text());
        let at = frame
            .bytes
            .windows(7)
            .position(|bytes| bytes == b"for ann")
            .unwrap();
        frame.bytes[at] = 0xff;
        frame
    }),
    ("lone surrogate", "malformed", |good| {
        Frame::message(good.signed.text().replace("for ann", r"for \ud800"))
    }),
    ("binary frame", "malformed", |good| Frame {
        is_text: false,
        ..Frame::message(good.signed.text())
    }),
];
