//! Users and groups that change under a running agent.

use crate::scene::SOON;
use nix::sys::resource::{Resource, setrlimit};
use smtp_tests::{Agent, Etc, Must, World, eventually, process::Running};
use std::{net::TcpStream, os::unix::process::CommandExt, time::Duration};

/// How soon a changed name must count.
const SECONDS: Duration = Duration::from_secs(3);
const SHOP: u32 = 61_050;
const BLOG: u32 = 61_051;
const POST: u32 = 61_060;

#[track_caller]
fn world(etc: &Etc, toml: &str) -> World {
    World::built(toml, |agent| agent.etc(etc))
}

fn is_refused(world: &World, uid: u32) -> bool {
    world.dial().uid(uid).run().eperm() == 1
}

#[test]
fn a_rule_for_a_user_begins_to_apply_when_he_is_added_and_ends_when_he_goes() {
    let etc = Etc::with_users(&[("blog", BLOG, BLOG)]);
    let world = world(&etc, "[[rule]]\nuser = 'shop'\nplan = 'deny'\n[deny]\nusers = []\n");
    let unresolved = || world.agent.metrics().value("smtp_agent_users_unresolved", &[]);
    let before = unresolved();
    assert!(!is_refused(&world, SHOP));
    assert_eq!(world.counted_uid(SHOP, "allowed"), 1, "without a name, the uid is his label");

    etc.add_user("shop", SHOP, SHOP);
    eventually(SECONDS, "the rule applies", || is_refused(&world, SHOP));
    assert!(!is_refused(&world, BLOG));
    assert_eq!(unresolved(), before - 1.0);
    assert!(world.counted("shop", "refused") >= 1, "he is called by his name from now on");
    assert!(world.counted("shop", "allowed") >= 1, "and so is what he did before");

    etc.remove_user("shop");
    eventually(SECONDS, "the rule no longer applies", || !is_refused(&world, SHOP));
    assert_eq!(unresolved(), before);
}

#[test]
fn a_user_who_gets_another_uid_takes_his_rule_along() {
    let etc = Etc::with_users(&[("shop", SHOP, SHOP)]);
    let world = world(&etc, "[deny]\nusers = ['shop']\n");
    assert!(is_refused(&world, SHOP));
    etc.replace("passwd", &etc.read("passwd").replace(&format!("shop:x:{SHOP}:"), &format!("shop:x:{BLOG}:")));
    eventually(SECONDS, "the rule has moved", || is_refused(&world, BLOG));
    assert!(!is_refused(&world, SHOP));
}

#[test]
fn members_are_exempt_by_primary_and_by_supplementary_group_and_a_change_counts_at_once() {
    let etc = Etc::with_users(&[("shop", SHOP, POST), ("blog", BLOG, BLOG), ("other", 61_052, 61_052)]);
    etc.write_in_place("group", &format!("root:x:0:\nmailers:x:{POST}:blog\nblog:x:{BLOG}:\n"));
    let world = world(&etc, "[allow]\ngroups = ['mailers']\n[default]\nplan = 'deny'\n");
    // shop by primary, blog by supplementary group, 61052 not at all.
    assert_eq!([SHOP, BLOG, 61_052].map(|uid| is_refused(&world, uid)), [false, false, true]);
    assert_eq!((world.counted("shop", "exempt"), world.counted("blog", "exempt")), (1, 1));

    etc.replace("group", &format!("root:x:0:\nmailers:x:{POST}:other\nblog:x:{BLOG}:\n"));
    eventually(SECONDS, "the new member is exempt", || !is_refused(&world, 61_052));
    assert_eq!([SHOP, BLOG].map(|uid| is_refused(&world, uid)), [false, true]);

    // The file may also be written in place, with the length it had.
    etc.write_in_place("group", &format!("root:x:0:\nmailers:x:{POST}:blog \nblog:x:{BLOG}:\n"));
    eventually(SECONDS, "the member before is exempt no longer", || is_refused(&world, 61_052));
}

#[test]
fn a_group_that_a_process_only_claims_exempts_nobody() {
    let etc = Etc::with_users(&[("shop", SHOP, SHOP)]);
    etc.append("group", &format!("mailers:x:{POST}:"));
    let world = world(&etc, "[allow]\ngroups = ['mailers']\n[default]\nplan = 'deny'\n");
    // A setgid helper (maildrop and the like) runs with the group and is not a member.
    assert_eq!(world.dial().uid(SHOP).gid(POST).run().eperm(), 1);
    assert_eq!(world.dial().uid(SHOP).group(POST).run().eperm(), 1);
}

#[test]
fn subordinate_uids_handed_out_later_are_charged_to_their_owner() {
    let etc = Etc::with_users(&[("shop", SHOP, SHOP)]);
    let world = world(&etc, "[deny]\nusers = ['shop']\n");
    assert!(!is_refused(&world, 800_001));
    etc.replace("subuid", "shop:800000:65536\n");
    eventually(SECONDS, "the subordinate uid is his", || is_refused(&world, 800_001));
    assert!(world.counted("shop", "refused") >= 1);
}

#[test]
fn a_passwd_that_vanishes_for_a_moment_changes_nothing() {
    let etc = Etc::with_users(&[("shop", SHOP, SHOP)]);
    let world = world(&etc, "[deny]\nusers = ['shop']\n");
    for file in ["passwd", "group"] {
        let text = etc.read(file);
        std::fs::remove_file(etc.path(file)).must("it is there");
        eventually(SECONDS, "it is told", || {
            world.agent.metrics().value("smtp_agent_config_reload_success", &[]) == 0.0
        });
        assert!(is_refused(&world, SHOP), "without {file} the policy before holds");
        etc.replace(file, &text);
        eventually(SECONDS, "the names are read again", || {
            world.agent.metrics().value("smtp_agent_config_reload_success", &[]) == 1.0
        });
        assert!(is_refused(&world, SHOP));
    }
}

#[test]
fn names_that_cannot_be_read_for_want_of_descriptors_keep_their_rules() {
    const DESCRIPTORS: u64 = 132;
    let etc = Etc::with_users(&[("shop", SHOP, SHOP)]);
    etc.write_in_place("subuid", "shop:900000:65536\n");
    let world = World::stopped_with("[deny]\nusers = ['shop']\n", |agent| agent.etc(&etc));
    let log = world.agent.config_path().with_file_name("starving");
    let mut command = world.agent.command(&["run"]);
    let starve = || Ok(setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS)?);
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(starve) };
    let agent = Running::start_logged(&mut command, &log);
    eventually(SOON, "it is ready", || world.agent.get("/-/ready").is_ok_and(|(status, _)| status == 200));
    let refused = || is_refused(&world, SHOP) && is_refused(&world, 900_001);
    assert!(refused());

    // Any user of the host can open connections to the metrics, and chsh(1) changes the user database.
    let hoard: Vec<_> =
        (0..DESCRIPTORS).map(|_| TcpStream::connect(world.agent.metrics_address()).must("it listens")).collect();
    etc.replace("passwd", &etc.read("passwd"));
    eventually(SOON, "it is told", || agent.log().contains("was not reloaded"));
    assert!(refused(), "the policy before holds");
    drop(hoard);
    etc.replace("passwd", &etc.read("passwd"));
    eventually(SOON, "the names are read again", || agent.log().contains("a new policy is in force"));
    assert!(refused());
}

#[test]
fn an_agent_that_cannot_read_the_users_does_not_start_with_a_policy_that_knows_nobody() {
    let etc = Etc::with_users(&[("shop", 5001, 5001)]);
    let mut agent = Agent::builder().etc(&etc).stopped();
    std::fs::remove_file(etc.path("passwd")).expect("the file is there");
    let output = agent.cli(&["run"]);
    assert_eq!(output.code, 69, "{output:?}");
    assert!(output.stderr.contains("users and groups of this host cannot be read"), "{}", output.stderr);
    assert!(!agent.pins_dir().exists(), "nothing was begun");
    etc.replace("passwd", "root:x:0:0::/root:/bin/sh\n");
    agent.start();
}
