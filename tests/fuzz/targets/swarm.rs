//! Swarm files: `Swarm::read` and `Swarm::parse`.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use ifswarm::swarm::{ExpectedLinks, SdpDetail, Swarm, SwarmError, Topology, schema};
use jsonschema::Validator;

use super::oracle::{assert_one_line, validator};

pub(super) fn target(bytes: &[u8]) {
    let read = match std::str::from_utf8(bytes) {
        Ok(text) => Swarm::parse(text, Path::new("swarm.yaml")),
        Err(_) => {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("swarm.yaml");
            fs::write(&path, bytes).expect("a temporary file");
            Swarm::read(&path)
        }
    };
    match read {
        Ok(swarm) => {
            fits_schema(bytes);
            let written = written(&swarm);
            fits_schema(written.as_bytes());
            let again = Swarm::parse(&written, Path::new("swarm.yaml"));
            let again = again.unwrap_or_else(|err| panic!("{err}\n{written}"));
            assert_eq!(again, swarm);
        }
        Err(SwarmError::Invalid(err)) => {
            assert_one_line(&err.message, MAX_MESSAGE);
            if let Some(help) = &err.help {
                assert_one_line(help, MAX_MESSAGE);
            }
            assert!(err.message.contains("found ") && err.message.contains(", expected "));
            let text = String::from_utf8_lossy(bytes);
            place(&text, err.line, err.column);
            let shown = err.to_string();
            assert!((3..=4).contains(&shown.lines().count()), "{shown:?}");
        }
        Err(SwarmError::TooLarge { .. }) => assert!(bytes.len() > MAX_FILE),
        Err(err) => panic!("not of the text: {err}"),
    }
}

/// As [`assert_place`](super::oracle::assert_place), with the line ends of YAML 1.1 and columns
/// in characters.
fn place(text: &str, line: usize, column: usize) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n");
    let ends = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
    let found = line
        .checked_sub(1)
        .and_then(|line| text.split(ends).nth(line));
    let found = found.unwrap_or_else(|| panic!("there is no line {line}"));
    let columns = found.chars().count() + 1;
    assert!(
        (1..=columns).contains(&column),
        "line {line} has no column {column}"
    );
}

fn fits_schema(yaml: &[u8]) {
    let yaml = yaml.strip_prefix(b"\xef\xbb\xbf").unwrap_or(yaml);
    let value = serde_yaml::from_slice(yaml).expect("YAML that is also JSON");
    if let Err(err) = SCHEMA.validate(&value) {
        panic!("the parser takes what the schema refuses: {err}");
    }
}

/// The swarm as a file that says everything, defaults too.
fn written(swarm: &Swarm) -> String {
    let mut file = format!("swarm: {}\nagents:\n", swarm.name);
    let mut line = |text: String| writeln!(file, "{text}").expect("memory");
    for agent in &swarm.agents {
        line(format!("  - id: {}", quoted(agent.id.as_str())));
        if let Some(role) = &agent.role {
            line(format!("    role: {}", quoted(role)));
        }
        if let Some(port) = agent.udp_port {
            line(format!("    udp_port: {port}"));
        }
        if let Some(key) = agent.public_key {
            line(format!("    public_key: \"{key}\""));
        }
        if let Some(key) = &agent.key {
            line(format!("    key: {}", quoted(path(key))));
        }
    }
    line("revoked:".into());
    for revoked in &swarm.revoked {
        line(format!("  - public_key: \"{}\"", revoked.public_key));
        if let Some(reason) = &revoked.reason {
            line(format!("    reason: {}", quoted(reason)));
        }
        if let Some(since) = revoked.since {
            line(format!("    since: {since}"));
        }
    }
    line(match swarm.topology {
        Topology::FullMesh => "topology: full-mesh".into(),
        Topology::HubSpoke => "topology: hub-spoke".into(),
        Topology::Ring => "topology: ring".into(),
        Topology::KRegular(k) => format!("topology: {{ k-regular: {k} }}"),
    });
    line(format!("signal:\n  listen: \"{}\"", swarm.signal.listen));
    let stun: Vec<_> = swarm.ice.stun.iter().map(|uri| quoted(uri)).collect();
    line(format!("ice:\n  stun: [{}]\n  turn:", stun.join(", ")));
    for server in &swarm.ice.turn {
        line(format!("    - url: {}", quoted(&server.url)));
        line(format!("      username: {}", quoted(&server.username)));
        line(format!("      credential: {}", quoted(&server.credential)));
    }
    let channel = &swarm.channel;
    line(format!("channel:\n  ordered: {}", channel.ordered));
    if let Some(n) = channel.max_retransmits {
        line(format!("  max_retransmits: {n}"));
    }
    line(format!("  max_message: {} B", channel.max_message));
    line(match swarm.witness.sdp {
        SdpDetail::Full => "witness:\n  sdp: full".into(),
        SdpDetail::Hash => "witness:\n  sdp: hash".into(),
    });
    if let Some(dir) = &swarm.witness.dir {
        line(format!("  dir: {}", quoted(path(dir))));
    }
    let probe = &swarm.probe;
    line(format!("probe:\n  messages: {}", probe.messages));
    line(format!("  payload: {}", probe.payload));
    line(format!("  interval: {}", duration(probe.interval)));
    let expect = &swarm.expect;
    line(match expect.links {
        ExpectedLinks::All => "expect:\n  links: all".into(),
        ExpectedLinks::AtLeast(n) => format!("expect:\n  links: {n}"),
    });
    line(match expect.lost {
        Some(n) => format!("  lost: {n}"),
        None => "  lost: any".into(),
    });
    let times = [
        ("p50", expect.p50),
        ("p95", expect.p95),
        ("p99", expect.p99),
        ("setup", expect.setup),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            line(format!("  {name}: {}", duration(time)));
        }
    }
    file
}

/// In quotes, everything but plain ASCII escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            ' '..='~' if c != '"' && c != '\\' => out.push(c),
            c => write!(out, "\\U{:08X}", u32::from(c)).expect("memory"),
        }
    }
    out + "\""
}

/// In the largest unit that leaves a whole number.
fn duration(time: Duration) -> String {
    let micros = time.as_micros();
    let units = [
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
    ];
    let unit = units.iter().find(|(unit, _)| micros.is_multiple_of(*unit));
    let (unit, name) = unit.copied().unwrap_or((1, "us"));
    format!("{}{name}", micros / unit)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("it was read from text")
}

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| validator(schema()));
const MAX_FILE: usize = 1024 * 1024;
/// 64 characters of the file, their escapes, and our own words.
const MAX_MESSAGE: usize = 1_000;
