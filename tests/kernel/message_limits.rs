//! Message N passes and message N + 1 does not, however many send at once and however they send.

use smtp_tests::{
    Listener, Must, World,
    hands::at_once,
    mailer::{How, Report},
    sink::Tally,
    uid,
};
use std::{thread, time::Duration};

/// Three processes of a user, two threads each: DATA and BDAT, pipelined and not, 120 messages in all.
fn storm(world: &World, user: u32) -> Report {
    let jobs = [How::Mixed, How::Data, How::Bdat].map(|how| {
        let mailer = world.mailer(user).threads(2).messages(20).each(7).how(how);
        let mailer = if how == How::Mixed { mailer } else { mailer.pipeline() };
        || mailer.run()
    });
    at_once(jobs).into_iter().sum()
}

/// What was cut was cut at once and by an error that clients know for a lost connection.
#[track_caller]
fn assert_cut_at_once(report: &Report) {
    for name in report.cut.keys() {
        assert!(["ECONNABORTED", "ECONNRESET", "EPIPE"].contains(&name.as_str()), "{report:?}");
    }
    assert!(report.slowest_cut < 1000, "{report:?}");
}

/// Our counts of a user are those of the sink. It has given leave for messages that were never sent: to it their
/// outcomes are unknown, to us they were stopped.
#[track_caller]
fn assert_counts(world: &World, user: u32, sink: Tally) {
    let ours = world.agent.tally_after(user, sink.sessions);
    assert_eq!((ours.messages, ours.recipients, ours.sessions), (sink.messages, sink.recipients, sink.sessions));
    assert_eq!(ours.unknown, 0, "what was stopped is not unknown");
}

#[test]
fn a_message_limit_is_exact_under_concurrency_by_the_sinks_own_count() {
    let world = World::meeting("[plan.standard]\nmessages_per_hour = 40", |sink| sink.chunking());
    let report = storm(&world, uid::SENDER);
    let sink = world.sink.settled_tally();
    assert_eq!((sink.messages.accepted, sink.messages.total()), (40, 40), "the whole limit and not one more");
    assert_eq!((report.seen.messages.accepted, report.cuts()), (40, 80), "{report:?}");
    assert_cut_at_once(&report);
    assert_counts(&world, uid::SENDER, sink);
    let metrics = world.metrics();
    let units = |verdict| metrics.units("61001", "message", verdict);
    assert_eq!((units("allowed"), units("refused"), units("would_refuse")), (40, 80, 0));
    assert_eq!(metrics.sessions("61001", "ended"), 80, "one connection for each refused message");
    assert_eq!(metrics.value("smtp_usage", &[("user", "61001"), ("unit", "message"), ("window", "hour")]), 40.0);
    // Another user is not held by it.
    assert_eq!(world.mailer(uid::OTHER).messages(10).run().seen.messages.accepted, 10);
}

#[test]
fn a_message_limit_holds_over_ipv6_and_for_a_day() {
    let world = World::meeting("[plan.standard]\nmessages_per_day = 5", |sink| sink.chunking());
    let to = std::net::SocketAddr::new(world.veth.far.v6.into(), 25);
    let mailer = smtp_tests::Mailer::to(to).cgroup(world.cgroup()).uid(uid::SENDER);
    let report = mailer.messages(9).how(How::Mixed).run();
    assert_eq!((report.seen.messages.accepted, report.cuts()), (5, 4), "{report:?}");
    assert_cut_at_once(&report);
    assert_eq!(world.sink.settled_tally().messages.accepted, 5);
}

#[test]
fn a_message_limit_holds_without_an_agent() {
    let mut world = World::meeting("[plan.standard]\nmessages_per_hour = 3", |sink| sink.chunking());
    assert_eq!(world.mailer(uid::SENDER).messages(2).run().seen.messages.accepted, 2);
    world.agent.kill9();
    for how in [How::Data, How::Bdat] {
        let report = world.mailer(uid::SENDER).messages(2).how(how).patience(Duration::from_millis(700)).run();
        let passed = u64::from(how == How::Data);
        assert_eq!(report.seen.messages.accepted, passed, "{how}: {report:?}");
        assert_eq!(report.cut, [("silence".to_string(), 2 - passed)].into(), "nobody ends it, nothing passes");
    }
    thread::sleep(Duration::from_millis(500));
    assert_eq!(world.sink.tally().messages.accepted, 3);
    world.agent.start();
    assert_eq!(world.agent.tally_of(uid::SENDER).messages.accepted, 3, "what passed meanwhile is counted");
    let report = world.mailer(uid::SENDER).messages(2).run();
    assert_eq!((report.seen.messages.accepted, report.cuts()), (0, 2), "{report:?}");
    assert_cut_at_once(&report);
}

#[test]
fn the_hosts_message_limit_is_exact_over_all_users_and_spares_the_exempt() {
    let world = World::meeting("[host]\nmessages_per_hour = 50", |sink| sink.chunking());
    let world = &world;
    assert_eq!(world.mailer(uid::EXEMPT).messages(10).run().seen.messages.accepted, 10, "which spends it too");
    let both: Report = at_once([uid::SENDER, uid::OTHER].map(|user| move || storm(world, user))).into_iter().sum();
    assert_eq!((both.seen.messages.accepted, both.cuts()), (40, 200), "{both:?}");
    assert_eq!(world.sink.settled_tally().messages.accepted, 50);
    assert_eq!(world.mailer(uid::EXEMPT).messages(5).how(How::Mixed).run().seen.messages.accepted, 5);
    assert_eq!(world.metrics().units("61004", "message", "exempt"), 15);
    let used = || world.metrics().value("smtp_host_usage", &[("unit", "message"), ("window", "hour")]);
    assert_eq!(used(), 55.0);

    world.reload("[host]\nmessages_per_hour = 50\nstrict = true");
    let report = world.mailer(uid::EXEMPT).messages(2).run();
    assert_eq!((report.seen.messages.accepted, report.cuts()), (0, 2), "{report:?}");
    assert_eq!(used(), 55.0);
}

#[test]
fn messages_in_observe_mode_would_be_refused_as_often_as_they_are_in_enforce_mode() {
    let limit = "[plan.standard]\nmessages_per_hour = 12\n[host]\nmessages_per_hour = 20";
    let world = |mode: &str| World::meeting(&format!("mode = '{mode}'\n{limit}"), |sink| sink.chunking());
    let (enforce, observe) = (world("enforce"), world("observe"));
    let run = |world: &World| {
        [uid::SENDER, uid::OTHER].map(|user| world.mailer(user).messages(15).each(4).how(How::Mixed).run())
    };
    let (stopped, let_go) = (run(&enforce), run(&observe));
    assert_eq!(stopped.map(|report| report.seen.messages.accepted), [12, 8]);
    assert_eq!(let_go.map(|report| report.seen.messages.accepted), [15, 15]);
    assert_eq!(observe.sink.settled_tally().messages.accepted, 30);
    let sink = enforce.sink.settled_tally();
    assert_eq!(sink.messages.accepted, 20);
    for (user, refused) in [("61001", 3), ("61002", 7)] {
        assert_eq!(enforce.metrics().units(user, "message", "refused"), refused);
        assert_eq!(observe.metrics().units(user, "message", "would_refuse"), refused);
        assert_eq!(observe.metrics().units(user, "message", "refused"), 0);
        assert_eq!(observe.agent.metrics().sessions(user, "ended"), 0);
    }
    assert_eq!(observe.agent.tally_after(uid::SENDER, 4).messages.accepted, 15);
}

#[test]
fn lists_are_charged_to_the_host_or_not() {
    let limits = "[host]\nmessages_per_hour = 10\nlist_users = ['61002']\ncount_lists = ";
    for (count, passed) in [("true", 4), ("false", 8)] {
        let world = World::with(&format!("{limits}{count}"));
        assert_eq!(world.mailer(uid::SENDER).messages(6).run().seen.messages.accepted, 6);
        let report = world.mailer(uid::OTHER).messages(8).run();
        assert_eq!(report.seen.messages.accepted, passed, "count_lists = {count}");
        let rest = world.mailer(uid::SENDER).messages(9).run().seen.messages.accepted;
        assert_eq!(rest, if count == "true" { 0 } else { 4 }, "count_lists = {count}");
        assert_eq!(world.agent.tally_after(uid::OTHER, 1).messages.accepted, passed, "counted all the same");
    }
}

const HASTY: &str = "MAIL FROM:<a@far.test>\r\nRCPT TO:<b@far.test>\r\nDATA\r\nhello\r\n.\r\n";

#[test]
fn a_client_that_does_not_wait_for_the_go_ahead_is_ended_where_messages_are_limited() {
    let world = World::with("[plan.standard]\nmessages_per_hour = 100");
    let listener = Listener::start(&world);
    let mut talk = world.mailer(uid::SENDER).talk();
    talk.greet();
    let heard = talk.say(HASTY, 4);
    assert_eq!((heard.codes.as_slice(), heard.end.as_deref()), (&[][..], Some("ECONNABORTED")), "{heard:?}");
    assert!(heard.took < 1000);
    // In two writes: the sink takes its time to answer DATA.
    talk.greet();
    let heard = talk.say("MAIL FROM:<a@far.test>\r\nRCPT TO:<b@far.test>\r\n", 2);
    assert_eq!(heard.codes, [250, 250]);
    talk.say("DATA\r\nhel", 0);
    let heard = talk.say_to_the_end("lo\r\n.\r\n");
    assert_eq!(heard.codes, [] as [u16; 0], "{heard:?}");
    for stop in listener.wait_for("stop", 2) {
        assert_eq!((&stop["reason"], &stop["verdict"]), (&"evasive".into(), &"refused".into()), "{stop}");
    }
    let sink = world.sink.settled_tally();
    assert_eq!(sink.messages.total(), 0, "{sink:?}");
}

#[test]
fn a_client_that_does_not_wait_is_let_be_where_nothing_is_limited_and_its_messages_are_counted() {
    let world = World::with("");
    let mut talk = world.mailer(uid::SENDER).talk();
    talk.greet();
    assert_eq!(talk.say(HASTY, 4).codes, [250, 250, 354, 250]);
    assert_eq!(talk.message().codes, [250, 250, 354, 250]);
    talk.close();
    let sink = world.sink.settled_tally();
    assert_eq!(sink.messages.accepted, 2);
    let ours = world.agent.tally_after(uid::SENDER, 1);
    assert_eq!(ours.messages, sink.messages);
    assert_eq!(world.metrics().unseen("61001", "unclear"), 1, "that not all may have been counted is told");
}

/// To a server that takes LF.LF for the end of a message, what follows is a message of its own.
fn smuggle(world: &World) -> (Vec<u16>, Option<String>) {
    let mut talk = world.mailer(uid::SENDER).talk();
    talk.greet();
    let heard = talk.say("MAIL FROM:<a@far.test>\r\nRCPT TO:<b@far.test>\r\n", 2);
    assert_eq!(heard.codes, [250, 250]);
    assert_eq!(talk.say("DATA\r\n", 1).codes, [354]);
    let inner = "MAIL FROM:<x@far.test>\r\nRCPT TO:<y@far.test>\r\nDATA\r\n";
    let heard = talk.say(&format!("hello\n.\n{inner}"), 4);
    let (mut codes, mut end) = (heard.codes, heard.end);
    if end.is_none() {
        let heard = talk.say("smuggled\r\n.\r\n", 1);
        codes.extend(heard.codes);
        end = heard.end;
        talk.close();
    }
    (codes, end)
}

#[test]
fn a_smuggled_message_is_stopped_where_messages_are_limited() {
    let world = World::meeting("[plan.standard]\nmessages_per_hour = 100", |sink| sink.bare_lf(true));
    let listener = Listener::start(&world);
    assert_eq!(smuggle(&world), (vec![], Some("ECONNABORTED".into())));
    let stop = listener.wait_for("stop", 1).pop().must("an event");
    assert_eq!(stop["reason"], "evasive", "{stop}");
    assert!(stop["notes"].as_array().is_some_and(|notes| notes.contains(&"smuggled".into())), "{stop}");
    assert_eq!(world.sink.settled_tally().messages.accepted, 0);
}

#[test]
fn a_smuggled_message_is_counted_where_nothing_is_limited() {
    let world = World::meeting("", |sink| sink.bare_lf(true));
    assert_eq!(smuggle(&world), (vec![250, 250, 250, 354, 250], None));
    let sink = world.sink.settled_tally();
    assert_eq!(sink.messages.accepted, 2);
    assert_eq!(world.agent.tally_after(uid::SENDER, 1).messages, sink.messages);
    // A strict server has one message there, and so have we.
    let strict = World::with("");
    let mut talk = strict.mailer(uid::SENDER).talk();
    talk.greet();
    talk.say("MAIL FROM:<a@far.test>\r\nRCPT TO:<b@far.test>\r\n", 2);
    talk.say("DATA\r\n", 1);
    assert_eq!(talk.say("hello\n.\nMAIL FROM:<x@far.test>\r\nRCPT TO:<y@far.test>\r\nDATA\r\n.\r\n", 1).codes, [250]);
    talk.close();
    let sink = strict.sink.settled_tally();
    assert_eq!(sink.messages.accepted, 1);
    assert_eq!(strict.agent.tally_after(uid::SENDER, 1), sink);
}

#[test]
fn a_socket_that_nothing_can_be_kept_beside_is_no_way_around_a_limit() {
    for (limit, expected) in [("messages_per_hour = 5", "EPERM"), ("per_day = 100", "ok")] {
        let world = World::with(&format!("[plan.standard]\n{limit}"));
        let got = world.dial().uid(uid::SENDER).stuffed().count(3).run();
        assert_eq!(got, smtp_tests::Tally::of(&[(expected, 3)]), "{limit}");
        let unseen = [("user", "61001"), ("cause", "no_memory")];
        assert_eq!(world.agent.metrics().value("smtp_sessions_unseen_total", &unseen), 3.0, "{limit}");
        assert_eq!(world.dial().uid(uid::SENDER).count(3).run().ok(), 3, "an ordinary socket");
        assert_eq!(world.dial().uid(uid::EXEMPT).stuffed().run().ok(), 1, "whom nothing limits");
    }
}
