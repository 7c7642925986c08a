//! Rules for cgroups: whom they hold for, and what they hold him to.

use smtp_tests::{Cgroup, Dial, Netns, Tally, Veth, Way, World, mailer::How, uid};
use std::net::SocketAddr;

/// A rule for a pattern; `more` is what it says besides.
fn rule(pattern: &str, more: &str) -> String {
    format!("[[rule]]\ncgroup = '{pattern}'\n{more}\n")
}

/// Three connections an hour, and no soft band.
const THREE: &str = "[plan.three]\nper_hour = 3\nsoft_percent = 100\n";

fn ok_and_eperm(ok: u64, eperm: u64) -> Tally {
    let counts = [("ok", ok), ("EPERM", eperm)];
    Tally::of(&counts.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>())
}

#[track_caller]
fn dials(world: &World, cgroup: &Cgroup, user: u32, count: u64) -> Tally {
    world.dial().cgroup(cgroup).uid(user).count(count).run()
}

#[test]
fn an_exact_path_holds_for_the_cgroup_and_everything_below_and_for_nothing_beside() {
    let world = World::with("");
    let php = world.cgroup().child("php");
    let worker = php.child("worker/one");
    let (php2, up) = (world.cgroup().child("php2"), world.cgroup().child("ph"));
    world.reload(&format!("{THREE}{}", rule(&php.name(), "plan = 'three'")));
    assert_eq!(dials(&world, &php, uid::SENDER, 1), ok_and_eperm(1, 0));
    assert_eq!(dials(&world, &worker, uid::OTHER, 5), ok_and_eperm(2, 3), "one purse for all of them");
    assert_eq!(dials(&world, &php, uid::SENDER, 1), ok_and_eperm(0, 1));
    for beside in [&php2, &up, world.cgroup()] {
        assert_eq!(dials(&world, beside, uid::SENDER, 5).ok(), 5, "{}", beside.name());
    }
}

#[test]
fn a_glob_holds_for_what_it_matches_together_and_with_each_apart() {
    let world = World::with("");
    let [one, two, other] = ["php1.service", "php22.service", "nginx.service"].map(|name| world.cgroup().child(name));
    let nested = other.child("php3.service");
    let glob = format!("{}/php*.service", world.cgroup().name());
    world.reload(&format!("{THREE}{}", rule(&glob, "plan = 'three'")));
    assert_eq!(dials(&world, &one, uid::SENDER, 2).ok(), 2);
    assert_eq!(dials(&world, &two, uid::SENDER, 3), ok_and_eperm(1, 2));
    assert_eq!(dials(&world, &other, uid::SENDER, 5).ok(), 5);
    assert_eq!(dials(&world, &nested, uid::SENDER, 5).ok(), 5, "a star stays within a component");
    world.reload(&format!("{THREE}{}", rule(&glob, "plan = 'three'\neach = true")));
    for cgroup in [&one, &two] {
        assert_eq!(dials(&world, cgroup, uid::SENDER, 5), ok_and_eperm(3, 2), "{}", cgroup.name());
    }
}

#[test]
fn each_holds_messages_of_one_user_apart_in_each_cgroup() {
    let world = World::with("");
    let cgroups = ["box1", "box2"].map(|name| world.cgroup().child(name));
    let glob = format!("{}/box*", world.cgroup().name());
    world.reload(&format!("[plan.p]\nmessages_per_hour = 4\n{}", rule(&glob, "plan = 'p'\neach = true")));
    for cgroup in &cgroups {
        let report = world.mailer(uid::SENDER).cgroup(cgroup).messages(6).run();
        assert_eq!((report.seen.messages.accepted, report.cuts()), (4, 2), "{}", cgroup.name());
    }
}

#[test]
fn what_a_user_sends_in_one_cgroup_is_not_charged_to_the_rule_of_another() {
    let world = World::with("");
    let [many, few] = ["many", "few"].map(|name| world.cgroup().child(name));
    world.reload(&format!(
        "[plan.many]\nmessages_per_hour = 9\nrecipients_per_day = 90\n[plan.few]\nmessages_per_hour = 4\nrecipients_per_day = 5\n{}{}",
        rule(&many.name(), "plan = 'many'"),
        rule(&few.name(), "plan = 'few'")
    ));
    assert_eq!(world.mailer(uid::SENDER).cgroup(&many).messages(8).run().seen.messages.accepted, 8);
    let report = world.mailer(uid::SENDER).cgroup(&few).messages(6).run();
    assert_eq!((report.seen.messages.accepted, report.cuts()), (4, 2), "{report:?}");
}

#[test]
fn two_stars_charge_a_connection_once_however_deep_it_is() {
    let world = World::with("");
    let top = world.cgroup().child("top");
    let deep = top.child("a/b/c");
    world.reload(&format!("{THREE}{}", rule(&format!("{}/**", top.name()), "plan = 'three'")));
    assert_eq!(dials(&world, &deep, uid::SENDER, 4), ok_and_eperm(3, 1));
    assert_eq!(world.agent.explained("61001", Some(&deep), &[]).used("cgroup", "connection", "hour"), 3);
}

#[test]
fn a_pattern_that_matches_a_cgroup_and_one_inside_it_charges_once() {
    let world = World::with("");
    let inner = world.cgroup().child("php-a/php-b");
    let glob = format!("{}/**/php-*", world.cgroup().name());
    world.reload(&format!("[plan.four]\nper_hour = 4\nsoft_percent = 100\n{}", rule(&glob, "plan = 'four'")));
    assert_eq!(dials(&world, &inner, uid::SENDER, 5), ok_and_eperm(4, 1));
}

#[test]
fn nested_rules_are_all_charged_and_the_strictest_decides() {
    let world = World::with("");
    let outer = world.cgroup().child("outer");
    let inner = outer.child("inner");
    world.reload(&format!(
        "{THREE}[plan.five]\nper_hour = 5\nsoft_percent = 100\n{}{}",
        rule(&outer.name(), "plan = 'five'"),
        rule(&inner.name(), "plan = 'three'")
    ));
    assert_eq!(dials(&world, &inner, uid::SENDER, 4), ok_and_eperm(3, 1));
    assert_eq!(dials(&world, &outer, uid::SENDER, 4), ok_and_eperm(2, 2), "which the outer one has paid, too");
    assert_eq!(dials(&world, world.cgroup(), uid::SENDER, 4).ok(), 4);
}

#[test]
fn four_nested_rules_hold() {
    let world = World::with("");
    let cgroups = nested(&world);
    world.reload(&strict_inside(&cgroups[..4]));
    assert_eq!(dials(&world, &cgroups[5], uid::SENDER, 14).ok(), 11, "the innermost of four");
    assert_eq!(dials(&world, &cgroups[2], uid::OTHER, 14).ok(), 3, "the next, which has paid for both");
}

#[test]
fn the_strictest_of_six_nested_rules_holds() {
    let world = World::with("");
    let cgroups = nested(&world);
    world.reload(&strict_inside(&cgroups));
    assert_eq!(dials(&world, &cgroups[5], uid::SENDER, 14).ok(), 5, "the innermost of six");
}

/// Six cgroups, each in the one before.
fn nested(world: &World) -> [Cgroup; 6] {
    ["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e", "a/b/c/d/e/f"].map(|name| world.cgroup().child(name))
}

/// 20 an hour for the outermost, and 3 less for each further in.
fn strict_inside(cgroups: &[Cgroup]) -> String {
    let limit = |(cgroup, n): (&Cgroup, u32)| rule(&cgroup.name(), &format!("per_hour = {}", 20 - 3 * n));
    let rules: String = cgroups.iter().zip(0..).map(limit).collect();
    format!("[plan.standard]\nsoft_percent = 100\n{rules}")
}

#[test]
fn exempt_accounts_are_held_to_a_strict_rule_and_to_no_other() {
    let world = World::with("");
    let cgroup = world.cgroup().child("strict");
    for (strict, passed) in [(false, 5), (true, 0)] {
        world.reload(&format!("{THREE}{}", rule(&cgroup.name(), &format!("plan = 'three'\nstrict = {strict}"))));
        let tally = dials(&world, &cgroup, uid::EXEMPT, 5);
        if strict {
            assert_eq!(tally, ok_and_eperm(3, 2), "what he did before was not charged");
            assert_eq!(world.counted_uid(uid::EXEMPT, "exempt"), 8);
        } else {
            assert_eq!(tally.ok(), passed);
        }
    }
    assert_eq!(dials(&world, &cgroup, uid::SENDER, 1).eperm(), 1, "he has spent it for the others");
    assert_eq!(dials(&world, world.cgroup(), uid::EXEMPT, 3).ok(), 3);
}

#[test]
fn exempt_accounts_are_held_to_the_messages_of_a_strict_rule_and_cannot_hide_them() {
    let world = World::meeting("", |sink| sink.chunking());
    let cgroup = world.cgroup().child("strict");
    world.reload(&format!("[plan.p]\nmessages_per_hour = 4\n{}", rule(&cgroup.name(), "plan = 'p'\nstrict = true")));
    let report = world.mailer(uid::EXEMPT).cgroup(&cgroup).messages(6).how(How::Mixed).run();
    assert_eq!((report.seen.messages.accepted, report.cuts()), (4, 2), "{report:?}");
    let stuffed = |user| world.dial().cgroup(&cgroup).uid(user).stuffed().run();
    assert_eq!(stuffed(uid::SENDER).eperm(), 1, "a session that cannot be followed");
    assert_eq!(stuffed(uid::EXEMPT).eperm(), 1, "his neither");
}

#[test]
fn a_plan_that_denies_closes_a_cgroup_to_all_but_the_exempt_and_leaves_the_local_mta() {
    let world = World::with("");
    let (closed, open) = (world.cgroup().child("closed"), world.cgroup().child("open"));
    let inside = closed.child("inside");
    world.reload(&format!(
        "[default]\nplan = 'deny'\n{}{}{}[[rule]]\nuser = '61002'\nplan = 'standard'",
        rule(&closed.name(), "plan = 'deny'"),
        rule(&inside.name(), "plan = 'allow'"),
        rule(&open.name(), "plan = 'allow'"),
    ));
    assert_eq!(dials(&world, &open, uid::SENDER, 3).ok(), 3, "allowed where the default denies");
    assert_eq!(dials(&world, world.cgroup(), uid::SENDER, 1).eperm(), 1);
    assert_eq!(dials(&world, &closed, uid::SENDER, 1).eperm(), 1);
    assert_eq!(dials(&world, &closed, uid::EXEMPT, 1).ok(), 1);
    assert_eq!(dials(&world, &open, uid::DENIED, 1).eperm(), 1, "denied users stay denied");
    let local = world.dial_to("127.0.0.1".parse().expect("an address"), 25).cgroup(&closed).uid(uid::SENDER).run();
    assert_eq!(local.eperm(), 0, "the local MTA may be reached: {local:?}");
    assert_eq!(dials(&world, world.cgroup(), uid::OTHER, 2).ok(), 2);
    assert_eq!(dials(&world, &inside, uid::SENDER, 1).eperm(), 1, "nobody opens what the outer one closes");
}

#[test]
fn the_plan_of_a_user_comes_before_that_of_his_cgroup_and_both_limits_hold() {
    let world = World::with("");
    let cgroup = world.cgroup().child("c");
    world.reload(&format!(
        "{THREE}[plan.two]\nper_hour = 2\nsoft_percent = 100\n{}[[rule]]\nuser = '61002'\nplan = 'two'",
        rule(&cgroup.name(), "plan = 'three'")
    ));
    assert_eq!(dials(&world, &cgroup, uid::OTHER, 4), ok_and_eperm(2, 2), "his own limit");
    assert_eq!(dials(&world, &cgroup, uid::SENDER, 4), ok_and_eperm(1, 3), "and the shared one");
}

#[test]
fn containers_in_a_matched_cgroup_are_held_to_its_rule() {
    let world = World::with("");
    let [one, two, free] = ["docker-1.scope", "docker-2.scope", "free"].map(|name| world.cgroup().child(name));
    let inner = [Netns::new(), Netns::new(), Netns::new()];
    let wires = inner.each_ref().map(|ns| Veth::between(ns, &world.ns));
    let dial = |cgroup: &Cgroup, at: usize, user: u32, count: u64| {
        let to = SocketAddr::new(wires[at].far.v4.into(), 25);
        Dial::to(to).cgroup(cgroup).netns(&inner[at]).uid(user).count(count).run()
    };
    let glob = format!("{}/docker-*.scope", world.cgroup().name());
    world.reload(&format!("{THREE}[containers]\nplan = 'deny'\n{}", rule(&glob, "plan = 'three'\neach = true")));
    assert_eq!(dial(&one, 0, 0, 2), ok_and_eperm(2, 0), "root in a container is nobody special");
    assert_eq!(dial(&one, 0, uid::EXEMPT, 2), ok_and_eperm(1, 1), "nor is an exempt name");
    assert_eq!(dial(&two, 1, uid::SENDER, 4), ok_and_eperm(3, 1));
    assert_eq!(dial(&free, 2, uid::SENDER, 1).eperm(), 1, "[containers] holds for the rest");
    world.reload(&rule(&glob, "plan = 'deny'"));
    assert_eq!(dial(&one, 0, 0, 1).eperm(), 1);
    assert_eq!(dial(&free, 2, 0, 1).ok(), 1);
    world.reload(&format!("[containers]\nplan = 'deny'\n{}", rule(&glob, "plan = 'allow'")));
    assert_eq!(dial(&one, 0, 0, 5).ok(), 5);
}

#[test]
fn a_process_meets_the_rule_of_the_cgroup_it_is_in_when_it_connects() {
    let world = World::with("");
    let [closed, open] = ["closed", "open"].map(|name| world.cgroup().child(name));
    world.reload(&rule(&closed.name(), "plan = 'deny'"));
    for (from, to, passed) in [(&open, &closed, 0), (&closed, &open, 1)] {
        let mut held = world.dial().cgroup(from).uid(uid::SENDER).spawn();
        to.take(held.pid());
        held.go();
        assert_eq!(held.tally().ok(), passed, "from {} to {}", from.name(), to.name());
        held.release();
    }
}

#[test]
fn every_way_to_connect_meets_the_rule() {
    let world = World::with("");
    let closed = world.cgroup().child("closed");
    world.reload(&rule(&closed.name(), "plan = 'deny'"));
    for way in Way::TCP {
        let got = world.dial().cgroup(&closed).uid(uid::SENDER).way(way).run();
        assert_eq!((got.total(), got.eperm()), (1, 1), "{way}: {got:?}");
    }
    assert_eq!(world.sink.connections(), 0);
}

#[test]
fn names_of_any_kind_are_matched() {
    let world = World::with("");
    let long = "n".repeat(255);
    let names = [
        "with space",
        "t\u{e4}st-\u{65e5}\u{672c}",
        r"run-user\x2dcraft.mount",
        "a[b]{c}",
        "$(x)",
        "100%",
        "name:with=colons",
        "-dash",
        ".hidden",
        "'quote\"",
        long.as_str(),
    ];
    let cgroups = names.map(|name| world.cgroup().child(name));
    let quoted = |text: String| toml::Value::from(text).to_string();
    // What is special in a pattern stands in brackets.
    let exact = |name: &str| {
        let plain: String =
            name.chars().map(|c| if "[]{}*?".contains(c) { format!("[{c}]") } else { c.to_string() }).collect();
        format!("{}/{plain}", world.cgroup().name())
    };
    let rules: String =
        names.iter().map(|name| format!("[[rule]]\ncgroup = {}\nplan = 'deny'\n", quoted(exact(name)))).collect();
    world.reload(&rules);
    for cgroup in &cgroups {
        assert_eq!(dials(&world, cgroup, uid::SENDER, 1).eperm(), 1, "{}", cgroup.name());
    }
    assert_eq!(dials(&world, world.cgroup(), uid::SENDER, 1).ok(), 1);
    let glob = format!("[[rule]]\ncgroup = {}\nplan = 'deny'\n", quoted(format!("{}/?*", world.cgroup().name())));
    world.reload(&glob);
    for cgroup in &cgroups {
        assert_eq!(dials(&world, cgroup, uid::SENDER, 1).eperm(), 1, "by a glob: {}", cgroup.name());
    }
}

#[test]
fn a_rule_holds_twenty_levels_below() {
    let world = World::with("");
    let top = world.cgroup().child("top");
    let deep = twenty(&top);
    world.reload(&format!("{THREE}{}", rule(&top.name(), "plan = 'three'")));
    assert_eq!(dials(&world, &deep[19], uid::SENDER, 4), ok_and_eperm(3, 1));
}

#[test]
fn a_rule_for_a_cgroup_nineteen_levels_deep_holds() {
    let world = World::with("");
    let top = world.cgroup().child("top");
    let deep = twenty(&top);
    world.reload(&rule(&deep[18].name(), "plan = 'deny'"));
    assert_eq!(dials(&world, &deep[19], uid::SENDER, 1).eperm(), 1);
    assert_eq!(dials(&world, &deep[17], uid::SENDER, 1).ok(), 1);
}

/// Twenty cgroups, each in the one before.
fn twenty(top: &Cgroup) -> Vec<Cgroup> {
    let mut deep = vec![top.child("0")];
    for level in 1..20 {
        deep.push(deep[level - 1].child(&level.to_string()));
    }
    deep
}

#[test]
fn rules_hold_for_the_v1_hierarchy_of_systemd() {
    let world = World::with("");
    let slice = Cgroup::of_systemd("slice");
    let [php, other] = ["php8.service", "other.service"].map(|name| slice.child(name));
    let inside = php.child("worker");
    world.reload(&format!("{THREE}{}", rule(&format!("{}/php*.service", slice.name()), "plan = 'three'")));
    assert_eq!(dials(&world, &php, uid::SENDER, 1).ok(), 1);
    assert_eq!(dials(&world, &inside, uid::OTHER, 4), ok_and_eperm(2, 2));
    assert_eq!(dials(&world, &other, uid::SENDER, 5).ok(), 5);
    let explained = world.agent.explained("61001", Some(&php), &[]);
    assert_eq!(explained.used("cgroup", "connection", "hour"), 3);
    // Made after the policy was, and known by the glob alone.
    let late = slice.child("php9.service");
    smtp_tests::eventually(std::time::Duration::from_secs(2), "the rule holds", || {
        dials(&world, &late, uid::SENDER, 1).eperm() == 1
    });
    drop(late);
    let again = slice.child("php9.service");
    assert_eq!(dials(&world, &again, uid::SENDER, 1).eperm(), 1, "at once");
}

#[test]
fn a_rule_holds_twenty_levels_below_in_the_v1_hierarchy_too() {
    let world = World::with("");
    let top = Cgroup::of_systemd("deep");
    let deep = twenty(&top);
    world.reload(&rule(&top.name(), "plan = 'deny'"));
    assert_eq!(dials(&world, &deep[12], uid::SENDER, 1).eperm(), 1);
    assert_eq!(dials(&world, &deep[19], uid::SENDER, 1).eperm(), 1);
}

#[test]
fn a_rule_of_either_hierarchy_holds_for_a_process_that_is_in_both() {
    let world = World::with("");
    let (v2, v1) = (world.cgroup().child("v2"), Cgroup::of_systemd("v1"));
    let dial = || world.dial().cgroup(&v2).cgroup(&v1).uid(uid::SENDER).run();
    world.reload(&rule(&v1.name(), "plan = 'deny'"));
    assert_eq!(dial().eperm(), 1);
    world.reload(&format!("{}{}", rule(&v1.name(), "plan = 'deny'"), rule(&v2.name(), "per_hour = 100")));
    assert_eq!(dial().eperm(), 1, "a limit in v2 does not lift what v1 denies");
}

#[test]
fn cgroups_outside_the_one_the_agent_is_attached_to_are_none_of_its_business() {
    let world = World::with("");
    let outside = Cgroup::new("outside");
    world.reload(&format!(
        "{}{}",
        rule(&outside.name(), "plan = 'deny'"),
        rule(&world.cgroup().name(), "plan = 'deny'")
    ));
    assert_eq!(dials(&world, &outside, uid::SENDER, 1).ok(), 1);
    assert_eq!(dials(&world, world.cgroup(), uid::SENDER, 1).eperm(), 1, "the one it is attached to is");
}
