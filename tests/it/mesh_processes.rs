//! `mesh up --processes`, and programs named in swarm files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ifswarm::witness;
use serde_json::Value;

use crate::cli::{ifswarm, run};
use crate::program::{Program, gone, kill};

/// Three agents; `third` is what is said of the last one, and `more` of the rest.
fn swarm_file(folder: &Path, third: &str, more: &str) -> PathBuf {
    let path = folder.join("swarm.yaml");
    let text = format!(
        "swarm: trio\nagents:\n  - {{ id: a }}\n  - {{ id: b }}\n  - {{ id: c{third} }}\n\
         probe: {{ messages: 20, interval: 2ms }}\n{more}"
    );
    fs::write(&path, text).unwrap();
    path
}

fn up(file: &Path, witness: &Path, more: &[&str]) -> std::process::Command {
    let mut command = ifswarm();
    command.args(["mesh", "up"]).arg(file).args(more);
    command.arg("--witness").arg(witness);
    command
}

fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|err| panic!("{err}: {text}"))
}

#[test]
fn a_swarm_of_processes_gives_the_same_report_and_leaves_logs_that_verify_and_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let file = swarm_file(folder.path(), "", "");
    let logs = folder.path().join("witness");
    let (code, stdout, stderr) = run(&mut up(&file, &logs, &["--json", "--processes"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    let report = object(&stdout);
    let (_, here, _) = run(&mut up(&file, &logs, &["--json"]));
    let members = |report: &Value| -> BTreeSet<String> {
        report.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(members(&report), members(&object(&here)));
    assert_eq!(
        report["links"],
        serde_json::json!({ "expected": 3, "open": 3 })
    );
    assert_eq!(report["messages"]["sent"], 120);
    assert_eq!(report["messages"]["delivered"], 120);
    assert_eq!(report["rtt_us"]["count"], 60);
    assert_eq!(report["one_way_us"]["count"], 60);
    for link in report["per_link"].as_array().unwrap() {
        assert_eq!(
            (&link["path"], &link["rtt_us"]["count"]),
            (&"host".into(), &20.into())
        );
    }
    assert!(report["resources"]["cpu_s"].as_f64().unwrap() > 0.0);
    // Where it says that they are.
    let place = stderr.strip_prefix("witness: ").unwrap().trim_end();
    let kept: Vec<_> = fs::read_dir(place).unwrap().collect();
    assert_eq!(kept.len(), 1, "keys were left behind: {kept:?}");
    let mut entries = 0;
    for id in ["a", "b", "c"] {
        entries += witness::check(&Path::new(place).join("trio").join(id))
            .unwrap()
            .entries;
    }
    assert_eq!(report["witness"]["entries"], entries);
}

#[test]
fn the_shipped_programs_answer_in_one_process_and_in_five() {
    let folder = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("swarms/programs.yaml");
    for more in [&["--json"][..], &["--json", "--processes"]] {
        let (code, stdout, stderr) = run(&mut up(&file, folder.path(), more));
        assert_eq!(code, 0, "{stdout}{stderr}");
        let report = object(&stdout);
        // Three ask each other and both programs, which do not ask.
        assert_eq!(report["links"]["open"], 10);
        assert_eq!(report["rtt_us"]["count"], 9 * 50);
        assert_eq!(report["messages"]["delivered"], 2 * 9 * 50);
        for link in report["per_link"].as_array().unwrap() {
            let programs = link["a"] == "legal" && link["b"] == "registry";
            let expected = if programs { 0 } else { 50 };
            assert_eq!(link["rtt_us"]["count"], expected, "{link}");
        }
    }
}

#[test]
fn a_program_that_fails_makes_the_report_say_no_with_its_status_and_its_last_words() {
    a_failing_program(&["--json"]);
}

#[test]
fn so_it_does_in_a_process_of_its_own() {
    a_failing_program(&["--json", "--processes"]);
}

fn a_failing_program(more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let third = r#", exec: "read ready; echo 'no paper left' >&2; exit 5""#;
    let file = swarm_file(folder.path(), third, "");
    let (code, stdout, stderr) = run(&mut up(&file, folder.path(), more));
    assert_eq!(code, 1, "{stdout}{stderr}");
    let failures = object(&stdout)["failures"].to_string();
    for part in [
        "c: the program has ended: exit status: 5; it said: no paper left",
        "requests of a to c were never answered",
    ] {
        assert!(failures.contains(part), "{failures}");
    }
}

#[test]
fn a_process_that_dies_is_told_and_started_again_only_where_that_is_wanted() {
    for (third, again) in [("", false), (", restart: always", true)] {
        let folder = tempfile::tempdir().unwrap();
        let file = swarm_file(folder.path(), third, "");
        let mut swarm = Program::start(&mut up(&file, folder.path(), &["--processes", "--hold"]));
        swarm.logged("stay up");
        let before = members(&file);
        assert_eq!(before.len(), 3);
        kill("KILL", &before["c"]);
        let told = swarm.logged("the process of c has ended");
        assert!(told.contains("SIGKILL"), "{told}");
        assert_eq!(told.contains("started again"), again, "{told}");
        if again {
            let now = loop {
                match members(&file).remove("c") {
                    Some(pid) if pid != before["c"] => break pid,
                    _ => std::thread::yield_now(),
                }
            };
            assert_ne!(now, before["c"]);
        }
        swarm.close_input();
        swarm.kill("INT");
        let ended = swarm.end();
        for pid in before.values().chain(members(&file).values()) {
            gone(pid);
        }
        let text = ended.lines.join("\n");
        // One that came back has all that is expected; its log goes on.
        match again {
            true => assert!(
                ended.code == 0 && text.ends_with("ok"),
                "{text}{}",
                ended.log
            ),
            false => assert!(
                ended.code == 1 && text.contains("the process of c has ended: signal: 9"),
                "{text}"
            ),
        }
    }
}

#[test]
fn nobody_is_left_when_the_swarm_is_told_to_end_or_killed() {
    for signal in ["INT", "TERM", "KILL"] {
        let folder = tempfile::tempdir().unwrap();
        // From the first probe on it does not look at its input, and its child would outlive it.
        let pids = folder.path().join("pids");
        let third = format!(
            ", exec: \"grep -m1 probe >/dev/null; sleep 600 & echo $! $$ >{0}.new; mv {0}.new {0}; while :; do sleep 60; done\"",
            pids.display()
        );
        let more = "probe: { messages: 1000000 }\n";
        let file = swarm_file(folder.path(), &third, "");
        let text = fs::read_to_string(&file).unwrap();
        let text = text.replace("probe: { messages: 20, interval: 2ms }\n", more);
        fs::write(&file, text).unwrap();
        let swarm = Program::start(&mut up(&file, folder.path(), &["--processes"]));
        let programs = loop {
            match fs::read_to_string(&pids) {
                Ok(text) => break text,
                Err(_) => std::thread::yield_now(),
            }
        };
        let all: Vec<_> = members(&file).into_values().collect();
        assert_eq!(all.len(), 3);
        swarm.kill(signal);
        for pid in all
            .iter()
            .map(String::as_str)
            .chain(programs.split_whitespace())
        {
            gone(pid);
        }
        if signal != "KILL" {
            let ended = swarm.end();
            assert_eq!(ended.code, 130, "{}", ended.log);
        }
    }
}

#[test]
fn a_process_that_cannot_start_ends_the_swarm_with_3_and_a_bad_file_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = format!(", udp_port: {}", taken.local_addr().unwrap().port());
    let file = swarm_file(folder.path(), &port, "");
    let (code, stdout, stderr) = run(&mut up(&file, folder.path(), &["--processes"]));
    assert_eq!((code, stdout.as_str()), (3, ""), "{stderr}");
    let error = stderr.lines().find(|line| line.starts_with("error: "));
    let error = error.unwrap();
    assert!(
        error.contains("agent `c` did not start") && error.contains("in use"),
        "{error}"
    );
    let file = swarm_file(folder.path(), "", "colour: red\n");
    let (code, _, stderr) = run(&mut up(&file, folder.path(), &["--processes"]));
    assert!(code == 2 && stderr.contains("colour"), "{stderr}");
    // Nobody is meant to call this.
    let (code, _, stderr) = run(ifswarm()
        .args(["mesh", "member", "--id", "a"])
        .arg(swarm_file(folder.path(), "", "")));
    assert!(code == 2 && stderr.contains("--processes"), "{stderr}");
}

#[test]
fn the_worker_of_the_readme_works_as_pasted() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let section = readme.split("\n## Programs\n").nth(1).unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    assert!(block.contains("worker.py") && block.contains("127.0.0.1:8443"));
    // Another port than the one that somebody else here may have.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_ifswarm")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &block.replace("127.0.0.1:8443", &address)]);
    shell.current_dir(&folder).env("PATH", path);
    let (code, stdout, stderr) = run(&mut shell);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(
        stdout.contains("counter answers with inform"),
        "{stdout}{stderr}"
    );
    assert!(stdout.contains("\"words\": 5"), "{stdout}");
}

/// The processes of a swarm, by agent. A key would be seen here.
fn members(file: &Path) -> std::collections::BTreeMap<String, String> {
    let mut members = std::collections::BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let entry = entry.unwrap();
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<_> = line.split_terminator('\0').collect();
        let Some(at) = words.iter().position(|word| *word == "member") else {
            continue;
        };
        if words.last() == file.to_str().as_ref() {
            assert_eq!(words[at - 1..at + 2], ["mesh", "member", "--id"]);
            let pid = entry.file_name().into_string().unwrap();
            members.insert(words[at + 2].to_owned(), pid);
        }
    }
    members
}
