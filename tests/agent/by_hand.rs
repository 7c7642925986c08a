//! What is said by hand: in the kernel when the command returns, kept over whatever ends the agent, and lapsing by itself.

use crate::scene::{SOON, assert_has, assert_logged, json};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use smtp_tests::{
    Agent, Dial, Etc, Must, Netns, Veth, World, eventually, mountns::MountNs, process::Output, scratch, uid,
};
use std::{
    fs,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

#[track_caller]
fn ok(agent: &Agent, arguments: &[&str]) -> String {
    agent.cli(arguments).expect_ok(&format!("{arguments:?}")).stdout
}

#[track_caller]
fn fails(agent: &Agent, arguments: &[&str], code: i32, parts: &[&str]) {
    let output = agent.cli(arguments);
    assert_eq!((output.code, output.stdout.as_str()), (code, ""), "{arguments:?}: {output:?}");
    assert_has(&output.stderr, parts);
}

#[track_caller]
fn list(agent: &Agent) -> Vec<Value> {
    let said = json(&agent.cli(&["block", "--list", "--json"]).expect_ok("block --list"));
    said.as_array().must("a list").clone()
}

fn is_refused(world: &World, uid: u32) -> bool {
    world.dial().uid(uid).run().eperm() == 1
}

#[test]
fn a_block_holds_for_the_first_connect_after_the_command_and_a_release_too() {
    let world = World::with("");
    for _ in 0..10 {
        let told = ok(&world.agent, &["block", "61001", "--for", "2h"]);
        assert_has(&told, &["user 61001 is blocked for 2h, until 20", "lapses by itself"]);
        assert!(is_refused(&world, uid::SENDER));
        assert!(!is_refused(&world, uid::OTHER));
        let told = ok(&world.agent, &["release", "61001"]);
        assert_has(&told, &["user 61001 is not blocked by hand any more: said by root on 20"]);
        assert!(!is_refused(&world, uid::SENDER));
    }
    assert_has(
        &ok(&world.agent, &["allow", "61003"]),
        &["user 61003 is allowed for ever, until `smtp-agent release 61003`"],
    );
    assert!(!is_refused(&world, uid::DENIED), "what is said by hand comes before [deny]");
    assert_eq!(world.counted_uid(uid::DENIED, "exempt"), 1);
}

#[test]
fn a_block_stops_the_messages_of_open_connections_and_the_local_route() {
    let world = World::meeting("[plan.standard]\nmessages_per_hour = 1000\n", |sink| sink.obedient());
    let mut talk = world.mailer(uid::SENDER).talk();
    talk.greet();
    assert!(talk.message().codes.contains(&354));
    ok(&world.agent, &["block", "61001"]);
    let heard = talk.message();
    assert_eq!((heard.codes.contains(&354), heard.end.as_deref()), (false, Some("ECONNABORTED")), "{heard:?}");
    let local = world.dial_to("127.0.0.1".parse().must("an address"), 25).uid(uid::SENDER).run();
    assert_eq!(local.eperm(), 1, "{local:?}");
}

#[test]
fn what_is_said_for_a_time_lapses_by_itself_with_the_agent_dead() {
    const TIME: Duration = Duration::from_secs(5);
    let mut world = World::with("");
    let begin = Instant::now();
    ok(&world.agent, &["block", "61001", "--for", "5s"]);
    ok(&world.agent, &["allow", "61003", "--for", "5s"]);
    let said = Instant::now();
    world.agent.kill9();
    assert_eq!((is_refused(&world, uid::SENDER), is_refused(&world, uid::DENIED)), (true, false));
    assert!(begin.elapsed() < TIME, "this machine is too slow for this test: {:?}", begin.elapsed());
    thread::sleep((TIME + Duration::from_millis(50)).saturating_sub(said.elapsed()));
    assert_eq!((is_refused(&world, uid::SENDER), is_refused(&world, uid::DENIED)), (false, true));
    world.agent.start();
    assert_eq!(list(&world.agent), Vec::<Value>::new());
    assert!(!is_refused(&world, uid::SENDER));
}

#[test]
fn what_is_said_survives_a_stop_a_kill_a_reload_and_a_reboot() {
    let mut world = World::with("");
    ok(&world.agent, &["block", "61001", "--for", "1h", "--reason", "spam from the shop"]);
    ok(&world.agent, &["block", "61002"]);
    let said = list(&world.agent);
    let holds = |world: &World, how: &str| {
        assert!(is_refused(world, uid::SENDER) && is_refused(world, uid::OTHER), "{how}");
        let now = list(&world.agent);
        for (now, then) in now.iter().zip(&said) {
            let left = now["left_seconds"].as_u64();
            assert_eq!(left.is_some(), then["left_seconds"].is_u64());
            assert!(left.is_none_or(|left| left <= 3600 && left > 3400), "{now}");
            for key in ["whom", "says", "since", "until", "reason", "by"] {
                assert_eq!(now[key], then[key], "{how}: {key}");
            }
        }
        assert_eq!(now.len(), 2, "{how}");
    };
    holds(&world, "said");
    world.reload("[plan.standard]\nper_hour = 500000\n");
    holds(&world, "a reload");
    assert_eq!(world.agent.stop(), 0);
    assert!(is_refused(&world, uid::SENDER), "without an agent");
    world.agent.start();
    holds(&world, "a restart");
    world.agent.kill9();
    world.agent.start();
    holds(&world, "a kill");
    // What a reboot leaves: nothing in the kernel, and the file.
    world.agent.kill9();
    ok(&world.agent, &["detach"]);
    assert!(!is_refused(&world, uid::SENDER), "no gate");
    world.agent.start();
    holds(&world, "a reboot");
}

#[test]
fn the_list_status_explain_and_metrics_tell_who_said_what_until_when_and_why() {
    let mut world = World::with("");
    assert_eq!(ok(&world.agent, &["allow", "--list"]), "nothing is said by hand\n");
    let gauge = |world: &World, says| world.agent.metrics().find("smtp_by_hand", &[("says", says)]);
    assert_eq!((gauge(&world, "allowed"), gauge(&world, "blocked")), (Some(0.0), Some(0.0)));
    ok(&world.agent, &["block", "61001", "--for", "2h", "--reason", "spam \\ \"x\""]);
    ok(&world.agent, &["allow", "--cgroup", "/no/such*.service"]);
    assert_eq!((gauge(&world, "allowed"), gauge(&world, "blocked")), (Some(1.0), Some(1.0)));
    let all = list(&world.agent);
    let mut first = all[0].clone();
    assert!(first["left_seconds"].as_u64().is_some_and(|left| (7100..=7200).contains(&left)), "{first}");
    for key in ["left_seconds", "since", "until"] {
        first[key] = Value::Null;
    }
    let expected = json!({"whom": {"user": "61001"}, "says": "blocked", "since": null, "until": null, "left_seconds": null,
        "reason": "spam \\ \"x\"", "by": {"uid": 0, "user": "root"}});
    assert_eq!(first, expected);
    let rows =
        ["WHOM", "LEFT", "user 61001", "blocked", "root", "spam \\\\ \"x\"", "cgroup /no/such*.service", "for ever"];
    assert_has(&ok(&world.agent, &["block", "--list"]), &rows);

    for how in ["with an agent", "without"] {
        let status = json(&world.agent.cli(&["status", "--json"]).expect_ok(how));
        assert_eq!(status["by_hand"].as_array().map(Vec::len), Some(2), "{how}: {status}");
        assert_eq!(status["by_hand"][0]["whom"], json!({"user": "61001"}));
        assert_has(&ok(&world.agent, &["status"]), &rows);
        let output = world.agent.cli(&["explain", "--user", "61001"]);
        assert_eq!(output.code, 1, "{output:?}");
        assert_has(&output.stdout, &["by hand  user 61001 is blocked until 20", " left; said by root on 20", "spam"]);
        let said = json(&world.agent.cli(&["explain", "--user", "61001", "--json"]));
        assert_eq!(
            (&said["reason"], &said["by_hand"]["reason"]),
            (&"by_hand".into(), &"spam \\ \"x\"".into()),
            "{said}"
        );
        let said = json(&world.agent.cli(&["explain", "--user", "61002", "--json"]));
        assert_eq!(said["by_hand"], Value::Null, "{said}");
        if how == "with an agent" {
            world.agent.kill9();
        }
    }
}

#[test]
fn the_later_of_two_for_the_same_speaks_and_a_name_and_its_number_are_the_same() {
    let etc = Etc::with_users(&[("shop", uid::SENDER, uid::SENDER)]);
    let world = World::built("", |agent| agent.etc(&etc));
    ok(&world.agent, &["block", "shop", "--reason", "first"]);
    let told = ok(&world.agent, &["allow", "61001"]);
    assert_has(&told, &["takes the place of what was said before: blocked by root on 20", "(first)"]);
    assert_eq!(list(&world.agent).len(), 1);
    assert!(!is_refused(&world, uid::SENDER));
    ok(&world.agent, &["release", "--user", "shop"]);
    assert_eq!(list(&world.agent).len(), 0);
    fails(&world.agent, &["block", "shopp"], 2, &["no user `shopp`", "did you mean `shop`?", "getent passwd"]);
    fails(&world.agent, &["block", "--group", "shoq"], 2, &["no group `shoq`", "did you mean `shop`?"]);
    fails(&world.agent, &["block", "--container", "web"], 2, &["no container called `web`", "smtp-agent status"]);
    etc.append("subuid", "shop:200000:1000");
    ok(&world.agent, &["reload"]);
    fails(&world.agent, &["block", "200007"], 2, &["subordinate uid", "61001"]);
    assert_eq!(list(&world.agent).len(), 0);
}

#[test]
fn a_group_reaches_its_members_and_whoever_joins_but_not_who_is_named_himself() {
    let etc = Etc::with_users(&[("ann", 61_050, 61_060), ("bob", 61_051, 61_051), ("eve", 61_052, 61_052)]);
    etc.append("group", "staff:x:61060:bob");
    let world = World::built("[group.staff]\nper_hour = 1000\n", |agent| agent.etc(&etc));
    let refused = || [61_050, 61_051, 61_052].map(|uid| is_refused(&world, uid));
    assert_has(&ok(&world.agent, &["block", "--group", "staff"]), &["the group has 2 members now"]);
    assert_eq!(refused(), [true, true, false]);
    etc.replace("group", &etc.read("group").replace("staff:x:61060:bob", "staff:x:61060:bob,eve"));
    eventually(SOON, "eve has joined", || is_refused(&world, 61_052));
    ok(&world.agent, &["allow", "bob", "--for", "2s"]);
    assert_eq!(refused(), [true, false, true]);
    eventually(SOON, "when his time is over the group's word holds for him again", || is_refused(&world, 61_051));
    assert_has(&ok(&world.agent, &["release", "--group", "staff"]), &["group staff is not blocked by hand any more"]);
    assert_eq!(refused(), [false, false, false]);
    // What they sent together is forgotten together.
    let told = ok(&world.agent, &["release", "--group", "staff"]);
    assert_has(&told, &["the windows of ann are emptied", "the windows of the group staff together are emptied"]);
    let output = world.agent.cli(&["release", "--group", "staff"]);
    assert_eq!((output.code, output.stdout.as_str()), (1, "there was nothing to release\n"), "{output:?}");
}

#[test]
fn a_release_takes_back_what_was_said_of_the_user_and_tells_what_still_holds() {
    let etc = Etc::with_users(&[("ann", 61_050, 61_060)]);
    etc.append("group", "staff:x:61060:");
    let world = World::built("", |agent| agent.etc(&etc));
    ok(&world.agent, &["block", "--group", "staff"]);
    ok(&world.agent, &["allow", "ann"]);
    let told = ok(&world.agent, &["release", "ann"]);
    assert_has(
        &told,
        &["user ann is not allowed by hand any more", "what was said of the group staff still holds for him"],
    );
    assert!(is_refused(&world, 61_050));
    // One who is no more can be released, too.
    ok(&world.agent, &["allow", "ann"]);
    etc.remove_user("ann");
    ok(&world.agent, &["release", "ann"]);
    assert_eq!(list(&world.agent).len(), 1);
}

#[test]
fn a_release_frees_a_user_at_his_limit_and_says_when_there_was_nothing() {
    let world = World::with("[plan.standard]\nper_hour = 3\nsoft_percent = 100\n");
    let five = || world.dial().uid(uid::SENDER).count(5).run();
    assert_eq!((five().ok(), is_refused(&world, uid::OTHER)), (3, false));
    assert_has(&ok(&world.agent, &["release", "61001"]), &["the windows of 61001 are emptied"]);
    assert_eq!((five().ok(), five().ok()), (3, 0));
    assert_eq!(world.dial().uid(uid::OTHER).count(5).run().ok(), 2, "his own window is his own");
    let released = json(&world.agent.cli(&["release", "61001", "--json"]).expect_ok("release"));
    assert_eq!(released, json!({"ok": true, "released": [{"did": "emptied", "windows_of": "61001"}], "notes": []}));
    let output = world.agent.cli(&["release", "61001", "--json"]);
    assert_eq!((output.code, json(&output)), (1, json!({"ok": false, "released": [], "notes": []})));
}

#[test]
fn a_release_lets_a_brake_go_that_would_stay_for_ever() {
    let plan = "[plan.standard]\nmax_failed_percent = 50\nmin_failed = 5\nrelease_after = 'never'\n";
    let world = World::meeting(plan, |sink| sink.obedient());
    let fail = |count| drop(world.mailer(uid::SENDER).messages(count).sender_tag("+body550").run());
    fail(5);
    assert!(is_refused(&world, uid::SENDER));
    let told = ok(&world.agent, &["release", "61001"]);
    assert_has(&told, &["the failure brake of 61001 is let go", "the windows of 61001 are emptied"]);
    assert!(!is_refused(&world, uid::SENDER));
    fail(4);
    assert!(!is_refused(&world, uid::SENDER), "he begins anew: four have failed");
    fail(1);
    assert!(is_refused(&world, uid::SENDER));
}

#[test]
fn a_pattern_of_cgroups_is_blocked_with_those_that_are_made_afterwards() {
    let mut world = World::with("");
    let base = world.cgroup().name();
    let before = world.cgroup().child("php-before");
    let other = world.cgroup().child("web");
    let pattern = format!("{base}/php-*");
    let refused = |world: &World, cgroup: &smtp_tests::Cgroup| {
        let to = SocketAddr::new(world.veth.far.v4.into(), 25);
        Dial::to(to).cgroup(cgroup).uid(uid::EXEMPT).run().eperm() == 1
    };
    ok(&world.agent, &["block", "--cgroup", &pattern, "--reason", "break-in"]);
    assert!(refused(&world, &before), "[allow] does not help what is in it");
    assert!(refused(&world, &before.child("below")));
    assert!(!refused(&world, &other));
    let later = world.cgroup().child("php-later");
    eventually(SOON, "a cgroup that is made later", || refused(&world, &later));
    world.agent.kill9();
    assert!(refused(&world, &before) && refused(&world, &later));
    world.agent.start();
    assert!(refused(&world, &before) && refused(&world, &later));
    let path = format!("{base}/php-later");
    let output = world.agent.cli(&["explain", "--user", "61004", "--cgroup", &path]);
    assert_has(&output.stdout, &["by hand  cgroup", "break-in"]);
    assert_has(&ok(&world.agent, &["release", "--cgroup", &pattern]), &["is not blocked by hand any more"]);
    assert!(!refused(&world, &before) && !refused(&world, &later));
    fails(&world.agent, &["block", "--cgroup", "/"], 2, &["it matches everything"]);
    assert_has(&ok(&world.agent, &["block", "--cgroup", "/nobody/is/here", "--for", "2s"]), &["no cgroup matches now"]);
    eventually(SOON, "it lapses", || list(&world.agent).is_empty());
}

#[test]
fn the_purse_of_a_cgroup_rule_is_emptied() {
    let world = World::stopped("");
    let path = format!("{}/shop", world.cgroup().name());
    let rule = format!("[plan.small]\nper_hour = 2\nsoft_percent = 100\n[[rule]]\ncgroup = '{path}'\nplan = 'small'\n");
    world.agent.rewrite_config(&rule);
    let mut world = world;
    world.agent.start();
    let shop = world.cgroup().child("shop");
    let to = SocketAddr::new(world.veth.far.v4.into(), 25);
    let three = || Dial::to(to).cgroup(&shop).uid(uid::SENDER).count(3).run().ok();
    assert_eq!((three(), three()), (2, 0));
    assert_has(
        &ok(&world.agent, &["release", "--cgroup", &path]),
        &["the windows of the rule for", "/shop are emptied"],
    );
    assert_eq!((three(), three()), (2, 0));
}

#[test]
fn a_container_is_blocked_by_the_name_that_is_shown() {
    let mut world = World::with("");
    let inner = Netns::new();
    let wire = Veth::between(&inner, &world.ns);
    let cgroup = world.cgroup().child("webbox");
    let to = SocketAddr::new(wire.far.v4.into(), 25);
    let refused = || Dial::to(to).cgroup(&cgroup).netns(&inner).run().eperm() == 1;
    assert!(!refused());
    eventually(SOON, "the container has its name", || world.counted("container:webbox", "allowed") == 1);
    assert_has(&ok(&world.agent, &["block", "container:webbox"]), &["container webbox is blocked for ever"]);
    assert!(refused());
    assert_eq!(list(&world.agent)[0]["whom"], json!({"container": "webbox"}));
    world.agent.kill9();
    world.agent.start();
    assert!(refused(), "its name is known beside the pins");
    fails(&world.agent, &["block", "--container", "webbx"], 2, &["did you mean `webbox`?"]);
    assert_has(
        &ok(&world.agent, &["release", "--container", "webbox"]),
        &["container webbox is not blocked", "windows of container:webbox"],
    );
    assert!(!refused());
}

#[test]
fn whom_allow_names_is_blocked_only_with_force() {
    let world = World::with("");
    fails(&world.agent, &["block", "61004"], 2, &["[allow] names 61004", "--force"]);
    assert!(!is_refused(&world, uid::EXEMPT));
    ok(&world.agent, &["block", "61004", "--force"]);
    assert!(is_refused(&world, uid::EXEMPT));
}

#[test]
fn in_observe_mode_a_block_says_that_it_stops_nothing() {
    let world = World::with("mode = 'observe'\n");
    assert_has(&ok(&world.agent, &["block", "61001"]), &["nothing is stopped"]);
    assert!(!is_refused(&world, uid::SENDER));
    assert_eq!(world.counted_uid(uid::SENDER, "would_refuse"), 1);
}

#[test]
fn a_file_that_cannot_be_read_is_moved_aside_and_what_the_gate_holds_stays_in_force() {
    let mut world = World::with("");
    let cgroup = world.cgroup().child("shop");
    let path = cgroup.name();
    ok(&world.agent, &["block", "61001", "--for", "1h", "--reason", "known"]);
    ok(&world.agent, &["allow", "61003"]);
    ok(&world.agent, &["block", "--cgroup", &path]);
    world.agent.kill9();
    let file = world.agent.state_dir().join("by-hand.json");
    let text = fs::read(&file).must("the file");
    fs::write(&file, &text[..text.len() / 2]).must("half of it");
    let output = world.agent.cli(&["status"]).expect_ok("status");
    assert_has(&output.stderr, &["by-hand.json", "cannot be read"]);
    world.agent.start();
    let in_cgroup = || Dial::to(world.sink_address()).cgroup(&cgroup).uid(uid::OTHER).run().eperm() == 1;
    assert!(is_refused(&world, uid::SENDER) && !is_refused(&world, uid::DENIED) && in_cgroup());
    assert_logged(&world.agent, &["what was said by hand cannot be read", "stays in force", "by-hand.json.corrupt-20"]);
    let said = list(&world.agent);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said.iter().all(|said| said["reason"] == "recovered from the gate"), "{said:?}");
    let blocked = said.iter().find(|said| said["whom"] == json!({"user": "61001"})).must("the user");
    assert!(blocked["left_seconds"].as_u64().is_some_and(|left| left > 3000), "{blocked}");
    let aside = crate::scene::names_in(&world.agent.state_dir());
    let aside = aside.iter().find(|name| name.contains("corrupt")).must("it is kept");
    assert_eq!(fs::read(world.agent.state_dir().join(aside)).must("the file"), text[..text.len() / 2]);
    ok(&world.agent, &["release", "61001"]);
    assert!(!is_refused(&world, uid::SENDER) && !is_refused(&world, uid::DENIED) && in_cgroup());
}

#[test]
fn on_a_full_disk_nothing_is_said_and_nothing_is_lost() {
    let dir = scratch::dir();
    let state = dir.path().to_owned();
    smtp_tests::bpffs::ensure();
    let view = MountNs::new(|| {
        let size = Some("size=32k");
        mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), size).must("cannot mount a tmpfs");
    });
    // A history is larger than this disk.
    let world = World::built("[history]\nenabled = false", |agent| {
        agent.view(&view).config(|config| config.set("paths.state", dir.path().display().to_string()))
    });
    let filler = dir.path().join("filler");
    // Up to the last octet; the write that fails has written what found room.
    let fill = || view.run(|| fs::write(&filler, vec![0; 64 << 10]).expect_err("the disk is full"));
    let empty = || view.run(|| fs::remove_file(&filler).must("room again"));
    fill();
    fails(&world.agent, &["block", "61001"], 69, &["by-hand.json", "No space left", "nothing has changed"]);
    assert_logged(&world.agent, &["audit.log cannot be written"]);
    empty();
    ok(&world.agent, &["block", "61001"]);
    fill();
    for arguments in [&["block", "61002"][..], &["allow", "61001"], &["release", "61001"]] {
        fails(&world.agent, arguments, 69, &["by-hand.json", "No space left", "nothing has changed"]);
    }
    assert_eq!((is_refused(&world, uid::SENDER), is_refused(&world, uid::OTHER)), (true, false));
    assert_eq!(list(&world.agent).len(), 1);
    let file = view.run(|| fs::read_to_string(dir.path().join("by-hand.json")).must("the old file"));
    assert_has(&file, &["61001"]);
    empty();
    ok(&world.agent, &["release", "61001"]);
    assert!(!is_refused(&world, uid::SENDER));
    let audit = view.run(|| fs::read_to_string(dir.path().join("audit.log")).must("the audit"));
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).must(line)).collect();
    assert!(lines.iter().any(|line| line["outcome"] == "done" && line["what"] == "release"), "{audit}");
}

#[test]
fn what_the_gate_has_no_room_for_is_not_kept_either() {
    let etc = Etc::with_users(&[]);
    etc.append("group", "crowd:x:61070:");
    // One more than the gate has room for.
    let crowd = (0..65_537).map(|n| format!("user{n}:x:{}:61070::/:/bin/false\n", 100_000 + n));
    etc.write_in_place("passwd", &(etc.read("passwd") + &crowd.collect::<String>()));
    let world = World::built("", |agent| agent.etc(&etc));
    ok(&world.agent, &["block", "61001"]);
    let file = world.agent.state_dir().join("by-hand.json");
    let before = fs::read(&file).must("the file");
    fails(&world.agent, &["block", "--group", "crowd"], 69, &["the map BY_HAND is full", "nothing has changed"]);
    assert_eq!(fs::read(&file).must("the file"), before);
    assert_eq!(list(&world.agent).len(), 1);
    assert!(is_refused(&world, uid::SENDER));
    for uid in [100_000, 165_536] {
        assert!(!is_refused(&world, uid), "{uid} is not half blocked");
    }
    ok(&world.agent, &["block", "user65536"]);
    assert!(is_refused(&world, 165_536));
}

#[test]
fn without_an_agent_or_a_gate_nothing_is_said() {
    let mut world = World::with("");
    ok(&world.agent, &["detach"]);
    for command in ["block", "allow", "release"] {
        fails(&world.agent, &[command, "61001"], 69, &["the gate was detached"]);
    }
    assert_eq!(world.agent.stop(), 0);
    for arguments in [&["block", "61001"][..], &["allow", "--list"], &["release", "61001"]] {
        fails(&world.agent, arguments, 69, &["smtp-agent run"]);
    }
    let output = world.agent.cli(&["block", "61001", "--json"]);
    assert_eq!((output.code, &json(&output)["ok"]), (69, &false.into()), "{output:?}");
}

#[test]
fn wrong_usage_names_what_to_write() {
    let agent = Agent::builder().stopped();
    let long = "x".repeat(201);
    for (arguments, part) in [
        (&["block"][..], "--user"),
        (&["release"], "--user"),
        (&["block", "a", "--user", "b"], "cannot be used with"),
        (&["block", "--list", "a"], "cannot be used with"),
        (&["release", "a", "--for", "2h"], "--for"),
        (&["block", "a", "--for", "soon"], "30m, 2h or 7d"),
        (&["block", "a", "--for", "11y"], "between 1s and 10y"),
        (&["block", "a", "--for", "0s"], "between 1s and 10y"),
        (&["block", "a", "--reason", "two\nlines"], "control character"),
        (&["block", "a", "--reason", &long], "200 characters"),
        (&["block", "@staff"], "is not a name"),
        (&["block", "--cgroup", "x.service"], "does not begin with /"),
    ] {
        let output: Output = agent.cli(arguments);
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{arguments:?}: {output:?}");
        assert_has(&output.stderr, &[part]);
    }
}
