//! A Debian root of one test: what is written in it stays in memory, and goes with it.

use crate::{
    Cgroup, Must, Netns,
    mountns::{MountNs, bind},
    scratch, tools,
};
use nix::{
    mount::{MsFlags, mount},
    unistd::{Gid, Uid, chdir, chroot, setgroups, setresgid, setresuid},
};
use std::{
    fs,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

pub(super) struct Root {
    view: MountNs,
    path: PathBuf,
    ns: Option<Netns>,
    _dir: TempDir,
}

impl Root {
    /// A view of the root that `tool` names, in which `files` are replaced and `users` (whose gids are the same
    /// numbers) are added.
    #[track_caller]
    pub(super) fn new(tool: &str, ns: Option<Netns>, users: &[(String, u32)], files: &[(&str, String)]) -> Self {
        let lower = tools::find(tool);
        let dir = scratch::dir();
        let top = dir.path().to_path_buf();
        let path = top.join("root");
        let view = MountNs::new(|| {
            let tmpfs = Some("tmpfs");
            mount(tmpfs, &top, tmpfs, MsFlags::empty(), Some("mode=0755")).must("cannot mount a tmpfs");
            let [upper, work] = ["upper", "work"].map(|name| top.join(name));
            for new in [&upper, &work, &path] {
                fs::create_dir(new).must(format_args!("cannot make {}", new.display()));
            }
            let layers =
                format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
            mount(Some("overlay"), &path, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
                .must(format_args!("cannot mount an overlay ({layers})"));
            bind(Path::new("/proc"), &path.join("proc"));
            bind(Path::new("/dev"), &path.join("dev"));
            for (file, text) in files {
                fs::write(path.join(file), text).must(format_args!("cannot write {file}"));
            }
            for (file, lines) in account_lines(users) {
                let text = fs::read_to_string(path.join(file)).must(format_args!("the Debian root has no {file}"));
                fs::write(path.join(file), text + &lines).must(format_args!("cannot write {file}"));
            }
        });
        Self { view, path, ns, _dir: dir }
    }

    /// Runs `f` where the root's files are, which are below the path it is given.
    #[track_caller]
    pub(super) fn inside<T: Send>(&self, f: impl FnOnce(&Path) -> T + Send) -> T {
        self.view.run(|| f(&self.path))
    }

    /// The mounts that it is seen in, and where.
    pub(super) fn seen(&self) -> (&MountNs, &Path) {
        (&self.view, &self.path)
    }

    /// The network namespace its programs run in, unless it is the host's.
    pub(super) fn ns(&self) -> Option<&Netns> {
        self.ns.as_ref()
    }

    pub(super) fn read(&self, path: &str) -> Option<String> {
        self.inside(|root| fs::read(root.join(path))).ok().map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    /// The number of a user that a package has made.
    #[track_caller]
    pub(super) fn uid_of(&self, user: &str) -> u32 {
        let passwd = self.read("etc/passwd").must("the Debian root has no /etc/passwd");
        let line = passwd.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':'));
        let uid = line.and_then(|rest| rest.split(':').nth(1)?.parse().ok());
        uid.must(format_args!("the Debian root has no user {user}: run `cargo xtask setup`"))
    }

    /// A program inside the root. All is done between fork and exec, in the order in which each step is still
    /// allowed; `Command::uid` would come too early.
    #[track_caller]
    pub(super) fn command(&self, program: &str, uid: Option<u32>, cgroup: Option<&Cgroup>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if let Some(cgroup) = cgroup {
            cgroup.enter(&mut command);
        }
        if let Some(ns) = &self.ns {
            ns.enter(&mut command);
        }
        self.view.enter(&mut command);
        let root = self.path.clone();
        let become_user = move || {
            chroot(&root)?;
            chdir("/")?;
            if let Some(uid) = uid {
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
                setgroups(&[])?;
                setresgid(gid, gid, gid)?;
                setresuid(uid, uid, uid)?;
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls only; nix puts short paths on the stack.
        unsafe { command.pre_exec(become_user) };
        command
    }
}

fn account_lines(users: &[(String, u32)]) -> [(&'static str, String); 2] {
    let passwd = users.iter().map(|(name, uid)| format!("{name}:x:{uid}:{uid}::/tmp:/usr/sbin/nologin\n"));
    let group = users.iter().map(|(name, uid)| format!("{name}:x:{uid}:\n"));
    [("etc/passwd", passwd.collect()), ("etc/group", group.collect())]
}

/// A message as tests send it: a sender, recipients, and a text below three headers.
#[derive(Clone, Debug)]
pub struct Letter {
    pub(super) from: String,
    pub(super) to: Vec<String>,
    body: String,
}

impl Letter {
    /// From shop@client.test, where bounces end.
    pub fn to<T: AsRef<str>>(recipients: &[T]) -> Self {
        let to = recipients.iter().map(|to| to.as_ref().to_string()).collect();
        Self { from: "shop@client.test".into(), to, body: "hello".into() }
    }

    pub fn from(mut self, sender: &str) -> Self {
        self.from = sender.into();
        self
    }

    pub fn body(mut self, text: &str) -> Self {
        self.body = text.into();
        self
    }

    /// With LF line ends, as programs hand messages in.
    pub(super) fn text(&self) -> String {
        format!("From: {}\nTo: {}\nSubject: a test\n\n{}\n", self.from, self.to.join(", "), self.body)
    }

    /// The text as a file to be read from.
    #[track_caller]
    pub(super) fn file(&self) -> fs::File {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile().must("cannot make a temporary file");
        file.write_all(self.text().as_bytes()).and_then(|()| file.rewind()).must("cannot write a message");
        file
    }
}

/// The address as relay options write it, such as `[192.0.2.1]:25`.
pub(super) fn bracketed(address: SocketAddr) -> String {
    format!("[{}]:{}", address.ip(), address.port())
}
