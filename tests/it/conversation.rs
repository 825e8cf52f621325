//! What two linked agents can say to each other: sizes, characters, order, nothing lost or doubled.

use ifswarm::agent::{SendError, Stats};
use ifswarm::link::ChannelOptions;
use ifswarm::message::DraftError;
use serde_json::{Value, json};

use crate::live::{LiveSwarm, draft, say, testimony, within};

/// Ann takes messages of up to `ann` bytes, Bob of up to `bob`.
async fn pair(ann: usize, bob: usize) -> LiveSwarm {
    LiveSwarm::start_with(&["ann", "bob"], |place, builder| {
        builder.channel(ChannelOptions {
            max_message: [ann, bob][place],
            ..ChannelOptions::default()
        })
    })
    .await
}

/// The size that a refusal to send gives.
fn refused_size(refused: Result<ifswarm::agent::Receipt, SendError>, limit: usize) -> usize {
    match refused {
        Err(
            SendError::TooLarge { size, limit: l, .. }
            | SendError::Draft(DraftError::TooLarge { size, limit: l }),
        ) => {
            assert_eq!(l, limit);
            size
        }
        other => panic!("expected a refusal for its size, found {other:?}"),
    }
}

/// A message of exactly `limit` bytes arrives; with one byte more it is refused to its sender,
/// and nothing of it is ever sent, witnessed or delivered.
async fn carries_exactly(limit: usize, ann: usize, bob: usize) {
    let mut swarm = pair(ann, bob).await;
    let text = "x".repeat(limit);
    let size = refused_size(swarm.agent(0).send(say("bob", &text)).await, limit);
    // Everything but the text; all the numbers in it have one digit.
    let frame = size - limit;
    let fits = say("bob", &text[frame..]);
    let above = say("bob", &text[frame - 1..]);
    assert_eq!(
        refused_size(swarm.agent(0).send(above).await, limit),
        limit + 1
    );
    swarm.agent(0).send(fits).await.unwrap();
    swarm.agent(0).send(say("bob", "after")).await.unwrap();

    let [_, bob] = &mut swarm.agents[..] else {
        panic!("two agents")
    };
    let largest = bob.message().await;
    assert_eq!(largest.payload()["text"].as_str(), Some(&text[frame..]));
    assert_eq!(bob.message().await.payload()["text"], "after");
    let witnesses = swarm.end().await;
    assert_eq!(testimony(&witnesses[0], "ifmessage_sent").len(), 2);
    assert_eq!(testimony(&witnesses[1], "ifmessage_received").len(), 2);
    assert_eq!(testimony(&witnesses[1], "ifmessage_rejected"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_64_kib_passes_and_one_byte_more_does_not() {
    within(carries_exactly(64 << 10, 64 << 10, 64 << 10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_256_kib_passes_where_both_ends_allow_it() {
    within(carries_exactly(256 << 10, 256 << 10, 256 << 10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_that_takes_less_decides() {
    within(carries_exactly(16 << 10, 256 << 10, 16 << 10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_that_one_peer_cannot_take_is_sent_to_nobody() {
    within(async {
        let mut swarm = LiveSwarm::start_with(&["ann", "bob", "eve"], |place, builder| {
            builder.channel(ChannelOptions {
                max_message: [64 << 10, 64 << 10, 16 << 10][place],
                ..ChannelOptions::default()
            })
        })
        .await;
        let refused = swarm
            .agent(0)
            .broadcast(say("*", &"x".repeat(32 << 10)))
            .await;
        let Err(SendError::TooLarge { peer, .. }) = refused else {
            panic!("expected a refusal, found {refused:?}")
        };
        assert_eq!(peer.as_str(), "eve");
        swarm.agent(0).broadcast(say("*", "short")).await.unwrap();
        for live in &mut swarm.agents[1..] {
            assert_eq!(live.message().await.payload()["text"], "short");
        }
        let witnesses = swarm.end().await;
        assert_eq!(testimony(&witnesses[0], "ifmessage_sent").len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_character_and_number_arrives_as_it_was_sent() {
    // (But for -0, which RFC 8785 writes as 0.)
    within(async {
        let mut swarm = LiveSwarm::start(&["ann", "bob"]).await;
        let payload = json!({
            // Their order in UTF-16 is another one than in UTF-8 (RFC 8785, section 3.2.3).
            "\u{20ac}": "Euro", "\r": "return", "\u{fb33}": "dalet", "1": "one",
            "\u{1f600}": "smiley", "\u{80}": "control", "\u{f6}": "o with dots", "": "no name",
            "text": "兄弟 אחים إخوة 👩‍👩‍👧‍👦 \u{0}\u{1}\u{7f}\u{2028}\u{2029}\u{feff}\u{fffd}\u{10ffff} \"\\/\u{8}\u{c}\n\r\t",
            "numbers": [0, 1e21, 1e-7, 123456789.123, 5e-324, 1.7976931348623157e308, 9007199254740991i64],
            "others": [null, true, false, [], {}, [[[[{"deep": []}]]]]],
        });
        swarm.agent(0).send(draft("bob", payload.clone())).await.unwrap();
        let message = swarm.agents[1].message().await;
        assert_eq!(Value::from(message.payload().clone()), payload);
        swarm.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_messages_arrive_in_order_none_lost_and_none_doubled() {
    const MESSAGES: u64 = 2_000;
    within(async {
        let mut swarm = LiveSwarm::start(&["ann", "bob"]).await;
        let [ann, bob] = &mut swarm.agents[..] else {
            panic!("two agents")
        };
        let send = async {
            for n in 1..=MESSAGES {
                let receipt = ann
                    .agent
                    .send(draft("bob", json!({ "n": n })))
                    .await
                    .unwrap();
                assert_eq!(receipt.sequence_num, n);
            }
        };
        let receive = async {
            for n in 1..=MESSAGES {
                let message = bob.message().await;
                assert_eq!(message.sequence_num(), n);
                assert_eq!(message.payload()["n"], n);
            }
        };
        futures_util::future::join(send, receive).await;
        let stats = bob.agent.stats();
        assert_eq!(
            stats,
            Stats {
                delivered: MESSAGES,
                // On a busy machine it takes a second, and there is a checkpoint.
                countersigned: stats.countersigned,
                cosigned: stats.cosigned,
                ..Stats::default()
            }
        );
        let witnesses = swarm.end().await;
        let numbers = |entries: &[Value], event| -> Vec<u64> {
            let entries = testimony(entries, event).into_iter();
            entries
                .map(|(_, what)| what["sequence_num"].as_u64().unwrap())
                .collect()
        };
        let all: Vec<_> = (1..=MESSAGES).collect();
        assert_eq!(numbers(&witnesses[0], "ifmessage_sent"), all);
        assert_eq!(numbers(&witnesses[1], "ifmessage_received"), all);
    })
    .await;
}
