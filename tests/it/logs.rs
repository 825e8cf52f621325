//! Log lines are for programs too: a warning or an error says in fields what it is about.

use std::fs;
use std::path::Path;

#[test]
fn every_warning_and_error_of_agent_and_server_says_its_reason_in_a_field() {
    let mut found = 0;
    for (path, source) in sources() {
        for macro_name in ["tracing::warn!(", "tracing::error!("] {
            for (at, _) in source.match_indices(macro_name) {
                let call = call(&source[at + macro_name.len()..]);
                let says = call.contains("reason = ") || call.contains("reason,");
                assert!(says, "{path}: {macro_name}{call})");
                found += 1;
            }
        }
    }
    assert!(found > 30, "only {found} were found");
}

/// What stands between the parentheses, of which the first is open.
fn call(text: &str) -> &str {
    let (mut depth, mut quoted) = (1, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'(' if !quoted => depth += 1,
            b')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    panic!("no end: {text}");
}

/// Of the rooms that run for long, and of the verbs that do.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    for room in ["admin", "agent", "cli", "link", "mesh", "signal", "witness"] {
        for file in fs::read_dir(src.join(room)).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                let source = fs::read_to_string(&path).unwrap();
                sources.push((path.display().to_string(), source));
            }
        }
    }
    sources
}
