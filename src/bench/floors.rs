//! What can never be beaten, measured in the same process and run as what is compared with it.
//!
//! | floor | what |
//! |---|---|
//! | `udp_rtt_us` | a datagram of the signed message's size, there and back between two tokio sockets |
//! | `datachannel_rtt_us` | a raw, unsigned text of that size, there and back over one WebRTC link, one at a time |
//! | `datachannel_mesh_rtt_us` | the same on every link of a mesh, on the schedule of `rtt_us` and at the same time |
//! | `datachannel_setup_ms` | one WebRTC link, its descriptions handed over in memory |
//! | `sign_us`, `verify_us` | the Ed25519 operation alone, over the canonical bytes of such a message |
//!
//! All are medians.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::running::RunError;
use super::stats::{Latencies, median, rounded};
use crate::identity::{AgentId, KeyPair, Purpose, Session};
use crate::message::{Author, Draft, Timestamp, canonical, sign};

/// The floors of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Floors {
    /// A datagram there and back, in microseconds.
    pub udp_rtt_us: f64,
    /// A raw text there and back over a DataChannel, one at a time, in microseconds.
    pub datachannel_rtt_us: f64,
    /// The same on every link of a mesh at the rate of `rtt`, in microseconds; 0 if that was not
    /// measured.
    pub datachannel_mesh_rtt_us: f64,
    /// One link, from nothing to both channels open, in milliseconds.
    pub datachannel_setup_ms: f64,
    /// One Ed25519 signature, in microseconds.
    pub sign_us: f64,
    /// One strict Ed25519 verification, in microseconds.
    pub verify_us: f64,
    /// How many times each was measured.
    pub samples: Samples,
}

/// How many times each floor was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Samples {
    /// Of `udp_rtt_us`.
    pub udp_rtt: usize,
    /// Of `datachannel_rtt_us`.
    pub datachannel_rtt: usize,
    /// Of `datachannel_mesh_rtt_us`.
    pub datachannel_mesh_rtt: usize,
    /// Of `datachannel_setup_ms`.
    pub datachannel_setup: usize,
    /// Of `sign_us`, and of `verify_us`.
    pub sign: usize,
}

impl Floors {
    /// What a signed round trip cannot be shorter than: the raw one, and two signatures made and
    /// checked one after the other.
    pub fn signed_rtt_us(&self) -> f64 {
        self.datachannel_rtt_us + self.signatures_us()
    }

    /// The same on every link of a mesh at the rate of `rtt`.
    pub fn signed_mesh_rtt_us(&self) -> f64 {
        self.datachannel_mesh_rtt_us + self.signatures_us()
    }

    fn signatures_us(&self) -> f64 {
        2.0 * (self.sign_us + self.verify_us)
    }

    /// What one link cannot carry more of in a second: sender and receiver each work on a core of
    /// their own, and the slower of the two operations decides.
    pub fn messages_per_second(&self) -> f64 {
        1e6 / self.sign_us.max(self.verify_us)
    }

    /// What all receivers together cannot take more of in a second on `cores` cores: each
    /// delivery is verified once.
    pub fn deliveries_per_second(&self, cores: usize) -> f64 {
        cores as f64 * 1e6 / self.verify_us
    }

    /// What the last of `receivers` cannot be reached in less than: one signature, half a raw
    /// round trip, and the verifications shared out over `cores` cores.
    pub fn last_receiver_us(&self, receivers: usize, cores: usize) -> f64 {
        let rounds = receivers.div_ceil(cores.max(1)) as f64;
        self.sign_us + self.datachannel_rtt_us / 2.0 + rounds * self.verify_us
    }
}

/// A signed message with a payload of so many bytes.
pub(super) struct Sample {
    /// As it goes on the wire.
    pub(super) wire: String,
    /// What is signed.
    canonical: Vec<u8>,
}

impl Sample {
    pub(super) fn of_payload(size: usize) -> Result<Self, RunError> {
        let failed = |detail: String| RunError::Floor {
            what: "signing",
            detail,
        };
        let key = KeyPair::generate().map_err(|err| failed(err.to_string()))?;
        let id: AgentId = "agent-01".parse().expect("letters, a dash and digits");
        let to: AgentId = "agent-02".parse().expect("letters, a dash and digits");
        let mut payload = serde_json::Map::new();
        super::course::pad(&mut payload, size);
        let author = Author {
            id: &id,
            session: Session::new(1, [0; 10]),
            key: &key,
        };
        let signed = sign(
            Draft::new(to, payload),
            &author,
            1,
            Timestamp::from_unix_ms(0),
            [0; 22],
        );
        let signed = signed.map_err(|err| failed(err.to_string()))?;
        let wire = signed.text().to_owned();
        let mut value: serde_json::Value =
            serde_json::from_str(&wire).map_err(|err| failed(err.to_string()))?;
        if let Some(members) = value.as_object_mut() {
            members.remove("signature");
        }
        Ok(Self {
            wire,
            canonical: canonical(&value),
        })
    }
}

/// Measures the floors that need no link.
pub(super) async fn measure(sample: &Sample, time: Duration) -> Result<Floors, RunError> {
    let signatures = Signatures::default().more(sample, time).await;
    let udp = udp_rtt(sample.wire.len(), time).await;
    let udp = udp.map_err(|err| RunError::Floor {
        what: "UDP",
        detail: err.to_string(),
    })?;
    let mut floors = Floors::default();
    floors.samples.udp_rtt = udp.len();
    floors.udp_rtt_us = rounded(median(udp), 1);
    signatures.put_into(&mut floors);
    Ok(floors)
}

impl Floors {
    /// How long links took to be made, in milliseconds.
    pub(super) fn put_setups(&mut self, setups: Vec<f64>) {
        self.samples.datachannel_setup = setups.len();
        self.datachannel_setup_ms = rounded(median(setups), 2);
    }

    /// Raw round trips, one at a time, in microseconds.
    pub(super) fn put_round_trips(&mut self, round_trips: &[f64]) {
        self.samples.datachannel_rtt = round_trips.len();
        self.datachannel_rtt_us = rounded(median(round_trips.to_vec()), 1);
    }

    /// Raw round trips on every link of a mesh.
    pub(super) fn put_mesh_round_trips(&mut self, raw: &Latencies) {
        self.samples.datachannel_mesh_rtt = usize::try_from(raw.count()).unwrap_or(usize::MAX);
        self.datachannel_mesh_rtt_us = raw.percentiles().p50 as f64;
    }
}

/// How long signing and verifying took, each time, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Signatures {
    signs: Vec<f64>,
    verifies: Vec<f64>,
}

impl Signatures {
    /// Signs and verifies `sample` for so long.
    pub(super) async fn more(mut self, sample: &Sample, time: Duration) -> Self {
        let bytes = sample.canonical.clone();
        let measuring = tokio::task::spawn_blocking(move || {
            self.measure(&bytes, time);
            self
        });
        measuring.await.unwrap_or_default()
    }

    fn measure(&mut self, bytes: &[u8], time: Duration) {
        let Ok(key) = KeyPair::generate() else {
            return;
        };
        let public = key.public_key();
        let until = Instant::now() + time;
        while Instant::now() < until && self.signs.len() < MOST_SAMPLES {
            let start = Instant::now();
            let signature = key.sign(Purpose::Message, bytes);
            self.signs.push(micros(start.elapsed()));
            let start = Instant::now();
            let good = std::hint::black_box(public.verify(Purpose::Message, bytes, &signature));
            self.verifies.push(micros(start.elapsed()));
            debug_assert!(good.is_ok());
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.signs.len()
    }

    /// Signing and verifying once: the medians of those after the first `from`.
    pub(super) fn median_since(&self, from: usize) -> f64 {
        median(self.signs[from..].to_vec()) + median(self.verifies[from..].to_vec())
    }

    /// Their medians.
    pub(super) fn put_into(self, floors: &mut Floors) {
        floors.samples.sign = self.signs.len();
        floors.sign_us = rounded(median(self.signs), 1);
        floors.verify_us = rounded(median(self.verifies), 1);
    }
}

/// Round trips of a datagram of `size` bytes.
async fn udp_rtt(size: usize, time: Duration) -> std::io::Result<Vec<f64>> {
    // What does not fit into a datagram would go in several; the largest one stands for it.
    let size = size.min(MAX_DATAGRAM);
    let (near, far) = (
        UdpSocket::bind("127.0.0.1:0").await?,
        UdpSocket::bind("127.0.0.1:0").await?,
    );
    near.connect(far.local_addr()?).await?;
    far.connect(near.local_addr()?).await?;
    let echo: JoinHandle<std::io::Result<()>> = tokio::spawn(async move {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let length = far.recv(&mut buffer).await?;
            far.send(&buffer[..length]).await?;
        }
    });
    // In a task as the echo is, so that both ends are woken in the same way.
    let asking = tokio::spawn(async move {
        let mut buffer = vec![0; size];
        let mut samples = Vec::new();
        let until = Instant::now() + time;
        while Instant::now() < until && samples.len() < MOST_SAMPLES {
            let start = Instant::now();
            near.send(&buffer[..size]).await?;
            let answer = tokio::time::timeout(LOST, near.recv(&mut buffer)).await;
            // A datagram may be lost, even here.
            if let Ok(answer) = answer {
                answer?;
                samples.push(micros(start.elapsed()));
            }
        }
        Ok(samples)
    });
    let samples = asking.await.unwrap_or_else(|_| Ok(Vec::new()));
    echo.abort();
    samples
}

/// A duration in microseconds, with what is below one.
pub(super) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Enough for any median.
pub(super) const MOST_SAMPLES: usize = 100_000;
/// A datagram on loopback that takes longer does not come.
const LOST: Duration = Duration::from_secs(1);
/// 65,535 bytes without the headers of IPv4 and UDP.
const MAX_DATAGRAM: usize = 65_507;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_as_large_as_its_payload_and_envelope() {
        let (small, large) = (
            Sample::of_payload(100).unwrap(),
            Sample::of_payload(612).unwrap(),
        );
        assert_eq!(large.wire.len() - small.wire.len(), 512);
        assert_eq!(large.canonical.len() - small.canonical.len(), 512);
        assert!(small.canonical.len() < small.wire.len());
    }

    #[test]
    fn floors_add_up_as_documented() {
        let floors = Floors {
            datachannel_rtt_us: 100.0,
            datachannel_mesh_rtt_us: 300.0,
            sign_us: 20.0,
            verify_us: 40.0,
            ..Floors::default()
        };
        assert_eq!(floors.signed_rtt_us(), 220.0);
        assert_eq!(floors.signed_mesh_rtt_us(), 420.0);
        assert_eq!(floors.messages_per_second(), 25_000.0);
        assert_eq!(floors.deliveries_per_second(2), 50_000.0);
        assert_eq!(floors.last_receiver_us(4, 2), 150.0);
    }

    #[tokio::test]
    async fn every_floor_is_measured() {
        let sample = Sample::of_payload(64).unwrap();
        let floors = measure(&sample, Duration::from_millis(20)).await.unwrap();
        assert!(floors.sign_us > 0.0 && floors.verify_us > 0.0 && floors.udp_rtt_us > 0.0);
        assert!(floors.samples.sign > 0 && floors.samples.udp_rtt > 0);
    }
}
