//! Submissions by running sendmail: counted for whoever runs it, and stopped before it has done anything.

use smtp_tests::{
    Agent, Cgroup, Must, World, eventually,
    hands::{at_once, while_going_on},
    process::{self, Output},
    scratch, uid,
};
use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A program that stands for sendmail: a copy of touch(1), so that everybody sees whether it has run. It is reached in
/// the ways Debian's alternatives and old scripts have it.
struct Programs {
    dir: TempDir,
    /// Where everybody may write.
    made: TempDir,
}

impl Programs {
    #[track_caller]
    fn new() -> Self {
        let (dir, made) = (scratch::dir(), scratch::dir());
        fs::set_permissions(made.path(), Permissions::from_mode(0o777)).must("cannot open a directory to all");
        let programs = Self { dir, made };
        copy("/bin/touch", &programs.path("exim4"));
        symlink("exim4", programs.path("alternative")).must("no symlink");
        symlink(programs.path("alternative"), programs.path("sendmail")).must("no symlink");
        fs::hard_link(programs.path("exim4"), programs.path("mailq")).must("no hard link");
        programs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> String {
        format!("[smtp]\nsendmail = ['{}', '/nowhere/sendmail']\n", self.path("sendmail").display())
    }

    /// Runs one of them as a user, who wants a file of this name.
    #[track_caller]
    fn run(&self, program: &str, user: u32, file: &str) -> Output {
        run(&self.path(program), user, &self.made.path().join(file))
    }

    /// Files that were made.
    #[track_caller]
    fn made(&self) -> usize {
        fs::read_dir(self.made.path()).must("cannot list a directory").count()
    }
}

#[track_caller]
fn copy(from: &str, to: &Path) {
    let from = fs::canonicalize(from).must("no such program");
    fs::copy(from, to).must("cannot copy a program");
    fs::set_permissions(to, Permissions::from_mode(0o755)).must("cannot make a program of it");
}

#[track_caller]
fn run(program: &Path, user: u32, argument: &Path) -> Output {
    run_by(&mut Command::new(program), user, argument)
}

#[track_caller]
fn run_by(command: &mut Command, user: u32, argument: &Path) -> Output {
    process::output(command.arg(argument).uid(user).gid(user).stdin(Stdio::null()), PATIENCE)
}

#[track_caller]
fn agent(toml: &str) -> Agent {
    Agent::builder()
        .config(|c| c.merge("mode = 'enforce'\n[allow]\nusers = ['61004']\n[deny]\nusers = ['61003']").merge(toml))
        .start()
}

#[track_caller]
fn counted(agent: &Agent, user: u32, verdict: &str) -> u64 {
    let user = user.to_string();
    let labels = [("user", user.as_str()), ("route", "pipe"), ("verdict", verdict)];
    agent.metrics().value("smtp_connections_total", &labels) as u64
}

const KILLED: i32 = 128 + 9;

#[test]
fn executions_of_sendmail_are_counted_by_whatever_name() {
    let programs = Programs::new();
    let agent = agent(&programs.config());
    let names = ["sendmail", "alternative", "exim4", "mailq"];
    for (n, name) in names.iter().enumerate() {
        programs.run(name, uid::SENDER, name).expect_ok(name);
        assert_eq!(counted(&agent, uid::SENDER, "allowed"), n as u64 + 1, "{name}");
    }
    programs.run("sendmail", uid::EXEMPT, "exempt").expect_ok("sendmail");
    assert_eq!(counted(&agent, uid::EXEMPT, "exempt"), 1);
    // What only looks like it is something else.
    copy("/bin/touch", &programs.path("sendmail.old"));
    programs.run("sendmail.old", uid::SENDER, "old").expect_ok("sendmail.old");
    run(Path::new("/bin/touch"), uid::SENDER, &programs.made.path().join("touch")).expect_ok("touch");
    assert_eq!(counted(&agent, uid::SENDER, "allowed"), names.len() as u64);
    let metrics = agent.metrics();
    assert_eq!(metrics.value("smtp_connections_total", &[("route", "pipe")]), names.len() as f64 + 1.0);
    assert_eq!(metrics.value("smtp_connections_total", &[]), names.len() as f64 + 1.0);
    assert_eq!(metrics.value("smtp_host_usage", &[]), 0.0, "the MTA is charged for it when it sends");
}

#[test]
fn who_may_not_submit_is_killed_before_the_program_does_anything() {
    let programs = Programs::new();
    let agent = agent(&programs.config());
    for n in 0..100 {
        let output = programs.run("sendmail", uid::DENIED, &format!("denied-{n}"));
        assert_eq!(output.code, KILLED, "{output:?}");
    }
    assert_eq!(programs.made(), 0, "not one of them has run");
    assert_eq!(counted(&agent, uid::DENIED, "refused"), 100);
    programs.run("sendmail", uid::SENDER, "sender").expect_ok("sendmail");
    assert_eq!(programs.made(), 1);
}

#[test]
fn executions_meet_the_rules_of_their_cgroup() {
    let programs = Programs::new();
    let agent = agent(&programs.config());
    let [web, plain, closed, by_exception] =
        ["web", "plain", "closed", "by-exception"].map(|name| agent.cgroup().child(name));
    let rule = |cgroup: &Cgroup, plan: &str| format!("[[rule]]\ncgroup = '{}'\nplan = '{plan}'\n", cgroup.name());
    agent.rewrite_config(&format!(
        "{}[plan.web]\nper_hour = 5\nmessages_per_hour = 3\nsoft_percent = 100\nlocal = true\n\
         [plan.plain]\nper_hour = 0\nmessages_per_hour = 0\n{}{}{}[[rule]]\ncgroup = '{}'\nuser = '61001'\nplan = 'deny'\n",
        programs.config(),
        rule(&web, "web"),
        rule(&plain, "plain"),
        rule(&closed, "deny"),
        by_exception.name()
    ));
    agent.cli(&["reload"]).expect_ok("reload");
    let run_in = |cgroup: &Cgroup, user: u32, file: &str| {
        let mut command = Command::new(programs.path("sendmail"));
        cgroup.enter(&mut command);
        run_by(&mut command, user, &programs.made.path().join(file)).code
    };
    let codes: Vec<i32> =
        (0..6).map(|n| run_in(&web, if n % 2 == 0 { uid::SENDER } else { uid::OTHER }, &n.to_string())).collect();
    assert_eq!(codes, [0, 0, 0, KILLED, KILLED, KILLED], "three messages, shared by two users");
    assert_eq!(agent.explained("61001", Some(&web), &[]).used("cgroup", "message", "hour"), 3);
    assert_eq!(run_in(&plain, uid::SENDER, "plain"), 0, "a plan that does not say local");
    assert_eq!(run_in(&closed, uid::SENDER, "closed"), 0, "the plan \"deny\" leaves the local MTA");
    assert_eq!(run_in(&by_exception, uid::SENDER, "exception"), 0, "and so does an exception without a destination");
}

#[test]
fn limits_count_executions_where_the_plan_says_so() {
    for (limit, local, passed) in [
        ("per_hour = 5\nsoft_percent = 100", true, 5),
        ("messages_per_hour = 4", true, 4),
        ("messages_per_day = 3\nper_hour = 3", true, 3),
        ("per_hour = 5\nsoft_percent = 200", true, 5),
        ("per_hour = 5\nmessages_per_hour = 4", false, 30),
    ] {
        let programs = Programs::new();
        let agent = agent(&format!("{}[plan.standard]\n{limit}\nlocal = {local}", programs.config()));
        let codes: Vec<_> = (0..30).map(|n| programs.run("sendmail", uid::SENDER, &n.to_string()).code).collect();
        let killed = codes.iter().filter(|&&code| code == KILLED).count();
        assert_eq!((programs.made(), killed), (passed, 30 - passed), "{limit}: {codes:?}");
        assert!(codes[..passed].iter().all(|&code| code == 0), "the first ones pass: {codes:?}");
        assert_eq!(counted(&agent, uid::SENDER, "allowed"), passed as u64, "{limit}");
        let stopped = counted(&agent, uid::SENDER, "refused") + counted(&agent, uid::SENDER, "deferred");
        assert_eq!(stopped, 30 - passed as u64, "{limit}");
        // Another user has his own.
        programs.run("sendmail", uid::OTHER, "other").expect_ok("sendmail");
    }
}

#[test]
fn a_limit_on_executions_is_exact_when_many_run_at_once() {
    let programs = Programs::new();
    let agent = agent(&format!("{}[plan.standard]\nmessages_per_hour = 25\nlocal = true", programs.config()));
    let programs = &programs;
    let hand = |hand| move || (0..25).for_each(|n| drop(programs.run("sendmail", uid::SENDER, &format!("{hand}-{n}"))));
    at_once((0..4).map(hand));
    assert_eq!(programs.made(), 25, "the whole limit and not one more");
    assert_eq!(counted(&agent, uid::SENDER, "allowed"), 25);
    assert_eq!(counted(&agent, uid::SENDER, "refused"), 75);
}

#[test]
fn in_observe_mode_everybody_runs_and_is_counted_for_what_would_be() {
    let programs = Programs::new();
    let plan = "[plan.standard]\nper_hour = 3\nsoft_percent = 100\nlocal = true";
    let agent = agent(&format!("mode = 'observe'\n{}{plan}", programs.config()));
    for n in 0..5 {
        programs.run("sendmail", uid::SENDER, &format!("s{n}")).expect_ok("sendmail");
        programs.run("sendmail", uid::DENIED, &format!("d{n}")).expect_ok("sendmail");
    }
    assert_eq!(programs.made(), 10);
    assert_eq!(counted(&agent, uid::SENDER, "allowed"), 3);
    assert_eq!(counted(&agent, uid::SENDER, "would_refuse"), 2);
    assert_eq!(counted(&agent, uid::DENIED, "would_refuse"), 5);
}

#[test]
fn a_program_that_an_upgrade_puts_in_its_place_is_noticed() {
    let programs = Programs::new();
    let agent = agent(&programs.config());
    programs.run("sendmail", uid::SENDER, "before").expect_ok("sendmail");
    assert_eq!(counted(&agent, uid::SENDER, "allowed"), 1);
    copy("/bin/touch", &programs.path("exim4.dpkg-new"));
    fs::rename(programs.path("exim4.dpkg-new"), programs.path("exim4")).must("cannot put a program in place");
    eventually(Duration::from_secs(5), "the new program is known", || {
        programs.run("sendmail", uid::SENDER, "after").expect_ok("sendmail");
        counted(&agent, uid::SENDER, "allowed") > 1
    });
    let known = counted(&agent, uid::SENDER, "allowed");
    // The old file lives on under its other name, and is sendmail no more.
    programs.run("mailq", uid::SENDER, "old").expect_ok("mailq");
    assert_eq!(counted(&agent, uid::SENDER, "allowed"), known);
}

#[test]
fn restarts_count_no_execution_twice_and_miss_none() {
    let programs = Programs::new();
    copy("/bin/true", &programs.path("exim4"));
    let mut agent = agent(&programs.config());
    let hand = |user, stop: &AtomicBool| {
        let mut runs = 0;
        while !stop.load(Ordering::Relaxed) {
            let denied = user == uid::DENIED;
            let code = run(&programs.path("sendmail"), user, Path::new("x")).code;
            assert_eq!(code, if denied { KILLED } else { 0 }, "run {runs} of {user}");
            runs += 1;
        }
        runs
    };
    let hands = [uid::SENDER, uid::DENIED].map(|user| move |stop: &AtomicBool| hand(user, stop));
    let [sender, denied] = while_going_on(hands, || {
        for round in 0..5 {
            thread::sleep(Duration::from_millis(200));
            if round % 2 == 0 {
                agent.kill9()
            } else {
                assert_eq!(agent.stop(), 0)
            }
            thread::sleep(Duration::from_millis(50));
            agent.start();
        }
    });
    assert_eq!(counted(&agent, uid::SENDER, "allowed"), sender, "by their own count");
    assert_eq!(counted(&agent, uid::DENIED, "refused"), denied, "by their own count");
    assert!(sender > 100 && denied > 100, "a load worth the name: {sender} {denied}");
}

#[test]
fn what_counts_as_sendmail_can_be_changed_and_switched_off() {
    let programs = Programs::new();
    let world = World::with(&programs.config());
    let run = |name: &str| programs.run(name, uid::SENDER, name).expect_ok(name);
    run("sendmail");
    assert_eq!(counted(&world.agent, uid::SENDER, "allowed"), 1);
    world.reload("[smtp]\nsendmail = []");
    run("sendmail");
    assert_eq!(counted(&world.agent, uid::SENDER, "allowed"), 1);
    copy("/bin/touch", &programs.path("other"));
    world.reload(&format!("[smtp]\nsendmail = ['{}']", programs.path("other").display()));
    let all = || {
        run("other");
        counted(&world.agent, uid::SENDER, "allowed") > 1
    };
    eventually(Duration::from_secs(3), "the other program counts", all);
    let before = counted(&world.agent, uid::SENDER, "allowed");
    run("sendmail");
    assert_eq!(counted(&world.agent, uid::SENDER, "allowed"), before);
    world.agent.cli(&["detach"]);
    assert_eq!(programs.run("sendmail", uid::DENIED, "denied").code, 0, "detached is detached");
}
