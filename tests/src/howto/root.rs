//! The root that a page's host has: made of the directories of this machine and of the mail server of the test tools.

use super::host::server;
use crate::{Cgroup, Must, mountns::bind, mta::Exim, process::Running, tools};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::pivot_root,
};
use std::{
    fs::{self, File},
    os::unix::{fs::symlink, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

/// Users and groups besides those of the mail server's root: name, number, members.
const USERS: &[(&str, u32)] = &[("shop", 61_201), ("blog", 61_202), ("office", 61_203)];
const GROUPS: &[(&str, u32, &str)] = &[("agency", 61_210, "shop,blog")];

/// A namespace in which `root` is the root of the hierarchy: a process makes it from inside.
#[track_caller]
pub(super) fn cgroup_namespace(root: &Cgroup) -> File {
    let mut command = Command::new("sleep");
    root.enter(command.arg("60").stdin(Stdio::null()));
    let leave = || Ok(unshare(CloneFlags::CLONE_NEWCGROUP)?);
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(leave) };
    let inside = Running::start(&mut command);
    File::open(format!("/proc/{}/ns/cgroup", inside.pid())).must("cannot open the new cgroup namespace")
}

#[track_caller]
pub(super) fn uid(user: &str) -> u32 {
    let found = USERS.iter().find(|(name, _)| *name == user).map(|(_, uid)| *uid);
    let of_tools = || {
        let passwd = fs::read_to_string(tools::find("mta").join("etc/passwd")).ok()?;
        let line = passwd.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':'))?;
        line.split(':').nth(1)?.parse().ok()
    };
    found.or_else(of_tools).must(format_args!("the host of the pages has no user {user}"))
}

/// Makes the root in `top` and goes there, in a mount namespace of its own.
#[track_caller]
pub(super) fn make_root(top: &Path, agent: &Path) {
    let mta = tools::find("mta");
    let new = top.join("root");
    for dir in [&top.join("layers"), &new] {
        fs::create_dir(dir).must(format_args!("cannot make {}", dir.display()));
        memory(dir);
    }
    overlay(top, &new, "usr", &[Path::new("/usr"), &mta.join("usr")]);
    overlay(top, &new, "etc", &[&mta.join("etc")]);
    overlay(top, &new, "var", &[&mta.join("var")]);
    for link in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{link}"), new.join(link)).must(link);
    }
    for dir in ["proc", "dev", "sys", "run", "home", "root", "tmp", "old", "usr/local/sbin", "run/exim4"] {
        fs::create_dir_all(new.join(dir)).must(dir);
    }
    bind(Path::new("/proc"), &new.join("proc"));
    bind(Path::new("/dev"), &new.join("dev"));
    // In this order: the later ones lie in the first.
    for (kind, at) in [("sysfs", "sys"), ("bpf", "sys/fs/bpf"), ("cgroup2", "sys/fs/cgroup")] {
        mount(Some(kind), &new.join(at), Some(kind), MsFlags::empty(), None::<&str>).must(format_args!("mount {at}"));
    }
    let program = new.join("usr/local/sbin/smtp-agent");
    File::create(&program).must("cannot make the place of the agent");
    bind(agent, &program);
    populate(&new);

    pivot_root(&new, &new.join("old")).must("cannot change the root");
    umount2("/old", MntFlags::MNT_DETACH).must("cannot leave the old root");
}

fn memory(at: &Path) {
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).must("cannot mount a tmpfs");
}

/// Shows these directories, the first on top, and keeps what is written in memory.
#[track_caller]
fn overlay(top: &Path, new: &Path, name: &str, lower: &[&Path]) {
    let [upper, work] = ["upper", "work"].map(|kind| top.join("layers").join(format!("{name}-{kind}")));
    for dir in [&upper, &work, &new.join(name)] {
        fs::create_dir(dir).must(format_args!("cannot make {}", dir.display()));
    }
    let lower: Vec<_> = lower.iter().map(|dir| dir.display().to_string()).collect();
    let layers = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), work.display());
    mount(Some("overlay"), &new.join(name), Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
        .must(format_args!("cannot mount an overlay ({layers})"));
}

/// Adds the users of the pages, their homes, and the mail server's configuration.
#[track_caller]
fn populate(new: &Path) {
    let append = |file: &str, lines: String| {
        let path = new.join(file);
        let text = fs::read_to_string(&path).must(file) + &lines;
        fs::write(&path, text).must(file);
    };
    let passwd = |(name, uid): &(&str, u32)| format!("{name}:x:{uid}:{uid}::/home/{name}:/bin/bash\n");
    append("etc/passwd", USERS.iter().map(passwd).collect());
    let own = USERS.iter().map(|(name, uid)| format!("{name}:x:{uid}:\n"));
    let shared = GROUPS.iter().map(|(name, gid, members)| format!("{name}:x:{gid}:{members}\n"));
    append("etc/group", own.chain(shared).collect());
    for (name, _) in USERS {
        fs::create_dir(new.join("home").join(name)).must(name);
    }
    let exim = Exim::sending_to(server())
        .main_option("local_interfaces = <; 127.0.0.1 ; ::1")
        .main_option("queue_only")
        .main_option("acl_smtp_rcpt = accept")
        .text();
    fs::write(new.join("etc/exim4/exim4.conf"), exim).must("exim's configuration");
}
