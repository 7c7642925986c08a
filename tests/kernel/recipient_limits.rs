//! A recipient beyond the budget is never named to the server.

use smtp_tests::{
    Must, World,
    hands::at_once,
    mailer::{How, Report},
    uid,
};

#[test]
fn a_recipient_limit_is_exact_under_concurrency_by_the_sinks_own_count() {
    let world = World::meeting("[plan.standard]\nrecipients_per_hour = 50", |sink| sink.chunking());
    let mailer = |how| world.mailer(uid::SENDER).threads(2).messages(10).recipients(3).how(how);
    let reports = at_once([How::Data, How::Bdat, How::Mixed].map(mailer).map(|mailer| || mailer.run()));
    let cuts: u64 = reports.iter().map(Report::cuts).sum();
    let sink = world.sink.settled_tally();
    assert_eq!(sink.recipients.total(), 50, "the whole limit and not one more");
    let ours = world.agent.tally_after(uid::SENDER, sink.sessions);
    assert_eq!((ours.recipients, ours.messages), (sink.recipients, sink.messages));
    let metrics = world.metrics();
    let units = |verdict| metrics.units("61001", "recipient", verdict);
    assert_eq!((units("allowed"), units("refused")), (50, cuts), "one refused recipient for each cut");
    assert!(cuts > 30);
}

#[test]
fn recipients_that_leave_together_pass_together_or_not_at_all() {
    let world = World::with("[plan.standard]\nrecipients_per_hour = 50");
    let mailer = || world.mailer(uid::SENDER).threads(2).messages(5).recipients(4).pipeline();
    let reports = at_once((0..3).map(|_| || mailer().run()));
    let groups: u64 = reports.iter().map(|report| report.seen.messages.accepted).sum();
    assert_eq!(groups, 12, "of four each");
    assert_eq!(world.sink.settled_tally().recipients.total(), 48);
    // Who asks for less gets the rest.
    let report = world.mailer(uid::SENDER).messages(5).run();
    assert_eq!((report.seen.recipients.accepted, report.cuts()), (2, 3));
    assert_eq!(world.sink.settled_tally().recipients.total(), 50);
    let metrics = world.metrics();
    assert_eq!(metrics.units("61001", "recipient", "refused"), 18 * 4 + 3);
    assert_eq!(metrics.units("61001", "recipient", "allowed"), 50);
}

#[test]
fn recipients_that_a_server_refuses_are_charged_and_counted_as_what_they_are() {
    let world = World::meeting("[plan.standard]\nrecipients_per_hour = 6", |sink| sink.obedient());
    for (tag, messages) in [("+rcpt450", 2), ("+rcpt550", 2), ("", 4)] {
        world.mailer(uid::SENDER).messages(messages).recipient_tag(tag).run();
    }
    let sink = world.sink.settled_tally();
    assert_eq!([sink.recipients.accepted, sink.recipients.deferred, sink.recipients.rejected], [2, 2, 2]);
    let ours = world.agent.tally_after(uid::SENDER, sink.sessions);
    assert_eq!(ours, sink);
}

#[test]
fn the_hosts_recipient_limit_is_exact_over_all_users_and_spares_the_exempt() {
    let world = World::with("[host]\nrecipients_per_hour = 40");
    let mailer = |user| world.mailer(user).threads(2).messages(10).recipients(3);
    let reports = at_once([uid::SENDER, uid::OTHER].map(mailer).map(|mailer| || mailer.run()));
    let named: u64 = reports.iter().map(|report| report.seen.recipients.total()).sum();
    assert_eq!((named, world.sink.settled_tally().recipients.total()), (40, 40));
    let exempt = world.mailer(uid::EXEMPT).messages(2).recipients(5).run();
    assert_eq!(exempt.seen.messages.accepted, 2);
    assert_eq!(world.metrics().units("61004", "recipient", "exempt"), 10);
}

#[test]
fn recipients_in_observe_mode_would_be_refused_as_often_as_they_are_in_enforce_mode() {
    for (mode, verdict, passed) in [("enforce", "refused", 7), ("observe", "would_refuse", 20)] {
        let world = World::with(&format!("mode = '{mode}'\n[plan.standard]\nrecipients_per_day = 7"));
        let report = world.mailer(uid::SENDER).messages(20).run();
        assert_eq!(report.seen.messages.accepted, passed, "{mode}");
        assert_eq!(world.metrics().units("61001", "recipient", verdict), 13, "{mode}");
        assert_eq!(world.metrics().units("61001", "recipient", "allowed"), 7, "{mode}");
        assert_eq!(world.sink.settled_tally().recipients.total(), passed, "{mode}");
    }
}

/// A group that is cut over packets is judged packet by packet: the parts that passed are known to the server, and the
/// one that did not never is.
#[test]
fn a_command_that_is_cut_in_two_is_charged_when_its_end_leaves() {
    let world = World::with("[plan.standard]\nrecipients_per_hour = 2");
    let mut talk = world.mailer(uid::SENDER).talk();
    talk.greet();
    assert_eq!(talk.say("MAIL FROM:<a@far.test>\r\n", 1).codes, [250]);
    assert_eq!(talk.say("RCPT TO:<b@far.test>\r\nRC", 1).codes, [250]);
    assert_eq!(talk.say("PT TO:<c@far.test>\r\nRCPT TO:<d@fa", 1).codes, [250]);
    assert_eq!(world.metrics().units("61001", "recipient", "allowed"), 2);
    let heard = talk.say("r.test>\r\n", 1);
    assert_eq!((heard.codes.len(), heard.end.must("an end").as_str()), (0, "ECONNABORTED"));
    assert_eq!(world.sink.settled_tally().recipients.total(), 2);
}

/// An urgent byte is in the stream for whoever reads packets, and not for the server, which then reads another command.
fn urgent(world: &World) -> (u64, Option<String>) {
    let mut talk = world.mailer(uid::SENDER).talk();
    talk.greet();
    assert_eq!(talk.say("MAIL FROM:<a@far.test>\r\n", 1).codes, [250]);
    for name in ["b", "c", "d"] {
        talk.urge("RC!");
        let heard = talk.say(&format!("PT TO:<{name}@far.test>\r\n"), 1);
        if heard.end.is_some() {
            return (world.sink.settled_tally().recipients.total(), heard.end);
        }
    }
    talk.close();
    (world.sink.settled_tally().recipients.total(), None)
}

#[test]
fn a_command_with_an_urgent_byte_in_it_does_not_get_past_a_limit() {
    let world = World::with("[plan.standard]\nrecipients_per_hour = 1");
    let (named, end) = urgent(&world);
    assert_eq!((named, end.as_deref()), (0, Some("ECONNABORTED")));
    let free = World::with("");
    assert_eq!(urgent(&free), (3, None), "let be where nothing is limited");
    free.agent.tally_after(uid::SENDER, 1);
    assert_eq!(free.metrics().unseen("61001", "unclear"), 1);
}
