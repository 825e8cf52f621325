//! Makes long inputs for `ifswarm verify`, to see how fast it is and how much memory it takes:
//!
//! ```text
//! cargo run --release --example long_log -- log DIR 1000000
//! cargo run --release --example long_log -- messages FILE.jsonl 100000
//! ```
//!
//! A log of an agent as a busy mesh writes it, with its checkpoint and one countersignature; or
//! signed messages, one per line. Under the public keys of the fixtures: for nothing but tests.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use ifswarm::identity::{AgentId, KeyPair, Session, SwarmName};
use ifswarm::message::{Author, Draft, Timestamp, sign};
use ifswarm::witness::{Entry, Event, Log, LogOwner, Opening, SyncPolicy, origin_of};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["log", dir, entries] => log(Path::new(dir), entries.parse()?),
        ["messages", file, messages] => write_messages(Path::new(file), messages.parse()?),
        _ => Err("usage: long_log log DIR ENTRIES | messages FILE MESSAGES".into()),
    }
}

fn log(dir: &Path, entries: u64) -> Result<(), Box<dyn Error>> {
    let (finance, legal): (AgentId, AgentId) = ("finance".parse()?, "legal".parse()?);
    let swarm: SwarmName = "five-agent".parse()?;
    let key = key_of("finance");
    let mut log = Log::open(
        dir,
        Opening {
            agent_id: LogOwner::Agent(&finance),
            swarm: &swarm,
            public_key: key.public_key(),
            now: at(0),
            sync: SyncPolicy::Never,
        },
    )?;
    for n in log.len()..entries {
        let event = match n % 2 {
            0 => Event::IfmessageSent,
            _ => Event::IfmessageReceived,
        };
        log.append(
            Entry::new(event, at(n))
                .peer(&legal)
                .trace(&format!("{n:024x}"))
                .metadata(json!({
                    "destination": "legal",
                    "message_id": format!("01890a5d-ac96-774b-bcce-{n:012x}"),
                    "performative": "inform",
                    "sequence_num": n,
                    "sha256": hex::encode(Sha256::digest(n.to_be_bytes())),
                })),
        );
        if n % 1000 == 0 {
            log.commit()?;
        }
    }
    log.commit()?;
    let folder = log.folder();
    let mut checkpoint = log.committed().secure()?.checkpoint(&key)?;
    let peer = origin_of(&checkpoint.note().to_string())?.replace("/finance", "/legal");
    checkpoint.cosign(&peer, &key_of("legal"), 1_769_847_330);
    if let Some(folder) = folder {
        folder.write_cosignature(&legal, &checkpoint)?;
    }
    Ok(())
}

fn write_messages(path: &Path, messages: u64) -> Result<(), Box<dyn Error>> {
    let id: AgentId = "finance".parse()?;
    let key = key_of("finance");
    let author = Author {
        id: &id,
        session: Session::new(1_769_847_330_000, [7; 10]),
        key: &key,
    };
    let mut out = BufWriter::new(File::create(path)?);
    for n in 1..=messages {
        let payload = Map::from_iter([
            ("n".to_owned(), n.into()),
            ("text".to_owned(), "x".repeat(256).into()),
        ]);
        let draft = Draft::new("legal".parse::<AgentId>()?, payload);
        let random: [u8; 32] = Sha256::digest(n.to_be_bytes()).into();
        let signed = sign(
            draft,
            &author,
            n,
            at(n),
            *random.first_chunk().expect("32 bytes"),
        )?;
        out.write_all(&signed.bytes())?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// As in `fixtures/README.md`.
fn key_of(id: &str) -> KeyPair {
    KeyPair::from_secret(&Sha256::digest(format!("ifswarm fixture key: {id}")).into())
}

fn at(n: u64) -> Timestamp {
    Timestamp::from_unix_ms(1_769_847_330_000 + n as i64)
}
