//! Sessions outlive agents: what was open before one came, and what goes on while one follows another.

use smtp_tests::{
    Mailer, Must, World, eventually,
    hands::while_going_on,
    mailer::{How, Report},
    uid,
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

#[test]
fn a_session_from_before_the_agent_is_counted_from_its_first_go_ahead() {
    let mut world = World::stopped("");
    let mut talk = world.mailer(uid::SENDER).talk();
    let mut idle = world.mailer(uid::OTHER).talk();
    talk.greet();
    idle.greet();
    assert_eq!(talk.message().codes, [250, 250, 354, 250]);
    world.agent.start();
    for n in 1..=3 {
        assert_eq!(talk.message().codes, [250, 250, 354, 250]);
        assert_eq!(world.agent.tally_of(uid::SENDER).messages.accepted, n);
    }
    let metrics = world.metrics();
    assert_eq!((metrics.unseen("61001", "joined_late"), metrics.sessions("61001", "closed")), (1, 0));
    talk.close();
    idle.close();
    assert_eq!(world.agent.tally_after(uid::SENDER, 1).sessions, 1);
    assert_eq!(world.metrics().sessions("61001", "closed"), 1);
    assert_eq!(world.sink.settled_tally().messages.accepted, 4);
}

#[test]
fn a_session_from_before_the_agent_is_limited_and_ended() {
    let mut world = World::stopped("[plan.standard]\nmessages_per_hour = 2");
    let mut talk = world.mailer(uid::SENDER).talk();
    talk.greet();
    world.agent.start();
    for _ in 0..2 {
        assert_eq!(talk.message().codes, [250, 250, 354, 250]);
    }
    let heard = talk.message();
    assert_eq!((heard.codes.contains(&354), heard.end.as_deref()), (false, Some("ECONNABORTED")), "{heard:?}");
    assert_eq!(world.sink.settled_tally().messages.accepted, 2);
    assert_eq!(world.agent.tally_after(uid::SENDER, 1).messages.accepted, 2);
}

#[test]
fn a_connection_that_was_held_while_no_agent_was_there_is_ended_by_the_next() {
    let mut world = World::with("[plan.standard]\nmessages_per_hour = 1");
    let mut talk = world.mailer(uid::SENDER).patience(Duration::from_millis(500)).talk();
    talk.greet();
    assert_eq!(talk.message().codes, [250, 250, 354, 250]);
    world.agent.kill9();
    assert_eq!(talk.message().end.as_deref(), Some("silence"), "held: nothing passes, nobody ends it");
    world.agent.start();
    let mut end = None;
    eventually(Duration::from_secs(5), "it is ended", || {
        end = talk.say("", 1).end;
        end.as_deref() != Some("silence")
    });
    assert_eq!(end.as_deref(), Some("ECONNABORTED"));
    assert_eq!(world.sink.settled_tally().messages.accepted, 1);
}

/// Mail without a pause, over connections of ten messages each, until told to stop.
fn flood(mailer: Mailer, stop: &AtomicBool) -> Report {
    let mailer = mailer.threads(2).messages(40).recipients(2).pause(Duration::from_millis(5)).how(How::Mixed);
    let mut sum = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        sum.push(mailer.clone().run());
    }
    sum.into_iter().sum()
}

/// Runs `during` while two users send, one of them pipelined; returns what they have seen.
fn under_mail(world: &mut World, during: impl FnOnce(&mut World)) -> [Report; 2] {
    let mailers = [world.mailer(uid::SENDER), world.mailer(uid::OTHER).pipeline()];
    while_going_on(mailers.map(|mailer| |stop: &AtomicBool| flood(mailer, stop)), || during(world))
}

#[test]
fn restarts_in_the_middle_of_sessions_lose_no_message_and_count_none_twice() {
    let mut world = World::meeting("", |sink| sink.chunking());
    let reports = under_mail(&mut world, |world| {
        for round in 0..4 {
            thread::sleep(Duration::from_millis(300));
            if round % 2 == 0 {
                world.agent.kill9()
            } else {
                assert_eq!(world.agent.stop(), 0)
            }
            thread::sleep(Duration::from_millis(100));
            world.agent.start();
        }
    });
    let sink = world.sink.settled_tally();
    let mut sum = smtp_tests::sink::Tally::default();
    for (user, report) in [uid::SENDER, uid::OTHER].into_iter().zip(&reports) {
        assert_eq!(report.cuts(), 0, "{report:?}");
        assert!(report.seen.messages.accepted > 200, "a load worth the name: {report:?}");
        let ours = world.agent.tally_after(user, report.seen.sessions);
        assert_eq!(ours, report.seen);
        sum += ours;
        assert_eq!(world.metrics().unseen(&user.to_string(), "joined_late"), 0);
    }
    assert_eq!(sum, sink);
}

#[test]
fn restarts_do_not_let_a_message_too_many_through() {
    let mut world = World::meeting("[plan.standard]\nmessages_per_hour = 300", |sink| sink.chunking());
    let reports = under_mail(&mut world, |world| {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(500));
            world.agent.kill9();
            world.agent.start();
        }
        thread::sleep(Duration::from_millis(1500));
    });
    for report in &reports {
        assert_eq!(report.seen.messages.accepted, 300, "{report:?}");
        assert!(report.cuts() > 0, "{report:?}");
    }
    assert_eq!(world.sink.settled_tally().messages.accepted, 600);
}

#[track_caller]
fn follows(world: &World) -> (bool, bool) {
    let output = world.agent.cli(&["status", "--json"]).expect_ok("status");
    let status: serde_json::Value = serde_json::from_str(&output.stdout).must("JSON");
    let wanted = status["messages_wanted"].as_bool().must("a bool");
    (wanted, status["messages_followed"].as_bool().must("a bool"))
}

#[test]
fn switching_messages_off_and_on_takes_nothing_from_open_sessions() {
    let plan = "[plan.standard]\nper_hour = 100000";
    let mut world = World::meeting(plan, |sink| sink.chunking());
    assert_eq!(follows(&world), (true, true));
    // An open session is there all the time.
    let mut talk = world.mailer(uid::EXEMPT).talk();
    talk.greet();
    assert_eq!(talk.message().codes, [250, 250, 354, 250]);
    let reports = under_mail(&mut world, |world| {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(200));
            world.reload(&format!("{plan}\n[smtp]\nmessages = false"));
            assert_eq!(follows(world), (false, false));
            assert_eq!(talk.message().codes, [250, 250, 354, 250], "while nobody looks");
            world.reload(plan);
            assert_eq!(follows(world), (true, true));
            let heard = talk.message();
            assert_eq!(heard.codes, [250, 250, 354, 250], "and again: {heard:?}");
        }
    });
    let sink = world.sink.tally();
    for (user, report) in [uid::SENDER, uid::OTHER].into_iter().zip(&reports) {
        assert_eq!((report.cuts(), report.unconnected.len()), (0, 0), "nobody is disturbed: {report:?}");
        let ours = world.agent.tally_after(user, report.seen.sessions).messages.accepted;
        let theirs = report.seen.messages.accepted;
        assert!(ours <= theirs && ours > 0, "none is counted twice: {ours} of {theirs}");
        assert_eq!(world.counted_uid(user, "allowed"), report.seen.sessions, "connections are counted all the time");
    }
    assert_eq!(talk.message().codes, [250, 250, 354, 250]);
    let exempt = world.agent.tally_of(uid::EXEMPT).messages.accepted;
    assert!((2..=8).contains(&exempt), "{exempt}");
    assert!(sink.messages.accepted > 100);
}

#[test]
fn connections_are_limited_while_messages_are_not_followed() {
    let world = World::with("[smtp]\nmessages = false\n[plan.standard]\nper_hour = 3\nsoft_percent = 100");
    let report = world.mailer(uid::SENDER).messages(5).each(1).run();
    assert_eq!((report.seen.messages.accepted, report.eperm()), (3, 2));
    let ours = world.agent.tally_of(uid::SENDER);
    assert_eq!((ours.messages.accepted, ours.sessions), (0, 0));
    assert_eq!(follows(&world), (false, false));
}
