//! A real mail server that sends: exim as a smarthost client, from a Debian root of its own.

use crate::{
    Cgroup, Must, Netns,
    mountns::{MountNs, bind},
    process::{self, Output},
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
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// How exim shall be set up; [`Exim::sending_to`] begins one.
pub struct Builder {
    smarthost: SocketAddr,
    ns: Option<Netns>,
    users: Vec<(String, u32)>,
    main: String,
    transport: String,
}

impl Builder {
    /// Sends from a network namespace instead of the host's.
    pub fn netns(mut self, ns: &Netns) -> Self {
        self.ns = Some(ns.clone());
        self
    }

    /// Adds a user (whose gid is the same number). Exim serves users it has no name for, too.
    pub fn user(mut self, name: &str, uid: u32) -> Self {
        self.users.push((name.into(), uid));
        self
    }

    /// Adds a line to the main part of exim's configuration.
    pub fn main_option(mut self, line: &str) -> Self {
        self.main += &format!("{line}\n");
        self
    }

    /// Adds a line to the transport that connects, such as `hosts_try_fastopen =`.
    pub fn transport_option(mut self, line: &str) -> Self {
        self.transport += &format!("  {line}\n");
        self
    }

    #[track_caller]
    pub fn start(self) -> Exim {
        let lower = tools::find("mta");
        let dir = scratch::dir();
        let path = dir.path().to_path_buf();
        let root = path.join("root");
        let view = MountNs::new(|| {
            // Everything exim writes is in memory, over a Debian root that no test changes.
            let tmpfs = Some("tmpfs");
            mount(tmpfs, &path, tmpfs, MsFlags::empty(), Some("mode=0755")).must("cannot mount a tmpfs");
            let [upper, work] = ["upper", "work"].map(|name| path.join(name));
            for new in [&upper, &work, &root] {
                fs::create_dir(new).must(format_args!("cannot make {}", new.display()));
            }
            let layers =
                format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
            mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
                .must(format_args!("cannot mount an overlay ({layers})"));
            bind(Path::new("/proc"), &root.join("proc"));
            bind(Path::new("/dev"), &root.join("dev"));
            let configured = root.join("etc/exim4/exim4.conf");
            fs::write(&configured, self.text()).must(format_args!("cannot write {}", configured.display()));
            for (file, lines) in self.account_lines() {
                let text = fs::read_to_string(root.join(file)).must(format_args!("the Debian root has no {file}"));
                fs::write(root.join(file), text + &lines).must(format_args!("cannot write {file}"));
            }
        });
        let exim = Exim { view, root, ns: self.ns, _dir: dir };
        exim.exim(&["-bV"], None, None).expect_ok("exim with the generated configuration");
        exim
    }

    fn account_lines(&self) -> [(&'static str, String); 2] {
        let passwd = self.users.iter().map(|(name, uid)| format!("{name}:x:{uid}:{uid}::/tmp:/usr/sbin/nologin\n"));
        let group = self.users.iter().map(|(name, uid)| format!("{name}:x:{uid}:\n"));
        [("etc/passwd", passwd.collect()), ("etc/group", group.collect())]
    }

    /// Exim's configuration: everything goes to the smarthost, nothing asks the DNS.
    fn text(&self) -> String {
        // In a list, which route_data is, a colon is written twice.
        let address = self.smarthost.ip().to_string().replace(':', "::");
        let (port, main, transport) = (self.smarthost.port(), &self.main, &self.transport);
        format!(
            "primary_hostname = client.test\n\
             host_lookup =\n\
             tls_advertise_hosts =\n\
             keep_environment =\n\
             untrusted_set_sender = *\n\
             local_from_check = false\n\
             unknown_login = uid-$caller_uid\n\
             unknown_username = nobody in particular\n\
             trusted_users = root : Debian-exim\n\
             log_selector = +smtp_confirmation\n\
             {main}\
             begin routers\n\
             smarthost:\n  driver = manualroute\n  route_data = {address}\n  transport = remote_smtp\n  self = send\n\
             begin transports\n\
             remote_smtp:\n  driver = smtp\n  port = {port}\n  hosts_avoid_tls = *\n  connect_timeout = 5s\n\
             {transport}\
             begin retry\n\
             *  *  F,1h,1m\n"
        )
    }
}

/// An exim without a daemon: it runs when a test sends or looks at the queue.
pub struct Exim {
    view: MountNs,
    root: PathBuf,
    ns: Option<Netns>,
    _dir: TempDir,
}

impl Exim {
    pub fn sending_to(smarthost: SocketAddr) -> Builder {
        Builder { smarthost, ns: None, users: Vec::new(), main: String::new(), transport: String::new() }
    }

    /// Hands in a message as this user from this cgroup, and waits for the first attempt to deliver it
    /// (`-odf`): exim connects as its own user, from the caller's cgroup.
    #[track_caller]
    pub fn send(&self, uid: u32, cgroup: Option<&Cgroup>, from: &str, to: &str, body: &str) -> Output {
        let message = scratch::dir();
        let path = message.path().join("message");
        fs::write(&path, format!("From: {from}\nTo: {to}\nSubject: a test\n\n{body}\n")).must("cannot write a message");
        let mut command = self.command("/usr/sbin/exim4", Some(uid), cgroup);
        command.stdin(fs::File::open(&path).must("cannot open a message"));
        process::output(command.args(["-odf", "-oi", "-f", from, to]), PATIENCE)
    }

    /// How many messages wait.
    #[track_caller]
    pub fn queue(&self) -> u64 {
        let output = self.exim(&["-bpc"], None, None).expect_ok("exim -bpc");
        output.stdout.trim().parse().must(format_args!("exim -bpc says {:?}", output.stdout))
    }

    /// Tries to deliver every message that waits, whether it is time or not.
    #[track_caller]
    pub fn run_queue(&self, cgroup: Option<&Cgroup>) -> Output {
        self.exim(&["-qff"], None, cgroup)
    }

    /// Runs exim with any arguments, as root or as a user of the Debian root.
    #[track_caller]
    pub fn exim(&self, arguments: &[&str], uid: Option<u32>, cgroup: Option<&Cgroup>) -> Output {
        let mut command = self.command("/usr/sbin/exim4", uid, cgroup);
        process::output(command.args(arguments).stdin(Stdio::null()), PATIENCE)
    }

    /// Postfix's load generator, which connects as the user who runs it.
    #[track_caller]
    pub fn smtp_source(&self, uid: Option<u32>, cgroup: Option<&Cgroup>, arguments: &[&str]) -> Output {
        let mut command = self.command("/usr/sbin/smtp-source", uid, cgroup);
        process::output(command.args(arguments).stdin(Stdio::null()), PATIENCE)
    }

    /// What exim has logged; empty before the first line.
    #[track_caller]
    pub fn mainlog(&self) -> String {
        self.read("var/log/exim4/mainlog").unwrap_or_default()
    }

    /// The uid exim connects with.
    #[track_caller]
    pub fn uid(&self) -> u32 {
        let passwd = self.read("etc/passwd").must("the Debian root has no /etc/passwd");
        let line = passwd.lines().find_map(|line| line.strip_prefix("Debian-exim:"));
        let uid = line.and_then(|rest| rest.split(':').nth(1)?.parse().ok());
        uid.must("the Debian root has no user Debian-exim: run `cargo xtask setup`")
    }

    fn read(&self, path: &str) -> Option<String> {
        self.view.run(|| fs::read(self.root.join(path))).ok().map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    /// A program inside the Debian root. All is done between fork and exec, in the order in which each
    /// step is still allowed; `Command::uid` would come too early.
    #[track_caller]
    fn command(&self, program: &str, uid: Option<u32>, cgroup: Option<&Cgroup>) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        if let Some(cgroup) = cgroup {
            cgroup.enter(&mut command);
        }
        if let Some(ns) = &self.ns {
            ns.enter(&mut command);
        }
        self.view.enter(&mut command);
        let root = self.root.clone();
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
