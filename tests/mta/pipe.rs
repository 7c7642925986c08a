//! Submissions with the real sendmail of an MTA: one for each time that a user runs it.

use smtp_tests::{
    Must, World, bpffs, eventually,
    mountns::MountNs,
    mta::{Exim, Letter, Postfix},
    uid,
};
use std::{path::PathBuf, time::Duration};

#[track_caller]
fn piped(world: &World, user: u32, verdict: &str) -> u64 {
    let user = user.to_string();
    let labels = [("user", user.as_str()), ("route", "pipe"), ("verdict", verdict)];
    world.metrics().value("smtp_connections_total", &labels) as u64
}

#[track_caller]
fn piped_in_all(world: &World) -> u64 {
    world.metrics().value("smtp_connections_total", &[("route", "pipe")]) as u64
}

/// Who ran it how often, for the message of a failed test.
#[track_caller]
fn piped_by_user(world: &World) -> Vec<(String, f64)> {
    let metrics = world.metrics();
    let all = metrics.series("smtp_connections_total").into_iter();
    let piped = all.filter(|series| series.label("route") == "pipe" && series.value > 0.0);
    piped.map(|series| (series.label("user").to_string(), series.value)).collect()
}

/// A world that takes this program for sendmail, where it is to be seen.
#[track_caller]
fn world_with((view, program): (&MountNs, PathBuf), toml: &str) -> World {
    let config = format!("[smtp]\nsendmail = ['{}']\n{toml}", program.display());
    World::built(&config, |builder| builder.view(view))
}

/// An exim whose mail nobody takes but the blackhole for client.test.
#[track_caller]
fn exim() -> Exim {
    // A view shows what is mounted when it is made, and an agent in it wants to pin.
    bpffs::ensure();
    Exim::sending_to(([127, 0, 0, 1], 9).into()).user("shop", uid::SENDER).start()
}

#[track_caller]
fn submit(exim: &Exim, user: u32) -> i32 {
    exim.send(user, None, "shop@client.test", "inbox@client.test", "hello").code
}

#[test]
fn a_submission_to_exim_is_one_however_often_exim_executes_itself() {
    let exim = exim();
    // As the default configuration has it: the MTA's own user is not limited, and neither is what it does for itself.
    let world = world_with(exim.program(), &format!("[allow]\nusers = ['{}']", exim.uid()));
    for n in 1..=3 {
        assert_eq!(submit(&exim, uid::SENDER), 0);
        assert_eq!(piped(&world, uid::SENDER, "allowed"), n, "{}", exim.mainlog());
    }
    // Delivered by a process that exim has executed anew.
    assert_eq!(exim.mainlog().matches("Completed").count(), 3, "{}", exim.mainlog());
    exim.queue_up(uid::OTHER, None, &Letter::to(&["inbox@client.test"])).expect_ok("exim");
    assert_eq!(piped(&world, uid::OTHER, "allowed"), 1);
    let before = piped_in_all(&world);
    assert_eq!(before, 4, "{:?}", piped_by_user(&world));
    // Root's queue runner is one execution of root's, whatever it delivers.
    exim.run_queue(None);
    assert_eq!(piped(&world, uid::OTHER, "allowed"), 1);
    assert!(piped_in_all(&world) <= before + 1, "{}", piped_in_all(&world));
}

#[test]
fn what_a_user_makes_exim_execute_is_his_own_doing() {
    let exim = exim();
    let world = world_with(exim.program(), "");
    let output = exim.exim(&["-be", "${run{/usr/sbin/exim4 -bV}{yes}{no}}"], Some(uid::SENDER), None);
    assert!(output.stdout.contains("yes"), "{output:?}");
    assert_eq!(piped(&world, uid::SENDER, "allowed"), 2, "exim -be, and what it was told to run");
}

#[test]
fn a_denied_user_cannot_submit_to_exim_and_a_limited_one_only_so_often() {
    let exim = exim();
    let world = world_with(exim.program(), "[plan.standard]\nmessages_per_hour = 2\nlocal = true");
    assert_eq!(submit(&exim, uid::DENIED), 128 + 9);
    assert_eq!([(); 4].map(|()| submit(&exim, uid::SENDER)), [0, 0, 137, 137]);
    assert_eq!(exim.mainlog().matches(" <= ").count(), 2, "{}", exim.mainlog());
    assert_eq!(piped(&world, uid::SENDER, "refused"), 2);
    assert_eq!(piped(&world, uid::DENIED, "refused"), 1);
    assert_eq!(submit(&exim, uid::EXEMPT), 0);
}

#[test]
fn a_submission_to_postfix_is_one() {
    bpffs::ensure();
    let postfix = Postfix::sending_to(([127, 0, 0, 1], 9).into()).user("shop", uid::SENDER).start();
    let world = world_with(postfix.program(), "");
    for n in 1..=3 {
        postfix.send(uid::SENDER, None, &Letter::to(&["inbox@client.test"])).expect_ok("sendmail");
        assert_eq!(piped(&world, uid::SENDER, "allowed"), n);
    }
    postfix.wait_until_tried();
    let status = world.agent.cli(&["status", "--json"]).expect_ok("status");
    let status: serde_json::Value = serde_json::from_str(&status.stdout).must("JSON");
    assert!(status.to_string().contains("\"pipe\":{"), "{status}");
    eventually(Duration::from_secs(2), "and stays one", || piped_in_all(&world) == 3);
}
