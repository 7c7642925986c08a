//! Limits that several share: each level holds by itself, the strictest decides, the greatest speaks.

use crate::people::{ANN, BOB, EVE, people};
use serde_json::Value;
use smtp_tests::{Cgroup, Dial, Etc, Listener, Netns, Tally, Veth, World, hands::at_once, uid};

const KEYS: [&str; 6] =
    ["per_hour", "per_day", "messages_per_hour", "messages_per_day", "recipients_per_hour", "recipients_per_day"];

/// Unit and window of a key.
fn parts(key: &str) -> (&'static str, &'static str) {
    let unit = if key.starts_with("messages") {
        "message"
    } else if key.starts_with("recipients") {
        "recipient"
    } else {
        "connection"
    };
    (unit, if key.ends_with("hour") { "hour" } else { "day" })
}

/// As events name it.
fn reason(level: &str, key: &str) -> String {
    let (unit, window) = parts(key);
    match (level, unit) {
        ("account", "connection") | (_, "connection") => format!("{level}_{window}"),
        ("account", unit) => format!("{unit}s_{window}"),
        (_, unit) => format!("{level}_{unit}s_{window}"),
    }
}

/// So many attempts of a user from a cgroup, one unit each: how many went through.
#[track_caller]
fn attempts(world: &World, cgroup: &Cgroup, user: u32, key: &str, count: u32) -> u64 {
    match parts(key).0 {
        "connection" => {
            let tally = world.dial().cgroup(cgroup).uid(user).count(count.into()).run();
            assert_eq!(tally.ok() + tally.eperm(), u64::from(count), "{tally:?}");
            tally.ok()
        }
        _ => {
            let report = world.mailer(user).cgroup(cgroup).messages(count).each(1).run();
            assert_eq!(report.seen.messages.accepted + report.cuts(), u64::from(count), "{report:?}");
            report.seen.messages.accepted
        }
    }
}

/// Why the last thing was stopped that an account tried.
#[track_caller]
fn last_reason(listener: &Listener, account: &str, unit: &str, stops: usize) -> String {
    let kind = if unit == "connection" { "connect" } else { "stop" };
    smtp_tests::poll::eventually_some(std::time::Duration::from_secs(10), "its stops are told", || {
        let is_it = |event: &Value| event["account"] == account && event["verdict"] == "refused";
        let told: Vec<Value> = listener.heard(kind).into_iter().filter(is_it).collect();
        (told.len() >= stops).then(|| told.last().and_then(|event| event["reason"].as_str()).unwrap_or("").to_owned())
    })
}

/// Two users who share a limit, and nobody else does.
struct Pair {
    level: &'static str,
    key: &'static str,
    names: [String; 2],
    uids: [u32; 2],
    cgroup: Cgroup,
}

#[test]
fn each_level_limits_each_unit_by_hour_and_by_day() {
    let levels = ["cgroup", "account", "group", "plan"];
    let cases: Vec<_> = levels.into_iter().flat_map(|level| KEYS.map(|key| (level, key))).collect();
    let names: Vec<[String; 2]> = (0..cases.len()).map(|n| [format!("a{n}"), format!("b{n}")]).collect();
    let uid = |n: usize, which: usize| 5_100 + 2 * n as u32 + which as u32;
    let users: Vec<(&str, u32, u32)> = names
        .iter()
        .enumerate()
        .flat_map(|(n, pair)| [0, 1].map(|which| (pair[which].as_str(), uid(n, which), uid(n, which))))
        .collect();
    let etc = Etc::with_users(&users);
    for (n, [a, b]) in names.iter().enumerate() {
        etc.append("group", &format!("g{n}:x:{}:{a},{b}", 7_000 + n));
    }
    let world = World::built("", |builder| builder.etc(&etc));
    let (mut tables, mut rules) = (String::new(), String::new());
    let pairs: Vec<Pair> = cases
        .into_iter()
        .zip(&names)
        .enumerate()
        .map(|(n, ((level, key), names))| {
            let cgroup = world.cgroup().child(&format!("c{n}"));
            let [a, b] = names;
            match level {
                "plan" => {
                    tables += &format!("[plan.p{n}.total]\n{key} = 3\n");
                    rules += &format!("[[rule]]\nuser = '{a}'\nplan = 'p{n}'\n[[rule]]\nuser = '{b}'\nplan = 'p{n}'\n");
                }
                "group" => tables += &format!("[group.g{n}]\n{key} = 3\n"),
                "account" => {
                    tables += &format!("[plan.p{n}]\n{key} = 3\nsoft_percent = 100\n");
                    rules += &format!("[[rule]]\nuser = '{a}'\nplan = 'p{n}'\n");
                }
                _ => {
                    tables += &format!("[plan.p{n}]\n{key} = 3\nsoft_percent = 100\n");
                    rules += &format!("[[rule]]\ncgroup = '{}'\nplan = 'p{n}'\n", cgroup.name());
                }
            }
            Pair { level, key, names: names.clone(), uids: [uid(n, 0), uid(n, 1)], cgroup }
        })
        .collect();
    world.reload(&format!("{tables}{rules}"));
    let listener = Listener::start(&world);
    for Pair { level, key, names, uids, cgroup } in &pairs {
        let what = format!("{level} {key}");
        assert_eq!(attempts(&world, cgroup, uids[0], key, 2), 2, "{what}");
        let other = if *level == "account" { 0 } else { 1 };
        assert_eq!(attempts(&world, cgroup, uids[other], key, 3), 1, "{what}: the third, and not one more");
        let (unit, window) = parts(key);
        let used = world.agent.explained(&names[0], Some(cgroup), &[]).used(level, unit, window);
        assert_eq!(used, 3, "{what}");
        assert_eq!(last_reason(&listener, &names[other], unit, 2), reason(level, key));
        let (who, at) = if *level == "cgroup" { (uids[0], world.cgroup()) } else { (uid::SENDER, cgroup) };
        assert_eq!(attempts(&world, at, who, key, 4), 4, "{what}: others are not held to it");
    }
}

#[test]
fn the_host_limits_each_unit_by_hour_and_by_day_whoever_it_is() {
    let world = World::with("");
    for key in KEYS {
        let (unit, window) = parts(key);
        let labels = [("unit", unit), ("window", window)];
        let used = || world.metrics().value("smtp_host_usage", &labels) as u64;
        let before = used();
        world.reload(&format!("[host]\n{key} = {}", before + 3));
        assert_eq!(attempts(&world, world.cgroup(), uid::SENDER, key, 2), 2, "{key}");
        assert_eq!(attempts(&world, world.cgroup(), uid::OTHER, key, 3), 1, "{key}");
        assert_eq!(used(), before + 3, "{key}");
        let of_message = ["--unit", unit];
        let explained = world.agent.explained("61001", None, &of_message);
        assert_eq!(explained.reason(), reason("host", key));
    }
}

#[test]
fn of_several_limits_that_are_full_the_greatest_speaks() {
    let etc = people();
    let world = World::built("", |builder| builder.etc(&etc));
    let cgroup = world.cgroup().child("web");
    let listener = Listener::start(&world);
    let order = ["host", "plan", "group", "account", "cgroup"];
    let mut refused = 0;
    for key in ["per_hour", "messages_per_day", "recipients_per_hour"] {
        for room in 0..order.len() {
            // Those before have room, those from here on have none.
            let limit = |level: &str| {
                let open = order.iter().position(|one| *one == level).expect("a level") < room;
                format!("{key} = {}", if open { 1000 } else { 0 })
            };
            world.reload(&format!(
                "[host]\n{}\n[plan.all.total]\n{}\n[group.staff]\n{}\n[plan.all]\n{}\nsoft_percent = 100\n\
                 [plan.web]\n{}\nsoft_percent = 100\n[[rule]]\nuser = 'ann'\nplan = 'all'\n\
                 [[rule]]\ncgroup = '{}'\nplan = 'web'",
                limit("host"),
                limit("plan"),
                limit("group"),
                limit("account"),
                limit("cgroup"),
                cgroup.name()
            ));
            assert_eq!(attempts(&world, &cgroup, ANN, key, 1), 0, "{key} {}", order[room]);
            refused += usize::from(key == "per_hour");
            let unit = parts(key).0;
            let count = if unit == "connection" { refused } else { listener.heard("stop").len().max(1) };
            let wanted = reason(order[room], key);
            smtp_tests::eventually(std::time::Duration::from_secs(10), &wanted, || {
                last_reason(&listener, "ann", unit, count) == wanted
            });
            let explained = world.agent.explained("ann", Some(&cgroup), &["--unit", unit]);
            assert_eq!(explained.reason(), wanted);
        }
    }
}

#[test]
fn the_soft_band_of_a_cgroup_rule_is_shared_exact_and_charged_to_nobody_else() {
    let world = World::with("");
    let cgroup = world.cgroup().child("soft");
    world.reload(&format!(
        "[plan.own]\nper_hour = 1000\n[plan.own.total]\nper_day = 1000\n[plan.p]\nper_hour = 100\nper_day = 300\n\
         soft_percent = 130\n[[rule]]\ncgroup = '{}'\nplan = 'p'\n[[rule]]\nuser = '61001'\nplan = 'own'",
        cgroup.name()
    ));
    let (world, cgroup) = (&world, &cgroup);
    let burst = |who| move || (who, world.dial().cgroup(cgroup).uid(who).count(100).threads(2).reset().run());
    let tallies = at_once([uid::SENDER, uid::OTHER, uid::SENDER, uid::OTHER].map(burst));
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(|(_, tally)| of(tally)).sum::<u64>();
    assert_eq!([sum(Tally::ok), sum(Tally::econnrefused), sum(Tally::eperm)], [100, 30, 270]);
    let counted = |verdict| world.counted_uid(uid::SENDER, verdict) + world.counted_uid(uid::OTHER, verdict);
    assert_eq!(["allowed", "deferred", "refused"].map(counted), [100, 30, 270]);
    let own: u64 = tallies.iter().filter(|(who, _)| *who == uid::SENDER).map(|(_, tally)| tally.ok()).sum();
    let explained = world.agent.explained("61001", Some(cgroup), &[]);
    let used = ["account", "plan"]
        .map(|scope| explained.used(scope, "connection", if scope == "plan" { "day" } else { "hour" }));
    assert_eq!(used, [own, own], "what is put off is taken back from the others");
}

#[test]
fn a_full_day_without_a_band_hardens_a_soft_hour_of_a_smaller_scope() {
    let world = World::with("");
    let cgroup = world.cgroup().child("soft");
    let toml = |total: u32| {
        format!(
            "[plan.p]\nper_hour = 2\nsoft_percent = 200\n[plan.standard.total]\nper_day = {total}\n\
             [[rule]]\ncgroup = '{}'\nplan = 'p'\n[[rule]]\nuser = '61001'\nplan = 'standard'",
            cgroup.name()
        )
    };
    world.reload(&toml(2));
    let got = world.dial().cgroup(&cgroup).uid(uid::SENDER).count(4).run();
    assert_eq!(got, Tally::of(&[("ok", 2), ("EPERM", 2)]), "the plan's day is full, too");
    world.reload(&toml(100));
    let got = world.dial().cgroup(&cgroup).uid(uid::SENDER).count(4).run();
    assert_eq!(got, Tally::of(&[("ECONNREFUSED", 2), ("EPERM", 2)]), "the band was not charged before");
}

const NEVER: &str = "max_failed_percent = 50\nmin_failed = 3\nrelease_after = 'never'";

#[test]
fn a_brake_that_stays_holds_whatever_the_share_is() {
    let mut world = World::meeting("", |sink| sink.obedient());
    world.reload(&format!("[plan.standard]\n{NEVER}"));
    assert_eq!(world.mailer(uid::SENDER).messages(3).sender_tag("+body550").run().seen.messages.rejected, 3);
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);
    world.reload(&format!("[plan.standard]\n{}", NEVER.replace("50", "100")));
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1, "not too many any more, and held all the same");
    world.agent.kill9();
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);
    world.agent.start();
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);
    assert_eq!(world.dial().uid(uid::OTHER).run().ok(), 1);
    world.reload("");
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1, "a plan without a brake holds nobody by one");
}

#[test]
fn the_brake_of_a_cgroups_plan_is_not_let_go_by_a_connection_from_elsewhere() {
    let world = World::meeting("", |sink| sink.obedient());
    let cgroup = world.cgroup().child("php");
    world.reload(&format!(
        "[plan.standard]\nmax_failed_percent = 99\nmin_failed = 50\n[plan.php]\n{NEVER}\n\
         [[rule]]\ncgroup = '{}'\nplan = 'php'",
        cgroup.name()
    ));
    let report = world.mailer(uid::SENDER).cgroup(&cgroup).messages(3).sender_tag("+body550").run();
    assert_eq!(report.seen.messages.rejected, 3);
    let inside = || world.dial().cgroup(&cgroup).uid(uid::SENDER).run();
    assert_eq!(inside().eperm(), 1, "tripped");
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1, "elsewhere another plan holds");
    assert_eq!(inside().eperm(), 1, "and it still is held here");
}

#[test]
fn a_member_of_a_group_with_a_limit_still_has_the_plan_of_his_cgroup() {
    let etc = people();
    let world = World::built("", |builder| builder.etc(&etc));
    let cgroup = world.cgroup().child("mail");
    let rule = format!("[[rule]]\ncgroup = '{}'\nplan = ", cgroup.name());
    world.reload(&format!("[default]\nplan = 'deny'\n{rule}'allow'"));
    assert_eq!(world.dial().cgroup(&cgroup).uid(ANN).run().ok(), 1, "without the group");
    world.reload(&format!("[default]\nplan = 'deny'\n[group.staff]\nper_hour = 2\n{rule}'allow'"));
    let got = world.dial().cgroup(&cgroup).uid(ANN).count(3).run();
    assert_eq!(got, Tally::of(&[("ok", 2), ("EPERM", 1)]), "a [group] is no rule of his");
    assert_eq!(world.dial().cgroup(&cgroup).uid(EVE).run().ok(), 1);
    assert_eq!(world.dial().uid(BOB).run().eperm(), 1, "elsewhere the default holds");
}

#[test]
fn a_list_manager_still_has_the_plan_of_his_cgroup() {
    let world = World::with("");
    let cgroup = world.cgroup().child("lists");
    world.reload(&format!(
        "[default]\nplan = 'deny'\n[host]\ncount_lists = false\nlist_users = ['61001']\n[[rule]]\ncgroup = '{}'\nplan = 'allow'",
        cgroup.name()
    ));
    assert_eq!(world.dial().cgroup(&cgroup).uid(uid::OTHER).run().ok(), 1);
    assert_eq!(world.dial().cgroup(&cgroup).uid(uid::SENDER).run().ok(), 1, "a list is no rule of his");
}

#[test]
fn a_group_holds_neither_its_exempt_nor_lets_its_denied_members_go() {
    let etc = people();
    let world = World::built("", |builder| builder.etc(&etc));
    world.reload("[group.staff]\nper_hour = 3\n[allow]\nusers = ['ann']\n[deny]\nusers = ['bob']");
    assert_eq!(world.dial().uid(ANN).count(5).run().ok(), 5);
    assert_eq!(world.dial().uid(BOB).run().eperm(), 1);
    world.reload("[group.staff]\nper_hour = 3");
    assert_eq!(world.dial().uid(BOB).count(5).run(), Tally::of(&[("ok", 3), ("EPERM", 2)]), "Ann's were not charged");
}

#[test]
fn somebody_in_several_groups_is_held_to_all_of_them() {
    let etc = people();
    etc.append("group", "night:x:7001:bob,eve");
    let world = World::built("", |builder| builder.etc(&etc));
    world.reload("[group.staff]\nper_hour = 4\n[group.night]\nper_day = 6");
    assert_eq!(world.dial().uid(BOB).count(6).run().ok(), 4, "the smaller");
    assert_eq!(world.dial().uid(EVE).count(6).run().ok(), 2, "the rest of the other");
    assert_eq!(world.dial().uid(ANN).run().eperm(), 1);
}

#[test]
fn containers_share_the_total_of_their_plan_and_no_group() {
    let etc = people();
    let world = World::built("", |builder| builder.etc(&etc));
    world.reload("[containers]\nplan = 'box'\n[plan.box.total]\nper_hour = 3\n[group.staff]\nper_hour = 0");
    let dial = |name: &str, count: u64| {
        let inner = Netns::new();
        let wire = Veth::between(&inner, &world.ns);
        let to = std::net::SocketAddr::new(wire.far.v4.into(), 25);
        Dial::to(to).cgroup(&world.cgroup().child(name)).netns(&inner).uid(ANN).count(count).run()
    };
    assert_eq!(dial("box1", 2).ok(), 2);
    assert_eq!(dial("box2", 2), Tally::of(&[("ok", 1), ("EPERM", 1)]));
}

#[test]
fn shared_limits_in_observe_mode_are_counted_and_stop_nobody() {
    let world = World::with("mode = 'observe'");
    let cgroup = world.cgroup().child("web");
    world.reload(&format!(
        "mode = 'observe'\n[plan.p]\nper_hour = 4\nsoft_percent = 150\nmessages_per_day = 2\n[[rule]]\ncgroup = '{}'\nplan = 'p'",
        cgroup.name()
    ));
    assert_eq!(world.dial().cgroup(&cgroup).uid(uid::SENDER).count(3).run().ok(), 3);
    assert_eq!(world.dial().cgroup(&cgroup).uid(uid::OTHER).count(5).run().ok(), 5);
    let counted = |verdict| world.counted_uid(uid::OTHER, verdict);
    assert_eq!(["allowed", "would_defer", "would_refuse"].map(counted), [1, 2, 2]);
    assert_eq!(world.mailer(uid::OTHER).cgroup(&cgroup).messages(5).run().seen.messages.accepted, 5);
    assert_eq!(world.metrics().units("61002", "message", "would_refuse"), 3);
    assert_eq!(world.agent.explained("61001", Some(&cgroup), &[]).used("cgroup", "connection", "hour"), 4);
}

#[test]
fn submissions_to_the_local_mta_are_charged_to_what_says_local() {
    let world = World::with("");
    let (web, all) = (world.cgroup().child("web"), world.cgroup().child("all"));
    let rule = |cgroup: &Cgroup, plan: &str| format!("[[rule]]\ncgroup = '{}'\nplan = '{plan}'\n", cgroup.name());
    world.reload(&format!(
        "[plan.web]\nper_hour = 3\nsoft_percent = 100\n[plan.all]\nper_hour = 3\nsoft_percent = 100\nlocal = true\n\
         [plan.standard.total]\nper_hour = 0\n{}{}",
        rule(&web, "web"),
        rule(&all, "all")
    ));
    let local = |cgroup: &Cgroup| {
        let to = std::net::SocketAddr::from(([127, 0, 0, 1], 25));
        Dial::to(to).cgroup(world.cgroup()).cgroup(cgroup).uid(uid::SENDER).count(5).run().eperm()
    };
    assert_eq!(local(&web), 0);
    assert_eq!(local(&all), 2);
    assert_eq!(local(world.cgroup()), 0, "the total of a plan is for what leaves the host");
    assert_eq!(world.dial().cgroup(&web).uid(uid::SENDER).count(4).run().ok(), 3, "nothing was charged");
    assert_eq!(world.dial().cgroup(&all).uid(uid::SENDER).run().eperm(), 1);
}
