//! The house keeps its shape (`docs/architecture.md`): a room imports only rooms above it, `mesh`
//! and `signal`/`link` do not know each other, pure rooms stay pure, files stay short and say
//! what they are.
//!
//! The order of the rooms is read from the table in `src/lib.rs`, so that there is one map.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Sources by path below `src/`, with `/` between folders.
type Sources = BTreeMap<String, String>;

#[test]
fn the_house_keeps_its_shape() {
    let sources = read_sources();
    assert!(sources.len() > 50, "the sources were not found");
    let faults = faults(&sources);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Everything that is wrong, one line each.
fn faults(sources: &Sources) -> Vec<String> {
    let rooms = rooms(&sources["lib.rs"]);
    let mut faults = Vec::new();
    for (path, source) in sources {
        let mut fault = |what: String| faults.push(format!("src/{path}: {what}"));
        if !source.starts_with("//! ") {
            fault("does not open with `//!`, what it is".into());
        }
        let lines = source.lines().count();
        if lines > MAX_LINES {
            fault(format!("{lines} lines, more than {MAX_LINES}: split it"));
        }
        let Some(room) = room_of(path) else {
            continue;
        };
        let code = code(source);
        let Some(place) = rooms.iter().position(|name| name == room) else {
            fault(format!(
                "the room `{room}` is missing in the table of src/lib.rs"
            ));
            continue;
        };
        for used in imports(&code, &rooms) {
            match rooms.iter().position(|name| *name == used) {
                None => fault(format!("`crate::{used}` is no room: name the room")),
                Some(other) if other > place => {
                    fault(format!("imports `{used}`, which is below `{room}`"));
                }
                Some(_) if STRANGERS.contains(&(room, used.as_str())) => {
                    fault(format!("imports `{used}`, which `{room}` must not know"));
                }
                Some(_) => {}
            }
        }
        if PURE.contains(&room) && !is_test(path) {
            for impure in IMPURE {
                if before_tests(&code).contains(impure) {
                    fault(format!("`{impure}` in a pure room"));
                }
            }
        }
    }
    faults
}

/// The rooms in the order of the table: rows that begin with ``| [`room`] |``.
fn rooms(lib: &str) -> Vec<String> {
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    rows.filter_map(|row| Some(row.split_once("`]")?.0.to_owned()))
        .collect()
}

/// The folder or file directly below `src/`; none for the crate's own two files.
fn room_of(path: &str) -> Option<&str> {
    match path {
        "lib.rs" | "main.rs" => None,
        _ => Some(path.split(['/', '.']).next().expect("never empty")),
    }
}

/// The source without comments, which may speak of every room.
fn code(source: &str) -> String {
    let lines = source.lines().map(|line| {
        let comment = if line.trim_start().starts_with("//") {
            Some(0)
        } else {
            line.find(" // ")
        };
        &line[..comment.unwrap_or(line.len())]
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What follows `crate::`, groups taken apart, and rooms that are reached through `super::`.
fn imports(code: &str, rooms: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (_, path) in code
        .match_indices("crate::")
        .map(|(at, p)| (at, &code[at + p.len()..]))
    {
        match path.strip_prefix('{') {
            Some(group) => found.extend(first_names(group)),
            None => found.push(name(path).to_owned()),
        }
    }
    for (at, path) in code.match_indices("super::") {
        let path = name(&code[at + path.len()..]);
        if rooms.iter().any(|room| room == path) {
            found.push(path.to_owned());
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The first name of each path in a group, whose `{` is taken already.
fn first_names(group: &str) -> Vec<String> {
    let mut depth = 1;
    let mut names = Vec::new();
    let mut at_start = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => at_start = true,
            c if c.is_whitespace() => {}
            _ if at_start => {
                names.push(name(&group[at..]).to_owned());
                at_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// The identifier, or `*`, that `text` begins with.
fn name(text: &str) -> &str {
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '*';
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    &text[..end]
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

fn before_tests(code: &str) -> &str {
    code.split("\n#[cfg(test)]\nmod tests {")
        .next()
        .expect("at least one part")
}

fn read_sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Sources::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                sources.insert(name.replace('\\', "/"), fs::read_to_string(&path).unwrap());
            }
        }
    }
    sources
}

/// Longer files are split.
const MAX_LINES: usize = 500;
/// Rooms that may not import a room although it is above: the driver alone joins them.
const STRANGERS: [(&str, &str); 2] = [("signal", "mesh"), ("link", "mesh")];
/// Rooms that take time and randomness as arguments. The witness writes files, and no more.
const PURE: [&str; 5] = ["identity", "message", "witness", "swarm", "mesh"];
/// Clocks, threads, sockets.
const IMPURE: [&str; 7] = [
    "Instant::now",
    "SystemTime::now",
    "std::thread",
    "tokio::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
];

mod checker {
    use super::*;

    /// What is found in a house of three rooms when `path` holds `source`.
    fn found(path: &str, source: &str) -> Vec<String> {
        let table = "//! Map\n//! | [`message`] | a |\n//! | [`mesh`] | b |\n\
                     //! | [`link`] | c |\n//! | [`cli`] | d |\n";
        let mut sources = Sources::from([("lib.rs".into(), table.into())]);
        sources.insert(path.into(), format!("//! A file.\n\n{source}"));
        faults(&sources)
    }

    #[test]
    fn lets_a_room_import_what_is_above_it_and_itself() {
        assert_eq!(found("link/a.rs", "use crate::message::Level;"), [""; 0]);
        assert_eq!(found("link/a.rs", "use crate::link::Path;"), [""; 0]);
        assert_eq!(found("cli.rs", "use crate::{link, mesh::Mesh};"), [""; 0]);
    }

    #[test]
    fn finds_an_arrow_that_goes_up() {
        for source in [
            "use crate::link::Link;",
            "pub use crate::link::Link;",
            "use crate::{message::Level, link::{Link, Path}};",
            "use crate::{\n    message::{Level, Draft},\n    link,\n};",
            "fn f(link: &crate::link::Link) {}",
            "use super::super::link::Link;",
            "mod tests {\n    use crate::link::Link;\n}",
        ] {
            let expected = "src/mesh/a.rs: imports `link`, which is below `mesh`";
            assert_eq!(found("mesh/a.rs", source), [expected], "{source}");
        }
        let found = found("message.rs", "use crate::cli::run;");
        assert_eq!(
            found,
            ["src/message.rs: imports `cli`, which is below `message`"]
        );
    }

    #[test]
    fn finds_strangers_who_know_each_other() {
        let found = found("link/a.rs", "use crate::mesh::Mesh;");
        assert_eq!(
            found,
            ["src/link/a.rs: imports `mesh`, which `link` must not know"]
        );
    }

    #[test]
    fn finds_paths_and_rooms_that_the_map_does_not_show() {
        let faults = found("mesh/a.rs", "use crate::*;");
        assert_eq!(
            faults,
            ["src/mesh/a.rs: `crate::*` is no room: name the room"]
        );
        let faults = found("attic/a.rs", "");
        assert!(faults[0].contains("`attic` is missing"), "{faults:?}");
    }

    #[test]
    fn finds_a_clock_in_a_pure_room_but_not_in_its_tests() {
        let clock = "fn f() { let now = Instant::now(); }";
        assert_eq!(found("mesh/a.rs", clock).len(), 1);
        assert_eq!(found("link/a.rs", clock), [""; 0]);
        let in_tests = format!("fn g() {{}}\n\n#[cfg(test)]\nmod tests {{\n{clock}\n}}\n");
        assert_eq!(found("mesh/a.rs", &in_tests), [""; 0]);
        assert_eq!(found("mesh/tests.rs", clock), [""; 0]);
    }

    #[test]
    fn lets_comments_speak_of_every_room() {
        let source = "/// As [`Link`](crate::link::Link).\n// See crate::link.\n\
                      fn f() {} // crate::link\n";
        assert_eq!(found("mesh/a.rs", source), [""; 0]);
    }

    #[test]
    fn finds_long_files_and_files_that_do_not_say_what_they_are() {
        let faults = found("mesh/a.rs", &"\n".repeat(500));
        assert!(faults[0].contains("more than 500"), "{faults:?}");
        let mut sources = Sources::from([("lib.rs".into(), "//! Map\n".into())]);
        sources.insert("main.rs".into(), "fn main() {}\n".into());
        assert_eq!(
            super::faults(&sources),
            ["src/main.rs: does not open with `//!`, what it is"]
        );
    }
}
