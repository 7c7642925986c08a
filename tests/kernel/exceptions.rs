//! Exceptions: rules with a destination, a port or two subjects, and "only the MTA may send".

use crate::people::{ANN, BOB, EVE, people};
use smtp_tests::{Cgroup, Dial, Etc, Netns, Sink, Tally, Veth, Way, World, uid};
use std::net::{IpAddr, SocketAddr};

fn with_people(etc: &Etc, toml: &str) -> World {
    World::built(toml, |builder| builder.etc(etc))
}

/// One connection to the sink: whether it went through. Nothing else may come of it than EPERM.
#[track_caller]
fn goes(dial: Dial) -> bool {
    let tally = dial.run();
    assert_eq!((tally.total(), tally.ok() + tally.eperm()), (1, 1), "{tally:?}");
    tally.ok() == 1
}

fn v4(world: &World) -> IpAddr {
    world.veth.far.v4.into()
}

fn v6(world: &World) -> IpAddr {
    world.veth.far.v6.into()
}

const DENY: &str = "[default]\nplan = 'deny'\n";

fn exception(says: &str) -> String {
    format!("[[rule]]\n{says}\n")
}

#[test]
fn only_root_the_mta_and_the_list_manager_may_send() {
    let etc = people();
    let world = with_people(&etc, "[default]\nplan = 'deny'\n[allow]\nusers = ['root', 'exim', 'mailman']");
    for user in [0, 5_010, 5_011] {
        for way in [Way::Plain, Way::FastopenSendto, Way::Mapped] {
            assert!(goes(world.dial().uid(user).way(way)), "{user} {way}");
        }
        assert!(goes(world.dial_to(v6(&world), 25).uid(user)), "{user}");
    }
    for user in [ANN, BOB, EVE, uid::SENDER, 65_534] {
        for way in Way::TCP.into_iter().filter(|way| *way != Way::IoUringSqpoll && *way != Way::UserNamespace) {
            assert!(!goes(world.dial().uid(user).way(way)), "{user} {way}");
        }
        assert!(!goes(world.dial_to(v6(&world), 25).uid(user)), "{user}");
    }
    let sent = world.mailer(5_010).messages(2).run();
    assert_eq!(sent.seen.messages.accepted, 2);
    let local = SocketAddr::from(([127, 0, 0, 1], 25));
    for user in [ANN, 65_534] {
        let tally = Dial::to(local).cgroup(world.cgroup()).uid(user).run();
        assert_eq!(tally.eperm(), 0, "the local MTA may be reached: {tally:?}");
    }
}

#[test]
fn a_group_means_its_primary_and_its_other_members() {
    let etc = people();
    let world = with_people(&etc, "");
    world.reload(&format!("{DENY}{}", exception("group = 'staff'\nports = [25, 587]\nplan = 'allow'")));
    assert!(goes(world.dial().uid(ANN)) && goes(world.dial().uid(BOB)));
    assert!(!goes(world.dial().uid(EVE)));
    // By the system's own lists: a gid or a supplementary group of the process alone is nobody's name.
    assert!(!goes(world.dial().uid(EVE).gid(7_000).group(7_000)));
    assert!(!goes(world.dial().uid(0)) || world.counted("root", "exempt") > 0);
    world.reload(&format!("{DENY}{}", exception("group = 'staff'\nuser = 'bob'\nplan = 'allow'")));
    assert!(!goes(world.dial().uid(ANN)), "a user and a group: both must match");
    assert!(goes(world.dial().uid(BOB)));
    world.reload(&format!("{DENY}{}", exception("group = 'staff'\nuser = 'eve'\nplan = 'allow'")));
    assert!(!goes(world.dial().uid(EVE)) && !goes(world.dial().uid(ANN)));
}

#[test]
fn destinations_are_addresses_and_networks_of_both_families() {
    let world = World::with("");
    let (four, six) = (v4(&world), v6(&world));
    let network = |ip: IpAddr, bits: u32| match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            format!("{}/{bits}", std::net::Ipv4Addr::from(u32::from(ip) & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            format!("{}/{bits}", std::net::Ipv6Addr::from(u128::from(ip) & mask))
        }
    };
    let dial = |to: IpAddr| world.dial_to(to, 25).uid(uid::SENDER);
    let cases = [
        (four.to_string(), true, false),
        (network(four, 32), true, false),
        (network(four, 31), true, false),
        (network(four, 8), true, false),
        (network(four, 1), true, false),
        (six.to_string(), false, true),
        (network(six, 128), false, true),
        (network(six, 127), false, true),
        (network(six, 16), false, true),
        (network(six, 1), false, true),
        ("203.0.113.7".to_owned(), false, false),
        ("2001:db8::/32".to_owned(), false, false),
    ];
    for (to, by_four, by_six) in cases {
        world.reload(&format!("{DENY}{}", exception(&format!("to = '{to}'\nplan = 'allow'"))));
        assert_eq!(goes(dial(four)), by_four, "{to}");
        assert_eq!(goes(dial(four).way(Way::Mapped)), by_four, "{to}: an IPv4 address in IPv6's clothes");
        assert_eq!(goes(dial(six)), by_six, "{to}");
        world.reload(&exception(&format!("to = '{to}'\nplan = 'deny'")));
        assert_eq!(goes(dial(four)), !by_four, "{to}");
        assert_eq!(goes(dial(four).way(Way::Mapped)), !by_four, "{to}");
        assert_eq!(goes(dial(six)), !by_six, "{to}");
    }
    world.reload(&format!(
        "{DENY}{}",
        exception(&format!("to = ['203.0.113.0/24', '{four}', '{six}']\nplan = 'allow'"))
    ));
    assert!(goes(dial(four)) && goes(dial(six)), "a list of them");
}

#[test]
fn the_longest_prefix_speaks() {
    let world = World::with("");
    let four = v4(&world);
    let IpAddr::V4(ip) = four else { panic!("{four} is IPv4") };
    let around = |bits: u32| format!("{}/{bits}", std::net::Ipv4Addr::from(u32::from(ip) & (u32::MAX << (32 - bits))));
    let dial = || world.dial().uid(uid::SENDER);
    let rules = |plans: [&str; 3]| {
        let to = [around(8), around(24), format!("{ip}/32")];
        to.iter().zip(plans).map(|(to, plan)| exception(&format!("to = '{to}'\nplan = '{plan}'"))).collect::<String>()
    };
    for (plans, passes) in [(["allow", "allow", "deny"], false), (["deny", "deny", "allow"], true)] {
        world.reload(&rules(plans));
        assert_eq!(goes(dial()), passes, "{plans:?}");
    }
    let other = exception("to = '203.0.113.0/24'\nplan = 'allow'");
    world.reload(&format!("{DENY}{other}{}", exception(&format!("to = '{}'\nplan = 'allow'", around(24)))));
    assert!(goes(dial()));
}

#[test]
fn ports_are_told_apart_and_a_denied_port_leaves_the_local_mta() {
    let world = World::with("[smtp]\nports = [25, 587]");
    let submission = SocketAddr::new(v4(&world), 587);
    let _sink = Sink::at(submission).netns(&world.ns).start();
    let dial = |port| world.dial_to(v4(&world), port).uid(uid::SENDER);
    let reload = |text: &str| world.reload(&format!("[smtp]\nports = [25, 587]\n{text}"));
    reload(&exception("ports = [587]\nplan = 'deny'"));
    assert!(goes(dial(25)) && !goes(dial(587)));
    let local = |port| Dial::to(SocketAddr::from(([127, 0, 0, 1], port))).cgroup(world.cgroup()).uid(uid::SENDER).run();
    assert_eq!(local(587).eperm(), 0);
    reload(&format!("{DENY}{}", exception("ports = [587]\nplan = 'allow'")));
    assert!(!goes(dial(25)) && goes(dial(587)));
    reload(&format!("{DENY}{}", exception(&format!("ports = [587]\nto = '{}'\nplan = 'allow'", v4(&world)))));
    assert!(!goes(dial(25)) && goes(dial(587)));
    assert!(!goes(world.dial_to(v6(&world), 25).uid(uid::SENDER)));
    reload(&exception("to = '127.0.0.1'\nplan = 'deny'"));
    assert_eq!(local(25).eperm(), 1, "a denied destination is meant as it stands");
}

#[test]
fn everything_that_is_said_must_match() {
    let etc = people();
    let world = with_people(&etc, "");
    let (web, other) = (world.cgroup().child("web"), world.cgroup().child("other"));
    let inside = web.child("worker");
    let (four, six) = (v4(&world), v6(&world));
    let dial = |user: u32, cgroup: &Cgroup, to: IpAddr| goes(world.dial_to(to, 25).uid(user).cgroup(cgroup));
    let cgroup = format!("cgroup = '{}'", web.name());
    let cases = [
        (format!("user = 'ann'\nto = '{four}'"), [true, true, false, false]),
        (format!("user = 'ann'\n{cgroup}"), [true, false, true, false]),
        (format!("{cgroup}\nto = '{four}'"), [true, false, false, true]),
        (format!("group = 'staff'\n{cgroup}\nto = '{four}'\nports = [25]"), [true, false, false, false]),
        ("user = 'ann'\nports = [25]".to_owned(), [true, true, true, false]),
        ("user = 'ann'\nports = [587]".to_owned(), [false, false, false, false]),
    ];
    for (says, expected) in cases {
        world.reload(&format!("{DENY}{}", exception(&format!("{says}\nplan = 'allow'"))));
        let got =
            [dial(ANN, &inside, four), dial(ANN, &other, four), dial(ANN, &inside, six), dial(EVE, &inside, four)];
        assert_eq!(got, expected, "allow: {says}");
        world.reload(&exception(&format!("{says}\nplan = 'deny'")));
        let got =
            [dial(ANN, &inside, four), dial(ANN, &other, four), dial(ANN, &inside, six), dial(EVE, &inside, four)];
        assert_eq!(got, expected.map(|one| !one), "deny: {says}");
    }
}

#[test]
fn of_nested_cgroups_the_exception_of_the_inner_one_speaks() {
    let world = World::with("");
    let outer = world.cgroup().child("outer");
    let inner = outer.child("inner");
    let dial = |cgroup: &Cgroup| goes(world.dial().uid(uid::SENDER).cgroup(cgroup));
    let rules = |plans: [&str; 2]| {
        let says = |(cgroup, plan): (&Cgroup, &str)| {
            exception(&format!("cgroup = '{}'\nports = [25]\nplan = '{plan}'", cgroup.name()))
        };
        [&outer, &inner].into_iter().zip(plans).map(says).collect::<String>()
    };
    for plans in [["deny", "allow"], ["allow", "deny"]] {
        world.reload(&rules(plans));
        assert_eq!([dial(&outer), dial(&inner)], plans.map(|plan| plan == "allow"), "{plans:?}");
    }
}

#[test]
fn lists_come_before_exceptions_and_exceptions_before_rules_and_limits() {
    let world = World::with("");
    let cgroup = world.cgroup().child("web");
    let dial = |user: u32, count: u64| world.dial().uid(user).cgroup(&cgroup).count(count).run();
    let to = format!("to = '{}'", v4(&world));
    world.reload(&exception(&format!("{to}\nplan = 'deny'")));
    assert_eq!(dial(uid::EXEMPT, 2).ok(), 2, "[allow] comes first");
    assert_eq!(dial(uid::SENDER, 2).eperm(), 2);
    let limits = format!(
        "[plan.none]\nper_hour = 0\nsoft_percent = 100\n[plan.standard]\nper_hour = 0\nsoft_percent = 100\n\
         [plan.standard.total]\nper_day = 0\n{}[[rule]]\nuser = '61001'\nplan = 'none'\n\
         [[rule]]\ncgroup = '{}'\nplan = 'none'\n",
        exception(&format!("{to}\nplan = 'allow'")),
        cgroup.name()
    );
    world.reload(&limits);
    for user in [uid::SENDER, uid::OTHER] {
        assert_eq!(dial(user, 5).ok(), 5, "an allowed destination is held to no limit of {user}");
        assert_eq!(world.dial_to(v6(&world), 25).uid(user).cgroup(&cgroup).run().eperm(), 1, "others are");
    }
    assert_eq!(dial(uid::DENIED, 1).eperm(), 1, "[deny] comes first");
    world.reload(&format!(
        "[[rule]]\ncgroup = '{}'\nplan = 'deny'\n{}",
        cgroup.name(),
        exception(&format!("user = '61001'\n{to}\nplan = 'allow'"))
    ));
    assert_eq!(dial(uid::SENDER, 1).ok(), 1);
    assert_eq!(dial(uid::OTHER, 1).eperm(), 1);
    // The host's budget is everyone's: as of an exempt account.
    let host = format!("[host]\nper_hour = 0\nstrict = true\n{}", exception(&format!("{to}\nplan = 'allow'")));
    world.reload(&host);
    assert_eq!(dial(uid::SENDER, 1).eperm(), 1, "strict");
    world.reload(&host.replace("true", "false"));
    assert_eq!(dial(uid::SENDER, 1).ok(), 1);
}

#[test]
fn what_holds_at_the_connect_holds_for_the_messages_of_a_session() {
    let world = World::with("");
    let limits = "[plan.standard]\nmessages_per_hour = 1\n";
    let to = format!("to = '{}'", v4(&world));
    world.reload(&format!("{limits}{}", exception(&format!("{to}\nplan = 'allow'"))));
    let report = world.mailer(uid::SENDER).messages(5).each(5).run();
    assert_eq!(report.seen.messages.accepted, 5, "allowed, so not limited: {report:?}");
    let mut talk = world.mailer(uid::SENDER).talk();
    talk.greet();
    world.reload(limits);
    assert_eq!(talk.message().codes, [250, 250, 354, 250], "it was allowed when it was made");
    let report = world.mailer(uid::SENDER).messages(3).run();
    assert_eq!((report.seen.messages.accepted, report.cuts()), (1, 2), "what was allowed was charged to nothing");
    let mut talk = world.mailer(uid::OTHER).talk();
    talk.greet();
    world.reload(&format!("[deny]\nusers = ['61002']\n{}", exception(&format!("{to}\nplan = 'allow'"))));
    assert_eq!(talk.message().end.as_deref(), Some("ECONNABORTED"), "[deny] comes first, in open sessions too");
}

#[test]
fn exceptions_reach_containers_by_destination_port_and_cgroup_and_never_by_name() {
    let etc = people();
    let world = with_people(&etc, "");
    let inner = Netns::new();
    let wire = Veth::between(&inner, &world.ns);
    let cgroup = world.cgroup().child("docker-1.scope");
    let to = SocketAddr::new(wire.far.v4.into(), 25);
    let dial = |user: u32| goes(Dial::to(to).cgroup(&cgroup).netns(&inner).uid(user));
    let deny = "[containers]\nplan = 'deny'\n";
    for (says, passes) in [
        (format!("to = '{}'", to.ip()), true),
        ("ports = [25]".to_owned(), true),
        (format!("cgroup = '{}'\nports = [25]", cgroup.name()), true),
        (format!("user = 'ann'\nto = '{}'", to.ip()), false),
        ("group = 'staff'\nports = [25]".to_owned(), false),
    ] {
        world.reload(&format!("{deny}{}", exception(&format!("{says}\nplan = 'allow'"))));
        assert_eq!(dial(ANN), passes, "allow {says}");
        world.reload(&exception(&format!("{says}\nplan = 'deny'")));
        assert_eq!(dial(ANN), !passes, "deny {says}");
    }
    world.reload(&format!("[deny]\nusers = ['eve']\n{}", exception("ports = [25]\nplan = 'allow'")));
    assert!(!dial(EVE), "denied users stay denied there");
}

#[test]
fn a_path_that_many_patterns_match_at_every_level_still_meets_them_all() {
    let world = World::with("");
    let top = world.cgroup().child("top");
    let deep = top.child("a/b/c");
    let name = top.name();
    let one = exception(&format!("cgroup = '{name}/**'\nto = '203.0.113.1'\nplan = 'deny'"));
    let two = exception(&format!("cgroup = '{name}/*/**'\nto = '203.0.113.2'\nplan = 'deny'"));
    let own = exception(&format!("cgroup = '{}'\nports = [25]\nplan = 'deny'", deep.name()));
    world.reload(&format!("{one}{two}{own}"));
    assert!(!goes(world.dial().uid(uid::SENDER).cgroup(&deep)));
}

#[test]
fn exceptions_hold_without_an_agent() {
    let mut world = World::with("");
    let web = world.cgroup().child("web");
    world.reload(&format!(
        "{DENY}{}",
        exception(&format!("cgroup = '{}'\nto = '{}'\nplan = 'allow'", web.name(), v4(&world)))
    ));
    world.agent.kill9();
    assert!(goes(world.dial().uid(uid::SENDER).cgroup(&web)));
    assert!(!goes(world.dial().uid(uid::SENDER)));
    drop(web);
    let web = world.cgroup().child("web");
    let tally = world.dial().uid(uid::SENDER).cgroup(&web).count(3).run();
    assert_eq!(tally, Tally::of(&[("ok", 3)]), "made again");
}
