//! Good swarm files: what is written is what is meant.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{
    ChannelConfig, Exec, Expect, ExpectedLinks, IceConfig, OutboxConfig, Probe, Restart, Revoked,
    SdpDetail, SignalConfig, Swarm, SwarmAgent, Topology, TurnServer, WitnessConfig, schema,
};
use crate::identity::{KeyPair, RosterError};
use crate::message::Timestamp;
use crate::witness::{OnWriteError, SyncPolicy};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("swarms")
        .join(name)
}

fn parse(text: &str) -> Swarm {
    Swarm::parse(text, Path::new("folder/good.yaml")).unwrap_or_else(|err| panic!("{err}\n{text}"))
}

#[test]
fn an_outbox_is_memory_a_folder_or_both_with_bounds() {
    let read = |outbox: &str| {
        let text = format!("swarm: x\nagents: [{{ id: a }}, {{ id: b }}]\noutbox: {outbox}\n");
        Swarm::parse(&text, Path::new("folder/x.yaml")).map(|swarm| swarm.outbox)
    };
    let default = OutboxConfig::default();
    assert_eq!(read("memory").unwrap(), default.clone());
    assert_eq!(read("{ dir: memory }").unwrap(), default.clone());
    let kept = OutboxConfig {
        dir: Some("folder/kept".into()),
        ..default
    };
    assert_eq!(read("kept").unwrap(), kept);
    let bounds = "{ dir: ./kept, keep: 90s, messages: 10, bytes: 64 KiB }";
    let bounded = OutboxConfig {
        keep: Duration::from_secs(90),
        messages: 10,
        bytes: 65_536,
        dir: read(bounds).unwrap().dir,
    };
    assert_eq!(read(bounds).unwrap(), bounded);
    let best_effort = read("kept\nchannel: { max_retransmits: 3 }").unwrap_err();
    assert!(
        best_effort.to_string().contains("best-effort"),
        "{best_effort}"
    );
}

#[test]
fn the_shipped_swarms_have_their_agents_and_links() {
    for (file, agents, links) in [
        ("two-agent.yaml", 2, 1),
        ("five-agent.yaml", 5, 10),
        ("twenty-agent.yaml", 20, 190),
    ] {
        let swarm = Swarm::read(&shipped(file)).unwrap();
        assert_eq!((swarm.agents.len(), swarm.links().len()), (agents, links));
        assert_eq!(format!("{}.yaml", swarm.name), file);
        assert_eq!(swarm.expect.p95, Some(Duration::from_millis(50)));
        assert!(swarm.agents.iter().all(|agent| agent.role.is_some()));
    }
    let five = Swarm::read(&shipped("five-agent.yaml")).unwrap();
    let ids: Vec<_> = five.agents.iter().map(|agent| agent.id.as_str()).collect();
    assert_eq!(ids, ["finance", "legal", "macro", "markets", "competitive"]);
}

#[test]
fn the_json_schema_accepts_the_shipped_swarms() {
    let schema: Value = serde_json::from_str(schema()).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    for file in ["two-agent.yaml", "five-agent.yaml", "twenty-agent.yaml"] {
        let text = std::fs::read_to_string(shipped(file)).unwrap();
        let value: Value = serde_yaml::from_str(&text).unwrap();
        let errors: Vec<_> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{file}: {errors:?}");
    }
}

#[test]
fn what_is_left_out_or_empty_has_its_default() {
    let default = Swarm::full_mesh("x".parse().unwrap(), 2);
    let agents = "swarm: x\nagents: [{ id: agent-01 }, { id: agent-02, role: }]\n";
    assert_eq!(parse(agents), default);
    let empty =
        "topology:\nsignal:\nice: ~\nchannel: null\nwitness: {}\nprobe: {}\nexpect: { p95: }\n";
    assert_eq!(parse(&format!("\u{feff}{agents}{empty}")), default);

    assert_eq!(
        default.signal.listen,
        "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()
    );
    assert_eq!(default.channel.max_message, 65_536);
    assert!(default.channel.ordered && !default.channel.is_best_effort());
    assert_eq!((default.probe.messages, default.probe.payload), (200, 512));
    assert_eq!(default.probe.interval, Duration::from_millis(5));
    assert_eq!(
        (default.expect.links, default.expect.lost),
        (ExpectedLinks::All, Some(0))
    );
    assert_eq!(default.expect.p95, None);
}

#[test]
fn paths_are_relative_to_the_file() {
    let swarm = parse(
        "swarm: x\nagents: [{ id: a, key: keys/a.pem }, { id: b, key: /etc/b.pem }]\nwitness: { dir: log }",
    );
    assert_eq!(swarm.agents[0].key, Some("folder/keys/a.pem".into()));
    assert_eq!(swarm.agents[1].key, Some("/etc/b.pem".into()));
    assert_eq!(swarm.witness.dir, Some("folder/log".into()));
}

#[test]
fn aliases_stand_for_what_they_name() {
    let swarm = parse("swarm: x\nagents: [{ id: a, role: &r Reads }, { id: b, role: *r }]");
    assert_eq!(swarm.agents[1].role.as_deref(), Some("Reads"));
}

#[test]
fn a_roster_needs_the_key_of_every_agent() {
    let mut swarm = Swarm::full_mesh("x".parse().unwrap(), 2);
    let key = |seed| Some(KeyPair::from_secret(&[seed; 32]).public_key());
    assert!(swarm.roster().is_none());
    swarm.agents[0].public_key = key(1);
    assert!(swarm.roster().is_none());
    swarm.agents[1].public_key = key(2);
    let roster = swarm.roster().unwrap().unwrap();
    assert_eq!(roster.key_of(&swarm.agents[1].id).copied(), key(2));
    swarm.agents[1].public_key = key(1);
    let twice = swarm.roster().unwrap();
    assert!(matches!(twice, Err(RosterError::TwiceTheSameKey(..))));
}

#[test]
fn a_roster_knows_what_the_file_revokes() {
    let key = |seed| KeyPair::from_secret(&[seed; 32]).public_key();
    let agents = format!(
        "swarm: x\nagents: [{{ id: a, public_key: {} }}, {{ id: b, public_key: {} }}]\n",
        key(1),
        key(2)
    );
    let mut swarm = parse(&format!(
        "{agents}revoked: [{{ public_key: {}, reason: stolen, since: 2026-11-20T00:00:00.000Z }}]",
        key(3)
    ));
    assert_eq!(swarm.revoked[0].reason.as_deref(), Some("stolen"));
    let since = swarm.revoked[0].since.unwrap();
    assert_eq!(since.to_string(), "2026-11-20T00:00:00.000Z");
    let roster = swarm.roster().unwrap().unwrap();
    assert!(roster.is_revoked(&key(3)) && !roster.is_revoked(&key(1)));
    // No file says so, but a program can.
    swarm.agents[1].public_key = Some(key(3));
    let refused = swarm.roster().unwrap();
    assert!(matches!(refused, Err(RosterError::Revoked(id)) if id.as_str() == "b"));
}

#[test]
fn agents_of_a_full_mesh_are_numbered_so_that_they_sort() {
    for (n, first, last) in [(2, "agent-01", "agent-02"), (100, "agent-001", "agent-100")] {
        let swarm = Swarm::full_mesh("bench".parse().unwrap(), n);
        assert_eq!(swarm.agents[0].id.as_str(), first);
        assert_eq!(swarm.agents[n - 1].id.as_str(), last);
    }
}

#[test]
fn a_credential_is_not_shown_in_debug_output() {
    let server = TurnServer {
        url: "turn:t".into(),
        username: "u".into(),
        credential: "hunter2".into(),
    };
    assert_eq!(
        format!("{server:?}"),
        r#"TurnServer { url: "turn:t", username: "u", .. }"#
    );
}

/// A swarm as somebody could have written it. JSON is YAML.
fn write(swarm: &Swarm) -> Value {
    let duration = |d: Option<Duration>| d.map(|d| format!("{}us", d.as_micros()));
    let agent = |agent: &SwarmAgent| {
        json!({ "id": agent.id, "role": agent.role, "udp_port": agent.udp_port,
                "public_key": agent.public_key, "key": agent.key,
                "exec": agent.exec.as_ref().map(|exec| &exec.command),
                "restart": match agent.restart {
                    Restart::Always => "always",
                    Restart::Never => "never",
                } })
    };
    let turn = |server: &TurnServer| json!({ "url": server.url, "username": server.username, "credential": server.credential });
    let revoked = |revoked: &Revoked| {
        json!({ "public_key": revoked.public_key, "reason": revoked.reason,
                "since": revoked.since })
    };
    json!({
        "swarm": swarm.name,
        "agents": swarm.agents.iter().map(agent).collect::<Vec<_>>(),
        "revoked": swarm.revoked.iter().map(revoked).collect::<Vec<_>>(),
        "topology": match swarm.topology {
            Topology::FullMesh => json!("full-mesh"),
            Topology::HubSpoke => json!("hub-spoke"),
            Topology::Ring => json!("ring"),
            Topology::KRegular(k) => json!({ "k-regular": k }),
        },
        "signal": { "listen": swarm.signal.listen.to_string() },
        "ice": { "stun": swarm.ice.stun, "turn": swarm.ice.turn.iter().map(turn).collect::<Vec<_>>() },
        "channel": { "ordered": swarm.channel.ordered, "max_message": swarm.channel.max_message,
                     "max_retransmits": swarm.channel.max_retransmits },
        "witness": { "dir": swarm.witness.dir, "sdp": match swarm.witness.sdp {
            SdpDetail::Full => "full",
            SdpDetail::Hash => "hash",
        }, "sync": match swarm.witness.sync {
            SyncPolicy::Batch => "batch",
            SyncPolicy::Always => "always",
            SyncPolicy::Never => "never",
        }, "on_error": match swarm.witness.on_error {
            OnWriteError::Stop => "stop",
            OnWriteError::Continue => "continue",
        } },
        "outbox": { "dir": swarm.outbox.dir, "keep": duration(Some(swarm.outbox.keep)),
                    "messages": swarm.outbox.messages, "bytes": swarm.outbox.bytes },
        "probe": { "messages": swarm.probe.messages, "payload": format!("{} B", swarm.probe.payload),
                   "interval": duration(Some(swarm.probe.interval)) },
        "expect": {
            "p50": duration(swarm.expect.p50), "p95": duration(swarm.expect.p95),
            "p99": duration(swarm.expect.p99), "setup": duration(swarm.expect.setup),
            "links": match swarm.expect.links {
                ExpectedLinks::All => json!("all"),
                ExpectedLinks::AtLeast(n) => json!(n),
            },
            "lost": swarm.expect.lost.map_or(json!("any"), |n| json!(n)),
        },
    })
}

prop_compose! {
    fn any_duration()(micros in 1u64..999_999_999) -> Duration {
        Duration::from_micros(micros)
    }
}

fn any_agents() -> impl Strategy<Value = Vec<SwarmAgent>> {
    let agent = (
        proptest::option::of("[^\\p{Cc}]{0,20}"),
        any::<bool>(),
        any::<bool>(),
        proptest::option::of("/[^\\p{Cc}]{1,10}"),
        proptest::option::of("[^\\p{Cc}]{0,10}[!-~][^\\p{Cc}]{0,10}"),
        prop_oneof![Just(Restart::Always), Just(Restart::Never)],
    );
    proptest::collection::vec(agent, 2..12).prop_map(|agents| {
        let checked = |(i, agent): (usize, (_, bool, bool, Option<String>, _, _))| {
            let (role, port, key, path, exec, restart) = agent;
            SwarmAgent {
                id: format!("if://a/{i}").parse().unwrap(),
                role,
                udp_port: port.then_some(65_535 - i as u16),
                public_key: key.then(|| KeyPair::from_secret(&[i as u8; 32]).public_key()),
                key: path.map(|path| format!("{path}{i}").into()),
                exec: Option::map(exec, |command| Exec {
                    command,
                    folder: "folder".into(),
                }),
                restart,
            }
        };
        agents.into_iter().enumerate().map(checked).collect()
    })
}

/// Of keys that no agent of [`any_agents`] has.
fn any_revoked() -> impl Strategy<Value = Vec<Revoked>> {
    let revoked = (
        proptest::option::of("[^\\p{Cc}]{0,20}"),
        proptest::option::of(0i64..4_102_444_800_000),
    );
    proptest::collection::vec(revoked, 0..4).prop_map(|revoked| {
        let checked = |(i, (reason, since)): (usize, (_, Option<i64>))| Revoked {
            public_key: KeyPair::from_secret(&[200 + i as u8; 32]).public_key(),
            reason,
            since: since.map(Timestamp::from_unix_ms),
        };
        revoked.into_iter().enumerate().map(checked).collect()
    })
}

fn any_witness() -> impl Strategy<Value = WitnessConfig> {
    let sdp = prop_oneof![Just(SdpDetail::Full), Just(SdpDetail::Hash)];
    let sync = prop_oneof![
        Just(SyncPolicy::Batch),
        Just(SyncPolicy::Always),
        Just(SyncPolicy::Never),
    ];
    let on_error = prop_oneof![Just(OnWriteError::Stop), Just(OnWriteError::Continue)];
    (sdp, sync, on_error).prop_map(|(sdp, sync, on_error)| WitnessConfig {
        dir: None,
        sdp,
        sync,
        on_error,
    })
}

fn any_swarm() -> impl Strategy<Value = Swarm> {
    let topology = prop_oneof![
        Just(Topology::FullMesh),
        Just(Topology::HubSpoke),
        Just(Topology::Ring),
        (1usize..12).prop_map(Topology::KRegular),
    ];
    let turn = ("turn:[a-z]{1,9}:[1-9][0-9]{0,3}", ".{1,9}", ".{1,9}").prop_map(
        |(url, username, credential)| TurnServer {
            url,
            username,
            credential,
        },
    );
    let ice = (
        proptest::collection::vec("stun:([a-z.]{1,9}|\\[::1\\])(:[1-9][0-9]{0,3})?", 0..3),
        proptest::collection::vec(turn, 0..3),
    );
    let channel = (any::<bool>(), any::<Option<u16>>(), 16_384usize..=262_144);
    let probe = (1u32..=1_000_000, 1usize..=14_336, any_duration());
    let limits = proptest::array::uniform4(proptest::option::of(any_duration()));
    let outbox = (
        any_duration(),
        1usize..=1_000_000,
        16_384usize..=1_073_741_824,
    );
    let rest = (
        any::<bool>(),
        any_witness(),
        any::<Option<u32>>(),
        any_revoked(),
        outbox,
    );
    // Flow labels and zones are no part of an address to listen on.
    let listen = any::<SocketAddr>().prop_map(|a| SocketAddr::new(a.ip(), a.port()));
    let settings = (listen, ice, channel, probe, limits, rest);
    ("[a-z0-9-]{1,64}", any_agents(), topology, settings).prop_map(
        |(name, agents, topology, (listen, ice, channel, probe, limits, rest))| {
            let topology = match topology {
                Topology::KRegular(k) if k >= agents.len() || (k * agents.len()) % 2 == 1 => {
                    Topology::Ring
                }
                topology => topology,
            };
            let links = topology.count(agents.len());
            Swarm {
                name: name.parse().unwrap(),
                agents,
                revoked: rest.3,
                topology,
                signal: SignalConfig { listen },
                ice: IceConfig {
                    stun: ice.0,
                    turn: ice.1,
                },
                channel: ChannelConfig {
                    ordered: channel.0,
                    max_retransmits: channel.1,
                    max_message: channel.2,
                },
                witness: WitnessConfig {
                    dir: rest.0.then(|| "/var/log/swarm".into()),
                    ..rest.1
                },
                outbox: OutboxConfig {
                    // A folder is for channels that acknowledge.
                    dir: (rest.0 && channel.0 && channel.1.is_none())
                        .then(|| "/var/lib/swarm".into()),
                    keep: rest.4.0,
                    messages: rest.4.1,
                    bytes: rest.4.2,
                },
                probe: Probe {
                    messages: probe.0,
                    payload: probe.1,
                    interval: probe.2,
                },
                expect: Expect {
                    p50: limits[0],
                    p95: limits[1],
                    p99: limits[2],
                    setup: limits[3],
                    links: match rest.0 {
                        true => ExpectedLinks::AtLeast(links / 2),
                        false => ExpectedLinks::All,
                    },
                    lost: rest.2.map(u64::from),
                },
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_out_is_read_as_the_same(swarm in any_swarm()) {
        let value = write(&swarm);
        prop_assert_eq!(&parse(&serde_yaml::to_string(&value).unwrap()), &swarm);
        let schema: Value = serde_json::from_str(schema()).unwrap();
        prop_assert!(jsonschema::draft202012::is_valid(&schema, &value));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Err(err) = Swarm::parse(&text, Path::new("x.yaml")) {
            prop_assert!(err.to_string().starts_with("x.yaml:"));
        }
    }

    #[test]
    fn a_good_file_with_one_stretch_replaced_never_panics(
        start in 0usize..2_000,
        length in 0usize..20,
        instead in "[\\[\\]{}:,*&!|>'\"%@#\\-?\n\r\t \u{85}\u{2028}~a0]{0,6}",
    ) {
        let mut text = std::fs::read_to_string(shipped("five-agent.yaml")).unwrap();
        let start = text.floor_char_boundary(start);
        let end = text.ceil_char_boundary(start + length);
        text.replace_range(start..end, &instead);
        if let Err(err) = Swarm::parse(&text, Path::new("x.yaml")) {
            prop_assert!(err.to_string().starts_with("x.yaml:"));
        }
    }
}
