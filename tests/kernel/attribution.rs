//! Who was behind an attempt, whatever the process did to hide it, and however soon it was gone.

use nix::{
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::Signal,
    },
    unistd::chown,
};
use serde_json::Value;
use smtp_tests::{
    Cgroup, Listener, Must, World,
    process::{self, Output},
    scratch, tools, uid,
};
use std::{
    fs::{self, Permissions},
    io::Write,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{MetadataExt, PermissionsExt, symlink},
            process::CommandExt,
        },
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

#[test]
fn a_program_that_never_had_a_file_is_told_as_a_deleted_memfd() {
    let world = World::with("");
    let listener = Listener::start(&world);
    let program = memfd_create(c"bot", MFdFlags::empty()).must("cannot make a memfd");
    let mut file = fs::File::from(program.try_clone().must("cannot duplicate it"));
    file.write_all(&fs::read(perl()).must("cannot read perl")).must("cannot write to it");
    drop(file);
    // Executed by its number, as fexecve(3) does.
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.args(["-e", CONNECT, &world.veth.far.v4.to_string()]).current_dir("/");
    let ran = run(&mut command, uid::SENDER, world.cgroup());
    assert_eq!(ran.code, 0, "{ran:?}");
    let story = &listener.wait_for("connect", 1)[0];
    let culprit = &story["culprit"];
    assert_eq!(culprit["exe"], "/memfd:bot", "{culprit}");
    assert_eq!(culprit["exe_deleted"], true);
    assert_eq!(story["exe"], "/memfd:bot (deleted)");
    assert_eq!(culprit["cwd"], "/", "a root of a file system is none");
}

#[test]
fn a_scripts_name_without_room_is_told_whole_or_as_cut() {
    let world = World::with("");
    let listener = Listener::start(&world);
    let home = Home::of(uid::SENDER);
    let to = world.veth.far.v4.to_string();
    let text = format!("#!/usr/bin/perl\n{CONNECT}\n");
    let long = |octets: usize| ["d".repeat(200), "e".repeat(200), "f".repeat(200)].join("/")[..octets].to_owned();
    let just = 255 - home.path().as_os_str().len() - "//x.pl".len();
    // As long as the room, more than that, and more than a command line has room for.
    for (seen, octets, is_whole) in [(1, just, true), (2, 350, true), (3, 590, false)] {
        let script = home.file(&format!("{}/x.pl", long(octets)), &text);
        let ran = run(Command::new(&script).arg(&to).current_dir("/"), uid::SENDER, world.cgroup());
        assert_eq!(ran.code, 0, "{ran:?}");
        let told = &listener.wait_for("connect", seen)[seen - 1]["culprit"]["script"];
        assert_eq!(told["how"], "shebang");
        let path = script.display().to_string();
        let cut = format!("{}…", &path[..255]);
        assert_eq!(told["path"], if is_whole { path } else { cut });
    }
}

#[test]
fn a_path_of_as_many_names_as_are_followed_below_a_mount_is_told_as_cut() {
    let world = World::with("");
    let listener = Listener::start(&world);
    let home = Home(tempfile::tempdir_in("/dev/shm").must("no directory in shared memory"));
    fs::set_permissions(home.path(), Permissions::from_mode(0o777)).must("cannot open a directory");
    // 48 steps are taken. The 48th is on the root of the mount, above which others may be.
    for (seen, names, is_whole) in [(1, 38, true), (2, 47, false), (3, 48, false)] {
        let dir = home.path().join("d/".repeat(names - 1).trim_end_matches('/'));
        fs::create_dir_all(&dir).must("no directory");
        let mut command = Command::new("perl");
        command.args(["-e", CONNECT, &world.veth.far.v4.to_string()]).current_dir(&dir);
        let ran = run(&mut command, uid::SENDER, world.cgroup());
        assert_eq!(ran.code, 0, "{ran:?}");
        let story = &listener.wait_for("connect", seen)[seen - 1];
        let told = story["culprit"]["cwd"].as_str().must("a path");
        assert_eq!(told == dir.display().to_string(), is_whole, "{names}: {told}");
        assert_eq!(told.starts_with('…'), !is_whole, "{names}: {told}");
    }
}

#[test]
fn who_uses_links_titles_and_dashes_names_no_script_of_others() {
    let world = World::with("");
    let listener = Listener::start(&world);
    let (home, victim) = (Home::of(uid::SENDER), Home::of(uid::OTHER));
    let to = world.veth.far.v4.to_string();
    let theirs = victim.file("index.pl", "");
    let victims = victim.path().file_name().must("it has one").to_string_lossy().into_owned();
    // `x` leads to a directory of the bot's own, above which lies one that is called as the victim's.
    home.file(&format!("deep/{victims}/index.pl"), CONNECT);
    home.file("deep/a/b/empty", "");
    symlink("deep/a/b", home.path().join("x")).must("no link");
    let behind_a_link = format!("{}/x/../../{victims}/index.pl", home.path().display());
    let code = format!("$0 = 'lsphp:{}'; {CONNECT}", theirs.display());
    let title = home.file("title.pl", &code);
    // bash finds what is not in its directory in PATH.
    let elsewhere = home.file("bin/elsewhere.sh", &format!("perl -e '{CONNECT}' {to}; sleep 1; exit\n"));
    let elsewhere = elsewhere.display().to_string();
    let bin = elsewhere.trim_end_matches("/elsewhere.sh");
    let perl = |script: &str| {
        let mut command = Command::new("perl");
        command.arg(script).arg(&to).current_dir("/");
        command
    };
    let mut sought = Command::new("bash");
    sought.arg("elsewhere.sh").current_dir(victim.path()).env("PATH", format!("{bin}:/usr/bin:/bin"));
    let mut own = Command::new("bash");
    own.arg("elsewhere.sh").current_dir(bin);
    let title = title.display().to_string();
    for (seen, mut command, script) in [
        (1, perl(&behind_a_link), &behind_a_link[..]),
        (2, perl(&title), &title),
        (3, sought, "elsewhere.sh"),
        (4, own, &elsewhere),
    ] {
        let ran = run(&mut command, uid::SENDER, world.cgroup());
        assert_eq!(ran.code, 0, "{ran:?}");
        let culprit = &listener.wait_for("connect", seen)[seen - 1]["culprit"];
        assert_eq!(culprit["script"]["path"], script, "{culprit}");
    }
}
