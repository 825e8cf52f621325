//! Where the witness logs of a run go.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::message::Timestamp;

/// Where the witness logs of a run are to go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WitnessPlace {
    /// The folder that the swarm file names; where it names none, a fresh one below the system's
    /// temporary folder, which stays.
    #[default]
    AsInFile,
    /// This folder.
    Folder(PathBuf),
    /// A fresh folder below the system's temporary folder, taken away after the run.
    Throwaway,
}

/// The folder of one run, below which each agent has `SWARM/AGENT`.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    throwaway: bool,
}

impl Place {
    /// Makes the folder ready. `in_file` is what the swarm file says; `keys_are_kept` whether the
    /// next run has the same keys: a log goes on only under the key it was opened with, so a
    /// run with keys of its own gets a folder of its own, `run-TIME-PROCESS`.
    pub(super) fn prepare(
        wanted: &WitnessPlace,
        in_file: Option<&Path>,
        keys_are_kept: bool,
        now: Timestamp,
    ) -> io::Result<Self> {
        let given = match wanted {
            WitnessPlace::Folder(folder) => Some(folder.as_path()),
            WitnessPlace::AsInFile => in_file,
            WitnessPlace::Throwaway => None,
        };
        // Colons are no part of file names everywhere, and a process runs once at a time.
        let time = now.to_string().replace(':', "-");
        let run = format!("run-{time}-{}", std::process::id());
        let path = match given {
            Some(folder) if keys_are_kept => folder.to_owned(),
            Some(folder) => folder.join(run),
            None => fresh(&std::env::temp_dir(), &format!("ifswarm-{run}"))?,
        };
        Ok(Self {
            path,
            throwaway: *wanted == WitnessPlace::Throwaway,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.throwaway {
            // What stays behind stands where it is taken away in time.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// A folder that was not there before, for its owner only: the temporary folder is everybody's.
fn fresh(parent: &Path, name: &str) -> io::Result<PathBuf> {
    let mut attempt = 0;
    loop {
        let path = match attempt {
            0 => parent.join(name),
            n => parent.join(format!("{name}-{n}")),
        };
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(err) => return Err(err),
        }
    }
}

/// Runs of one process that may begin within one millisecond.
const ATTEMPTS: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(wanted: WitnessPlace, kept: bool) -> Place {
        let file = Path::new("/from/file");
        let now = Timestamp::from_unix_ms(1_000);
        Place::prepare(&wanted, Some(file), kept, now).unwrap()
    }

    #[test]
    fn logs_go_on_in_one_folder_only_where_the_keys_stay() {
        let kept = prepare(WitnessPlace::AsInFile, true);
        assert_eq!(kept.path, Path::new("/from/file"));
        let own = prepare(WitnessPlace::Folder("/mine".into()), false);
        let expected = format!("/mine/run-1970-01-01T00-00-01.000Z-{}", std::process::id());
        assert_eq!(own.path, Path::new(&expected));
    }

    #[test]
    fn a_throwaway_folder_is_fresh_and_goes_away() {
        let (one, two) = (
            prepare(WitnessPlace::Throwaway, true),
            prepare(WitnessPlace::Throwaway, true),
        );
        assert_ne!(one.path, two.path);
        let path = one.path.clone();
        assert!(path.is_dir());
        drop(one);
        assert!(!path.exists() && two.path.is_dir());
    }
}
