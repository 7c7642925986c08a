//! The agent fixture, with a stand-in for the agent.

use smtp_tests::{Agent, Etc, Must, agent::Builder, bpffs, eventually, poll::eventually_some};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::Duration,
};

const SOON: Duration = Duration::from_secs(5);

pub(crate) fn stand_in() -> Builder {
    let exe = std::env::current_exe().unwrap();
    // target/PROFILE/deps/fixtures-HASH
    let path: PathBuf = exe.ancestors().nth(2).unwrap().join("examples/stand-in-agent");
    assert!(path.exists(), "{} is not built: `cargo build --examples -p smtp-tests`", path.display());
    Agent::builder().binary(path).config(|toml| toml.set("mode", "enforce"))
}

#[test]
fn an_agent_lives_reloads_dies_and_comes_back() {
    let mut agent = stand_in().notify().start();
    assert!(agent.pins_dir().is_dir());
    let metrics = agent.metrics();
    assert_eq!(metrics.value("smtp_connections_total", &[("user", "shop"), ("verdict", "allowed")]), 7.0);
    assert_eq!(agent.notifications(), ["READY=1"]);
    agent.sighup();
    eventually(SOON, "it reloads", || agent.metrics().value("stand_in_reloads_total", &[]) == 1.0);
    let first = agent.pid();
    agent.kill9();
    assert!(agent.get("/-/ready").is_err(), "nobody answers for a dead agent");
    assert!(agent.pins_dir().is_dir(), "pins outlive the agent");
    agent.start();
    assert_ne!(agent.pid(), first);
    assert_eq!(agent.metrics().value("stand_in_reloads_total", &[]), 0.0);
    assert_eq!(agent.stop(), 0);
    assert_eq!(agent.stderr_so_far().matches("running in mode \"enforce\"").count(), 2);
}

#[test]
fn a_config_is_laid_over_the_fixtures_own_and_attaches_to_its_cgroup() {
    let agent = stand_in().config(|toml| toml.merge("[plan.a]\nper_hour = 5")).stopped();
    let written = || std::fs::read_to_string(agent.config_path()).unwrap();
    let cgroup = format!("cgroup = \"{}\"", agent.cgroup().path().display());
    for part in ["per_hour = 5", "mode = \"enforce\"", &cgroup, agent.pins_dir().to_str().unwrap()] {
        assert!(written().contains(part), "{part} in {}", written());
    }
    agent.rewrite_config("mode = 'observe'");
    assert!(written().contains("mode = \"observe\"") && written().contains("per_hour = 5"));
    agent.rewrite_config_verbatim("mode = ");
    assert_eq!(agent.cli(&["check"]).code, 2);
    agent.rewrite_config("");
    // The stand-in's detach wants something to detach.
    std::fs::create_dir(agent.pins_dir()).must("bpffs is mounted");
}

#[test]
fn two_agents_live_side_by_side_and_leave_nothing() {
    let (mut a, mut b) = (stand_in().start(), stand_in().start());
    assert_ne!(a.pid(), b.pid());
    assert_ne!(a.metrics_address(), b.metrics_address());
    let left = [a.pins_dir().to_path_buf(), a.run_dir(), a.state_dir(), a.cgroup().path().to_path_buf()];
    let process = PathBuf::from(format!("/proc/{}", a.pid()));
    assert!(left.iter().chain([&process]).all(|path| path.exists()));
    drop(a);
    for path in left.iter().chain([&process]) {
        assert!(!path.exists(), "{} is left", path.display());
    }
    assert!(b.metrics().find("smtp_connections_total", &[]).is_some());
}

#[test]
fn an_agent_and_its_commands_see_the_users_of_the_test() {
    let etc = Etc::with_users(&[("shop", 5001, 5001)]);
    let agent = stand_in().etc(&etc).start();
    assert_eq!(agent.cli(&["status"]).expect_ok("status").stdout, etc.read("passwd"));
    etc.add_user("blog", 5002, 5002);
    assert!(agent.cli(&["status"]).stdout.contains("blog:x:5002:"));
    assert_eq!(agent.cli_as(5001, 5002, &["whoami"]).expect_ok("whoami").stdout, "5001 5002\n");
    assert!(bpffs::is_mounted());
}

#[test]
fn an_agent_that_does_not_get_ready_says_why_and_is_cleaned_up() {
    let mut pins = PathBuf::new();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let mut agent = stand_in().stopped();
        pins = agent.pins_dir().to_path_buf();
        agent.rewrite_config_verbatim("mode = ");
        agent.start();
    }));
    let said = panic.unwrap_err().downcast_ref::<String>().cloned().unwrap();
    assert!(said.contains("ended instead of getting ready") && said.contains("not TOML"), "{said}");
    assert!(!pins.exists());
}

#[test]
fn the_pins_of_a_killed_test_are_swept_away() {
    bpffs::ensure();
    // Larger than any pid (PID_MAX_LIMIT is 2^22).
    let orphan = PathBuf::from(format!("{}/smtp-agent-test-4194305-{}", bpffs::MOUNT, std::process::id()));
    std::fs::create_dir(&orphan).must("cannot make a pin directory");
    drop(Agent::builder());
    eventually_some(SOON, "the orphan is gone", || (!orphan.exists()).then_some(()));
}
