//! Real mail servers and their load, through the gate to a sink in a namespace of its own.

mod clients;
mod culprits;
mod destinations;
mod doctor;
mod limits;
mod notify;
mod pipe;
mod redirect;
mod relay;
mod table;
mod tls;

use std::{net::SocketAddr, time::Duration};

use smtp_tests::{Etc, World, mta::Exim, netstat, uid};

fn sink(world: &World) -> SocketAddr {
    SocketAddr::new(world.veth.far.v4.into(), 25)
}

const MTA: &str = "Debian-exim";

/// A world with an exim, whose user the agent knows by the name it has in Debian.
fn world_with_exim() -> (World, Exim, Etc) {
    let exim_of = |to: SocketAddr| Exim::sending_to(to).user("shop", uid::SENDER).start();
    let uid = exim_of(SocketAddr::from(([127, 0, 0, 1], 25))).uid();
    let etc = Etc::with_users(&[(MTA, uid, uid)]);
    let world = World::stopped_with("", |builder| builder.etc(&etc));
    let exim = exim_of(sink(&world));
    (world, exim, etc)
}

/// Exim connects as Debian-exim with TCP Fast Open: no connect(2) at all.
#[test]
fn exim_delivers_through_the_gate_while_another_user_is_refused() {
    let (mut world, exim, _etc) = world_with_exim();
    // Only the MTA may send: the rule of a cPanel host.
    world.agent.rewrite_config("[allow]\nusers = [\"Debian-exim\"]\n[default]\nplan = \"deny\"");
    world.agent.start();
    let send = |body: &str| {
        exim.send(uid::SENDER, Some(world.cgroup()), "shop@client.test", "you@far.test", body).expect_ok("exim")
    };
    // The first delivery learns the cookie, the next ones open fast.
    let opened = || netstat::counter(Some(&world.ns), "TcpExt", "TCPFastOpenPassive");
    send("one");
    let before = opened();
    send("two");
    send("three");
    assert!(opened() > before, "exim used TCP Fast Open");
    for _ in 0..3 {
        assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1, "the user himself may not connect");
    }
    assert_eq!(exim.queue(), 0, "{}", exim.mainlog());
    assert_eq!(world.sink.messages().len(), 3);
    let connections = world.sink.connections_when_quiet(Duration::from_millis(300));
    assert_eq!(world.counted(MTA, "exempt"), connections, "as many as the sink has seen");
    assert_eq!(world.counted_uid(uid::SENDER, "refused"), 3);
    assert_eq!(world.counted_in_all(), connections + 3);
}

#[test]
fn exim_at_its_limit_keeps_the_mail_in_its_queue_and_loses_none() {
    let (mut world, exim, _etc) = world_with_exim();
    let limit = |per_hour: u32| {
        format!(
            "[allow]\nusers = []\n[[rule]]\nuser = \"{MTA}\"\nplan = \"mta\"\n[plan.mta]\nper_hour = {per_hour}\nsoft_percent = 150"
        )
    };
    world.agent.rewrite_config(&limit(2));
    world.agent.start();
    for n in 0..5 {
        exim.send(uid::SENDER, Some(world.cgroup()), "shop@client.test", &format!("u{n}@far.test"), "hello");
    }
    assert_eq!(world.counted(MTA, "allowed"), 2);
    assert_eq!(world.counted(MTA, "deferred"), 1);
    // Exim leaves a host alone that has just put it off; a forced queue run does not.
    exim.run_queue(Some(world.cgroup()));
    assert!(world.counted(MTA, "refused") >= 1);
    assert_eq!(world.sink.messages().len(), 2);
    assert_eq!(exim.queue(), 3, "what was stopped waits");
    assert!(exim.mainlog().contains("Connection refused"), "{}", exim.mainlog());
    assert!(exim.mainlog().contains("Operation not permitted"), "{}", exim.mainlog());

    world.agent.rewrite_config(&limit(100));
    assert_eq!(world.agent.cli(&["reload"]).code, 0);
    exim.run_queue(Some(world.cgroup())).expect_ok("exim -qff");
    smtp_tests::eventually(Duration::from_secs(10), "the queue is delivered", || exim.queue() == 0);
    assert_eq!(world.sink.messages().len(), 5, "nothing was lost");
    let connections = world.sink.connections_when_quiet(Duration::from_millis(300));
    assert_eq!(world.counted(MTA, "allowed"), connections);
}

/// Postfix's own load generator, which uses plain connect(2) as the user who runs it.
#[test]
fn a_users_own_smtp_client_is_counted_and_limited_connection_by_connection() {
    let world = World::with("[plan.standard]\nper_hour = 40\nsoft_percent = 100");
    let tools = Exim::sending_to(sink(&world)).start();
    let target = format!("inet:{}", sink(&world));
    let arguments = ["-c", "-m", "30", "-s", "5", "-f", "a@client.test", "-t", "b@far.test", &target];
    let first = tools.smtp_source(Some(uid::SENDER), Some(world.cgroup()), &arguments);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let connections = world.sink.connections_when_quiet(Duration::from_millis(300));
    assert_eq!(world.sink.messages().len(), 30);
    assert_eq!(world.counted_uid(uid::SENDER, "allowed"), connections, "the sink's own count");

    let second = tools.smtp_source(Some(uid::SENDER), Some(world.cgroup()), &arguments);
    assert_ne!(second.code, 0, "smtp-source ends when a connection is refused");
    assert!(world.counted_uid(uid::SENDER, "refused") >= 1);
    assert_eq!(world.counted_uid(uid::SENDER, "allowed"), 40);
    let connections = world.sink.connections_when_quiet(Duration::from_millis(300));
    assert_eq!(connections, 40, "the limit, to the last one");
}
