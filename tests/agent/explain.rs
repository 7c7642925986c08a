//! `explain` says before a connection what the kernel then does with it.

use crate::scene::{assert_has, json};
use serde_json::Value;
use smtp_tests::{Dial, Etc, Sink, World, port, uid};
use std::net::SocketAddr;

/// A world with a second port at the far end and an SMTP server on loopback.
struct Scene {
    world: World,
    far_other: SocketAddr,
    local: SocketAddr,
    _sinks: [Sink; 2],
}

/// Not in `[smtp] ports` here.
const NOT_SMTP: u16 = 2526;

impl Scene {
    #[track_caller]
    fn with(toml: &str) -> Self {
        let local = SocketAddr::from(([127, 0, 0, 1], port::free()));
        let world = World::with(&format!("{toml}\n[smtp]\nports = [25, {}]\n", local.port()));
        let far_other = SocketAddr::new(world.veth.far.v4.into(), NOT_SMTP);
        let sinks = [Sink::at(local).start(), Sink::at(far_other).netns(&world.ns).start()];
        Self { world, far_other, local, _sinks: sinks }
    }

    fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.world.veth.far.v4.into(), 25)
    }

    /// Asks, then connects, and compares. Returns what was foretold.
    #[track_caller]
    fn foretold(&self, user: &str, uid: u32, to: SocketAddr) -> Value {
        let (ip, port) = (to.ip().to_string(), to.port().to_string());
        let output = self.world.agent.cli(&["explain", "--user", user, "--to", &ip, "--port", &port, "--json"]);
        let said = json(&output);
        let verdict = said["verdict"].as_str().expect("a verdict");
        assert_eq!(output.code, i32::from(!["allowed", "exempt", "not_smtp"].contains(&verdict)), "{said}");

        let before = (self.world.counted_in_all(), self.counted(verdict));
        let tally = Dial::to(to).cgroup(self.world.cgroup()).uid(uid).run();
        let after = (self.world.counted_in_all(), self.counted(verdict));
        let result = match verdict {
            "deferred" => tally.econnrefused(),
            "refused" => tally.eperm(),
            _ => tally.ok(),
        };
        assert_eq!((result, tally.total()), (1, 1), "{said} but the client saw {tally:?}");
        let counted = u64::from(verdict != "not_smtp");
        assert_eq!(
            (after.0 - before.0, after.1 - before.1),
            (counted, counted),
            "{said} was counted as something else"
        );
        said
    }

    fn counted(&self, verdict: &str) -> u64 {
        self.world.agent.metrics().value("smtp_connections_total", &[("verdict", verdict)]) as u64
    }

    /// Several attempts of one uid to the far end.
    #[track_caller]
    fn verdicts(&self, uid: u32, attempts: usize) -> Vec<(String, String)> {
        let text = |said: &Value, key: &str| said[key].as_str().unwrap_or_default().to_owned();
        (0..attempts)
            .map(|_| self.foretold(&uid.to_string(), uid, self.remote()))
            .map(|said| (text(&said, "verdict"), text(&said, "reason")))
            .collect()
    }
}

fn expected(runs: &[(usize, &str, &str)]) -> Vec<(String, String)> {
    runs.iter().flat_map(|(n, verdict, reason)| vec![(verdict.to_string(), reason.to_string()); *n]).collect()
}

#[test]
fn through_limit_soft_band_and_refusal_every_answer_comes_true() {
    let scene = Scene::with("[plan.standard]\nper_hour = 4\nsoft_percent = 150\n");
    let wanted = [(4, "allowed", "within_limits"), (2, "deferred", "account_hour"), (2, "refused", "account_hour")];
    assert_eq!(scene.verdicts(uid::SENDER, 8), expected(&wanted));
}

#[test]
fn a_day_that_is_full_hardens_an_hour_that_is_not() {
    let scene = Scene::with("[plan.standard]\nper_hour = 5\nper_day = 3\nsoft_percent = 133\n");
    let wanted = [(3, "allowed", "within_limits"), (1, "deferred", "account_day"), (2, "refused", "account_day")];
    assert_eq!(scene.verdicts(uid::SENDER, 6), expected(&wanted));
}

#[test]
fn the_budget_of_the_host_is_foretold_to_everyone() {
    let scene = Scene::with("[host]\nper_hour = 3\n");
    assert_eq!(scene.verdicts(uid::SENDER, 2), expected(&[(2, "allowed", "within_limits")]));
    // Exempt accounts count and are not held back, as long as the budget is not strict.
    assert_eq!(scene.verdicts(uid::EXEMPT, 2), expected(&[(2, "exempt", "exempt")]));
    assert_eq!(scene.verdicts(uid::OTHER, 1), expected(&[(1, "refused", "host_hour")]));
}

#[test]
fn a_strict_budget_is_foretold_to_exempt_accounts_too() {
    let scene = Scene::with("[host]\nper_day = 1\nstrict = true\n");
    assert_eq!(scene.verdicts(uid::EXEMPT, 2), expected(&[(1, "exempt", "exempt"), (1, "refused", "host_day")]));
}

#[test]
fn in_observe_mode_what_would_have_happened_is_foretold() {
    let scene = Scene::with("mode = 'observe'\n[plan.standard]\nper_hour = 1\nsoft_percent = 200\n");
    let wanted =
        [(1, "allowed", "within_limits"), (1, "would_defer", "account_hour"), (1, "would_refuse", "account_hour")];
    assert_eq!(scene.verdicts(uid::SENDER, 3), expected(&wanted));
    assert_eq!(scene.verdicts(uid::DENIED, 1), expected(&[(1, "would_refuse", "deny_user")]));
}

#[test]
fn every_route_port_and_kind_of_rule_is_foretold() {
    let scene = Scene::with(
        "[plan.standard]\nper_hour = 1\nsoft_percent = 100\n[plan.bulk]\nper_hour = 50\n\
         [[rule]]\nuser = '61002'\nplan = 'bulk'\n[[rule]]\nuser = '61010'\nplan = 'deny'\n\
         [[rule]]\nuser = '61011'\nplan = 'allow'\n",
    );
    // Once to use the account's hour up where it has one, and once more.
    for (user, remote, local) in [
        (uid::SENDER, ["allowed", "refused"], "allowed"),
        (uid::OTHER, ["allowed", "allowed"], "allowed"),
        (uid::DENIED, ["refused", "refused"], "refused"),
        (uid::EXEMPT, ["exempt", "exempt"], "exempt"),
        (61_010, ["refused", "refused"], "allowed"),
        (61_011, ["allowed", "allowed"], "allowed"),
    ] {
        let name = user.to_string();
        for wanted in remote {
            let said = scene.foretold(&name, user, scene.remote());
            assert_eq!((&said["verdict"], &said["route"]), (&wanted.into(), &"remote".into()), "{said}");
        }
        let said = scene.foretold(&name, user, scene.local);
        assert_eq!((&said["verdict"], &said["route"]), (&local.into(), &"local".into()), "{said}");
        let said = scene.foretold(&name, user, scene.far_other);
        assert_eq!(said["verdict"], "not_smtp", "{said}");
    }
}

#[test]
fn an_address_of_the_host_itself_is_local_and_a_mapped_one_is_what_it_maps() {
    let scene = Scene::with("[[rule]]\nuser = '61001'\nplan = 'deny'\n");
    let near = scene.world.veth.near.v4;
    let route = |to: &str| {
        let output = scene.world.agent.cli(&["explain", "--user", "61001", "--to", to, "--json"]);
        (json(&output)["route"].as_str().map(str::to_owned), output.code)
    };
    let local = (Some("local".to_owned()), 0);
    let remote = (Some("remote".to_owned()), 1);
    assert_eq!(route(&near.to_string()), local);
    assert_eq!(route(&format!("::ffff:{near}")), local);
    assert_eq!(route("::1"), local);
    assert_eq!(route(&scene.world.veth.far.v4.to_string()), remote);
    assert_eq!(route(&scene.world.veth.far.v6.to_string()), remote);
}

#[test]
fn the_numbers_are_those_of_the_kernel() {
    let world =
        World::with("[plan.standard]\nper_hour = 10\nper_day = 40\nsoft_percent = 130\n[host]\nper_day = 100\n");
    world.dial().uid(uid::SENDER).count(7).run();
    world.dial().uid(uid::EXEMPT).count(2).run();
    let said = json(&world.agent.cli(&["explain", "--user", "61001", "--json"]));
    let limits: Vec<_> = said["limits"]
        .as_array()
        .expect("limits")
        .iter()
        .map(|l| ["scope", "window", "limit", "used", "left", "soft_left", "free_in_seconds"].map(|k| l[k].to_string()))
        .collect();
    let row = |parts: [&str; 7]| parts.map(str::to_owned);
    let wanted = [
        row(["\"account\"", "\"hour\"", "10", "7", "3", "3", "0"]),
        row(["\"account\"", "\"day\"", "40", "7", "33", "12", "0"]),
        row(["\"host\"", "\"day\"", "100", "9", "91", "null", "0"]),
    ];
    assert_eq!(limits, wanted, "{said}");
    assert_eq!((&said["from"], &said["plan"]), (&"gate".into(), &"standard".into()));

    // One more than the hour holds: it says how long until there is room, an hour and a slot of it at most.
    assert_eq!(world.dial().uid(uid::SENDER).count(4).run().ok(), 3);
    let said = json(&world.agent.cli(&["explain", "--user", "61001", "--json"]));
    let wait = said["limits"][0]["free_in_seconds"].as_u64().expect("a number");
    assert!(wait > 3_000 && wait <= 3_600 + 3_600 / 64 + 1, "{said}");
    assert_eq!(said["limits"][0]["soft_left"], 2, "{said}");
    let text = world.agent.cli(&["explain", "--user", "61001"]);
    assert_eq!(text.code, 1, "{text:?}");
    assert_has(
        &text.stdout,
        &["would be deferred", "10 of 10 used, 0 left, then 2 deferred, next in ", "account per hour"],
    );
    assert_eq!(world.counted_in_all(), 13, "asking costs nothing");
}

#[test]
fn a_subordinate_uid_is_explained_and_charged_as_its_owner() {
    let etc = Etc::with_users(&[("shop", 61_020, 61_020)]);
    etc.write_in_place("subuid", "shop:700000:65536\n");
    let world = World::built("[plan.standard]\nper_hour = 2\nsoft_percent = 100\n", |agent| agent.etc(&etc));
    assert_eq!(world.dial().uid(61_020).run().ok(), 1);
    assert_eq!(world.dial().uid(700_007).run().ok(), 1);
    let output = world.agent.cli(&["explain", "--user", "765535", "--json"]);
    assert_eq!((output.code, &json(&output)["account"]), (1, &61_020.into()), "{output:?}");
    assert_eq!(world.dial().uid(765_535).run().eperm(), 1);
    let beyond = world.agent.cli(&["explain", "--user", "765536", "--json"]);
    assert_eq!((beyond.code, &json(&beyond)["account"]), (0, &765_536.into()), "{beyond:?}");
    assert_eq!(world.dial().uid(765_536).run().ok(), 1);
    let text = world.agent.cli(&["explain", "--user", "700001"]).stdout;
    assert_has(&text, &["a subordinate uid charged to shop", "refused"]);
    assert_eq!((world.counted("shop", "allowed"), world.counted("shop", "refused")), (2, 1));
}

#[test]
fn without_a_gate_the_configuration_answers() {
    let world = World::stopped("[plan.standard]\nper_hour = 3\n");
    for (user, code, verdict) in [("61001", 0, "allowed"), ("61003", 1, "refused"), ("61004", 0, "exempt")] {
        let output = world.agent.cli(&["explain", "--user", user, "--json"]);
        let said = json(&output);
        assert_eq!((output.code, &said["verdict"], &said["from"]), (code, &verdict.into(), &"config".into()), "{said}");
    }
    let text = world.agent.cli(&["explain", "--user", "root"]);
    assert_has(&text.stdout, &["root (uid 0)", "no gate is pinned"]);
    let unknown = world.agent.cli(&["explain", "--user", "no-such-user"]);
    assert_eq!(unknown.code, 2);
    assert_has(&unknown.stderr, &["no user \"no-such-user\"", "getent passwd"]);
}

#[test]
fn limits_of_messages_and_a_brake_are_explained_with_their_units() {
    let world = World::stopped(
        "[plan.standard]\nper_hour = 8\nper_day = 9\nmessages_per_hour = 5\nrecipients_per_hour = 0\nmax_failed_percent = 40\n\
         [host]\nmessages_per_day = 70\n",
    );
    let asked = |more: &[&str]| {
        let output = world.agent.cli(&[&["explain", "--user", "61001", "--json"], more].concat());
        (output.code, json(&output))
    };
    let limits = |said: &Value| {
        let rows = said["limits"].as_array().expect("limits");
        rows.iter()
            .map(|l| ["scope", "unit", "window", "limit"].map(|k| l[k].to_string()).join(" "))
            .collect::<Vec<_>>()
    };
    let wanted = [
        r#""account" "connection" "hour" 8"#,
        r#""account" "connection" "day" 9"#,
        r#""account" "message" "hour" 5"#,
        r#""host" "message" "day" 70"#,
        r#""account" "recipient" "hour" 0"#,
    ];
    for (unit, code, reason) in
        [("connection", 0, "within_limits"), ("message", 0, "within_limits"), ("recipient", 1, "recipients_hour")]
    {
        let (exit, said) = asked(&["--unit", unit]);
        assert_eq!((exit, &said["unit"], &said["reason"]), (code, &unit.into(), &reason.into()), "{said}");
        assert_eq!(limits(&said), wanted, "{said}");
        let brake = &said["brake"];
        assert_eq!((&brake["holds"], &brake["messages"]), (&false.into(), &0.into()), "{said}");
        assert_eq!((&brake["max_failed_percent"], &brake["min_failed"]), (&40.into(), &5.into()), "{said}");
    }
    // What goes to the local MTA is not held, and nothing is said to hold it.
    let (exit, said) = asked(&["--unit", "recipient", "--to", "127.0.0.1"]);
    assert_eq!((exit, &said["reason"], &said["brake"]), (0, &"local_route".into(), &Value::Null), "{said}");
    assert_eq!(limits(&said), [""; 0], "{said}");

    let text = world.agent.cli(&["explain", "--user", "61001", "--unit", "recipient"]).stdout;
    assert_has(
        &text,
        &[
            "one recipient:",
            "the connection is ended",
            "the account has used its recipients of the hour up",
            "account messages per hour: 0 of 5 used, 5 left",
            "0 of 0 messages of the last hour failed; not tripped; trips above 40 % and not before 5 have failed",
        ],
    );
    let wrong = world.agent.cli(&["explain", "--user", "root", "--unit", "mail"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert_has(&wrong.stderr, &["connection, message, recipient"]);
}

#[test]
fn a_local_plan_is_foretold_on_the_local_route() {
    let scene = Scene::with("[plan.standard]\nper_hour = 3\nsoft_percent = 100\nlocal = true\n");
    let verdict = |to| scene.foretold("61001", uid::SENDER, to)["verdict"].as_str().unwrap_or_default().to_owned();
    // One purse for both routes.
    assert_eq!([verdict(scene.local), verdict(scene.remote()), verdict(scene.local)], ["allowed"; 3]);
    assert_eq!([verdict(scene.local), verdict(scene.remote())], ["refused"; 2]);
    let exempt = scene.foretold("61004", uid::EXEMPT, scene.local);
    assert_eq!((&exempt["verdict"], &exempt["reason"]), (&"exempt".into(), &"local_route".into()), "{exempt}");
}

#[test]
fn a_list_manager_is_not_charged_to_the_host_where_lists_do_not_count() {
    let scene = Scene::with("[host]\nper_hour = 1\ncount_lists = false\nlist_users = ['61002']\n");
    assert_eq!(scene.verdicts(uid::OTHER, 3), expected(&[(3, "allowed", "within_limits")]));
    let said = scene.foretold("61001", uid::SENDER, scene.remote());
    assert_eq!((&said["verdict"], &said["charged_to_host"]), (&"allowed".into(), &true.into()), "{said}");
    assert_eq!(scene.verdicts(uid::SENDER, 1), expected(&[(1, "refused", "host_hour")]));
    let said = scene.foretold("61002", uid::OTHER, scene.remote());
    assert_eq!((&said["verdict"], &said["charged_to_host"]), (&"allowed".into(), &false.into()), "{said}");
    let text = scene.world.agent.cli(&["explain", "--user", "61002"]).stdout;
    assert_has(&text, &["not charged to its budget: [host] list_users"]);
}

#[test]
fn messages_are_foretold_until_the_limit_and_beyond() {
    let world = World::with("[plan.standard]\nmessages_per_hour = 3\n");
    for n in 0..5_u64 {
        let output = world.agent.cli(&["explain", "--user", "61001", "--unit", "message", "--json"]);
        let said = json(&output);
        let used = &said["limits"].as_array().and_then(|l| l.iter().find(|l| l["unit"] == "message")).expect("a limit")
            ["used"];
        assert_eq!(used, &Value::from(n.min(3)), "{said}");
        let report = world.mailer(uid::SENDER).run();
        let passed = report.seen.messages.accepted;
        assert_eq!((passed, report.cuts()), if n < 3 { (1, 0) } else { (0, 1) }, "{said} but {report:?}");
        let wanted = if n < 3 { ("allowed", "within_limits", 0) } else { ("refused", "messages_hour", 1) };
        assert_eq!((&said["verdict"], &said["reason"], output.code), (&wanted.0.into(), &wanted.1.into(), wanted.2));
    }
    assert_eq!(world.sink.settled_tally().messages.accepted, 3);
}

#[test]
fn a_brake_is_explained_as_it_holds_and_when_it_lets_go() {
    let world =
        World::meeting("[plan.standard]\nmax_failed_percent = 50\nmin_failed = 2\nrelease_after = '6s'\n", |sink| {
            sink.obedient()
        });
    let asked = || json(&world.agent.cli(&["explain", "--user", "61001", "--json"]));
    assert_eq!(world.mailer(uid::SENDER).run().seen.messages.accepted, 1);
    assert_eq!(world.mailer(uid::SENDER).sender_tag("+body550").messages(2).run().seen.messages.rejected, 2);
    let said = asked();
    assert_eq!((&said["verdict"], &said["reason"]), (&"refused".into(), &"failed_share".into()), "{said}");
    let brake = &said["brake"];
    let numbers =
        ["holds", "failed", "messages", "failed_percent", "max_failed_percent"].map(|key| brake[key].to_string());
    assert_eq!(numbers, ["true", "2", "3", "66.7", "50"], "{said}");
    let left = brake["lapses_in_seconds"].as_u64().expect("a time");
    assert!((1..=6).contains(&left) && brake["tripped_seconds_ago"].as_u64().is_some_and(|ago| ago <= 6), "{said}");
    let text = world.agent.cli(&["explain", "--user", "61001"]).stdout;
    assert_has(
        &text,
        &["the brake of its plan holds", "2 of 3 messages of the last hour failed (66.7 %), 50 % may; tripped "],
    );
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);

    std::thread::sleep(std::time::Duration::from_secs(left));
    let said = asked();
    assert_eq!((&said["verdict"], &said["brake"]["holds"]), (&"allowed".into(), &false.into()), "{said}");
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1);
}
