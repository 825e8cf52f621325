//! The fields of a swarm file as a [`Swarm`], and what must hold between them.

use std::path::{Path, PathBuf};

use super::error::Fault;
use super::field::{Field, Members, unique};
use super::revoked::{PublicHalf, Revocations};
use super::yaml::Kind;
use super::{
    ChannelConfig, Exec, Expect, ExpectedLinks, MAX_AGENTS, MIN_AGENTS, OutboxConfig, Probe,
    Restart, SdpDetail, SignalConfig, Swarm, SwarmAgent, Topology, WitnessConfig, ice, units,
};
use crate::identity::{AgentId, InvalidKey, PublicKey};
use crate::witness::{OnWriteError, SyncPolicy};

/// The swarm that `root` describes; paths in it are relative to `folder`, and `public_half` looks
/// into the key files they name.
pub(super) fn swarm(
    root: &Field<'_>,
    folder: &Path,
    public_half: PublicHalf<'_>,
) -> Result<Swarm, Fault> {
    if let Kind::Null = root.node().kind {
        let expected = "a swarm file: at least `swarm` and `agents`";
        return Err(root
            .fault_found("an empty file", expected)
            .help("begin with a copy of `swarms/two-agent.yaml`"));
    }
    let fields = root.members(&[
        "swarm", "agents", "revoked", "topology", "signal", "ice", "channel", "witness", "outbox",
        "probe", "expect",
    ])?;
    let name = "a name of 1-64 characters of a-z 0-9 -";
    let name = fields.need("swarm", name)?.parse(name)?;
    let revoked = Revocations::read(fields.get("revoked"), public_half)?;
    let agents = agents(fields.need("agents", "a list of agents")?, folder, &revoked)?;
    let topology = fields
        .read("topology", |field| topology(field, agents.len()))?
        .unwrap_or_default();
    let channel = fields.read("channel", channel)?.unwrap_or_default();
    let outbox = fields.read("outbox", |field| outbox(field, folder, &channel))?;
    let outbox = outbox.unwrap_or_default();
    let probe = probe(fields.get("probe"), &channel)?;
    let links = topology.count(agents.len());
    Ok(Swarm {
        name,
        agents,
        revoked: revoked.list,
        topology,
        signal: fields.read("signal", signal)?.unwrap_or_default(),
        ice: fields.read("ice", ice::config)?.unwrap_or_default(),
        channel,
        witness: fields
            .read("witness", |field| witness(field, folder))?
            .unwrap_or_default(),
        outbox,
        probe,
        expect: fields
            .read("expect", |field| expect(field, links))?
            .unwrap_or_default(),
    })
}

fn agents(
    field: &Field<'_>,
    folder: &Path,
    revoked: &Revocations<'_>,
) -> Result<Vec<SwarmAgent>, Fault> {
    let items = field.list("a list of agents, such as `- id: finance`")?;
    if !(MIN_AGENTS..=MAX_AGENTS).contains(&items.len()) {
        let found = match items.len() {
            1 => "1 agent".into(),
            n => format!("{n} agents"),
        };
        return Err(field.fault_found(found, format!("{MIN_AGENTS} to {MAX_AGENTS} of them")));
    }
    let members: Vec<_> = items
        .iter()
        .map(|item| item.members(&AGENT))
        .collect::<Result<_, _>>()?;
    let agents: Vec<_> = members
        .iter()
        .map(|members| agent(members, folder, revoked))
        .collect::<Result<_, _>>()?;

    let fields = |name| members.iter().filter_map(move |members| members.get(name));
    let ids = agents.iter().map(|agent| &agent.id);
    unique(ids.zip(fields("id")), "ids that are unique")?;
    let ports = agents.iter().filter_map(|agent| agent.udp_port);
    unique(
        ports.zip(fields("udp_port")),
        "a port of its own for each agent",
    )?;
    let keys = agents.iter().filter_map(|agent| agent.public_key);
    let keys = keys.map(|key| *key.as_bytes());
    unique(
        keys.zip(fields("public_key")),
        "a key of its own for each agent",
    )
    .map_err(|fault| fault.help("make another key with `ifswarm keygen`"))?;
    let files = agents.iter().filter_map(|agent| agent.key.as_ref());
    unique(
        files.zip(fields("key")),
        "a key file of its own for each agent",
    )
    .map_err(|fault| fault.help("make another key with `ifswarm keygen --out FILE`"))?;
    Ok(agents)
}

fn agent(
    members: &Members<'_>,
    folder: &Path,
    revoked: &Revocations<'_>,
) -> Result<SwarmAgent, Fault> {
    let id =
        "an agent id: 1-128 characters of A-Z a-z 0-9 . _ : / @ -, the first a letter or digit";
    Ok(SwarmAgent {
        id: members.need("id", id)?.parse::<AgentId>(id)?,
        role: members.read("role", one_line)?,
        udp_port: members.read("udp_port", port)?,
        public_key: members.read("public_key", |field| {
            revoked.not_among(field, public_key(field)?)
        })?,
        key: members.read("key", |field| revoked.not_of(field, path(field, folder)?))?,
        exec: members.read("exec", |field| exec(field, folder))?,
        restart: members
            .read("restart", |field| field.one_of(&RESTART))?
            .unwrap_or_default(),
    })
}

/// A command for the shell.
fn exec(field: &Field<'_>, folder: &Path) -> Result<Exec, Fault> {
    let expected = format!("a shell command: one line of at most {MAX_COMMAND} characters");
    let text = field.text(&expected)?;
    let is_line = !text.chars().any(char::is_control) && text.chars().count() <= MAX_COMMAND;
    if !is_line || text.trim().is_empty() {
        return Err(field
            .fault(expected)
            .help("what is longer goes into a script beside the swarm file: `sh script.sh`"));
    }
    Ok(Exec {
        command: text.into(),
        folder: folder.into(),
    })
}

/// Text for people.
pub(super) fn one_line(field: &Field<'_>) -> Result<String, Fault> {
    let expected = format!("one line of at most {MAX_LINE} characters");
    let text = field.text(&expected)?;
    if text.chars().count() > MAX_LINE || text.chars().any(char::is_control) {
        return Err(field.fault(expected));
    }
    Ok(text.into())
}

fn port(field: &Field<'_>) -> Result<u16, Fault> {
    field
        .whole(1..=u16::MAX)
        .map_err(|fault| match field.node().kind {
            Kind::Int(0) => fault.help("leave `udp_port` out for a port that is free"),
            _ => fault,
        })
}

pub(super) fn public_key(field: &Field<'_>) -> Result<PublicKey, Fault> {
    let expected = "64 lower-case hex digits";
    let text = field.text(expected)?;
    text.parse().map_err(|err| match err {
        InvalidKey::Hex { found, .. } => field.fault_found(
            format!("{} ({found} characters)", field.node().describe()),
            expected,
        ),
        InvalidKey::Point => field
            .fault_found(
                format!("{}, which is no usable key", field.node().describe()),
                "an Ed25519 public key",
            )
            .help("make a key with `ifswarm keygen`"),
    })
}

/// A path in the file, relative to the file.
fn path(field: &Field<'_>, folder: &Path) -> Result<PathBuf, Fault> {
    let text = field.text("a path")?;
    if text.is_empty() || text.contains('\0') {
        return Err(field.fault("a path"));
    }
    Ok(folder.join(text))
}

fn topology(field: &Field<'_>, agents: usize) -> Result<Topology, Fault> {
    if let Kind::Map(_) = field.node().kind {
        let members = field.members(&["k-regular"])?;
        let links = members.need("k-regular", "how many links each agent has")?;
        return k_regular(links, agents).map(Topology::KRegular);
    }
    let named = field.one_of(&[
        ("full-mesh", Some(Topology::FullMesh)),
        ("hub-spoke", Some(Topology::HubSpoke)),
        ("ring", Some(Topology::Ring)),
        ("k-regular", None),
    ])?;
    named.ok_or_else(|| {
        field.fault("`{ k-regular: N }`, where N says how many links each agent has")
    })
}

fn k_regular(field: &Field<'_>, agents: usize) -> Result<usize, Fault> {
    let k = field.whole(1..=agents - 1).map_err(|fault| {
        fault.help(format!("each of {agents} agents has {} others", agents - 1))
    })?;
    if (agents * k) % 2 == 1 {
        return Err(field.fault("an even number").help(format!(
            "of {agents} agents with {k} links each, one link would have one end only"
        )));
    }
    Ok(k)
}

fn signal(field: &Field<'_>) -> Result<SignalConfig, Fault> {
    let members = field.members(&["listen"])?;
    let listen = members.read("listen", |field| {
        field
            .parse("an address and a port, as in `127.0.0.1:8443` or `[::1]:8443`")
            .map_err(|fault| fault.help("port 0 takes a port that is free"))
    })?;
    Ok(listen.map_or_else(SignalConfig::default, |listen| SignalConfig { listen }))
}

fn channel(field: &Field<'_>) -> Result<ChannelConfig, Fault> {
    let members = field.members(&["ordered", "max_retransmits", "max_message"])?;
    let default = ChannelConfig::default();
    Ok(ChannelConfig {
        ordered: members
            .read("ordered", Field::truth)?
            .unwrap_or(default.ordered),
        max_retransmits: members.read("max_retransmits", |field| field.whole(0..=u16::MAX))?,
        max_message: members
            .read("max_message", |field| field.size(MIN_MESSAGE..=MAX_MESSAGE))?
            .unwrap_or(default.max_message),
    })
}

fn witness(field: &Field<'_>, folder: &Path) -> Result<WitnessConfig, Fault> {
    let members = field.members(&["dir", "sdp", "sync", "on_error"])?;
    let sdp = [("full", SdpDetail::Full), ("hash", SdpDetail::Hash)];
    let sync = [
        ("batch", SyncPolicy::Batch),
        ("always", SyncPolicy::Always),
        ("never", SyncPolicy::Never),
    ];
    let on_error = [
        ("stop", OnWriteError::Stop),
        ("continue", OnWriteError::Continue),
    ];
    Ok(WitnessConfig {
        dir: members.read("dir", |field| path(field, folder))?,
        sdp: members
            .read("sdp", |field| field.one_of(&sdp))?
            .unwrap_or_default(),
        sync: members
            .read("sync", |field| field.one_of(&sync))?
            .unwrap_or_default(),
        on_error: members
            .read("on_error", |field| field.one_of(&on_error))?
            .unwrap_or_default(),
    })
}

/// `memory`, a folder, or a mapping.
fn outbox(
    field: &Field<'_>,
    folder: &Path,
    channel: &ChannelConfig,
) -> Result<OutboxConfig, Fault> {
    let default = OutboxConfig::default();
    let dir = |field: &Field<'_>| match &field.node().kind {
        Kind::Text(text) if text == "memory" => Ok(None),
        _ => path(field, folder).map(Some),
    };
    let config = match &field.node().kind {
        Kind::Map(_) => {
            let members = field.members(&["dir", "keep", "messages", "bytes"])?;
            OutboxConfig {
                dir: members.read("dir", dir)?.flatten(),
                keep: members
                    .read("keep", Field::duration)?
                    .unwrap_or(default.keep),
                messages: members
                    .read("messages", |field| field.whole(1..=MAX_KEPT))?
                    .unwrap_or(default.messages),
                bytes: members
                    .read("bytes", |field| field.size(MIN_MESSAGE..=MAX_KEPT_BYTES))?
                    .unwrap_or(default.bytes),
            }
        }
        _ => OutboxConfig {
            dir: dir(field)?,
            ..default
        },
    };
    if config.dir.is_some() && channel.is_best_effort() {
        let expected = "`memory`: what `channel` says makes messages best-effort, and nobody acknowledges these";
        return Err(field.fault(expected));
    }
    Ok(config)
}

fn probe(field: Option<&Field<'_>>, channel: &ChannelConfig) -> Result<Probe, Fault> {
    let default = Probe::default();
    let Some(field) = field else {
        return Ok(default);
    };
    let members = field.members(&["messages", "payload", "interval"])?;
    let largest = channel.max_message - ENVELOPE;
    let payload = members.read("payload", |field| {
        field.size(1..=largest).map_err(|fault| {
            let room = units::show_size(ENVELOPE);
            let whole = units::show_size(channel.max_message);
            let why = format!("`channel.max_message` is {whole}, {room} of it for the envelope");
            match fault.help {
                // How a size is written is what was wrong.
                Some(_) => fault,
                None => fault.help(why),
            }
        })
    })?;
    Ok(Probe {
        messages: members
            .read("messages", |field| field.whole(1..=MAX_PROBES))?
            .unwrap_or(default.messages),
        payload: payload.unwrap_or(default.payload),
        interval: members
            .read("interval", Field::duration)?
            .unwrap_or(default.interval),
    })
}

fn expect(field: &Field<'_>, links: usize) -> Result<Expect, Fault> {
    let members = field.members(&["p50", "p95", "p99", "setup", "links", "lost"])?;
    let default = Expect::default();
    Ok(Expect {
        p50: members.read("p50", Field::duration)?,
        p95: members.read("p95", Field::duration)?,
        p99: members.read("p99", Field::duration)?,
        setup: members.read("setup", Field::duration)?,
        links: members
            .read("links", |field| match &field.node().kind {
                Kind::Int(_) => field
                    .whole(0..=links)
                    .map(ExpectedLinks::AtLeast)
                    .map_err(|fault| fault.help(format!("the topology has {links} links"))),
                Kind::Text(text) if text == "all" => Ok(ExpectedLinks::All),
                _ => Err(field.fault("`all` or how many links must open")),
            })?
            .unwrap_or(default.links),
        lost: members
            .read("lost", |field| match &field.node().kind {
                Kind::Int(_) => field.whole(0..=u64::from(u32::MAX)).map(Some),
                Kind::Text(text) if text == "any" => Ok(None),
                _ => Err(field.fault("`any` or how many messages may be lost")),
            })?
            .unwrap_or(default.lost),
    })
}

/// What an agent may have.
const AGENT: [&str; 7] = [
    "id",
    "role",
    "udp_port",
    "public_key",
    "key",
    "exec",
    "restart",
];
const RESTART: [(&str, Restart); 2] = [("always", Restart::Always), ("never", Restart::Never)];
/// What is longer is a script, and reads better in a file of its own.
const MAX_COMMAND: usize = 4096;
/// A line that fits a terminal or two.
const MAX_LINE: usize = 256;
/// Below this not even every IFMessage within the limits of its fields fits.
const MIN_MESSAGE: usize = 16 * 1024;
/// Messages kept for each agent: a million of a hundred agents are all that a large host has room for.
const MAX_KEPT: usize = 1_000_000;
/// Bytes of them.
const MAX_KEPT_BYTES: usize = 1024 * 1024 * 1024;
/// The largest IFMessage.
const MAX_MESSAGE: usize = 256 * 1024;
/// What a message needs beside its payload: ids, signature, the names of what is signed.
const ENVELOPE: usize = 2 * 1024;
/// Over an hour at the default interval.
const MAX_PROBES: u32 = 1_000_000;
