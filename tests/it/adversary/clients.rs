//! What a stranger, or a member gone bad, says to the real signaling server.

use ifswarm::identity::{KeyPair, LinkId};
use ifswarm::signal::{ClientFrame, SdpBody, SdpFrame, SdpKind};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::hand::{Hand, not_utf8};
use super::signal_process::SignalProcess;
use super::stage::{Play, SIGNAL, Stage, entry_in};
use super::table::{By, Seen};
use crate::live::swarm_name;
use crate::support::FixtureAgent;

pub(super) async fn play(play: &mut Play) {
    registrations(play).await;
    unregistered(play).await;
    spoofed(play).await;
    registered(play).await;
}

/// Registrations that are refused, each with an entry in the server's log.
async fn registrations(play: &mut Play) {
    type Forge = fn(&Stage, &Hand) -> String;
    let forgeries: [(&str, &str, &str, Forge); 5] = [
        (
            "id takeover, under a new key",
            "ann",
            "not-admitted",
            |_, hand| hand.register("ann", &KeyPair::from_secret(&[7; 32])),
        ),
        (
            "id takeover, under another member's key",
            "ann",
            "not-admitted",
            |_, hand| hand.register("ann", &FixtureAgent::new("eve").key),
        ),
        (
            "registration replayed with an old nonce",
            "bob",
            "bad-signature",
            |stage, _| stage.liar.registration("bob"),
        ),
        (
            "registration under a key one has not",
            "ann",
            "bad-signature",
            |_, hand| {
                let eve = FixtureAgent::new("eve").key;
                let ann = FixtureAgent::new("ann").public_key().to_string();
                hand.register("ann", &eve)
                    .replace(&eve.public_key().to_string(), &ann)
            },
        ),
        (
            "registration signed for another server",
            "eve",
            "wrong-server",
            |_, hand| {
                hand.register_at(
                    "eve",
                    &FixtureAgent::new("eve").key,
                    "elsewhere.example:443",
                )
            },
        ),
    ];
    for (attack, claimed, code, forge) in forgeries {
        play.act(By::Peer, attack, async |stage| {
            let mark = stage.entries(SIGNAL);
            let mut hand = Hand::reach_out(&stage.server).await;
            hand.say(&forge(stage, &hand)).await;
            assert_eq!(hand.last_refusal().await, code);
            let of = |entry: &Value| entry["peer_id"] == claimed;
            let entry = stage.has_entry(SIGNAL, mark, "registration_refused", of);
            assert_eq!(entry.metadata["code"], code);
            assert!(
                stage.entry(SIGNAL, mark, "agent_left", of).is_none(),
                "{claimed} was put out"
            );
            Seen::new("server", code, entry.to_string())
        })
        .await;
    }
    play.act(
        By::Peer,
        "registration with a key of small order",
        async |stage| {
            let mut hand = Hand::reach_out(&stage.server).await;
            let mut register: Value =
                serde_json::from_str(&hand.register("eve", &FixtureAgent::new("eve").key)).unwrap();
            register["public_key"] = json!(format!("01{:062}", 0));
            hand.say(&register.to_string()).await;
            refused_unread(&mut hand, "bad-frame").await
        },
    )
    .await;
    play.act(By::Peer, "id takeover in an open swarm", async |stage| {
        let folder = stage.folder.path().join("open");
        let server = SignalProcess::start(&folder, &[], "localhost:1");
        let ann = Hand::registered(&server, "ann").await;
        let mut hand = Hand::reach_out(&server).await;
        let register = hand.register("ann", &KeyPair::from_secret(&[7; 32]));
        hand.say(&register).await;
        assert_eq!(hand.last_refusal().await, "id-taken");
        let refused = entry_in(&folder, SIGNAL, 0, "registration_refused", |_| true).unwrap();
        assert_eq!(refused.metadata["code"], "id-taken");
        assert!(entry_in(&folder, SIGNAL, 0, "agent_left", |_| true).is_none());
        drop(ann);
        server.end();
        Seen::new("server", "id-taken", format!("{refused} (another server)"))
    })
    .await;
}

/// What comes in place of a registration.
async fn unregistered(play: &mut Play) {
    let deep = format!("{{\"type\":{}", "[".repeat(4_000));
    let doubled = r#"{"type":"register","type":"register"}"#;
    for (attack, message, code) in [
        (
            "no registration: 32 KiB",
            Message::text("x".repeat(32 << 10)),
            "too-large",
        ),
        (
            "no registration: 3 MiB",
            Message::text("x".repeat(3 << 20)),
            "too-large",
        ),
        (
            "no registration: nested 4,000 deep",
            Message::text(deep),
            "bad-frame",
        ),
        ("no registration: not UTF-8", not_utf8(), "bad-frame"),
        (
            "no registration: binary",
            Message::binary(vec![0, 255]),
            "bad-frame",
        ),
        (
            "no registration: duplicate keys",
            Message::text(doubled),
            "bad-frame",
        ),
        (
            "no registration: an offer first",
            Message::text(ClientFrame::from(offer("eve", "eve", "ann")).to_text()),
            "not-registered",
        ),
    ] {
        play.act(By::Peer, attack, async |stage| {
            let mut hand = Hand::reach_out(&stage.server).await;
            hand.send(message).await;
            refused_unread(&mut hand, code).await
        })
        .await;
    }
}

/// In the name of others, over a connection that is registered.
async fn spoofed(play: &mut Play) {
    let as_bob = |text: &str| text.replace(r#""from":"eve""#, r#""from":"bob""#);
    let candidates = r#"{"type":"ice-candidates","from":"eve","to":"ann","link":"0011223344556677","candidates":[],"end":true}"#;
    let please = r#"{"type":"please-offer","from":"eve","to":"ann"}"#;
    let signed = ClientFrame::from(offer("eve", "eve", "ann")).to_text();
    for (attack, text) in [
        ("spoofed `from`: offer", signed.as_str()),
        ("spoofed `from`: candidates", candidates),
        ("spoofed `from`: please-offer", please),
    ] {
        play.act(By::Peer, attack, async |stage| {
            let mark = [stage.entries("ann"), stage.entries(SIGNAL)];
            let mut hand = Hand::registered(&stage.server, "eve").await;
            hand.say(&as_bob(text)).await;
            assert_eq!(hand.refusal().await, "not-yours");
            let relayed = stage.entry(SIGNAL, mark[1], "sdp_offer_relayed", |entry| {
                entry["metadata"]["link"] == json!(LinkId::from_bytes(LINK))
            });
            assert!(relayed.is_none(), "it was relayed");
            assert!(
                stage
                    .entry("ann", mark[0], "sdp_rejected", |_| true)
                    .is_none()
            );
            Seen::new("server", "not-yours", "none: told to who sent it (wire.md)")
        })
        .await;
    }
    play.act(By::Peer, "goodbye of somebody else", async |stage| {
        let mut hand = Hand::registered(&stage.server, "eve").await;
        let signature = FixtureAgent::new("mel")
            .key
            .sign(ifswarm::identity::Purpose::Goodbye, b"");
        let goodbye = json!({"type": "goodbye", "session": Hand::session("eve"), "reason": "",
            "last": {}, "signature": signature});
        hand.say(&goodbye.to_string()).await;
        assert_eq!(hand.refusal().await, "bad-signature");
        Seen::new(
            "server",
            "bad-signature",
            "none: told to who sent it (wire.md)",
        )
    })
    .await;
    play.act(
        By::Peer,
        "offer from one whose place it is to answer",
        async |stage| {
            let mark = stage.entries("ann");
            let mut hand = Hand::registered(&stage.server, "eve").await;
            let to_ann = ClientFrame::from(offer_in(stage.ann.agent.session(), "eve", "ann"));
            hand.say(&to_ann.to_text()).await;
            let entry = stage.until_ann_has(mark, "sdp_rejected").await;
            assert_eq!(entry.metadata["reason"], "glare");
            Seen::new("ann", "glare", entry.to_string())
        },
    )
    .await;
}

/// What a registered connection says that nobody may.
async fn registered(play: &mut Play) {
    let deep = format!("{{\"type\":\"please-offer\",\"x\":{}", "[".repeat(100_000));
    let doubled = r#"{"type":"please-offer","from":"eve","from":"bob","to":"ann"}"#;
    let mut huge = offer("eve", "eve", "ann");
    huge.sdp = "x".repeat(65 << 10);
    let huge = ClientFrame::from(huge).to_text();
    for (attack, message, code, closes) in [
        (
            "frame of a member: 3 MiB",
            Message::text("x".repeat(3 << 20)),
            "too-large",
            true,
        ),
        (
            "frame of a member: an SDP of 65 KiB",
            Message::text(huge),
            "too-large",
            true,
        ),
        (
            "frame of a member: not UTF-8",
            not_utf8(),
            "bad-frame",
            true,
        ),
        (
            "frame of a member: nested 100,000 deep",
            Message::text(deep),
            "bad-frame",
            false,
        ),
        (
            "frame of a member: binary",
            Message::binary(vec![0, 255]),
            "bad-frame",
            false,
        ),
        (
            "frame of a member: duplicate keys",
            Message::text(doubled),
            "bad-frame",
            false,
        ),
    ] {
        play.act(By::Peer, attack, async |stage| {
            let mark = stage.entries(SIGNAL);
            let mut hand = Hand::registered(&stage.server, "eve").await;
            hand.send(message).await;
            if closes {
                assert_eq!(hand.last_refusal().await, code);
                return put_out(stage, mark, code);
            }
            assert_eq!(hand.refusal().await, code);
            Seen::new("server", code, "none: told to who sent it (wire.md)")
        })
        .await;
    }
    for (attack, what) in [
        ("frame flood", r#"{"type":"please-offer","from":"eve","to":"nobody"}"#.to_owned()),
        (
            "candidate flood, through the server",
            r#"{"type":"ice-candidates","from":"eve","to":"ann","link":"LINK","candidates":[{"candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host","sdpMid":"0","sdpMLineIndex":0}],"end":false}"#
                .replace("LINK", &play.stage.link),
        ),
    ] {
        play.act(By::Peer, attack, async |stage| {
            let mark = stage.entries(SIGNAL);
            let mut hand = Hand::registered(&stage.server, "eve").await;
            // What may come at once, and what a busy machine's seconds add to that.
            for _ in 0..5_000 {
                hand.say(&what).await;
            }
            loop {
                if hand.refusal().await == "rate-limited" {
                    return put_out(stage, mark, "rate-limited");
                }
            }
        })
        .await;
    }
}

/// Refused before anybody had registered: there is nobody whom an entry could name.
async fn refused_unread(hand: &mut Hand, code: &str) -> Seen {
    assert_eq!(hand.last_refusal().await, code);
    Seen::new("server", code, "none: nobody had registered (wire.md)")
}

/// The server has hung up on Eve, and its log says that she left.
fn put_out(stage: &Stage, mark: usize, code: &str) -> Seen {
    let entry = stage.has_entry(SIGNAL, mark, "agent_left", |entry| {
        entry["peer_id"] == "eve"
    });
    assert_eq!(entry.metadata["reason"], "lost");
    Seen::new("server", code, entry.to_string())
}

/// A well signed offer in sessions of the fixtures.
fn offer(key: &str, from: &str, to: &str) -> SdpFrame {
    offer_of(FixtureAgent::new(to).session, key, from, to)
}

/// A well signed offer for this session of the receiver.
fn offer_in(to_session: ifswarm::identity::Session, from: &str, to: &str) -> SdpFrame {
    offer_of(to_session, from, from, to)
}

fn offer_of(to_session: ifswarm::identity::Session, key: &str, from: &str, to: &str) -> SdpFrame {
    let body = SdpBody {
        swarm: swarm_name(),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        session: Hand::session(from),
        to_session,
        link: LinkId::from_bytes(LINK),
        kind: SdpKind::Offer,
        sdp: "v=0\r\n".into(),
    };
    SdpFrame::sign(body, &FixtureAgent::new(key).key)
}

/// The link of every offer that is made here.
const LINK: [u8; 8] = [1; 8];
