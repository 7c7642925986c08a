//! Submissions to the local MTA over a connection: counted for the user who makes them, limited where his plan says so.

use smtp_tests::{Mailer, Netns, Sink, World, mailer::How, port, uid};
use std::net::SocketAddr;

/// A world with a local MTA on a port of the test's own, which stands where 25 would be.
struct Local {
    world: World,
    mta: Sink,
}

#[track_caller]
fn local(toml: &str) -> Local {
    let port = port::free();
    let mta = Sink::at(([127, 0, 0, 1], port)).chunking().obedient().start();
    let world = World::built(toml, |builder| builder.config(|c| c.set("smtp.ports", vec![25, i64::from(port)])));
    Local { world, mta }
}

impl Local {
    fn mailer(&self, user: u32) -> Mailer {
        Mailer::to(self.mta.address()).cgroup(self.world.cgroup()).uid(user)
    }
}

const LIMITS: &str =
    "per_hour = 3\nsoft_percent = 100\nmessages_per_hour = 4\nrecipients_per_hour = 6\nmax_failed_percent = 50";

#[test]
fn local_submissions_are_counted_and_not_limited() {
    let local = local(&format!(
        "[plan.standard]\n{LIMITS}\n[host]\nmessages_per_hour = 1\nrecipients_per_hour = 1\nper_hour = 1"
    ));
    let mailer = local.mailer(uid::SENDER).messages(10).recipients(2).each(2);
    assert_eq!(mailer.how(How::Mixed).run().seen.messages.accepted, 10);
    local.mailer(uid::SENDER).messages(10).sender_tag("+body550").run();
    let theirs = local.mta.settled_tally();
    assert_eq!(local.world.agent.tally_after(uid::SENDER, theirs.sessions), theirs);
    let metrics = local.world.metrics();
    let on = |route, name| metrics.value(name, &[("user", "61001"), ("route", route)]);
    for name in ["smtp_messages_total", "smtp_recipients_total", "smtp_sessions_total", "smtp_connections_total"] {
        assert!(on("local", name) > 5.0 && on("remote", name) == 0.0, "{name}");
    }
    for unit in ["connection", "message", "recipient"] {
        assert_eq!(metrics.value("smtp_host_usage", &[("unit", unit)]), 0.0, "the host is charged by the MTA: {unit}");
    }
    assert_eq!(metrics.units("61001", "message", "allowed"), 20);
}

#[test]
fn local_submissions_are_limited_where_the_plan_says_so() {
    let host = "[host]\nmessages_per_hour = 1\nrecipients_per_hour = 1\nper_hour = 1";
    let local =
        local(&format!("{host}\n[plan.standard]\nlocal = true\nmessages_per_hour = 4\nrecipients_per_hour = 6"));
    let report = local.mailer(uid::SENDER).messages(10).how(How::Mixed).run();
    assert_eq!((report.seen.messages.accepted, report.cuts()), (4, 6), "{report:?}");
    let report = local.mailer(uid::OTHER).messages(4).recipients(4).run();
    assert_eq!((report.seen.messages.accepted, report.cuts()), (1, 3), "{report:?}");
    let theirs = local.mta.settled_tally();
    assert_eq!((theirs.messages.accepted, theirs.recipients.total()), (5, 6 + 6));
    assert_eq!(local.world.metrics().value("smtp_host_usage", &[]), 0.0);
    // A window is one for all ways: what went to the local MTA is not there for remote servers.
    assert_eq!(local.world.mailer(uid::OTHER).messages(1).run().cuts(), 1);
}

#[test]
fn local_connections_and_the_brake_are_limits_too_where_the_plan_says_so() {
    let local = local("[plan.standard]\nlocal = true\nper_hour = 3\nsoft_percent = 100\nmax_failed_percent = 50");
    let report = local.mailer(uid::SENDER).messages(5).each(1).run();
    assert_eq!((report.seen.messages.accepted, report.eperm()), (3, 2), "{report:?}");
    local.mailer(uid::OTHER).messages(5).sender_tag("+body550").run();
    assert_eq!(local.mailer(uid::OTHER).run().eperm(), 1, "braked");
}

/// Whoever talks to this host's MTA submits to it, by whichever address of the host, and from a container too.
#[test]
fn every_address_of_the_host_leads_to_its_mta() {
    let local = local("[plan.standard]\nlocal = true");
    let own = SocketAddr::new(local.world.veth.near.v4.into(), local.mta.address().port());
    let mta = Sink::at(own).start();
    let report = Mailer::to(own).cgroup(local.world.cgroup()).uid(uid::SENDER).messages(2).run();
    assert_eq!(report.seen.messages.accepted, 2);
    assert_eq!(mta.settled_tally().messages.accepted, 2);
    local.world.agent.tally_after(uid::SENDER, 1);
    let metrics = local.world.metrics();
    assert_eq!(metrics.value("smtp_messages_total", &[("user", "61001"), ("route", "local")]), 2.0);
    let inside: &Netns = &local.world.ns;
    let report = Mailer::to(own).cgroup(local.world.cgroup()).uid(uid::SENDER).netns(inside).run();
    assert_eq!(report.seen.messages.accepted, 1);
    let counted =
        |route| local.world.metrics().value("smtp_messages_total", &[("route", route), ("outcome", "accepted")]);
    assert_eq!((counted("local"), counted("remote")), (3.0, 0.0));
}
