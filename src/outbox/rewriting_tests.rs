//! Journals that are rewritten while they are written: what a kill at each step leaves behind, and
//! who waits for whom.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::journal::{JOURNAL_FILE, NEW_FILE};
use super::tests::{Desk, at, check, id, live, message, numbers, session, to};
use super::*;

/// What happens while a journal is rewritten, `n` times: some is accepted, some is settled, some is
/// noted and seen.
fn go_on(journal: &mut Journal, n: u64) {
    let number = 1000 + n;
    journal.accepted(
        &[id("b"), id("c")],
        &to("*"),
        number,
        at(3000),
        &message(number),
    );
    journal.accepted(&[id("d")], &to("d"), number, at(3000), &message(number));
    journal.settled(&id("b"), &to("*"), 0, number - 1);
    journal.commit().unwrap();
    journal.note(&id("b"), session(5), true, 10 + n).unwrap();
    journal.seen(&id("d"), session(6), false, n);
    journal.commit().unwrap();
}

/// Everything that the next run goes on with.
fn all(journal: &Journal) -> String {
    format!("{:?}", (journal.session(), journal.remembered(at(5000))))
}

/// What a process that is killed now leaves behind, opened again.
fn after_a_kill(desk: &Desk) -> String {
    let other = Desk::new();
    fs::create_dir_all(other.file().parent().unwrap()).unwrap();
    for name in [JOURNAL_FILE, NEW_FILE] {
        let _ = fs::copy(
            desk.file().with_file_name(name),
            other.file().with_file_name(name),
        );
    }
    let journal = Journal::open(other.folder.path(), desk.owner(), session(77)).unwrap();
    assert!(!other.file().with_file_name(NEW_FILE).exists());
    all(&journal)
}

/// Appends until there is something to rewrite: little of it is live.
fn until_due(journal: &mut Journal) -> Rewrite {
    let mut n = 0;
    loop {
        n += 1;
        let long = Bytes::from("x".repeat(50_000));
        journal.accepted(&[id("e")], &to("e"), n, at(1), &long);
        journal.settled(&id("e"), &to("e"), 0, n.saturating_sub(4));
        journal.commit().unwrap();
        if let Some(rewrite) = journal.due_rewrite() {
            return rewrite;
        }
    }
}

#[test]
fn a_kill_at_any_step_of_a_rewrite_leaves_all_that_was_accepted_and_noted() {
    let desk = Desk::new();
    let mut journal = desk.open();
    live(&mut journal);
    let mut n = 0;
    let mut step = |journal: &mut Journal, done: &str| {
        assert_eq!(after_a_kill(&desk), all(journal), "{done}");
        n += 1;
        go_on(journal, n);
        assert_eq!(after_a_kill(&desk), all(journal), "{done}, and it goes on");
    };
    let rewrite = until_due(&mut journal);
    step(&mut journal, "begun");
    let before = journal.length();
    let mut next = rewrite.write().unwrap();
    step(&mut journal, "written");
    next.catch_up(journal.length()).unwrap();
    step(&mut journal, "caught up with");
    journal.follow_with(&mut next).unwrap();
    step(&mut journal, "followed");
    next.take_the_place().unwrap();
    step(&mut journal, "in place");
    journal.go_on();
    step(&mut journal, "done");
    assert!(
        journal.length() < before / 2,
        "{} of {before}",
        journal.length()
    );
    assert_eq!(fs::metadata(desk.file()).unwrap().len(), journal.length());
    let said = all(&journal);
    drop(journal);
    assert_eq!(all(&desk.open()), said);
}

#[test]
fn what_is_accepted_and_noted_beside_a_rewrite_is_all_in_the_journal() {
    let desk = Desk::new();
    let journal = Mutex::new(desk.open());
    live(&mut journal.lock().unwrap());
    let rewrite = until_due(&mut journal.lock().unwrap());
    let written = std::thread::scope(|scope| {
        let running = scope.spawn(|| rewrite.run(&journal));
        let mut n = 0;
        while !running.is_finished() || n < 100 {
            n += 1;
            go_on(&mut journal.lock().unwrap(), n);
        }
        running.join().unwrap().unwrap();
        n
    });
    go_on(&mut journal.lock().unwrap(), written + 1);
    assert_eq!(after_a_kill(&desk), all(&journal.lock().unwrap()));
    let length = journal.lock().unwrap().length();
    assert_eq!(fs::metadata(desk.file()).unwrap().len(), length);
    assert!(!desk.file().with_file_name(NEW_FILE).exists());
}

/// A file that takes no more than 64 KiB until somebody reads it, and that cannot be synced: a disk
/// that is very slow, and fails in the end.
fn slow_disk(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn nobody_waits_for_a_rewrite_and_one_that_fails_leaves_the_journal_as_it_is() {
    let desk = Desk::new();
    let journal = Mutex::new(desk.open());
    let new = desk.file().with_file_name(NEW_FILE);
    slow_disk(&new);
    live(&mut journal.lock().unwrap());
    let rewrite = until_due(&mut journal.lock().unwrap());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| rewrite.run(&journal));
        let mut pipe = fs::File::open(&new).unwrap();
        // It has begun, and goes no further than the pipe takes.
        pipe.read_exact(&mut [0]).unwrap();
        for n in 1..=100 {
            go_on(&mut journal.lock().unwrap(), n);
        }
        let had_ended = running.is_finished();
        let another = journal.lock().unwrap().due_rewrite();
        pipe.read_to_end(&mut Vec::new()).unwrap();
        let err = running.join().unwrap().unwrap_err();
        assert!(err.to_string().contains("new: Invalid argument"), "{err}");
        assert!(!had_ended);
        assert!(another.is_none(), "one at a time");
    });
    assert!(!new.exists());
    let mut journal = journal.into_inner().unwrap();
    go_on(&mut journal, 101);
    assert_eq!(after_a_kill(&desk), all(&journal));
}

#[test]
fn a_rewrite_that_nobody_wants_any_more_is_given_up_and_the_folder_is_free() {
    let desk = Desk::new();
    let journal = Arc::new(Mutex::new(desk.open()));
    let new = desk.file().with_file_name(NEW_FILE);
    slow_disk(&new);
    live(&mut journal.lock().unwrap());
    let rewrite = until_due(&mut journal.lock().unwrap());
    let said = all(&journal.lock().unwrap());
    let running = {
        let journal = Arc::clone(&journal);
        std::thread::spawn(move || rewrite.run(&journal))
    };
    let mut pipe = fs::File::open(&new).unwrap();
    pipe.read_exact(&mut [0]).unwrap();
    journal.lock().unwrap().stop_rewriting();
    drop(journal);
    pipe.read_to_end(&mut Vec::new()).unwrap();
    running.join().unwrap().unwrap();
    assert!(!new.exists());
    let mut journal = desk.open();
    assert_eq!(all(&journal), said);
    // Another one, told before it begins.
    let rewrite = until_due(&mut journal);
    let length = journal.length();
    journal.stop_rewriting();
    let journal = Mutex::new(journal);
    rewrite.run(&journal).unwrap();
    assert_eq!(journal.lock().unwrap().length(), length);
    assert!(journal.lock().unwrap().due_rewrite().is_none());
}

#[test]
fn what_waits_for_the_commit_is_in_no_rewrite() {
    let desk = Desk::new();
    let mut journal = desk.open();
    drop(until_due(&mut journal));
    drop(journal);
    let mut journal = desk.open();
    journal.accepted(&[id("b")], &to("b"), 1, at(1000), &message(1));
    assert!(journal.due_rewrite().is_none());
    journal.break_off();
    assert!(journal.due_rewrite().is_none());
    drop(journal);
    assert!(desk.open().due_rewrite().is_some());
}

/// Commits, and rewrites the journal if it is due. Returns how long it is, and whether it was.
fn commit(journal: &Mutex<Journal>, change: impl FnOnce(&mut Journal)) -> (u64, bool) {
    let due = {
        let mut journal = journal.lock().unwrap();
        change(&mut journal);
        journal.commit().unwrap();
        journal.due_rewrite()
    };
    let is_due = due.is_some();
    if let Some(rewrite) = due {
        rewrite.run(journal).unwrap();
    }
    (journal.lock().unwrap().length(), is_due)
}

#[test]
fn a_journal_is_rewritten_before_it_is_much_longer_than_what_it_says() {
    let desk = Desk::new();
    let journal = Mutex::new(desk.open());
    live(&mut journal.lock().unwrap());
    let lengths = (101..=20_100).map(|n| {
        let (length, _) = commit(&journal, |journal| {
            journal.accepted(&[id("c")], &to("c"), n, at(n as i64), &message(n));
            journal.settled(&id("c"), &to("c"), 0, n);
        });
        assert_eq!(fs::metadata(desk.file()).unwrap().len(), length);
        length
    });
    let longest = lengths.max().unwrap();
    assert!(longest < 2 * 1024 * 1024, "{longest}");
    drop(journal);
    let again = desk.open();
    let (_, peers) = again.remembered(at(5000));
    assert_eq!(numbers(&peers[0]), (vec![2], vec![1]));
    assert_eq!(peers[1].sent.direct.greatest, 20_100);
    assert_eq!(numbers(&peers[1]), (vec![], vec![]));
}

#[test]
fn messages_to_everybody_do_not_make_it_longer_the_more_peers_there_are() {
    let desk = Desk::new();
    let journal = Mutex::new(desk.open());
    let everybody: Vec<_> = (0..100).map(|n| id(&format!("p{n}"))).collect();
    let long = Bytes::from("x".repeat(10_000));
    let lengths = (1..=2_000).map(|n| {
        let (length, _) = commit(&journal, |journal| {
            journal.accepted(&everybody, &to("*"), n, at(1), &long);
            // Ten are kept: 100 kB.
            for peer in &everybody {
                journal.settled(peer, &to("*"), 0, n.saturating_sub(10));
            }
        });
        length
    });
    let longest = lengths.max().unwrap();
    assert!(longest < 2 * 1024 * 1024, "{longest}");
}

#[test]
fn what_says_more_than_it_seems_is_not_rewritten_with_every_line() {
    let desk = Desk::new();
    let journal = Mutex::new(desk.open());
    // A program that took everything but the first message of each peer.
    let take = |number: u64| {
        let (_, rewritten) = commit(&journal, |journal| {
            for peer in 0..100 {
                journal.taken(&id(&format!("p{peer}")), session(5), false, number);
            }
        });
        rewritten
    };
    let rewrites = (2..=400).filter(|n| take(*n)).count();
    assert!((1..=5).contains(&rewrites), "{rewrites}");
}

#[test]
fn a_journal_of_the_version_before_is_read_and_rewritten() {
    let desk = Desk::new();
    fs::create_dir_all(desk.file().parent().unwrap()).unwrap();
    fs::write(desk.file(), BEFORE).unwrap();
    let mut journal = desk.open();
    check(&journal);
    assert_eq!(fs::read_to_string(desk.file()).unwrap(), BEFORE);
    let rewrite = until_due(&mut journal);
    let said = all(&journal);
    let journal = Mutex::new(journal);
    rewrite.run(&journal).unwrap();
    drop(journal);
    assert_eq!(all(&desk.open()), said);
}

/// Some of everything, as it was written when rewrites held everybody up.
const BEFORE: &str = r#"{"record":"opened","version":1,"swarm":"five","agent_id":"me","public_key":"ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c","session":"00000000-0009-7000-8000-000000000000"}
{"record":"broadcasts","used":0}
{"record":"peer","peer":"b","direct":0,"all":0}
{"record":"accepted","to":["b"],"destination":"b","sequence_num":1,"at":1000,"message":"{\"text\":\"\\\"1\\\" é\"}"}
{"record":"accepted","to":["b"],"destination":"b","sequence_num":2,"at":1000,"message":"{\"text\":\"\\\"2\\\" é\"}"}
{"record":"accepted","to":["b"],"destination":"b","sequence_num":3,"at":1000,"message":"{\"text\":\"\\\"3\\\" é\"}"}
{"record":"accepted","to":["b","c"],"destination":"*","sequence_num":1,"at":2000,"message":"{\"text\":\"\\\"10\\\" é\"}"}
{"record":"settled","peer":"b","destination":"b","from":0,"to":1}
{"record":"settled","peer":"b","destination":"b","from":3,"to":3}
{"record":"settled","peer":"c","destination":"*","from":0,"to":1}
{"record":"seen","peer":"b","session":"00000000-0004-7000-8000-000000000000","to_all":false,"up_to":6}
{"record":"seen","peer":"b","session":"00000000-0005-7000-8000-000000000000","to_all":false,"up_to":2}
{"record":"seen","peer":"b","session":"00000000-0005-7000-8000-000000000000","to_all":true,"up_to":8}
{"record":"seen","peer":"b","session":"00000000-0004-7000-8000-000000000000","to_all":false,"up_to":7}
{"record":"taken","peer":"b","session":"00000000-0005-7000-8000-000000000000","to_all":false,"number":1}
{"record":"taken","peer":"b","session":"00000000-0005-7000-8000-000000000000","to_all":false,"number":4}
{"record":"taken","peer":"b","session":"00000000-0005-7000-8000-000000000000","to_all":false,"number":5}
"#;
