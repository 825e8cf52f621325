//! `docs/deploy`: what is installed elsewhere is well-formed, and calls the command as it is. No
//! engine runs here: units and Dockerfile are read as text; their command lines by the command's own
//! parser; the units by systemd's too, where it is installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use ifswarm::cli::Cli;

#[test]
fn every_unit_has_only_known_keys_in_known_sections_and_is_hardened() {
    for (name, text) in units() {
        let unit = parse_unit(&text).unwrap_or_else(|err| panic!("{name}: {err}"));
        let has = |key: &str| unit.iter().any(|(_, k, _)| k == key);
        for needed in [
            "Restart",
            "TimeoutStopSec",
            "LimitNOFILE",
            "DynamicUser",
            "StateDirectory",
            "ProtectSystem",
            "NoNewPrivileges",
            "LoadCredential",
            "WantedBy",
        ] {
            assert!(has(needed), "{name} has no {needed}=");
        }
        // Whoever reads the unit, or the list of processes, sees no key, but where one is.
        assert!(!text.contains("PRIVATE KEY"), "{name}");
    }
}

#[test]
fn what_is_no_unit_is_found_out() {
    for (text, why) in [
        ("[Unit]\nBogus=1\n", "Bogus"),
        ("[Unit]\nExecStart=/bin/true\n", "ExecStart"),
        ("[Nonsense]\n", "Nonsense"),
        ("Description=x\n", "no section"),
        ("[Unit]\nDescription\n", "KEY=VALUE"),
        ("[Service]\nRestart=no\nRestart=always\n", "twice"),
        ("[Service]\nDynamicUser=maybe\n", "yes or no"),
        ("[Service]\nTimeoutStopSec=soon\n", "a time"),
    ] {
        let err = parse_unit(text).unwrap_err();
        assert!(err.contains(why), "{text:?}: {err}");
    }
}

#[test]
fn every_unit_calls_the_command_with_flags_that_it_has() {
    for (name, text) in units() {
        let unit = parse_unit(&text).unwrap();
        let starts: Vec<_> = unit.iter().filter(|(_, k, _)| k == "ExecStart").collect();
        let [(_, _, line)] = starts[..] else {
            panic!("{name}: not one ExecStart=");
        };
        let words: Vec<_> = line.split(' ').map(|word| expand(&unit, word)).collect();
        assert_eq!(words[0], "/usr/local/bin/ifswarm", "{name}");
        accepts(&name, &words);
        // What is waited for at the end is more than the command takes.
        let stop = unit.iter().find(|(_, k, _)| k == "TimeoutStopSec").unwrap();
        let seconds: u32 = stop.2.trim_end_matches('s').parse().unwrap();
        assert!(seconds > 5, "{name}");
    }
}

#[test]
fn systemd_finds_no_fault_with_the_units_where_it_is_installed() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in units() {
        // It wants to find the command, which is not installed here.
        let text = text.replace("/usr/local/bin/ifswarm", env!("CARGO_BIN_EXE_ifswarm"));
        fs::write(dir.path().join(name), text).unwrap();
    }
    let names = units().into_iter().map(|(name, _)| dir.path().join(name));
    let verified = Command::new("systemd-analyze")
        .args(["--recursive-errors=no", "verify"])
        .args(names)
        .output();
    let output = match verified {
        Ok(output) => output,
        // Then the tests above are what there is.
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return,
        Err(err) => panic!("{err}"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // Of other units of this machine it may say what it likes.
    let faults: Vec<_> = said.lines().filter(|l| l.contains("ifswarm-")).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_dockerfile_builds_from_what_is_there_and_runs_the_command_as_nobody_in_particular() {
    let text = fs::read_to_string(deploy().join("Dockerfile")).unwrap();
    let file = parse_dockerfile(&text).unwrap();
    let mut stages = BTreeSet::new();
    let (mut user, mut entrypoint, mut command) = (None, None, None);
    for (instruction, rest) in &file {
        let words: Vec<_> = rest.split_whitespace().collect();
        match instruction.as_str() {
            "FROM" => {
                let (image, tag) = words[0].split_once(':').expect("an image with its tag");
                assert!(tag != "latest" && !tag.is_empty(), "{rest}");
                if image == "rust" {
                    let manifest = include_str!("../../Cargo.toml");
                    let version = tag.split('-').next().unwrap();
                    assert!(manifest.contains(&format!("rust-version = \"{version}\"")));
                }
                if let [_, "AS", stage] = words[..] {
                    stages.insert(stage.to_owned());
                }
                // A stage begins anew, as root.
                (user, entrypoint, command) = (None, None, None);
            }
            "COPY" => match words[0].strip_prefix("--from=") {
                Some(stage) => assert!(stages.contains(stage), "{rest}"),
                None => {
                    for source in &words[..words.len() - 1] {
                        assert!(root().join(source).exists(), "{source}");
                    }
                }
            },
            "USER" => user = Some(words[0]),
            "ENTRYPOINT" => entrypoint = Some(list(rest)),
            "CMD" => command = Some(list(rest)),
            _ => {}
        }
    }
    assert!(user.is_some_and(|user| !user.starts_with('0') && !user.starts_with("root")));
    let words = [entrypoint.unwrap(), command.unwrap()].concat();
    accepts("Dockerfile", &words);
    let has = |name| file.iter().any(|(instruction, _)| instruction == name);
    assert!(has("HEALTHCHECK") && has("STOPSIGNAL"));
    assert_eq!(health_check("9090").len(), 3);
}

#[test]
fn what_is_no_dockerfile_is_found_out() {
    for (text, why) in [
        ("FORM x:1\n", "FORM"),
        ("RUN x\n", "begins with FROM"),
        ("FROM x:1\nRUN\n", "nothing after"),
        ("FROM x:1\nCMD [\"a\", ]\n", "CMD"),
        ("FROM x:1\nRUN a \\\n", "ends within"),
    ] {
        let err = parse_dockerfile(text).unwrap_err();
        assert!(err.contains(why), "{text:?}: {err}");
    }
}

/// The probe of the Dockerfile, for an admin server at this port.
pub(crate) fn health_check(port: &str) -> Vec<String> {
    let text = fs::read_to_string(deploy().join("Dockerfile")).unwrap();
    let file = parse_dockerfile(&text).unwrap();
    let check = file.iter().find(|(name, _)| name == "HEALTHCHECK").unwrap();
    let (_, probe) = check.1.split_once(" CMD ").unwrap();
    assert!(probe.contains("/9090 "), "{probe}");
    list(&probe.replace("/9090 ", &format!("/{port} ")))
}

/// The command itself takes these words.
fn accepts(name: &str, words: &[String]) {
    let parsed = Cli::command().try_get_matches_from(words);
    parsed.unwrap_or_else(|err| panic!("{name}: {err}"));
}

/// Section, key and value of every line.
type Unit = Vec<(String, String, String)>;

fn parse_unit(text: &str) -> Result<Unit, String> {
    let mut unit = Unit::new();
    let mut section: Option<&(&str, &[&str])> = None;
    for line in text.lines() {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let known = KEYS.iter().find(|(section, _)| *section == name);
            section = Some(known.ok_or_else(|| format!("unknown section {name}"))?);
            continue;
        }
        let (section, keys) = section.ok_or("a line in no section")?;
        let pair = line.split_once('=');
        let (key, value) = pair.ok_or_else(|| format!("{line}: expected KEY=VALUE"))?;
        if !keys.contains(&key) {
            return Err(format!("unknown key {key} in [{section}]"));
        }
        let again = unit.iter().any(|(s, k, _)| s == section && k == key);
        if again && !REPEATED.contains(&key) {
            return Err(format!("{key} stands twice"));
        }
        let number = value.trim_end_matches('s');
        if YES_OR_NO.contains(&key) && !["yes", "no"].contains(&value) {
            return Err(format!("{key}={value}: expected yes or no"));
        }
        if key.ends_with("Sec") && (number.is_empty() || number.parse::<u32>().is_err()) {
            return Err(format!("{key}={value}: expected a time"));
        }
        unit.push((section.to_string(), key.into(), value.into()));
    }
    Ok(unit)
}

/// A word as systemd gives it to the command: names of the instance, variables.
fn expand(unit: &Unit, word: &str) -> String {
    let word = word.replace("%I", "legal").replace("%i", "legal");
    let Some((before, rest)) = word.split_once("${") else {
        return word;
    };
    let (name, after) = rest.split_once('}').expect("a `}`");
    let environment = unit.iter().filter(|(_, key, _)| key == "Environment");
    let mut pairs = environment.flat_map(|(_, _, value)| value.split(' '));
    let set = pairs.find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    let value = match (name, set) {
        (_, Some(value)) => value,
        // Of systemd, where the unit asks for these.
        ("CREDENTIALS_DIRECTORY" | "STATE_DIRECTORY" | "RUNTIME_DIRECTORY", None) => "/run/x",
        _ => panic!("nobody sets {name}"),
    };
    format!("{before}{value}{after}")
}

/// Instructions with what follows, continued lines joined.
fn parse_dockerfile(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut file: Vec<(String, String)> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut whole = line.to_owned();
        while let Some(begun) = whole.strip_suffix('\\') {
            let next = lines.next().ok_or("it ends within an instruction")?;
            whole = format!("{begun}{next}");
        }
        let (name, rest) = whole.split_once(' ').unwrap_or((&whole, ""));
        if !INSTRUCTIONS.contains(&name) {
            return Err(format!("unknown instruction {name}"));
        }
        if file.is_empty() && name != "FROM" {
            return Err("a Dockerfile begins with FROM".into());
        }
        if rest.trim().is_empty() {
            return Err(format!("{name}: nothing after it"));
        }
        if ["ENTRYPOINT", "CMD"].contains(&name)
            && serde_json::from_str::<Vec<String>>(rest).is_err()
        {
            return Err(format!("{name}: expected a list of words"));
        }
        file.push((name.into(), rest.into()));
    }
    Ok(file)
}

fn list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|err| panic!("{text}: {err}"))
}

fn units() -> Vec<(String, String)> {
    let files = fs::read_dir(deploy())
        .unwrap()
        .map(|file| file.unwrap().path());
    let units = files.filter(|path| path.extension().is_some_and(|end| end == "service"));
    let read = units.map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    let read: Vec<_> = read.collect();
    assert_eq!(read.len(), 2, "one for the server, one for agents");
    read
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn deploy() -> PathBuf {
    root().join("docs/deploy")
}

/// What the units use, as systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5) and
/// systemd.resource-control(5) have it.
const KEYS: &[(&str, &[&str])] = &[
    ("Unit", &["Description", "Documentation", "Wants", "After"]),
    (
        "Service",
        &[
            "Type",
            "ExecStartPre",
            "ExecStart",
            "Environment",
            "LoadCredential",
            "Restart",
            "RestartSec",
            "RestartPreventExitStatus",
            "SuccessExitStatus",
            "KillMode",
            "KillSignal",
            "TimeoutStopSec",
            "DynamicUser",
            "StateDirectory",
            "StateDirectoryMode",
            "RuntimeDirectory",
            "RuntimeDirectoryMode",
            "UMask",
            "LimitNOFILE",
            "LimitCORE",
            "MemoryMax",
            "TasksMax",
            "ProtectSystem",
            "ProtectHome",
            "PrivateTmp",
            "PrivateDevices",
            "ProtectClock",
            "ProtectControlGroups",
            "ProtectHostname",
            "ProtectKernelLogs",
            "ProtectKernelModules",
            "ProtectKernelTunables",
            "ProtectProc",
            "NoNewPrivileges",
            "CapabilityBoundingSet",
            "AmbientCapabilities",
            "RestrictAddressFamilies",
            "RestrictNamespaces",
            "RestrictRealtime",
            "RestrictSUIDSGID",
            "LockPersonality",
            "MemoryDenyWriteExecute",
            "RemoveIPC",
            "SystemCallArchitectures",
            "SystemCallFilter",
            "SystemCallErrorNumber",
        ],
    ),
    ("Install", &["WantedBy"]),
];
/// Keys that may stand several times.
const REPEATED: &[&str] = &["LoadCredential", "Environment"];
const YES_OR_NO: &[&str] = &[
    "DynamicUser",
    "PrivateTmp",
    "PrivateDevices",
    "ProtectHome",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "NoNewPrivileges",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "RemoveIPC",
];
/// Of the Dockerfile reference.
const INSTRUCTIONS: &[&str] = &[
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "RUN",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];
