//! Other network namespaces: names do not reach them, and what they do is charged to the container.

use smtp_tests::{Cgroup, Netns, Tally, Veth, World, uid};

#[test]
fn root_in_another_network_namespace_is_not_exempt() {
    let world = World::with(
        "[allow]\nusers = [\"root\", \"61004\"]\n[containers]\nplan = \"box\"\n[plan.box]\nper_hour = 3\nsoft_percent = 100",
    );
    let inner = Netns::new();
    let wire = Veth::between(&inner, &world.ns);
    let dial =
        || smtp_tests::Dial::to(std::net::SocketAddr::new(wire.far.v4.into(), 25)).cgroup(world.cgroup()).netns(&inner);
    assert_eq!(dial().count(2).run().ok(), 2, "root in the container");
    assert_eq!(dial().uid(uid::EXEMPT).count(2).run(), Tally::of(&[("ok", 1), ("EPERM", 1)]), "one purse for all uids");
    assert_eq!(dial().uid(uid::SENDER).run().eperm(), 1);
    assert_eq!(world.dial().count(5).run().ok(), 5, "root of the host is exempt");
    assert_eq!(world.dial().uid(uid::SENDER).count(5).run().ok(), 5, "the host's users are not charged");
    assert_eq!(world.counted("root", "exempt"), 5);
    let name = format!("container:{}", world.cgroup().name().trim_start_matches('/'));
    assert_eq!(world.counted(&name, "allowed"), 3, "called by its cgroup");
    assert_eq!(world.counted(&name, "refused"), 2);
}

#[test]
fn a_cgroup_made_inside_a_container_is_no_second_purse() {
    let world = World::with("[plan.standard]\nper_hour = 2\nsoft_percent = 100");
    let inner = Netns::new();
    let wire = Veth::between(&inner, &world.ns);
    let outer = world.cgroup().child("box");
    let nested = outer.child("inside");
    let dial = |cgroup: &Cgroup| {
        smtp_tests::Dial::to(std::net::SocketAddr::new(wire.far.v4.into(), 25)).cgroup(cgroup).netns(&inner)
    };
    assert_eq!(dial(&outer).run().ok(), 1);
    assert_eq!(dial(&nested).count(2).run(), Tally::of(&[("ok", 1), ("EPERM", 1)]));
    assert_eq!(world.counted("container:box", "allowed"), 2);
}

#[test]
fn a_cgroup_of_the_host_is_no_container() {
    let world = World::with("[plan.standard]\nper_hour = 3\nsoft_percent = 100");
    let child = world.cgroup().child("service");
    assert_eq!(world.dial().uid(uid::SENDER).count(2).run().ok(), 2);
    let inside = smtp_tests::Dial::to(std::net::SocketAddr::new(world.veth.far.v4.into(), 25)).cgroup(&child);
    assert_eq!(inside.uid(uid::SENDER).count(2).run(), Tally::of(&[("ok", 1), ("EPERM", 1)]), "the same account");
}

#[test]
fn containers_can_have_a_plan_that_denies() {
    let world = World::with("[containers]\nplan = \"deny\"");
    let got = world.dial_to(world.veth.far.v4.into(), 25).netns(&world.ns).run();
    assert_eq!(got.eperm() + got.ok(), 1, "{got:?}");
    let inner = Netns::new();
    let wire = Veth::between(&inner, &world.ns);
    let out =
        smtp_tests::Dial::to(std::net::SocketAddr::new(wire.far.v4.into(), 25)).cgroup(world.cgroup()).netns(&inner);
    assert_eq!(out.run().eperm(), 1, "away from the host");
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1, "the host's own users have their own plan");
}

#[test]
fn a_container_that_is_started_anew_goes_on_with_the_limit_it_had() {
    let world = World::with("[plan.standard]\nper_hour = 50\nsoft_percent = 100");
    let start = |count: u64| {
        let inner = Netns::new();
        let wire = Veth::between(&inner, &world.ns);
        let cgroup = world.cgroup().child("box");
        let dial = move |count: u64| {
            smtp_tests::Dial::to(std::net::SocketAddr::new(wire.far.v4.into(), 25))
                .cgroup(&cgroup)
                .netns(&inner)
                .count(count)
                .run()
        };
        (dial(count), dial)
    };
    let (first, dial) = start(50);
    assert_eq!(first.ok(), 50);
    smtp_tests::eventually(std::time::Duration::from_secs(5), "the container has its name", || {
        world.counted("container:box", "allowed") == 50
    });
    drop(dial);
    let (_, again) = start(1);
    let mut passed = 1;
    smtp_tests::eventually(std::time::Duration::from_secs(5), "the new one is charged as the old one was", || {
        let got = again(1);
        passed += got.ok();
        got.eperm() == 1
    });
    assert!(passed < 50, "{passed} is a limit of its own");
    assert_eq!(world.counted("container:box", "allowed"), 50 + passed, "and shown under the same name");
}

/// Any user can make network namespaces by himself, as many as he likes. They lead nowhere, but a connect() in them
/// is decided before that shows: each with a limit of its own would spend the host's budget for everyone.
#[test]
fn namespaces_a_user_makes_by_himself_are_one_purse_and_denial_follows_him_there() {
    let world = World::with("[plan.standard]\nper_hour = 3\nsoft_percent = 100");
    let inside_one = |uid: u32, unshare: &[&str]| {
        let dial = smtp_tests::Dial::to(([203, 0, 113, 1], 25)).count(2).command();
        let mut command = std::process::Command::new("setpriv");
        command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups", "unshare"]);
        command.args(unshare).arg("--").arg(dial.get_program()).args(dial.get_args());
        world.cgroup().enter(&mut command);
        let output = smtp_tests::process::output(&mut command, std::time::Duration::from_secs(20));
        assert_eq!(output.code, 0, "{}", output.stderr);
        let tally: serde_json::Value = serde_json::from_str(&output.stdout).expect("a tally");
        (tally["ENETUNREACH"].as_u64().unwrap_or(0), tally["EPERM"].as_u64().unwrap_or(0))
    };
    assert_eq!(inside_one(uid::SENDER, &["-Urn"]), (2, 0), "let through, to nowhere");
    assert_eq!(inside_one(uid::SENDER, &["-Urn"]), (1, 1), "another namespace, the same purse");
    assert_eq!(inside_one(uid::SENDER, &["-Urnpf", "--mount-proc"]), (0, 2), "a PID namespace makes no difference");
    assert_eq!(world.counted(&format!("container:rootless-{}", uid::SENDER), "allowed"), 3);
    assert_eq!(inside_one(uid::DENIED, &["-Urnpf", "--mount-proc"]), (0, 2), "denied there too");
    assert_eq!(inside_one(uid::EXEMPT, &["-Urn"]), (2, 0));
    assert_eq!(inside_one(uid::EXEMPT, &["-Urn"]), (1, 1), "exempt is a name of the host's");
    assert_eq!(world.dial().uid(uid::SENDER).count(3).run().ok(), 3, "his own account is another");
}
