//! How connections end, how long they were, and what is told of each.

use nix::sys::socket::{setsockopt, sockopt};
use smtp_tests::{
    Listener, Mailer, Must, Netns, Veth, World, eventually, hands::while_going_on, mailer::How, process, uid,
};
use std::{
    net::{SocketAddr, TcpListener},
    process::Command,
    sync::atomic::AtomicBool,
    thread,
    time::Duration,
};

const SOON: Duration = Duration::from_secs(5);

/// Ports where nobody listens, where nothing comes through, and where a filter says no.
const NOBODY: u16 = 2526;
const SILENCE: u16 = 2527;
const FILTERED: u16 = 2528;
/// Where connections are reset as soon as they are there.
const RUDE: u16 = 2529;
const PORTS: &str = "[smtp]\nports = [25, 2526, 2527, 2528, 2529]";

/// Sets a filter up in the sink's namespace.
#[track_caller]
fn filter(ns: &Netns) {
    let rules = format!(
        "table inet t {{ chain c {{ type filter hook input priority 0; tcp dport {SILENCE} drop; \
         ip version 4 tcp dport {FILTERED} reject with icmp type host-unreachable; }}; }}"
    );
    let mut command = Command::new("nft");
    ns.enter(command.arg(&rules));
    process::output(&mut command, SOON).expect_ok("nft");
}

fn mailer_to(world: &World, port: u16) -> Mailer {
    Mailer::to(SocketAddr::new(world.veth.far.v4.into(), port)).cgroup(world.cgroup()).uid(uid::SENDER)
}

#[track_caller]
fn ends_as(world: &World, outcome: &str, count: u64) {
    let counted = || world.metrics().sessions("61001", outcome);
    eventually(SOON, &format!("{count} times {outcome}"), || counted() >= count);
    assert_eq!(counted(), count, "{outcome}");
}

#[test]
fn connections_that_were_made_end_closed_or_reset() {
    let world = World::with(PORTS);
    let mut talk = world.mailer(uid::SENDER).talk();
    talk.greet();
    talk.close();
    ends_as(&world, "closed", 1);
    talk.greet();
    assert_eq!(talk.say("QUIT\r\n", 1).codes, [221]);
    assert_eq!(talk.say("", 1).end.as_deref(), Some("EOF"), "the server closes first");
    talk.close();
    ends_as(&world, "closed", 2);
    talk.greet();
    talk.reset();
    ends_as(&world, "reset", 1);
    let rude = SocketAddr::new(world.veth.far.v4.into(), RUDE);
    let rude = world.ns.run(|| TcpListener::bind(rude)).must("cannot listen");
    let serve = |_: &AtomicBool| {
        let (stream, _) = rude.accept().must("nobody came");
        setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).must("no linger");
    };
    while_going_on([serve], || {
        assert_eq!(mailer_to(&world, RUDE).talk().connect().end.as_deref(), Some("ECONNRESET"));
    });
    ends_as(&world, "reset", 2);
    ends_as(&world, "established", 4);
}

#[test]
fn connections_that_were_not_made_end_refused_unreachable_or_aborted() {
    let world = World::with(PORTS);
    filter(&world.ns);
    assert_eq!(mailer_to(&world, NOBODY).talk().dial().end.as_deref(), Some("ECONNREFUSED"));
    ends_as(&world, "refused", 1);
    let filtered = world.dial_to(world.veth.far.v4.into(), FILTERED).uid(uid::SENDER).run();
    assert_eq!(filtered.count("EHOSTUNREACH"), 1, "{filtered:?}");
    ends_as(&world, "unreachable", 1);
    let impatient = mailer_to(&world, SILENCE).patience(Duration::from_millis(200));
    assert_eq!(impatient.talk().dial().end.as_deref(), Some("silence"));
    ends_as(&world, "aborted", 1);
    // Who asks for errors himself hears of the filter before the kernel gives up (`sk_err_soft`), and gives up first.
    assert_eq!(mailer_to(&world, FILTERED).talk().dial().end.as_deref(), Some("EHOSTUNREACH"));
    ends_as(&world, "aborted", 2);
    ends_as(&world, "established", 0);
    assert_eq!(world.counted_uid(uid::SENDER, "allowed"), 4, "each of them was a connection");
}

#[test]
fn connections_that_nobody_answers_time_out() {
    let world = World::with(PORTS);
    filter(&world.ns);
    // The host's own settings are not to be touched, so the client has a namespace of its own.
    let client = Netns::new();
    client.sysctl("net.ipv4.tcp_syn_retries", "1");
    client.sysctl("net.ipv4.tcp_syn_linear_timeouts", "0");
    let wire = Veth::between(&client, &world.ns);
    let to = SocketAddr::new(wire.far.v4.into(), SILENCE);
    let mut talk = Mailer::to(to).cgroup(world.cgroup()).uid(uid::SENDER).netns(&client).talk();
    assert_eq!(talk.dial().end.as_deref(), Some("ETIMEDOUT"));
    let counted = || world.metrics().value("smtp_sessions_total", &[("outcome", "timed_out")]);
    eventually(SOON, "it timed out", || counted() == 1.0);
}

#[test]
fn bytes_and_exchanges_are_those_of_the_client() {
    let world = World::meeting("", |sink| sink.chunking());
    let mailer = world.mailer(uid::SENDER).threads(3).messages(20).recipients(3).how(How::Mixed);
    let reports = [mailer.clone().run(), mailer.pipeline().run()];
    let sum = |of: fn(&smtp_tests::mailer::Report) -> u64| reports.iter().map(of).sum::<u64>() as f64;
    world.agent.tally_after(uid::SENDER, 12);
    let metrics = world.metrics();
    let bytes = |direction| metrics.value("smtp_session_bytes_total", &[("user", "61001"), ("direction", direction)]);
    assert_eq!((bytes("sent"), bytes("received")), (sum(|report| report.sent), sum(|report| report.received)));
    let mut talk = world.mailer(uid::OTHER).talk();
    talk.greet();
    assert_eq!(talk.message().codes, [250, 250, 354, 250]);
    thread::sleep(Duration::from_millis(300));
    talk.close();
    world.agent.tally_after(uid::OTHER, 1);
    let metrics = world.metrics();
    let other = |name| metrics.value(name, &[("user", "61002")]);
    assert_eq!(other("smtp_session_exchanges_total"), 5.0, "EHLO, MAIL, RCPT, DATA and the text");
    let seconds = other("smtp_session_duration_seconds_total");
    assert!((0.3..3.0).contains(&seconds), "{seconds}");
}

#[test]
fn a_session_that_has_ended_is_told_with_all_it_came_to() {
    let world = World::with("");
    let listener = Listener::start(&world);
    let mut talk = world.mailer(uid::SENDER).talk();
    talk.greet();
    assert_eq!(talk.message().codes, [250, 250, 354, 250]);
    talk.close();
    let event = listener.wait_for("session", 1).pop().must("an event");
    let wanted = serde_json::json!({
        "account": "61001", "uid": uid::SENDER, "gid": uid::SENDER, "tgid": talk.pid(), "comm": "smtp-mailer",
        "destination": world.veth.far.v4, "port": 25, "route": "remote", "outcome": "closed", "container": false,
        "messages": {"accepted": 1, "deferred": 0, "rejected": 0, "unknown": 0},
        "exchanges": 5, "retransmits": 0, "notes": [],
    });
    for (key, value) in wanted.as_object().must("an object") {
        assert_eq!(&event[key], value, "{key} of {event}");
    }
    assert_eq!(event["recipients"]["accepted"], 1);
    let metrics = world.metrics();
    let sent = metrics.value("smtp_session_bytes_total", &[("user", "61001"), ("direction", "sent")]);
    assert_eq!(event["bytes_sent"].as_f64(), Some(sent));
    assert_eq!(listener.heard("stop"), [] as [serde_json::Value; 0]);
}

#[test]
fn a_refused_message_is_told_with_its_reason_and_so_is_its_session() {
    for (limit, reason, unit) in [
        ("[plan.standard]\nmessages_per_hour = 1\nmessages_per_day = 9", "messages_hour", "message"),
        ("[plan.standard]\nmessages_per_day = 1", "messages_day", "message"),
        ("[plan.standard]\nrecipients_per_hour = 1", "recipients_hour", "recipient"),
        ("[plan.standard]\nrecipients_per_day = 1", "recipients_day", "recipient"),
        ("[host]\nmessages_per_hour = 1", "host_messages_hour", "message"),
        ("[host]\nrecipients_per_day = 1", "host_recipients_day", "recipient"),
    ] {
        let world = World::with(limit);
        let listener = Listener::start(&world);
        let mut talk = world.mailer(uid::SENDER).talk();
        talk.greet();
        assert_eq!(talk.message().end, None);
        assert_eq!(talk.message().end.as_deref(), Some("ECONNABORTED"));
        let stop = listener.wait_for("stop", 1).pop().must("an event");
        for (key, value) in [("reason", reason), ("unit", unit), ("verdict", "refused"), ("account", "61001")] {
            assert_eq!(stop[key], value, "{key} of {stop}");
        }
        assert_eq!(stop["connection_ended"], true, "{stop}");
        assert!(stop["exe"].as_str().is_some_and(|exe| exe.ends_with("/smtp-mailer")), "{stop}");
        assert_eq!(stop["messages"]["accepted"], 1, "{stop}");
        let session = listener.wait_for("session", 1).pop().must("an event");
        assert_eq!((&session["outcome"], &session["tgid"]), (&"ended".into(), &talk.pid().into()), "{session}");
        ends_as(&world, "ended", 1);
    }
}
