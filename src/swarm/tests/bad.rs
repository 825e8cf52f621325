//! Wrong swarm files: `bad.txt` holds each with the whole text that its user gets.

use std::path::Path;

use serde_json::Value;

use super::super::{Swarm, schema};
use crate::identity::KeyPair;

/// One wrong file of the table.
struct Case {
    /// What it shows.
    name: &'static str,
    /// The file.
    yaml: &'static str,
    /// What the JSON Schema says to it: `refuses`, `accepts` where no schema can know better,
    /// `never sees` where it is no YAML or not one value.
    schema: &'static str,
    /// The whole error.
    text: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |block: &'static str| -> Option<Case> {
        let (name, rest) = block.split_once('\n')?;
        let (yaml, rest) = rest.split_once(">>>>> the schema ")?;
        let (schema, text) = rest.split_once('\n')?;
        Some(Case {
            name,
            yaml,
            schema,
            text: text.trim_end(),
        })
    };
    include_str!("bad.txt")
        .split("===== ")
        .skip(1)
        .map(|block| case(block).unwrap_or_else(|| panic!("not a case: {block}")))
        .collect()
}

fn error_of(yaml: &str) -> String {
    match Swarm::parse(yaml, Path::new("swarms/bad.yaml")) {
        Ok(swarm) => panic!("accepted as {swarm:?}"),
        // Lines without trailing blanks, so that editors leave `bad.txt` alone.
        Err(err) => {
            let lines: Vec<_> = err
                .to_string()
                .lines()
                .map(|l| l.trim_end().to_owned())
                .collect();
            lines.join("\n")
        }
    }
}

#[test]
fn every_wrong_file_is_explained_with_its_place() {
    let cases = cases();
    assert!(cases.len() > 60, "the table is read whole");
    let mut wrong = String::new();
    for case in cases {
        let text = error_of(case.yaml);
        if text != case.text {
            wrong += &format!(
                "===== {}\n{}>>>>> instead\n{text}\n\n",
                case.name, case.yaml
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_json_schema_refuses_the_same_files_as_far_as_a_schema_can() {
    let schema: Value = serde_json::from_str(schema()).unwrap();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    for case in cases() {
        let says = match serde_yaml::from_str::<Value>(case.yaml) {
            Err(_) => "never sees",
            Ok(value) if schema.is_valid(&value) => "accepts",
            Ok(_) => "refuses",
        };
        assert_eq!(says, case.schema, "{}\n{}", case.name, case.yaml);
    }
}

#[test]
fn refuses_characters_that_yaml_does_not_allow() {
    assert_eq!(
        error_of("swarm: x\r\nagents: \u{1b}[31m"),
        "swarms/bad.yaml:2:9: found the character U+001B, expected text without it
 2 | agents:  [31m
   |         ^"
    );
}

#[test]
fn shows_the_part_of_a_long_line_that_matters() {
    let text = error_of(&format!(
        "{{ {} swarm: X }}",
        "a: 1, ".repeat(0) + &" ".repeat(500)
    ));
    assert_eq!(
        text,
        format!(
            "swarms/bad.yaml:1:511: `swarm`: found `X`, expected a name of 1-64 characters of a-z 0-9 -\n 1 | {}swarm: X }}\n   | {}^",
            " ".repeat(53),
            " ".repeat(60)
        )
    );
}

#[test]
fn refuses_bombs_without_going_off() {
    let aliases = |from: &str| format!("[{}]", format!("*{from},").repeat(500));
    let billion_laughs = format!(
        "a: &a [{}]\nb: &b {}\nc: &c {}\nd: {}",
        "x,".repeat(500),
        aliases("a"),
        aliases("b"),
        aliases("c")
    );
    for (bomb, text) in [
        (
            billion_laughs,
            "found aliases (`*…`) that stand for more than 2097152 bytes",
        ),
        ("&a [*a]".into(), "found nesting more than 128 levels deep"),
        (
            "- ".repeat(500_000),
            "found nesting more than 128 levels deep",
        ),
        ("[".repeat(1_000_000), "found more than 10000 `[` and `{`"),
        (
            "{\"]\": ".repeat(150_000),
            "found more than 10000 `[` and `{`",
        ),
        (
            "[".repeat(10_000),
            "found nesting more than 128 levels deep",
        ),
    ] {
        let found = error_of(&bomb);
        assert!(found.contains(text), "{found}");
    }
}

#[test]
fn refuses_more_agents_than_a_host_carries() {
    let agents = |n| -> String { (0..n).map(|i| format!("  - id: a{i}\n")).collect() };
    let swarm = |n| format!("swarm: x\nagents:\n{}", agents(n));
    assert!(Swarm::parse(&swarm(1_000), Path::new("x.yaml")).is_ok());
    assert_eq!(
        error_of(&swarm(1_001)),
        "swarms/bad.yaml:3:3: `agents`: found 1001 agents, expected 2 to 1000 of them\n 3 |   - id: a0\n   |   ^"
    );
}

#[test]
fn refuses_more_revoked_keys_than_a_file_should_have() {
    let key = |n: u32| {
        let mut secret = [0; 32];
        secret[..4].copy_from_slice(&n.to_le_bytes());
        KeyPair::from_secret(&secret).public_key()
    };
    let lines = |n| -> String {
        (0..n)
            .map(|i| format!(" - public_key: {}\n", key(i)))
            .collect()
    };
    let swarm = |n| format!("swarm: x\nagents: [id: a, id: b]\nrevoked:\n{}", lines(n));
    let most = Swarm::parse(&swarm(4_096), Path::new("x.yaml")).unwrap();
    assert_eq!(most.revoked.len(), 4_096);
    let text = error_of(&swarm(4_097));
    let expected = "swarms/bad.yaml:4:2: `revoked`: found 4097 keys, expected at most 4096\n";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn a_key_file_whose_key_is_revoked_is_told_at_the_place_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let pair = KeyPair::from_secret(&[1; 32]);
    pair.create_file(&folder.path().join("b.pem")).unwrap();
    let path = folder.path().join("s.yaml");
    let (b, other) = (
        pair.public_key(),
        KeyPair::from_secret(&[2; 32]).public_key(),
    );
    let write = |rest: &str| {
        let agents = "swarm: x\nagents:\n  - { id: a, key: a.pem }\n  - { id: b, key: b.pem }\n";
        std::fs::write(&path, format!("{agents}{rest}")).unwrap();
    };
    write(&format!("revoked:\n  - public_key: {b}\n"));
    let text = Swarm::read(&path).unwrap_err().to_string();
    assert_eq!(
        text.replace(&folder.path().display().to_string(), "FOLDER"),
        format!(
            "FOLDER/s.yaml:4:19: `agents[1].key`: found `b.pem`, the file of the key `{b}`, revoked on line 6, expected a key that is not revoked
 4 |   - {{ id: b, key: b.pem }}
   |                   ^
help: make another key with `ifswarm keygen --out FILE`, or take this one off `revoked`"
        )
    );
    // `a.pem`, which is not there, is not this file's fault: who needs the key says so.
    write(&format!("revoked:\n  - public_key: {other}\n"));
    assert_eq!(Swarm::read(&path).unwrap().revoked.len(), 1);
}

#[test]
fn files_that_are_none_say_what_to_name_instead() {
    let folder = tempfile::tempdir().unwrap();
    let text = |path: &Path| {
        let text = Swarm::read(path).unwrap_err().to_string();
        text.replace(&folder.path().display().to_string(), "FOLDER")
    };
    assert_eq!(
        text(&folder.path().join("none.yaml")),
        "FOLDER/none.yaml: there is no such file; name a swarm file, such as `swarms/five-agent.yaml`"
    );
    assert_eq!(
        text(folder.path()),
        "FOLDER: found a folder, expected a swarm file in it: name the file itself"
    );

    let large = folder.path().join("large.yaml");
    std::fs::write(&large, "#".repeat(1024 * 1024 + 1)).unwrap();
    assert_eq!(
        text(&large),
        "FOLDER/large.yaml: found more than 1048576 bytes, expected a swarm file of at most that"
    );

    let latin = folder.path().join("latin.yaml");
    std::fs::write(&latin, b"swarm: x\nagents: caf\xe9\n").unwrap();
    assert_eq!(
        text(&latin),
        "FOLDER/latin.yaml:2:12: found the byte 0xE9, expected text in UTF-8
 2 | agents: caf\u{fffd}
   |            ^
help: save the file with the encoding UTF-8"
    );
}
