//! Where a run keeps what it needs: keys, the swarm file that its processes read, logs, witness.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::run::ChaosError;
use crate::identity::{KeyPair, file_name};
use crate::swarm::{Swarm, Topology};

/// The folder of a run.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    /// The swarm with the public keys of the run.
    pub(super) swarm_file: PathBuf,
    /// In the order of the agents.
    pub(super) keys: Vec<PathBuf>,
    pub(super) server_key: PathBuf,
}

impl Place {
    /// Makes keys for those agents whose key the swarm file does not name, and writes the swarm file
    /// of the run.
    pub(super) fn prepare(folder: &Path, swarm: &Swarm) -> Result<Self, ChaosError> {
        // Before anything is made.
        let known = known(swarm)?;
        let place = Self::make(folder, swarm, known);
        place.map_err(|source| ChaosError::Folder {
            path: folder.into(),
            source,
        })
    }

    fn make(folder: &Path, swarm: &Swarm, known: Vec<Known>) -> io::Result<Self> {
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(folder.join("keys"))?;
        fs::create_dir_all(folder.join("log"))?;
        let other = |err: &dyn std::error::Error| io::Error::other(err.to_string());
        let make = |name: &str| -> io::Result<(PathBuf, KeyPair)> {
            let path = folder.join("keys").join(format!("{name}.pem"));
            let pair = KeyPair::generate().map_err(|err| other(&err))?;
            pair.create_file(&path).map_err(|err| other(&err))?;
            Ok((path, pair))
        };
        let mut keys = Vec::new();
        let mut public = Vec::new();
        for (agent, known) in swarm.agents.iter().zip(known) {
            let (path, pair) = match known {
                Some(known) => known,
                None => make(&file_name(agent.id.as_str()))?,
            };
            keys.push(path);
            public.push(pair.public_key().to_string());
        }
        let place = Self {
            folder: folder.into(),
            swarm_file: folder.join("swarm.yaml"),
            keys,
            server_key: make("@signal")?.0,
        };
        fs::write(&place.swarm_file, text(swarm, &public))?;
        Ok(place)
    }

    /// Where a process logs to.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        let name = file_name(name);
        self.folder.join("log").join(format!("{name}.log"))
    }
}

/// A key that the swarm file names, if it does: where it is, and what was read there.
type Known = Option<(PathBuf, KeyPair)>;

/// The keys that the swarm file names, in the order of its agents.
fn known(swarm: &Swarm) -> Result<Vec<Known>, ChaosError> {
    let agents = swarm.agents.iter();
    let read = agents.map(|agent| match &agent.key {
        None => Ok(None),
        Some(path) => match KeyPair::read_file(path) {
            Ok(pair) => Ok(Some((path.clone(), pair))),
            Err(source) => Err(ChaosError::Key {
                agent: agent.id.clone(),
                source,
            }),
        },
    });
    read.collect()
}

/// The swarm as a file: what the processes of a run need of it. JSON texts are YAML texts too.
fn text(swarm: &Swarm, public: &[String]) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut file = format!("swarm: {}\nagents:\n", swarm.name);
    for (agent, key) in swarm.agents.iter().zip(public) {
        let id = quoted(agent.id.as_str());
        let port = agent.udp_port.map(|port| format!(", udp_port: {port}"));
        let port = port.unwrap_or_default();
        let _ = writeln!(
            file,
            "  - {{ id: {id}, public_key: {}{port} }}",
            quoted(key)
        );
    }
    let topology = match swarm.topology {
        Topology::FullMesh => "full-mesh".into(),
        Topology::HubSpoke => "hub-spoke".into(),
        Topology::Ring => "ring".into(),
        Topology::KRegular(k) => format!("{{ k-regular: {k} }}"),
    };
    let _ = writeln!(file, "topology: {topology}");
    let _ = writeln!(
        file,
        "channel: {{ max_message: {} }}",
        swarm.channel.max_message
    );
    let stun: Vec<_> = swarm.ice.stun.iter().map(|url| quoted(url)).collect();
    let turn = swarm.ice.turn.iter().map(|turn| {
        let (url, name) = (quoted(&turn.url), quoted(&turn.username));
        let credential = quoted(&turn.credential);
        format!("{{ url: {url}, username: {name}, credential: {credential} }}")
    });
    let turn: Vec<_> = turn.collect();
    let _ = writeln!(
        file,
        "ice: {{ stun: [{}], turn: [{}] }}",
        stun.join(", "),
        turn.join(", ")
    );
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_swarm_file_of_a_run_is_the_swarm_with_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let mut swarm = Swarm::full_mesh("place".parse().unwrap(), 3);
        swarm.topology = Topology::Ring;
        swarm.ice.stun.push("stun:stun.example.org:3478".into());
        let place = Place::prepare(dir.path(), &swarm).unwrap();
        let read = Swarm::read(&place.swarm_file).unwrap();
        assert_eq!(read.ids(), swarm.ids());
        assert_eq!(read.topology, swarm.topology);
        assert_eq!(read.ice, swarm.ice);
        for (agent, key) in read.agents.iter().zip(&place.keys) {
            let pair = KeyPair::read_file(key).unwrap();
            assert_eq!(agent.public_key, Some(pair.public_key()));
        }
    }
}
