//! A crowd that loses its server at one moment, over real sockets: it comes back whole.
//!
//! `IFSWARM_CROWD=n` takes another number of clients, as far as this process may open sockets: each
//! has two ends here. Printed are how many there were, how long it took from when the server was
//! there again, and what was refused meanwhile.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::test_sockets::*;
use super::*;
use crate::identity::KeyPair;

/// What one client has to tell.
struct Registered {
    attempts: u32,
    /// How many of these were told, or had to find out, that there was no place.
    refused: u32,
    /// The longest attempt.
    slowest: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_loses_its_server_comes_back_whole_though_more_come_than_there_are_places() {
    let crowd = std::env::var("IFSWARM_CROWD").map_or(CROWD, |n| n.parse().expect("a number"));
    let (_, hard) = rlimit::Resource::NOFILE.get().unwrap();
    rlimit::Resource::NOFILE.set(hard, hard).unwrap();
    let crowd = crowd.min((hard as usize - OTHER_DESCRIPTORS) / 2);
    // All come from one address here, and count as if they came from many.
    let usual = Limits::default();
    let limits = Limits {
        connections: usual.connections.max(crowd),
        connections_per_address: crowd,
        unregistered: if crowd > CROWD {
            usual.unregistered
        } else {
            PLACES
        },
        unregistered_per_address: usual.unregistered,
        ..usual
    };
    // As a process of its own would: what the clients do must not keep it from its work.
    let serving = Runtime::new().unwrap();
    let server = serve(&serving, "127.0.0.1:0".parse().unwrap(), limits).await;
    let address = server.local_addr();
    let url = server.url();

    let (tell, mut told) = mpsc::channel(crowd);
    let mut clients = JoinSet::new();
    for n in 0..crowd {
        clients.spawn(live(n, url.clone(), tell.clone()));
    }
    let mut begun = summary(crowd, &mut told).await;
    assert_eq!(server.census().agents, crowd);
    begun.print("to begin with");

    server.shutdown().await;
    let server = serve(&serving, address, limits).await;
    let mut back = summary(crowd, &mut told).await;
    back.print("after the server was gone");
    assert_eq!(server.census().agents, crowd, "every one of them");
    let (_, traffic) = server.observer().look().unwrap();
    assert_eq!(traffic.registrations, crowd as u64, "each of them once");
    assert!(
        begun.refused + back.refused > 0,
        "there were places for all"
    );
    clients.shutdown().await;
    server.shutdown().await;
    serving.shutdown_background();
}

async fn serve(runtime: &Runtime, address: SocketAddr, limits: Limits) -> Server {
    loop {
        let mut config = ServerConfig::new(address, Admission::Open);
        config.limits = limits;
        match runtime.spawn(Server::bind(config)).await.unwrap() {
            Ok(server) => return server,
            // Some connection of this machine has the port for a moment.
            Err(ServerError::PortInUse { .. }) => tokio::task::yield_now().await,
            Err(err) => panic!("{err}"),
        }
    }
}

/// Registers, and comes back whenever the connection is lost, as an agent does.
async fn live(n: usize, url: String, tell: mpsc::Sender<Registered>) {
    let mut random = [0; 32];
    random[..8].copy_from_slice(&(n as u64).to_le_bytes());
    let config = ClientConfig {
        url,
        swarm: format!("crowd-{}", n / SWARM_OF).parse().unwrap(),
        agent_id: format!("agent-{n}").parse().unwrap(),
        key: KeyPair::from_secret(&random),
        session: session(1_700_000_000_000),
        trust: Trust::system(),
        connect_timeout: Duration::from_secs(10),
    };
    let mut comeback = Comeback::new(1, n as u64);
    let mut next = comeback.lost(Duration::ZERO, None);
    loop {
        let mut came = Registered {
            attempts: 0,
            refused: 0,
            slowest: Duration::ZERO,
        };
        let mut client = loop {
            tokio::time::sleep(next.after).await;
            let began = Instant::now();
            let attempt = Client::connect(config.clone()).await;
            came.attempts += 1;
            came.slowest = came.slowest.max(began.elapsed());
            match attempt {
                Ok((client, _)) => break client,
                Err(err) => {
                    let is_down = matches!(err, ConnectError::Refused { .. });
                    came.refused += u32::from(!is_down);
                    next = comeback.failed(err.retry_after(), err.is_lasting());
                }
            }
        };
        if tell.send(came).await.is_err() {
            return;
        }
        while let Some(Ok(_)) = client.recv().await {}
        // Long enough for what went before to be forgiven.
        next = comeback.lost(Duration::from_secs(60), None);
    }
}

struct Summary {
    began: Instant,
    times: Vec<Duration>,
    slowest: Vec<Duration>,
    attempts: u32,
    refused: u32,
}

/// Waits until all have registered.
async fn summary(crowd: usize, told: &mut mpsc::Receiver<Registered>) -> Summary {
    let mut summary = Summary {
        began: Instant::now(),
        times: Vec::new(),
        slowest: Vec::new(),
        attempts: 0,
        refused: 0,
    };
    for _ in 0..crowd {
        let came = tokio::time::timeout(PATIENCE, told.recv()).await;
        let came = came.expect("nobody came for a long time").unwrap();
        summary.times.push(summary.began.elapsed());
        summary.slowest.push(came.slowest);
        summary.attempts += came.attempts;
        summary.refused += came.refused;
    }
    summary
}

impl Summary {
    fn print(&mut self, when: &str) {
        self.slowest.sort_unstable();
        let of = |all: &[Duration], part: usize| all[(all.len() - 1) * part / 100];
        println!(
            "{when}: {} clients; registered: half after {:.2?}, 95 % after {:.2?}, all after {:.2?}; \
             {} attempts, {} found no place; slowest attempt of a client: median {:.2?}, p99 {:.2?}, worst {:.2?}",
            self.times.len(),
            of(&self.times, 50),
            of(&self.times, 95),
            of(&self.times, 100),
            self.attempts,
            self.refused,
            of(&self.slowest, 50),
            of(&self.slowest, 99),
            of(&self.slowest, 100),
        );
    }
}

/// Enough to be a crowd, and few enough for every day.
const CROWD: usize = 1_000;
/// For so few: fewer than come within the time that one registration takes.
const PLACES: usize = 8;
/// Agents of one swarm, each of whom hears of the others.
const SWARM_OF: usize = 20;
/// Standard streams, the runtime's own, and what other tests of this process have open.
const OTHER_DESCRIPTORS: usize = 512;
/// The longest pause of a client, and far more.
const PATIENCE: Duration = Duration::from_secs(120);
