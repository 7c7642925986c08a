//! Who is told of what: the test of the sinks, and a real agent whose users meet their limits.

use crate::scene::{SOON, assert_has, assert_logged, json, names_in};
use ring::hmac;
use serde_json::Value;
use smtp_tests::{
    Agent, Must, World, alertmanager::Alertmanager, eventually, hook::Hook, poll::eventually_some, scratch, uid,
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

/// Two looks at the counters, and a busy machine.
const A_LOOK: Duration = Duration::from_secs(90);

/// A sink that adds what it is given to a file, a line each.
fn writer(name: &str, out: &Path) -> String {
    let out = out.display();
    format!("[[notify.command]]\nname = '{name}'\nargv = ['/bin/sh', '-c', 'cat >> {out}; echo >> {out}']\n")
}

fn messages(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).must(format_args!("not JSON: {line}"))).collect()
}

/// Waits for a notice of a kind, and returns it with its message.
#[track_caller]
fn told(out: &Path, kind: &str, patience: Duration) -> (Value, Value) {
    eventually_some(patience, &format!("{kind} is told"), || {
        let of = |message: Value| {
            let notices = message["notices"].as_array().must("notices").clone();
            notices.into_iter().find(|notice| notice["kind"] == kind).map(|notice| (notice, message))
        };
        messages(out).into_iter().find_map(of)
    })
}

fn notifications(world: &World, result: &str) -> f64 {
    let labels = [("sink", "command"), ("result", result)];
    world.metrics().value("smtp_agent_notifications_total", &labels)
}

#[test]
fn a_test_tells_every_sink_and_says_what_happened() {
    let dir = scratch::dir();
    let out = dir.path().join("out");
    let agent = Agent::builder().config(|c| c.merge(&writer("file", &out))).stopped();
    let output = agent.cli(&["notify", "test"]).expect_ok("notify test");
    assert_has(&output.stdout, &["file (command): told, in 0."]);
    let message = &messages(&out)[0];
    assert_eq!((&message["notices"][0]["kind"], &message["version"]), (&"test".into(), &1.into()));
    assert_has(message["text"].as_str().must("a text"), &["this is a test of the notices"]);
    assert_eq!(names_in(&agent.state_dir()), [] as [&str; 0], "no spool");

    let two = writer("file", &out)
        + "[[notify.command]]\nname = 'bad'\nargv = ['/bin/sh', '-c', 'echo no room >&2; exit 4']\n";
    agent.rewrite_config(&two);
    let output = agent.cli(&["notify", "test"]);
    assert_eq!((output.code, output.stderr.as_str()), (1, ""), "{output:?}");
    assert_has(&output.stdout, &["file (command): told", "bad (command): FAILED: /bin/sh: exit status: 4: no room"]);
    let said = json(&agent.cli(&["notify", "test", "--json"]));
    assert_eq!((&said["ok"], &said["sinks"][0]["error"]), (&false.into(), &Value::Null));
    assert_eq!(said["sinks"][1]["sink"], "bad");
    agent.cli(&["notify", "test", "--sink", "file"]).expect_ok("the other alone");
    assert_eq!(agent.cli(&["notify", "test", "--sink", "command"]).code, 1, "all of a kind");
    let output = agent.cli(&["notify", "test", "--sink", "chat"]);
    assert_eq!((output.code, output.stdout.as_str()), (2, ""));
    assert_has(&output.stderr, &["no sink is called \"chat\"", "there are: file, bad"]);
}

#[test]
fn a_test_without_a_sink_or_with_a_broken_configuration_says_so() {
    let agent = Agent::builder().stopped();
    let output = agent.cli(&["notify", "test"]);
    assert_eq!(output.code, 69, "{output:?}");
    assert_has(&output.stderr, &["has no sink", "[[notify.mail]]"]);
    agent.rewrite_config("[[notify.mail]]\nto = 'root'\nbody = '{usr}'\n");
    let output = agent.cli(&["notify", "test"]);
    assert_eq!(output.code, 2, "{output:?}");
    assert_has(&output.stderr, &["config.toml:", "`{usr}` is no placeholder", "{account}"]);
    let output = agent.cli(&["notify", "test", "--json"]);
    assert_eq!((output.code, &json(&output)["ok"]), (2, &false.into()));
    assert_eq!(agent.cli(&["notify"]).code, 2);
}

#[test]
fn check_names_what_sinks_lack_and_it_is_no_error() {
    let agent = Agent::builder().stopped();
    let dir = scratch::dir();
    let key = dir.path().join("key");
    fs::write(&key, "0123456789abcdef0123456789abcdef").must("a file");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).must("its mode");
    let text = format!("[[notify.webhook]]\nurl = 'https://h.example/'\nsecret_file = '{}'\n", key.display());
    agent.rewrite_config(&text);
    let output = agent.cli(&["check"]).expect_ok("check");
    assert_has(&output.stderr, &["warning", "the sink `webhook` cannot be told", "mode 0644", "chmod 600"]);
}

#[test]
fn a_webhook_over_tls_is_signed_and_only_a_trusted_server_is_told() {
    let hook = Hook::https();
    let dir = scratch::dir();
    let [key, trusted] = ["key", "trusted.pem"].map(|name| dir.path().join(name));
    let secret = "0123456789abcdef0123456789abcdef";
    fs::write(&key, secret).must("a file");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).must("its mode");
    fs::write(&trusted, hook.certificate()).must("a file");
    let text = format!("[[notify.webhook]]\nurl = '{}'\nsecret_file = '{}'\n", hook.url(), key.display());
    let of = |builder: smtp_tests::agent::Builder| builder.config(|c| c.merge(&text)).stopped();
    let trusting = of(Agent::builder().env("SSL_CERT_FILE", &trusted.display().to_string()));
    trusting.cli(&["notify", "test"]).expect_ok("notify test");
    let posted = hook.posted();
    let [posted] = &posted[..] else { panic!("{posted:?}") };
    assert_eq!(posted.line, "POST /hook HTTP/1.1");
    let signature = posted.headers["x-smtp-agent-signature"].strip_prefix("v1=").must("a version");
    let signed = [posted.headers["x-smtp-agent-timestamp"].as_bytes(), b".", &posted.body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &signed);
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(signature, hex);

    let output = of(Agent::builder()).cli(&["notify", "test"]);
    assert_eq!(output.code, 1, "{output:?}");
    assert_has(&output.stdout, &["webhook: FAILED: https://localhost:", "UnknownIssuer"]);
    assert_eq!(hook.posted().len(), 1);
}

#[test]
fn alertmanager_has_an_alert_for_whoever_was_stopped() {
    let alertmanager = Alertmanager::start();
    let text = format!(
        "[plan.standard]\nper_hour = 3\nsoft_percent = 100\n[notify]\ngroup_wait = '0s'\n[[notify.alertmanager]]\nurl = '{}'\n",
        alertmanager.url()
    );
    let world = World::with(&text);
    assert_eq!(world.dial().uid(uid::SENDER).count(5).run().ok(), 3);
    let alert = eventually_some(SOON, "an alert", || alertmanager.alerts().into_iter().next());
    let labels = &alert["labels"];
    assert_eq!((&labels["alertname"], &labels["user"]), (&"SmtpNoticeHardLimit".into(), &"61001".into()), "{alert}");
    assert_eq!((&labels["severity"], &labels["kind"]), (&"critical".into(), &"hard_limit".into()));
    assert_eq!(alert["status"]["state"], "active");
    assert_has(
        alert["annotations"]["summary"].as_str().must("a text"),
        &["61001 was refused at its limit of 3 connections per hour"],
    );
    assert_has(alert["annotations"]["description"].as_str().must("a text"), &["smtp-agent block 61001 --for 2h"]);
    world.agent.cli(&["notify", "test", "--sink", "alertmanager"]).expect_ok("notify test");
    assert_eq!(alertmanager.alerts().len(), 2);
}

#[test]
fn whoever_meets_his_limit_is_named_to_the_sink_once() {
    let dir = scratch::dir();
    let out = dir.path().join("out");
    let limits = "[plan.standard]\nper_hour = 4\nsoft_percent = 150\n[notify]\ngroup_wait = '1s'\n";
    let mut world = World::with(&format!("{limits}{}", writer("file", &out)));
    assert_eq!(world.dial().uid(uid::SENDER).count(10).run().ok(), 4);
    world.dial().uid(uid::DENIED).run();
    let (hard, message) = told(&out, "hard_limit", SOON);
    let field = |name: &str| hard[name].clone();
    assert_eq!([field("account"), field("reason")], ["61001", "account_hour"]);
    assert_eq!([field("limit"), field("used")], [4, 4], "{hard}");
    assert_eq!([field("unit"), field("window")], ["connection", "hour"]);
    assert_eq!(field("destination"), world.sink_address().to_string());
    assert_eq!(field("observed"), false);
    let exe = hard["culprit"]["exe"].as_str().unwrap_or_default();
    assert!(exe.ends_with("smtp-dial") || exe.is_empty(), "{hard}");
    assert_has(message["text"].as_str().must("a text"), &["61001 was refused at its limit of 4 connections per hour"]);
    // All of it at once.
    let kinds: Vec<_> = message["notices"].as_array().must("notices").iter().map(|one| one["kind"].clone()).collect();
    assert_eq!(kinds, ["soft_limit", "hard_limit", "nobody"], "{message}");
    let (nobody, _) = told(&out, "nobody", SOON);
    assert_eq!((&nobody["account"], &nobody["reason"]), (&"61003".into(), &"deny_user".into()));

    world.dial().uid(uid::SENDER).count(20).run();
    eventually(SOON, "it was sent", || notifications(&world, "sent") == 1.0);
    assert_eq!([notifications(&world, "failed"), notifications(&world, "dropped")], [0.0; 2]);
    assert_eq!(world.agent.stop(), 0);
    world.agent.start();
    world.dial().uid(uid::SENDER).count(2).run();
    eventually(SOON, "a restart does not tell it again", || notifications(&world, "withheld") >= 1.0);
    assert_eq!(messages(&out).len(), 1);
    assert!(!world.agent.stderr_so_far().contains("WARN"), "{}", world.agent.stderr_so_far());
}

#[test]
fn what_is_stopped_in_the_middle_of_a_conversation_is_told_too() {
    let dir = scratch::dir();
    let out = dir.path().join("out");
    let limits = "[plan.standard]\nmessages_per_hour = 2\n[notify]\ngroup_wait = '0s'\n";
    let world = World::with(&format!("{limits}{}", writer("file", &out)));
    world.mailer(uid::SENDER).messages(4).run();
    let (notice, _) = told(&out, "hard_limit", SOON);
    assert_eq!([&notice["account"], &notice["reason"], &notice["unit"]], ["61001", "messages_hour", "message"]);
    assert_eq!([&notice["limit"], &notice["used"]], [2, 2]);
}

#[test]
fn whom_the_brake_stops_is_told() {
    let dir = scratch::dir();
    let out = dir.path().join("out");
    let text = "[plan.standard]\nmax_failed_percent = 50\nmin_failed = 2\n[notify]\ngroup_wait = '0s'\n";
    let world = World::meeting(&format!("{text}{}", writer("file", &out)), |sink| sink.obedient());
    world.mailer(uid::SENDER).messages(2).sender_tag("+body550").run();
    eventually(SOON, "the brake holds", || world.dial().uid(uid::SENDER).run().eperm() == 1);
    let (notice, message) = told(&out, "brake", SOON);
    assert_eq!([&notice["account"], &notice["reason"]], ["61001", "failed_share"]);
    assert_has(message["text"].as_str().must("a text"), &["the failure brake holds 61001", "smtp-agent release 61001"]);
}

#[test]
fn in_observe_mode_it_is_said_that_nothing_was_stopped() {
    let dir = scratch::dir();
    let out = dir.path().join("out");
    let text = "mode = 'observe'\n[plan.standard]\nper_hour = 1\nsoft_percent = 100\n[notify]\ngroup_wait = '0s'\n";
    let world = World::with(&format!("{text}{}", writer("file", &out)));
    assert_eq!(world.dial().uid(uid::SENDER).count(2).run().ok(), 2);
    let (notice, message) = told(&out, "hard_limit", SOON);
    assert_eq!(notice["observed"], true);
    assert_has(message["subject"].as_str().must("a subject"), &["61001 would have been refused at its limit"]);
}

#[test]
fn a_reload_changes_who_is_told_and_a_wrong_one_nothing() {
    let dir = scratch::dir();
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    let base = "[plan.standard]\nper_hour = 1\nsoft_percent = 100\n[notify]\ngroup_wait = '0s'\n";
    let world = World::with(&format!("{base}{}", writer("one", &one)));
    let refused = |user: u32| assert_eq!(world.dial().uid(user).count(2).run().eperm(), 1);
    refused(uid::SENDER);
    told(&one, "hard_limit", SOON);
    world.agent.rewrite_config(&format!("{base}{}", writer("one", &two).replace("/bin/sh", "sh")));
    assert_eq!(world.agent.cli(&["reload"]).code, 2, "a program without a path");
    refused(uid::OTHER);
    eventually(SOON, "the sink before still is told", || messages(&one).len() == 2);
    world.reload(&format!("{base}{}", writer("two", &two)));
    refused(61_050);
    assert_eq!(told(&two, "hard_limit", SOON).0["account"], "61050");
    assert_eq!(messages(&one).len(), 2);
    world.reload(&format!("{base}[notify.journald]\nenabled = false\n"));
    refused(61_051);
    assert_eq!(messages(&two).len(), 1);
}

#[test]
fn what_could_not_be_delivered_outlives_a_crash_of_the_agent() {
    let dir = scratch::dir();
    let out = dir.path().join("out");
    let base = "[plan.standard]\nper_hour = 1\nsoft_percent = 100\n[notify]\ngroup_wait = '0s'\n";
    let failing = "[[notify.command]]\nname = 'file'\nargv = ['/bin/false']\n";
    let mut world = World::with(&format!("{base}{failing}"));
    world.dial().uid(uid::SENDER).count(2).run();
    eventually(SOON, "it fails", || notifications(&world, "failed") >= 1.0);
    assert_logged(&world.agent, &["was not taken and will be tried again: /bin/false: exit status: 1"]);
    world.agent.kill9();
    let spool = world.agent.state_dir().join("notify");
    let files = names_in(&spool);
    assert_eq!(files.len(), 1, "{files:?}");
    // Rubbish beside it is moved aside.
    fs::write(spool.join("0.json"), "{\"version\":1,").must("a file");
    world.agent.rewrite_config(&format!("{base}{}", writer("file", &out)));
    world.agent.start();
    // Half a minute after the attempt that failed.
    let (notice, _) = told(&out, "hard_limit", Duration::from_secs(60));
    assert_eq!(notice["account"], "61001");
    eventually(SOON, "it leaves the spool", || names_in(&spool) == ["0.json.corrupt"]);
}

#[test]
fn without_events_the_counters_tell_and_so_do_the_budgets_of_the_host() {
    let dir = scratch::dir();
    let out = dir.path().join("out");
    let text = "[plan.standard]\nper_hour = 8\nsoft_percent = 100\nmax_failed_percent = 50\nmin_failed = 2\n\
                [host]\nper_day = 11\n[events]\nper_second = 0\n[notify]\ngroup_wait = '0s'\nlearn = '0s'\n";
    let world = World::meeting(&format!("{text}{}", writer("file", &out)), |sink| sink.obedient());
    // After the look at the start, which learns what there is.
    eventually(SOON, "the agent has looked", || notifications(&world, "sent") == 0.0);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.dial().uid(uid::SENDER).count(9).run().ok(), 8);
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1);
    world.mailer(uid::OTHER).messages(2).sender_tag("+body550").run();
    let (hard, _) = told(&out, "hard_limit", A_LOOK);
    assert_eq!((&hard["account"], &hard["limit"], &hard["used"]), (&"61001".into(), &8.into(), &8.into()));
    assert_eq!(told(&out, "nobody", SOON).0["account"], "61003");
    let (budget, _) = told(&out, "host_quota_80", SOON);
    assert_eq!((&budget["used"], &budget["limit"], &budget["account"]), (&9.into(), &11.into(), &"host".into()));
    assert_eq!(told(&out, "brake", SOON).0["account"], "61002");
    let all: Vec<Value> =
        messages(&out).iter().flat_map(|one| one["notices"].as_array().must("notices").clone()).collect();
    let mut new: Vec<_> =
        all.iter().filter(|one| one["kind"] == "first_time").map(|one| one["account"].clone()).collect();
    new.sort_by_key(Value::to_string);
    assert_eq!(new, ["61001", "61002"], "a denied one is no stranger");
}

#[test]
fn a_limit_that_is_shared_is_told_without_events_and_a_budget_that_was_spent_while_no_agent_ran() {
    let dir = scratch::dir();
    let out = dir.path().join("out");
    let text = "[plan.standard]\nsoft_percent = 100\n[plan.standard.total]\nper_hour = 3\n[host]\nper_day = 4\n\
                [events]\nper_second = 0\n[notify]\ngroup_wait = '0s'\n";
    let mut world = World::with(&format!("{text}{}", writer("file", &out)));
    // After the look at the start, which learns what there is.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.dial().uid(uid::SENDER).count(2).run().ok(), 2);
    assert_eq!(world.dial().uid(uid::OTHER).count(2).run().ok(), 1);
    let (hard, message) = told(&out, "hard_limit", A_LOOK);
    assert_eq!([&hard["account"], &hard["reason"]], ["61002", "plan_hour"], "{hard}");
    assert_eq!([&hard["limit"], &hard["used"]], [3, 3]);
    assert_has(message["text"].as_str().must("a text"), &["refused at its plan's limit of 3 connections per hour"]);
    told(&out, "host_quota_50", SOON);
    assert_eq!(world.agent.stop(), 0);
    assert_eq!(world.dial().uid(uid::EXEMPT).run().ok(), 1);
    world.agent.start();
    let (budget, _) = told(&out, "host_quota_100", SOON);
    assert_eq!([&budget["limit"], &budget["used"]], [4, 4]);
    let all: Vec<Value> =
        messages(&out).iter().flat_map(|one| one["notices"].as_array().must("notices").clone()).collect();
    let of = |kind: &str| all.iter().filter(|one| one["kind"] == kind).count();
    assert_eq!(["host_quota_50", "host_quota_80", "host_quota_100"].map(of), [1, 0, 1], "{all:?}");
}
