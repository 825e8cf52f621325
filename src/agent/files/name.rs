//! What a stranger calls a file, reduced to one safe file name. Pure.
//!
//! The name that comes out has no separators, no leading dot or dash, no control or invisible
//! characters, is none that an operating system reserves, and is short enough to get a number.

/// A safe file name, whatever `name` is.
pub(super) fn safe_name(name: &str) -> String {
    // What stands before a separator is the sender's business.
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let safe = name.chars().filter(|c| !is_invisible(*c)).map(|c| match c {
        '<' | '>' | ':' | '"' | '|' | '?' | '*' => '_',
        c if c.is_whitespace() => ' ',
        c => c,
    });
    let safe: String = safe.collect();
    let safe = safe.trim_start_matches(['.', '-', ' ', '~']);
    let safe = safe.trim_end_matches(ENDS);
    let safe = shortened(safe);
    match safe.is_empty() {
        true => UNNAMED.to_owned(),
        false if is_reserved(&safe) => format!("_{safe}"),
        false => safe,
    }
}

/// The name to try when `n - 1` others are taken: `name (2).ext`.
pub(super) fn numbered(name: &str, n: u32) -> String {
    if n < 2 {
        return name.to_owned();
    }
    let (stem, extension) = split(name);
    format!("{stem} ({n}){extension}")
}

/// Before and from the last dot, if that begins something like an extension.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= MAX_EXTENSION => name.split_at(at),
        _ => (name, ""),
    }
}

/// Cut in the middle, so that the extension stays.
fn shortened(name: &str) -> String {
    if name.len() <= MAX_LENGTH {
        return name.to_owned();
    }
    let (stem, extension) = split(name);
    let mut end = MAX_LENGTH - extension.len();
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    let stem = stem[..end].trim_end_matches(ENDS);
    format!("{stem}{extension}")
}

/// Controls, and what changes how the rest of a name looks without being seen itself.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Names of devices, with any extension, where evidence is opened on such a system.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let stem = stem.to_ascii_uppercase();
    let numbered = |device: &str| {
        let number = stem.strip_prefix(device);
        number.is_some_and(|n| {
            matches!(n.chars().next(), Some('0'..='9' | '¹' | '²' | '³')) && n.chars().count() == 1
        })
    };
    matches!(
        stem.as_str(),
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$"
    ) || numbered("COM")
        || numbered("LPT")
}

/// What no name ends with: some systems drop it.
const ENDS: [char; 2] = ['.', ' '];
/// Where nothing of a name is left.
const UNNAMED: &str = "file";
/// Bytes of a name: file systems take 255, and a number is to fit.
const MAX_LENGTH: usize = 200;
/// Bytes of an extension, dot included; what is longer is part of the name.
const MAX_EXTENSION: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn leaves_decent_names_alone() {
        for name in [
            "a.csv",
            "Q3 figures (final).pdf",
            "证据.png",
            "no-extension",
            "a.tar.gz",
        ] {
            assert_eq!(safe_name(name), name);
        }
    }

    #[test]
    fn takes_out_of_hostile_names_what_is_hostile() {
        for (hostile, safe) in [
            ("../../etc/passwd", "passwd"),
            ("/etc/shadow", "shadow"),
            ("C:\\Windows\\system32\\a.dll", "a.dll"),
            ("..", "file"),
            (".", "file"),
            ("", "file"),
            ("a/", "file"),
            (".bashrc", "bashrc"),
            ("...hidden", "hidden"),
            (". . .x", "x"),
            ("-rf", "rf"),
            ("~root", "root"),
            ("a\0b.txt", "ab.txt"),
            ("a\n\r\tb", "ab"),
            ("\u{1b}[2Jx", "[2Jx"),
            ("evil\u{202e}fdp.exe", "evilfdp.exe"),
            ("a\u{200b}\u{feff}.csv", "a.csv"),
            ("CON", "_CON"),
            ("nul.txt", "_nul.txt"),
            ("Com1.log", "_Com1.log"),
            ("LPT9", "_LPT9"),
            ("COM10", "COM10"),
            ("a:b", "a_b"),
            ("what?*<>|\"", "what______"),
            ("trailing. . ", "trailing"),
            ("\u{2003}wide", "wide"),
        ] {
            assert_eq!(safe_name(hostile), safe, "{hostile:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_extension_and_whole_characters() {
        let name = format!("{}.pdf", "ä".repeat(300));
        let safe = safe_name(&name);
        assert!(
            safe.len() <= MAX_LENGTH && safe.ends_with("ä.pdf"),
            "{safe}"
        );
        let name = format!("a.{}", "x".repeat(300));
        assert_eq!(safe_name(&name).len(), MAX_LENGTH);
        // Cut right after a dot, which no name ends with.
        let name = format!("{}.{}", "y".repeat(MAX_LENGTH - 1), "x".repeat(300));
        assert_eq!(safe_name(&name), "y".repeat(MAX_LENGTH - 1));
    }

    #[test]
    fn a_number_stands_before_the_extension() {
        assert_eq!(numbered("a.csv", 1), "a.csv");
        assert_eq!(numbered("a.csv", 2), "a (2).csv");
        assert_eq!(numbered("a.tar.gz", 3), "a.tar (3).gz");
        assert_eq!(numbered("LICENSE", 2), "LICENSE (2)");
    }

    proptest! {
        #[test]
        fn whatever_the_name_what_comes_out_is_one_name_and_stays_as_it_is(name in ".{0,300}") {
            let safe = safe_name(&name);
            prop_assert!(!safe.is_empty() && safe.len() <= MAX_LENGTH + 1);
            prop_assert!(!safe.contains(['/', '\\', '\0']) && !safe.starts_with(['.', '-']));
            prop_assert!(!safe.chars().any(char::is_control));
            prop_assert_eq!(safe_name(&safe), safe.clone());
            prop_assert!(numbered(&safe, 9_999).len() < 255);
        }
    }
}
