//! That the simulation itself lets nothing pass: what breaks a law here stands for a mesh that would.

use std::time::Duration;

use super::shape_of;
use super::world::{Shape, World};
use crate::message::Destination;

const SECOND: Duration = Duration::from_secs(1);

/// Two agents in memory that have a link, without any fault so far.
pub(super) fn linked() -> World {
    let shape = || Shape {
        agents: 2,
        ..shape_of(0)
    };
    let mut worlds = (0..).map(|seed| World::new(seed, shape()));
    let mut world = worlds.find(|world| world.disks.is_empty()).unwrap();
    world.run_until(world.now + 2 * SECOND);
    assert_eq!(world.nodes[&0].mesh.open_links(), 1);
    world
}

fn to(agent: usize) -> Destination {
    Destination::Agent(World::id(agent))
}

/// The law that a world has broken when all has healed.
fn healed(mut world: World) -> Option<String> {
    world.heal(130 * SECOND);
    world.check();
    world.laws.broken()
}

/// One that is alone, and has a message for the other.
fn alone() -> World {
    let mut world = linked();
    world.kill(1);
    world.say(0, &to(1));
    world.run_until(world.now + 60 * SECOND);
    assert_eq!(world.nodes[&0].mesh.open_links(), 0);
    assert_eq!(world.ledger.awaited(), 1);
    world
}

#[test]
fn what_an_agent_in_memory_has_not_given_back_when_it_leaves_is_lost() {
    let mut world = alone();
    // As if its mesh did not say what becomes of it.
    world.nodes.get_mut(&0).unwrap().leaves_at = Some(world.now);
    world.run_until(world.now + SECOND);
    assert!(!world.nodes.contains_key(&0));
    let law = healed(world).expect("a broken law");
    assert!(law.contains("1 messages lost: 1 of agent 0"), "{law}");
}

#[test]
fn what_it_has_given_back_is_forgiven_and_so_is_what_is_gone_with_one_that_is_killed() {
    let mut world = alone();
    world.leave(0);
    world.run_until(world.now + 5 * SECOND);
    assert!(!world.nodes.contains_key(&0));
    assert_eq!(world.ledger.sums().forgiven, 1);
    assert_eq!(healed(world), None);

    let mut world = alone();
    world.kill(0);
    assert_eq!(world.ledger.sums().forgiven, 1);
    assert_eq!(healed(world), None);
}

#[test]
fn nobody_is_given_what_was_never_accepted_for_it() {
    let mut world = linked();
    world.say(0, &Destination::All);
    let mut message = world.said[0].clone();
    message.numbers.remove(&1);
    world.hand_over(1, message, false);
    world.run_until(world.now + SECOND);
    let law = world.laws.broken().expect("a broken law");
    assert!(law.contains("never accepted for it"), "{law}");
}

#[test]
fn a_stopped_agent_learns_that_its_link_broke_when_it_goes_on() {
    let mut world = linked();
    let thaws = world.now + 3 * SECOND;
    let node = world.nodes.get_mut(&0).unwrap();
    node.frozen_until = Some(thaws);
    let (place, link) = (node.place, *node.ends.keys().next().unwrap());
    let dials = world.dials;
    world.end_broke(place, link);
    world.run_until(thaws - SECOND);
    assert_eq!(world.nodes[&0].mesh.open_links(), 1);
    assert_eq!(world.dials, dials, "a stopped process does nothing");
    world.run_until(thaws);
    assert!(!world.nodes[&0].ends.contains_key(&link));
    assert_eq!(healed(world), None);
}

/// More for agent 1, whose program is busy, than it acknowledges unread.
fn behind() -> World {
    let mut world = linked();
    let busy = world.now + 5 * SECOND;
    world.nodes.get_mut(&1).unwrap().busy_until = busy;
    (0..600).for_each(|_| world.say(0, &to(1)));
    world.run_until(busy - SECOND);
    assert_eq!(world.nodes[&1].unread.len(), 512, "and no more under way");
    assert_eq!(world.faults().count("messages held until read"), 256);
    world
}

#[test]
fn a_program_in_memory_that_is_behind_gets_all_when_it_reads_again() {
    let mut world = behind();
    let before = world.given;
    world.run_until(world.now + 10 * SECOND);
    assert_eq!(world.given - before, 600);
    assert_eq!(world.ledger.awaited(), 0);
    assert_eq!(healed(world), None);
}

#[test]
fn what_it_has_not_read_when_it_is_killed_is_gone_as_far_as_it_was_acknowledged_and_comes_again_beyond()
 {
    let mut world = behind();
    world.kill(1);
    assert_eq!(world.ledger.sums().forgiven, 256);
    world.enter(1);
    world.run_until(world.now + 60 * SECOND);
    let sums = world.ledger.sums();
    assert_eq!((sums.forgiven, sums.delivered), (256, 600 - 256));
    assert_eq!(healed(world), None);
}

#[test]
fn what_is_held_until_it_is_read_may_not_be_acknowledged() {
    let mut world = behind();
    let from = (0, world.nodes[&0].session);
    world.vouches(1, from, false, 256);
    assert!(!world.laws.are_broken(), "these were acknowledged at once");
    world.vouches(1, from, false, 257);
    let law = world.laws.broken().expect("a broken law");
    assert!(law.contains("1 acknowledges 257 of 0"), "{law}");
}
