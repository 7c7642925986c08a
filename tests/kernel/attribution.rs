//! Who was behind an attempt, whatever the process did to hide it, and however soon it was gone.

use nix::{sys::signal::Signal, unistd::chown};
use serde_json::Value;
use smtp_tests::{
    Cgroup, Listener, Must, World,
    process::{self, Output},
    scratch, tools, uid,
};
use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// Perl that connects to the address in its first argument.
const CONNECT: &str = "use Socket; my $to = sockaddr_in(25, inet_aton(shift @ARGV)); \
    socket(my $s, PF_INET, SOCK_STREAM, 0) or die; connect($s, $to);";

/// A user's own directory.
struct Home(TempDir);

impl Home {
    #[track_caller]
    fn of(user: u32) -> Self {
        let dir = scratch::dir();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).must("cannot open a directory");
        chown(dir.path(), Some(user.into()), Some(user.into())).must("cannot give a directory away");
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().must("it exists")
    }

    #[track_caller]
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        let dir = path.parent().must("it has one");
        fs::create_dir_all(dir).must("no directory");
        let owner = fs::metadata(self.0.path()).must("it exists").uid();
        chown(dir, Some(owner.into()), Some(owner.into())).must("cannot give a directory away");
        fs::write(&path, text).must("cannot write a script");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).must("cannot make a script of it");
        path
    }
}

#[track_caller]
fn run(command: &mut Command, user: u32, cgroup: &Cgroup) -> Output {
    cgroup.enter(command);
    process::output(command.uid(user).gid(user).stdin(Stdio::null()), PATIENCE)
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn perl() -> PathBuf {
    fs::canonicalize("/usr/bin/perl").must("Debian's perl-base")
}

#[test]
fn a_bot_that_hides_every_way_it_can_is_named() {
    let world = World::with("");
    let listener = Listener::start(&world);
    let home = Home::of(uid::SENDER);
    let to = world.veth.far.v4.to_string();
    let bot = format!(
        "unlink $0; chdir '/'; $0 = '/usr/sbin/httpd -k start'; fork and exit; use POSIX; POSIX::setsid(); \
         fork and exit; select undef, undef, undef, 0.2; {CONNECT}"
    );
    let bot = home.file(".cache/.x/bot.pl", &bot);
    let dir = bot.parent().must("it has one");
    let mut command = Command::new("perl");
    let began = run(command.arg("bot.pl").arg(&to).current_dir(dir), uid::SENDER, world.cgroup());
    assert_eq!(began.code, 0, "{began:?}");
    let story = &listener.wait_for("connect", 1)[0];
    assert!(!bot.exists(), "it has removed itself");
    let culprit = &story["culprit"];
    assert_eq!(culprit["script"]["path"], bot.display().to_string(), "{culprit}");
    assert_eq!(culprit["script"]["how"], "argument");
    assert_eq!(culprit["exe"], perl().display().to_string());
    assert_eq!(culprit["cwd"], "/");
    assert!(words(&culprit["command"])[0].starts_with("/usr/sbin/httpd"), "{culprit}");
    assert_eq!(words(&culprit["started_as"]), ["perl", "bot.pl", &to]);
    // The parent and its parent have ended; who begat them is this test.
    let lineage = culprit["lineage"].as_array().must("a lineage");
    let above: Vec<_> = lineage.iter().map(|one| one["tgid"].as_u64().must("a number")).collect();
    assert_eq!(above.iter().position(|pid| *pid == u64::from(std::process::id())), Some(2), "{culprit}");
    assert_eq!(words(&lineage[1]["command"]), ["perl", "bot.pl", &to], "{culprit}");
    assert_eq!(lineage[0]["user"], uid::SENDER.to_string());
}

#[test]
fn a_refused_process_that_is_long_gone_is_told_whole() {
    let mut world = World::with("");
    let listener = Listener::start(&world);
    let home = Home::of(uid::DENIED);
    let dial = tools::program("smtp-dial", "CARGO_BIN_EXE_smtp-dial").canonicalize().must("it exists");
    let to = world.sink_address().to_string();
    let script = home.file("cgi-bin/send.sh", &format!("#!/bin/sh\n{} --to {to} --count 1\n:\n", dial.display()));
    let agent = nix::unistd::Pid::from_raw(world.agent.pid());
    nix::sys::signal::kill(agent, Signal::SIGSTOP).must("cannot stop the agent");
    let mut command = Command::new(&script);
    let ran = run(command.current_dir(home.path()).env("PASSWORD", "x"), uid::DENIED, world.cgroup());
    nix::sys::signal::kill(agent, Signal::SIGCONT).must("cannot let the agent go on");
    assert_eq!(ran.code, 0, "{ran:?}");
    let story = &listener.wait_for("connect", 1)[0];
    let culprit = &story["culprit"];
    assert_eq!(story["verdict"], "refused");
    assert_eq!(culprit["exe"], dial.display().to_string(), "{culprit}");
    assert_eq!(culprit["cwd"], home.path().display().to_string());
    assert_eq!(words(&culprit["command"])[1..], ["--to", &to, "--count", "1"]);
    assert_eq!(culprit["started_as"], Value::Null);
    assert_eq!(culprit["script"]["path"], script.display().to_string(), "{culprit}");
    assert_eq!(culprit["script"]["how"], "shebang");
    let shell = &culprit["lineage"][0];
    assert_eq!(shell["comm"], "send.sh");
    assert_eq!(words(&shell["command"])[..2], ["/bin/sh", &script.display().to_string()], "{culprit}");
}

#[test]
fn a_program_whose_file_is_gone_is_told_with_the_name_it_had() {
    let world = World::with("");
    let listener = Listener::start(&world);
    // Another file system than the root's, so that the path leads through a mount.
    let home = Home(tempfile::tempdir_in("/dev/shm").must("no directory in shared memory"));
    let program = home.path().join("kworker");
    fs::copy(perl(), &program).must("cannot copy perl");
    let code = format!("unlink '{}'; {CONNECT}", program.display());
    let mut command = Command::new(&program);
    command.args(["-e", &code, &world.veth.far.v4.to_string()]).current_dir(home.path());
    fs::set_permissions(home.path(), Permissions::from_mode(0o777)).must("cannot open a directory");
    let ran = run(&mut command, uid::SENDER, world.cgroup());
    assert_eq!((ran.code, program.exists()), (0, false), "{ran:?}");
    let story = &listener.wait_for("connect", 1)[0];
    let culprit = &story["culprit"];
    assert_eq!(culprit["exe"], program.display().to_string(), "{culprit}");
    assert_eq!(culprit["exe_deleted"], true);
    assert_eq!(story["exe"], format!("{} (deleted)", program.display()));
    assert_eq!(culprit["cwd"], home.path().display().to_string());
    assert_eq!(culprit["script"], Value::Null, "its code was in the command line");
}

#[test]
fn the_login_survives_a_change_of_user_and_secrets_are_masked() {
    let world = World::with("");
    let listener = Listener::start(&world);
    let login = Path::new("/proc/self/loginuid");
    let code = format!(
        "my $f; open($f, '>', '/proc/self/loginuid') and print $f '{}'; close $f; $) = $( = {u}; $< = $> = {u}; {CONNECT}",
        uid::OTHER,
        u = uid::SENDER
    );
    let mut command = Command::new("perl");
    command.args(["-e", &code, &world.veth.far.v4.to_string(), "--password=geheim", "--token", "abc"]);
    let ran = run(&mut command, 0, world.cgroup());
    assert_eq!(ran.code, 0, "{ran:?}");
    let story = &listener.wait_for("connect", 1)[0];
    assert_eq!(story["uid"], uid::SENDER);
    let culprit = &story["culprit"];
    let expected = if login.exists() { Value::from(uid::OTHER.to_string()) } else { Value::Null };
    assert_eq!(culprit["login_user"], expected, "{culprit}");
    assert_eq!(words(&culprit["command"])[4..], ["--password=***", "--token", "***"]);
    assert!(culprit["started"].as_str().is_some_and(|date| date.ends_with('Z')));
}

#[test]
fn a_process_from_before_the_agent_is_told_as_far_as_it_can_be() {
    let mut world = World::stopped("");
    let home = Home::of(uid::SENDER);
    let ready = home.path().join("go");
    let wait = format!("select undef, undef, undef, 0.05 until -e '{}'; {CONNECT}", ready.display());
    let script = home.file("old.pl", &wait);
    let to = world.veth.far.v4.to_string();
    let mut command = Command::new("perl");
    world.cgroup().enter(&mut command);
    command.arg(&script).arg(&to).current_dir(home.path()).uid(uid::SENDER).gid(uid::SENDER);
    let _old = process::Running::start(&mut command);
    world.agent.start();
    let listener = Listener::start(&world);
    fs::write(&ready, "").must("cannot write");
    let story = &listener.wait_for("connect", 1)[0];
    let culprit = &story["culprit"];
    assert_eq!(culprit["script"]["path"], script.display().to_string(), "{culprit}");
    assert_eq!(culprit["lineage"][0]["tgid"], std::process::id());
}
