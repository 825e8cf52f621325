//! What a language model has not read, on disk: a file for each message, in the order in which they
//! came. It stands in the folder of the agent's outbox, which is locked as long as the agent lives.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The folder.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    /// The number of the next message.
    next: u64,
}

/// The number of a message that is kept.
pub(super) type Number = u64;

/// What is kept: numbers, and bytes.
pub(super) type Found = Vec<(Number, Vec<u8>)>;

impl Store {
    /// Opens the folder, or makes it; gives the bytes of all that is kept, oldest first:
    /// whoever verifies them finds out what has become of them.
    pub(super) fn open(outbox: &Path) -> io::Result<(Self, Found)> {
        let folder = outbox.join(FOLDER);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&folder)?;
        let mut kept = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(number) = name.and_then(number_in) {
                kept.push((number, fs::read(&path)?));
            } else if path.extension().is_some_and(|it| it == UNFINISHED) {
                // Of one that is not acknowledged, and comes again.
                fs::remove_file(&path)?;
            }
        }
        kept.sort_by_key(|(number, _)| *number);
        let next = kept.last().map_or(0, |(number, _)| number + 1);
        Ok((Self { folder, next }, kept))
    }

    /// Keeps a message: from now on it survives this process.
    pub(super) fn keep(&mut self, text: &str) -> io::Result<Number> {
        let number = self.next;
        let path = self.path(number);
        let unfinished = path.with_extension(UNFINISHED);
        let written = write(&unfinished, text).and_then(|()| fs::rename(&unfinished, &path));
        if let Err(err) = written {
            // What it takes up is wanted.
            let _ = fs::remove_file(&unfinished);
            return Err(err);
        }
        self.next += 1;
        Ok(number)
    }

    /// Lets go of one.
    pub(super) fn remove(&self, number: Number) {
        if let Err(err) = fs::remove_file(self.path(number)) {
            let path = self.path(number);
            tracing::warn!(path = %path.display(), reason = %err, "a message that was read is given again after a restart");
        }
    }

    fn path(&self, number: Number) -> PathBuf {
        self.folder.join(format!("{number:020}.{KEPT}"))
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file: File = options.mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn number_in(name: &str) -> Option<Number> {
    let (number, kind) = name.split_once('.')?;
    (kind == KEPT).then_some(())?;
    number.parse().ok()
}

/// Beside the journal.
const FOLDER: &str = "inbox";
/// How names end, of whole messages and of others.
const KEPT: &str = "json";
const UNFINISHED: &str = "new";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_there_again_in_its_order_and_what_was_let_go_of_is_not() {
        let outbox = tempfile::tempdir().unwrap();
        let (mut store, kept) = Store::open(outbox.path()).unwrap();
        assert_eq!(kept, []);
        for n in 0..12 {
            assert_eq!(store.keep(&format!("text {n}")).unwrap(), n);
        }
        store.remove(0);
        store.remove(5);
        // A crash amid one.
        let torn = outbox.path().join(FOLDER).join("00000000000000000012.new");
        fs::write(&torn, "te").unwrap();
        let (mut store, kept) = Store::open(outbox.path()).unwrap();
        let expected =
            [1, 2, 3, 4, 6, 7, 8, 9, 10, 11].map(|n| (n, format!("text {n}").into_bytes()));
        assert_eq!(kept, expected);
        assert!(!torn.exists());
        assert_eq!(store.keep("more").unwrap(), 12);
    }
}
