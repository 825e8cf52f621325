//! The adversary: a hostile signaling server, a hostile peer and a hostile relay play every attack
//! that we know of against agents that are really linked, introduced by a server that is really run.
//!
//! For each: nothing of the attacker's is delivered, the refusal stands in the witness on disk, the
//! honest pair exchange a message over the link that they had before, and nobody has panicked. The
//! table of it all is printed at the end, whether the test passes or not.

mod checkpoints;
mod clients;
mod crowd;
mod datagrams;
mod hand;
mod messages;
mod offers;
mod server;
mod signal_process;
mod stage;
mod table;

use std::panic;
use std::sync::{Arc, Mutex};

use crowd::SlowLoris;
use stage::Play;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_attack_ends_with_a_delivered_message_a_panic_or_a_lost_honest_link() {
    let panics = watch_panics();
    let mut play = Play::begin().await;
    let slow_loris = SlowLoris::begin(&play.stage);
    messages::play(&mut play).await;
    offers::play(&mut play).await;
    clients::play(&mut play).await;
    datagrams::play(&mut play).await;
    server::play(&mut play).await;
    checkpoints::play(&mut play).await;
    crowd::refused(&mut play).await;
    slow_loris.end(&mut play).await;
    let Play { stage, attacks } = play;
    attacks.show();
    stage.strike().await;
    let panics = panics.lock().unwrap();
    assert!(panics.is_empty(), "\n{}", panics.join("\n"));
}

/// From now on, every panic in the program or a library of it; those of the tests are their own.
fn watch_panics() -> Arc<Mutex<Vec<String>>> {
    let panics: Arc<Mutex<Vec<String>>> = Arc::default();
    let (found, usual) = (Arc::clone(&panics), panic::take_hook());
    panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string);
        if !place
            .as_ref()
            .is_some_and(|place| place.starts_with("tests/"))
        {
            found.lock().unwrap().push(panic.to_string());
        }
        usual(panic);
    }));
    panics
}
