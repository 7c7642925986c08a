//! Postfix as a relayhost client: its master and all its daemons.

use super::{
    Letter,
    root::{Root, bracketed},
};
use crate::{
    Cgroup, Must, Netns, eventually,
    mountns::MountNs,
    poll,
    process::{self, Output},
};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(60);
const LOG: &str = "var/log/postfix.log";
const SPOOL: &str = "var/spool/postfix";

/// The daemons it takes to hand in, relay and bounce: nothing that listens on a port, nothing in a chroot.
const MASTER: &str = "\
pickup    unix n - n 60   1 pickup
cleanup   unix n - n -    0 cleanup
qmgr      unix n - n 300  1 qmgr
rewrite   unix - - n -    - trivial-rewrite
bounce    unix - - n -    0 bounce
defer     unix - - n -    0 bounce
trace     unix - - n -    0 bounce
flush     unix n - n 1000? 0 flush
smtp      unix - - n -    - smtp
lmtp      unix - - n -    - lmtp
error     unix - - n -    - error
retry     unix - - n -    - error
discard   unix - - n -    - discard
tlsmgr    unix - - n 1000? 1 tlsmgr
scache    unix - - n -    1 scache
postlog   unix-dgram n - n - 1 postlogd
showq     unix n - n -    - showq
";

/// How postfix shall be set up; [`Postfix::sending_to`] begins one.
pub struct Builder {
    relay: SocketAddr,
    ns: Option<Netns>,
    users: Vec<(String, u32)>,
    lmtp: bool,
    main: String,
    /// A line for master.cf.
    listen: String,
}

impl Builder {
    /// Sends from a network namespace instead of the host's.
    pub fn netns(mut self, ns: &Netns) -> Self {
        self.ns = Some(ns.clone());
        self
    }

    /// Adds a user (whose gid is the same number).
    pub fn user(mut self, name: &str, uid: u32) -> Self {
        self.users.push((name.into(), uid));
        self
    }

    /// Relays with LMTP instead of SMTP.
    pub fn lmtp(mut self) -> Self {
        self.lmtp = true;
        self
    }

    /// Takes mail there from clients at loopback.
    pub fn listening(mut self, at: SocketAddr) -> Self {
        self.listen = format!("{} inet n - n - - smtpd\n", bracketed(at));
        self
    }

    /// Adds a line to main.cf, such as `smtp_tls_security_level = may`.
    pub fn main_option(mut self, line: &str) -> Self {
        self.main += &format!("{line}\n");
        self
    }

    /// Starts its daemons, in this cgroup: postfix connects from where its master is, not from the caller's.
    #[track_caller]
    pub fn start_in(self, cgroup: Option<&Cgroup>) -> Postfix {
        let master = format!("{MASTER}{}", self.listen);
        let files = [("etc/postfix/main.cf", self.text()), ("etc/postfix/master.cf", master)];
        let root = Root::new("mta-postfix", self.ns, &self.users, &files);
        let mut command = root.command("/usr/sbin/postfix", None, cgroup);
        // It returns when the master listens on all its sockets.
        process::output(command.arg("start").stdin(Stdio::null()), PATIENCE).expect_ok("postfix start");
        let pid = root.read(&format!("{SPOOL}/pid/master.pid"));
        let pid = pid.and_then(|pid| pid.trim().parse().ok()).must("postfix has written no pid");
        Postfix { root, master: Pid::from_raw(pid) }
    }

    #[track_caller]
    pub fn start(self) -> Postfix {
        self.start_in(None)
    }

    /// Everything goes to the relay over one connection at a time, which is kept for the next message; nothing
    /// asks the DNS. Bounces to senders in client.test end here: at the sink they would be messages that no test
    /// has sent.
    fn text(&self) -> String {
        let relay = bracketed(self.relay);
        let (transport, main) = (if self.lmtp { "lmtp:inet" } else { "smtp" }, &self.main);
        format!(
            "compatibility_level = 3.6\n\
             myhostname = client.test\n\
             mydestination =\n\
             default_transport = {transport}:{relay}\n\
             relay_transport = {transport}:{relay}\n\
             transport_maps = inline:{{client.test=discard:}}\n\
             alias_maps =\n\
             local_recipient_maps =\n\
             maillog_file = /{LOG}\n\
             smtp_dns_support_level = disabled\n\
             lmtp_dns_support_level = disabled\n\
             smtp_host_lookup = native\n\
             lmtp_host_lookup = native\n\
             mynetworks = 127.0.0.0/8 [::1]/128\n\
             smtp_connection_cache_destinations = {relay}\n\
             default_destination_concurrency_limit = 1\n\
             {main}"
        )
    }
}

/// A running postfix. Dropping it ends all its daemons.
pub struct Postfix {
    root: Root,
    master: Pid,
}

impl Postfix {
    pub fn sending_to(relay: SocketAddr) -> Builder {
        Builder { relay, ns: None, users: Vec::new(), lmtp: false, main: String::new(), listen: String::new() }
    }

    /// Hands in a message as this user; postfix delivers it by and by, see [`Self::wait_until_tried`].
    #[track_caller]
    pub fn send(&self, uid: u32, cgroup: Option<&Cgroup>, letter: &Letter) -> Output {
        let mut command = self.root.command("/usr/sbin/sendmail", Some(uid), cgroup);
        command.stdin(letter.file()).args(["-i", "-f", &letter.from, "--"]).args(&letter.to);
        process::output(&mut command, PATIENCE)
    }

    /// Waits until every message was tried: it is delivered, has bounced, or is put off.
    #[track_caller]
    pub fn wait_until_tried(&self) {
        // In the order in which a message goes through them, so that none slips by.
        let busy = || ["maildrop", "incoming", "active"].iter().map(|name| self.files_in(name)).sum::<u64>() > 0;
        eventually(PATIENCE, "postfix has tried every message", || !busy());
    }

    /// How many messages are put off.
    #[track_caller]
    pub fn deferred(&self) -> u64 {
        self.files_in("deferred")
    }

    /// Tries again what was put off, and waits until that is done.
    #[track_caller]
    pub fn run_queue(&self) {
        let before = self.log().matches("from=<").count();
        let waiting = self.deferred();
        let mut command = self.root.command("/usr/sbin/postqueue", None, None);
        process::output(command.arg("-f").stdin(Stdio::null()), PATIENCE).expect_ok("postqueue -f");
        // The queue manager logs each message as it takes it up again.
        let taken_up = || (self.log().matches("from=<").count() - before) as u64 >= waiting;
        eventually(PATIENCE, "postfix takes up its queue", taken_up);
        self.wait_until_tried();
    }

    /// Its sendmail as the host sees it, and the mounts it is to be looked for in.
    pub fn program(&self) -> (&MountNs, PathBuf) {
        let (view, root) = self.root.seen();
        (view, root.join("usr/sbin/sendmail"))
    }

    /// What its daemons have logged.
    #[track_caller]
    pub fn log(&self) -> String {
        self.root.read(LOG).unwrap_or_default()
    }

    /// The uid it connects with.
    #[track_caller]
    pub fn uid(&self) -> u32 {
        self.root.uid_of("postfix")
    }

    /// The master's, which is also its process group.
    pub fn pid(&self) -> i32 {
        self.master.as_raw()
    }

    /// How many messages a queue holds; some are spread over directories by the first letter of their names.
    #[track_caller]
    fn files_in(&self, queue: &str) -> u64 {
        fn count(dir: &Path) -> u64 {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
        }
        let queue = format!("{SPOOL}/{queue}");
        self.root.inside(|root| {
            assert!(root.join(&queue).is_dir(), "postfix has no {queue}");
            count(&root.join(&queue))
        })
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // The master leads a group of its own (setsid), and ends its daemons in order; what is left is killed.
        // Signals fail when all have ended.
        let _ = killpg(self.master, Signal::SIGTERM);
        poll::holds_within(Duration::from_secs(5), || killpg(self.master, None).is_err());
        let _ = killpg(self.master, Signal::SIGKILL);
    }
}
