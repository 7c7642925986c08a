//! What TLS hides, and what it does not.

use crate::table::Row;
use smtp_tests::{
    Etc, Metrics, World,
    mta::{Exim, Letter, Msmtp, Postfix, Swaks},
    sink::Tally,
    uid,
};

/// Sessions were seen, and that they are encrypted; nothing of what was in them.
#[track_caller]
fn assert_hidden(row: &Row, metrics: &Metrics, user: &str) {
    assert!(row.sink.encrypted > 0 && row.sink.encrypted == row.sink.sessions, "{row:?}");
    row.assert_equal();
    let hidden = Tally { sessions: row.ours.sessions, encrypted: row.ours.encrypted, ..Tally::default() };
    assert_eq!(row.ours, hidden);
    for name in ["smtp_session_bytes_total", "smtp_session_exchanges_total"] {
        assert!(metrics.value(name, &[("user", user)]) > 3.0, "{name}");
    }
    assert_eq!(metrics.units(user, "message", "allowed") + metrics.units(user, "message", "refused"), 0);
}

#[test]
fn of_starttls_only_sessions_bytes_and_exchanges_are_known() {
    // A limit of messages ends nobody whom it cannot count.
    let world = World::meeting("[plan.standard]\nmessages_per_hour = 1\nper_hour = 5\nsoft_percent = 100", |sink| {
        sink.starttls()
    });
    let swaks = Swaks::sending_to(world.sink_address());
    let send = || swaks.send(uid::SENDER, Some(world.cgroup()), &Letter::to(&["a@far.test"]), &["--tls"]).code;
    assert_eq!([send(), send(), send(), send()], [0; 4]);
    let msmtp = Msmtp::sending_to(world.sink_address());
    let options = ["--tls=on", "--tls-certcheck=off"];
    msmtp.send(uid::SENDER, Some(world.cgroup()), &Letter::to(&["a@far.test"]), &options).expect_ok("msmtp");
    assert_eq!(world.sink.messages().len(), 5);
    let row = Row::of("swaks and msmtp, STARTTLS", &world, "61001");
    assert_hidden(&row, &world.metrics(), "61001");
    // Connections are limited all the same.
    assert_ne!(send(), 0);
    assert_eq!(world.counted_uid(uid::SENDER, "refused"), 1);
    assert_eq!(world.sink.messages().len(), 5);
}

#[test]
fn of_implicit_tls_only_sessions_bytes_and_exchanges_are_known() {
    let world = World::meeting("[plan.standard]\nper_hour = 2\nsoft_percent = 100", |sink| sink.implicit_tls());
    let swaks = Swaks::sending_to(world.sink_address());
    let send = || swaks.send(uid::SENDER, Some(world.cgroup()), &Letter::to(&["a@far.test"]), &["--tlsc"]).code;
    assert_eq!([send(), send()], [0; 2]);
    let row = Row::of("swaks, implicit TLS", &world, "61001");
    assert_hidden(&row, &world.metrics(), "61001");
    assert_ne!(send(), 0, "connections are limited all the same");
    assert_eq!(world.sink.messages().len(), 2);
}

#[test]
fn mtas_that_take_tls_where_it_is_offered_are_hidden_too() {
    let mta = Exim::sending_to(([127, 0, 0, 1], 25).into()).start().uid();
    let etc = Etc::with_users(&[("the-mta", mta, mta)]);
    let mut world = World::made("", |builder| builder.etc(&etc), |sink| sink.starttls().chunking());
    world.agent.start();
    let exim = Exim::sending_to(world.sink_address()).tls().start();
    for n in 0..3 {
        exim.send(uid::SENDER, Some(world.cgroup()), "shop@client.test", &format!("u{n}@far.test"), "hello");
    }
    assert_eq!(world.sink.messages().len(), 3, "{}", exim.mainlog());
    assert_hidden(&Row::of("exim, STARTTLS", &world, "the-mta"), &world.metrics(), "the-mta");

    let world = World::meeting("", |sink| sink.starttls());
    let postfix = Postfix::sending_to(world.sink_address()).main_option("smtp_tls_security_level = may");
    let postfix = postfix.start_in(Some(world.cgroup()));
    postfix.send(uid::SENDER, None, &Letter::to(&["a@far.test"])).expect_ok("sendmail");
    postfix.wait_until_tried();
    assert_eq!(world.sink.messages().len(), 1, "{}", postfix.log());
    let sink = world.sink.settled_tally();
    assert_eq!((sink.encrypted, sink.messages.total()), (1, 0));
    let encrypted = world.metrics().value("smtp_sessions_unseen_total", &[("cause", "encrypted")]);
    assert_eq!(encrypted, 1.0);
    assert_eq!(world.metrics().value("smtp_messages_total", &[]), 0.0);
}
