//! The failure brake: whoever fails too often is stopped at the reply that shows it.

use smtp_tests::{Must, World, poll::holds_within, uid};
use std::{
    thread,
    time::{Duration, Instant},
};

const BRAKE: &str = "[plan.standard]\nmax_failed_percent = 50\nmin_failed = 5";

fn world(toml: &str) -> World {
    World::meeting(toml, |sink| sink.obedient())
}

#[track_caller]
fn fail(world: &World, user: u32, count: u32, tag: &str) {
    let report = world.mailer(user).messages(count).sender_tag(tag).run();
    assert_eq!(report.seen.messages.deferred + report.seen.messages.rejected, u64::from(count), "{report:?}");
}

#[test]
fn a_user_whose_messages_fail_is_stopped_by_the_reply_that_is_one_too_many() {
    let world = world(BRAKE);
    fail(&world, uid::SENDER, 2, "+body550");
    fail(&world, uid::SENDER, 2, "+body451");
    assert_eq!(world.mailer(uid::SENDER).messages(2).run().seen.messages.accepted, 2, "four have failed, of six");
    let mut talk = world.mailer(uid::SENDER).talk();
    talk.greet();
    fail(&world, uid::SENDER, 1, "+body554");
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1, "five of seven, at once");
    // What is open goes no further either, and the others do not feel it.
    let heard = talk.message();
    assert_eq!((heard.codes.contains(&354), heard.end.as_deref()), (false, Some("ECONNABORTED")), "{heard:?}");
    assert_eq!(world.mailer(uid::OTHER).messages(3).run().seen.messages.accepted, 3);
    assert_eq!(world.metrics().value("smtp_brake", &[("user", "61001")]), 1.0);
    assert!(world.metrics().value("smtp_failed_percent", &[("user", "61001")]) > 70.0);
    assert_eq!(world.counted_uid(uid::SENDER, "refused"), 1);
}

#[test]
fn failures_below_the_minimum_or_the_share_stop_nobody() {
    let world = world(BRAKE);
    fail(&world, uid::SENDER, 4, "+body550");
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1, "all have failed, but only four");
    assert_eq!(world.mailer(uid::OTHER).messages(10).run().seen.messages.accepted, 10);
    fail(&world, uid::OTHER, 9, "+body451");
    assert_eq!(world.dial().uid(uid::OTHER).run().ok(), 1, "nine, of nineteen");
    assert_eq!(world.metrics().value("smtp_brake", &[]), 0.0);
}

/// Refused recipients and senders are failures as well.
#[test]
fn a_sender_of_mail_nobody_wants_fails_without_a_single_message() {
    let world = world(BRAKE);
    let report = world.mailer(uid::SENDER).messages(5).recipients(3).recipient_tag("+rcpt550").run();
    assert_eq!(report.seen.messages.rejected, 5);
    assert!(holds_within(Duration::from_secs(2), || world.dial().uid(uid::SENDER).run().eperm() == 1));
    fail(&world, uid::OTHER, 5, "+mail550");
    assert_eq!(world.dial().uid(uid::OTHER).run().eperm(), 1);
}

#[test]
fn the_brake_lets_go_after_its_time() {
    let world = world(&format!("{BRAKE}\nrelease_after = '4s'"));
    fail(&world, uid::SENDER, 5, "+body550");
    let begin = Instant::now();
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);
    thread::sleep(Duration::from_millis(1000).saturating_sub(begin.elapsed()));
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1, "not yet");
    thread::sleep(Duration::from_millis(4300).saturating_sub(begin.elapsed()));
    assert_eq!(world.mailer(uid::SENDER).messages(2).run().seen.messages.accepted, 2);
    // The share is still too large: the next failure stops him again.
    fail(&world, uid::SENDER, 1, "+body550");
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);
}

#[test]
fn the_brake_lets_go_when_the_plan_bears_the_share() {
    let world = world(BRAKE);
    assert_eq!(world.mailer(uid::SENDER).messages(4).run().seen.messages.accepted, 4);
    fail(&world, uid::SENDER, 5, "+body550");
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);
    world.reload("[plan.standard]\nmax_failed_percent = 60\nmin_failed = 5");
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1, "five of nine");
}

#[test]
fn a_tripped_brake_outlives_the_agent() {
    let mut world = world(BRAKE);
    world.agent.kill9();
    fail(&world, uid::SENDER, 5, "+body550");
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1, "tripped without an agent");
    world.agent.start();
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);
    assert_eq!(world.metrics().value("smtp_brake", &[("user", "61001")]), 1.0);
}

#[test]
fn the_brake_in_observe_mode_is_counted_and_stops_nobody() {
    let world = world(&format!("mode = 'observe'\n{BRAKE}"));
    fail(&world, uid::SENDER, 5, "+body550");
    assert_eq!(world.counted_uid(uid::SENDER, "would_refuse"), 0);
    assert_eq!(world.mailer(uid::SENDER).messages(3).each(1).run().seen.messages.accepted, 3);
    assert_eq!(world.counted_uid(uid::SENDER, "would_refuse"), 3);
    assert_eq!(world.metrics().units("61001", "message", "would_refuse"), 3);
}

#[test]
fn exempt_users_have_no_brake() {
    let world = world(BRAKE);
    fail(&world, uid::EXEMPT, 10, "+body550");
    assert_eq!(world.dial().uid(uid::EXEMPT).run().ok(), 1);
    let output = world.agent.cli(&["status", "--json"]).expect_ok("status");
    let status: serde_json::Value = serde_json::from_str(&output.stdout).must("JSON");
    assert!(!status.to_string().contains("\"holds\":true"), "{status}");
}
