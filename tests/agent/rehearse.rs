//! `rehearse`: what another configuration would have done with what the kernel has counted.

use crate::scene::{SOON, assert_has, json};
use serde_json::Value;
use smtp_tests::{World, eventually, uid};

#[track_caller]
fn rehearsed(world: &World, more: &[&str]) -> Value {
    json(&world.agent.cli(&[&["rehearse", "--since", "1h", "--json"], more].concat()).expect_ok("rehearse"))
}

#[test]
fn what_was_only_observed_is_rehearsed_under_limits_that_nobody_enforces_yet() {
    let world = World::with("mode = \"observe\"\n");
    world.dial().uid(uid::SENDER).count(40).run();
    world.dial().uid(uid::OTHER).count(3).run();
    world.dial().uid(uid::EXEMPT).count(50).run();
    eventually(SOON * 6, "all is in the history", || rehearsed(&world, &[])["rehearsal"]["connections"]["then"] == 93);
    // The file says something else now; the agent goes on as it began.
    world.agent.rewrite_config(
        "mode = \"observe\"\n[plan.standard]\nper_hour = 20\nsoft_percent = 125\n[host]\nper_day = 100\n",
    );
    let told = rehearsed(&world, &[]);
    let rehearsal = &told["rehearsal"];
    let of = |name: u32| {
        let (name, accounts) = (name.to_string(), rehearsal["accounts"].as_array().expect("accounts"));
        accounts.iter().find(|account| account["account"] == name).expect("the account").clone()
    };
    let sender = of(uid::SENDER);
    assert_eq!(sender["attempts"], 40, "{told}");
    assert_eq!((&sender["passed"], &sender["deferred"], &sender["refused"]), (&20.into(), &5.into(), &15.into()));
    assert_eq!(sender["reason"], "account_hour");
    assert_eq!((&of(uid::OTHER)["passed"], &of(uid::OTHER)["first_stop"]), (&3.into(), &Value::Null));
    assert_eq!(of(uid::EXEMPT)["passed"], 50, "exempt accounts count for the host and are not stopped");
    assert_eq!(rehearsal["connections"]["would"], 73);
    let text = world.agent.cli(&["rehearse", "--since", "1h"]).expect_ok("rehearse").stdout;
    assert_has(
        &text,
        &[
            "observe under ",
            "93 attempts of 3 accounts",
            "FIRST STOP",
            "account_hour",
            "20 spared (21 %)",
            "windows: empty at the beginning; the history reaches no further back",
            "not rehearsed: blocks and allows said by hand",
        ],
    );
    assert_eq!(told["windows_since"], Value::Null, "{told}");
    let one = rehearsed(&world, &["--user", &uid::OTHER.to_string()]);
    assert_eq!(one["rehearsal"]["accounts"].as_array().map(Vec::len), Some(1));
    assert_eq!(world.counted_uid(uid::SENDER, "allowed"), 40, "nothing is charged by it");
}

#[test]
fn a_rehearsal_of_who_may_send_where_goes_by_the_destinations_that_events_told_of() {
    let world = World::with("mode = \"observe\"\n");
    for (to, n) in [(world.veth.far.v4.into(), 20), (world.veth.far.v6.into(), 10)] {
        world.dial_to(to, 25).uid(uid::SENDER).count(n).run();
        world.dial_to(to, 25).uid(uid::OTHER).count(n).run();
    }
    // Messages are counted without a port.
    for (user, messages) in [(uid::SENDER, 3), (uid::OTHER, 2)] {
        assert_eq!(world.mailer(user).messages(messages).run().seen.messages.accepted, u64::from(messages));
    }
    eventually(SOON * 6, "all is in the history", || {
        let told = rehearsed(&world, &[]);
        let events = json(&world.agent.cli(&["report", "--since", "1h", "--json"]).expect_ok("report"));
        (&told["rehearsal"]["connections"]["then"], &told["rehearsal"]["messages"]["then"]) == (&62.into(), &5.into())
            && (&events["attributed"], &events["rows"][0]["messages"]["accepted"]) == (&62.into(), &3.into())
    });
    let rules = format!(
        "mode = \"observe\"\n[default]\nplan = \"deny\"\n[[rule]]\nuser = \"{}\"\nto = \"{}\"\nplan = \"allow\"\n",
        uid::SENDER,
        world.veth.far.v4
    );
    world.agent.rewrite_config(&rules);
    let told = rehearsed(&world, &[]);
    let accounts = told["rehearsal"]["accounts"].as_array().expect("accounts");
    let passed = |name: u32| {
        let name = name.to_string();
        let account = accounts.iter().find(|account| account["account"] == name).expect("the account");
        (account["passed"].as_u64(), account["refused"].as_u64(), account["reason"].clone())
    };
    assert_eq!(passed(uid::SENDER), (Some(21), Some(10), "deny_plan".into()), "{told}");
    assert_eq!(passed(uid::OTHER), (Some(0), Some(31), "deny_plan".into()), "{told}");
    assert_eq!(told["rehearsal"]["messages"]["would"], 3, "{told}");
    assert_eq!(told["estimated"].as_array().map(Vec::len), Some(1), "{told}");
    assert_eq!(told["not_rehearsed"].as_array().map(Vec::len), Some(1), "what was said by hand: {told}");
    assert_has(&world.agent.cli(&["rehearse", "--since", "1h"]).expect_ok("rehearse").stdout, &["estimated: how much"]);
}

#[test]
fn a_configuration_with_an_error_is_not_rehearsed() {
    let world = World::with("");
    let path = world.agent.config_path().with_file_name("new.toml");
    std::fs::write(&path, "[plan.standard]\nper_hour = \"many\"\n").expect("written");
    let output = world.agent.cli(&["rehearse", "--config", path.to_str().expect("a path")]);
    assert_eq!(output.code, 2, "{output:?}");
    assert_has(&output.stderr, &["new.toml:2:12", "`per_hour`"]);
}
