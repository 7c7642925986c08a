//! What a supervisor sees: readiness, reloads, the watchdog, the end.

use crate::{bpf, scene::SOON};
use smtp_tests::{Agent, World, eventually, uid};
use std::time::{Duration, Instant};

/// Every assignment sent so far, added to what was seen before.
fn hear(agent: &Agent, heard: &mut Vec<String>) {
    heard.extend(agent.notifications().iter().flat_map(|message| message.lines()).map(Into::into));
}

/// The states among the assignments, without what is told along with them.
fn states(heard: &[String]) -> Vec<&str> {
    heard
        .iter()
        .map(String::as_str)
        .filter(|s| !s.starts_with("STATUS=") && !s.starts_with("MONOTONIC_USEC="))
        .collect()
}

#[test]
fn the_supervisor_is_told_of_every_turn() {
    let mut agent = Agent::builder().notify().start();
    let mut heard = Vec::new();
    eventually(SOON, "it is ready", || {
        hear(&agent, &mut heard);
        states(&heard) == ["READY=1"]
    });
    for text in ["", "mode = 'observe'\n"] {
        heard.clear();
        agent.rewrite_config(text);
        agent.sighup();
        eventually(SOON, "it has reloaded", || {
            hear(&agent, &mut heard);
            states(&heard) == ["RELOADING=1", "READY=1"]
        });
        // systemd's Type=notify-reload wants the time with RELOADING=1.
        assert!(heard.iter().any(|s| s.starts_with("MONOTONIC_USEC=")), "{heard:?}");
    }
    // A reload that fails is over all the same: a supervisor must not wait for ever.
    heard.clear();
    agent.rewrite_config_verbatim("mode = ");
    agent.sighup();
    eventually(SOON, "it has not reloaded", || {
        hear(&agent, &mut heard);
        states(&heard) == ["RELOADING=1", "READY=1"]
    });
    heard.clear();
    agent.rewrite_config("");
    assert_eq!(agent.stop(), 0);
    hear(&agent, &mut heard);
    assert_eq!(states(&heard), ["STOPPING=1"]);
}

#[test]
fn readiness_is_told_when_the_gate_is_in_force_and_not_before() {
    let mut agent = Agent::builder().notify().stopped();
    agent.spawn();
    let mut heard = Vec::new();
    eventually(SOON, "it is ready", || {
        hear(&agent, &mut heard);
        states(&heard) == ["READY=1"]
    });
    assert_eq!(bpf::attached(agent.cgroup()), 2);
    let mut refused = Agent::builder().notify().config(|c| c.set("paths.pins", "/tmp/not-bpffs")).stopped();
    refused.spawn();
    assert_eq!(refused.wait(SOON), 2);
    assert!(refused.notifications().is_empty(), "one that cannot start is never ready");
}

#[test]
fn the_watchdog_is_fed_twice_in_each_of_its_turns() {
    let mut agent = Agent::builder().notify().env("WATCHDOG_USEC", "1000000").start();
    let mut heard = Vec::new();
    let begin = Instant::now();
    eventually(SOON, "the watchdog is fed", || {
        hear(&agent, &mut heard);
        heard.iter().filter(|s| *s == "WATCHDOG=1").count() >= 6
    });
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(1_500) && took < Duration::from_secs(6), "six meals took {took:?}");
    assert_eq!(agent.stop(), 0);
}

#[test]
fn without_a_watchdog_nobody_is_fed() {
    let agent = Agent::builder().notify().start();
    std::thread::sleep(Duration::from_millis(600));
    let mut heard = Vec::new();
    hear(&agent, &mut heard);
    assert!(!heard.iter().any(|s| s == "WATCHDOG=1"), "{heard:?}");
}

#[test]
fn sigterm_and_sigint_end_it_quickly_with_0_and_the_gate_goes_on() {
    let mut world = World::with("[plan.standard]\nper_hour = 2\nsoft_percent = 100\n");
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGINT] {
        let pid = nix::unistd::Pid::from_raw(world.agent.pid());
        nix::sys::signal::kill(pid, signal).expect("it runs");
        assert_eq!(world.agent.wait(Duration::from_secs(3)), 0, "{signal}");
        assert!(!world.agent.run_dir().join("control.sock").exists());
        assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1);
        world.agent.start();
    }
    world.agent.stop();
    let tally = world.dial().uid(uid::SENDER).count(5).run();
    assert_eq!((tally.ok(), tally.eperm()), (2, 3));
    world.agent.start();
    assert_eq!(world.counted_uid(uid::DENIED, "refused"), 2);
    assert_eq!(world.counted_uid(uid::SENDER, "refused"), 3);
}

#[test]
fn listeners_and_scrapes_under_way_do_not_hold_up_the_end() {
    let mut world = World::with("");
    let mut listener = crate::scene::Listener::start(&world, &["events", "--json"]);
    let _idle = std::net::TcpStream::connect(world.agent.metrics_address()).expect("it listens");
    let begin = Instant::now();
    assert_eq!(world.agent.stop(), 0);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    // Whoever listens is told that the agent, not the gate, is gone.
    assert_eq!(listener.running.wait(SOON).map(smtp_tests::process::code), Some(69));
    assert!(listener.running.log().contains("the gate stays in force"));
}

#[test]
fn a_start_that_is_interrupted_leaves_nothing_or_a_gate_that_works() {
    let mut agent = Agent::builder().stopped();
    for milliseconds in [0, 5, 20, 60, 120, 200] {
        agent.spawn();
        std::thread::sleep(Duration::from_millis(milliseconds));
        agent.kill9();
        let status = agent.cli(&["status"]);
        // All, or nothing, or pins that say of themselves that they are half-made and how to remove them.
        let half_made = status.stderr.contains("smtp-agent detach") && status.code == 69;
        let nothing = status.stderr.contains("no gate is pinned") && status.code == 69;
        assert!(status.code == 0 || half_made || nothing, "after {milliseconds} ms: {status:?}");
        if half_made {
            agent.cli(&["detach"]).expect_ok("detach");
        }
    }
    agent.start();
    assert_eq!(bpf::attached(agent.cgroup()), 2);
}
