//! Exim as a smarthost client.

use super::{Letter, root::Root};
use crate::{
    Cgroup, Must, Netns,
    mountns::MountNs,
    poll,
    process::{self, Output, Running},
};
use nix::sys::signal::{Signal, kill};
use std::{
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

const EXIM: &str = "/usr/sbin/exim4";
const PATIENCE: Duration = Duration::from_secs(60);

/// How exim shall be set up; [`Exim::sending_to`] begins one.
pub struct Builder {
    smarthost: SocketAddr,
    ns: Option<Netns>,
    users: Vec<(String, u32)>,
    main: String,
    transport: String,
    tls: bool,
    listen: Option<SocketAddr>,
    take: String,
    routers: String,
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

    /// Uses TLS where it is offered, whatever the certificate.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Adds a router before all others.
    pub fn router(mut self, text: &str) -> Self {
        self.routers += &format!("{text}\n");
        self
    }

    /// Decides about recipients of a listening exim with these lines of an ACL, instead of by the client's address.
    pub fn taking(mut self, acl: &str) -> Self {
        self.take = acl.into();
        self
    }

    /// Runs a daemon, which takes mail there from clients at loopback.
    pub fn listening(mut self, at: SocketAddr) -> Self {
        self.listen = Some(at);
        let (ip, port) = (at.ip().to_string().replace(':', "::"), at.port());
        self.main_option(&format!("local_interfaces = {ip}\ndaemon_smtp_ports = {port}\nacl_smtp_rcpt = take"))
    }

    #[track_caller]
    pub fn start(self) -> Exim {
        self.start_in(None)
    }

    /// Starts its daemon, if it has one, in this cgroup.
    #[track_caller]
    pub fn start_in(self, cgroup: Option<&Cgroup>) -> Exim {
        let files = [("etc/exim4/exim4.conf", self.text())];
        let mut exim = Exim { daemon: None, root: Root::new("mta", self.ns, &self.users, &files) };
        exim.exim(&["-bV"], None, None).expect_ok("exim with the generated configuration");
        if let Some(at) = self.listen {
            let mut command = exim.root.command(EXIM, None, cgroup);
            exim.daemon = Some(Running::start(command.arg("-bdf").stdin(Stdio::null())));
            let listens = || TcpStream::connect(at).is_ok();
            let listens = || exim.root.ns().map_or_else(listens, |ns| ns.run(listens));
            poll::eventually(PATIENCE, "exim listens", listens);
        }
        exim
    }

    /// Exim's configuration: everything goes to the smarthost, nothing asks the DNS. Bounces to senders in
    /// client.test end here: at the sink they would be messages that no test has sent.
    pub(crate) fn text(&self) -> String {
        // In a list, which route_data is, a colon is written twice.
        let address = self.smarthost.ip().to_string().replace(':', "::");
        let (port, main, transport) = (self.smarthost.port(), &self.main, &self.transport);
        let (take, routers) = (&self.take, &self.routers);
        let tls = if self.tls { "" } else { "  hosts_avoid_tls = *\n" };
        format!(
            "primary_hostname = client.test\n\
             host_lookup =\n\
             helo_lookup_domains =\n\
             tls_advertise_hosts =\n\
             keep_environment =\n\
             untrusted_set_sender = *\n\
             local_from_check = false\n\
             unknown_login = uid-$caller_uid\n\
             unknown_username = nobody in particular\n\
             trusted_users = root : Debian-exim\n\
             log_selector = +smtp_confirmation\n\
             {main}\
             begin acl\n\
             take:\n{take}\n\
             begin routers\n\
             {routers}\
             returned:\n  driver = redirect\n  domains = client.test\n  data = :blackhole:\n\
             smarthost:\n  driver = manualroute\n  route_data = {address}\n  transport = remote_smtp\n  self = send\n\
             begin transports\n\
             remote_smtp:\n  driver = smtp\n  port = {port}\n  connect_timeout = 5s\n\
             {tls}{transport}\
             begin retry\n\
             *  *  F,1h,1m\n"
        )
    }
}

/// An exim, most often without a daemon: it runs when a test sends or looks at the queue.
pub struct Exim {
    /// Ended before its root goes.
    daemon: Option<Running>,
    root: Root,
}

impl Exim {
    pub fn sending_to(smarthost: SocketAddr) -> Builder {
        let (main, transport, take) = (String::new(), String::new(), "  accept hosts = <; 127.0.0.1 ; ::1".to_owned());
        Builder {
            smarthost,
            ns: None,
            users: Vec::new(),
            main,
            transport,
            tls: false,
            listen: None,
            take,
            routers: String::new(),
        }
    }

    /// Hands in a message as this user from this cgroup, and waits for the first attempt to deliver it
    /// (`-odf`): exim connects as its own user, from the caller's cgroup.
    #[track_caller]
    pub fn send(&self, uid: u32, cgroup: Option<&Cgroup>, from: &str, to: &str, body: &str) -> Output {
        self.send_letter(uid, cgroup, &Letter::to(&[to]).from(from).body(body))
    }

    /// The same for a letter to several recipients.
    #[track_caller]
    pub fn send_letter(&self, uid: u32, cgroup: Option<&Cgroup>, letter: &Letter) -> Output {
        self.hand_in(uid, cgroup, letter, "-odf")
    }

    /// Hands in a message that waits for a queue run (`-odq`).
    #[track_caller]
    pub fn queue_up(&self, uid: u32, cgroup: Option<&Cgroup>, letter: &Letter) -> Output {
        self.hand_in(uid, cgroup, letter, "-odq")
    }

    #[track_caller]
    fn hand_in(&self, uid: u32, cgroup: Option<&Cgroup>, letter: &Letter, when: &str) -> Output {
        let mut command = self.root.command(EXIM, Some(uid), cgroup);
        command.stdin(letter.file()).args([when, "-oi", "-f", &letter.from]).args(&letter.to);
        process::output(&mut command, PATIENCE)
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

    /// The same in two steps, routing and delivery: messages for one host share a connection.
    #[track_caller]
    pub fn run_queue_together(&self, cgroup: Option<&Cgroup>) -> Output {
        self.exim(&["-qqff"], None, cgroup)
    }

    /// Runs exim with any arguments, as root or as a user of the Debian root.
    #[track_caller]
    pub fn exim(&self, arguments: &[&str], uid: Option<u32>, cgroup: Option<&Cgroup>) -> Output {
        let mut command = self.root.command(EXIM, uid, cgroup);
        process::output(command.args(arguments).stdin(Stdio::null()), PATIENCE)
    }

    /// Postfix's load generator, which connects as the user who runs it.
    #[track_caller]
    pub fn smtp_source(&self, uid: Option<u32>, cgroup: Option<&Cgroup>, arguments: &[&str]) -> Output {
        let mut command = self.root.command("/usr/sbin/smtp-source", uid, cgroup);
        process::output(command.args(arguments).stdin(Stdio::null()), PATIENCE)
    }

    /// The program as the host sees it, and the mounts it is to be looked for in.
    pub fn program(&self) -> (&MountNs, PathBuf) {
        let (view, root) = self.root.seen();
        (view, root.join(EXIM.trim_start_matches('/')))
    }

    /// What exim has logged; empty before the first line.
    #[track_caller]
    pub fn mainlog(&self) -> String {
        self.root.read("var/log/exim4/mainlog").unwrap_or_default()
    }

    /// What waits, as mailq(1) shows it.
    #[track_caller]
    pub fn mailq(&self) -> String {
        self.exim(&["-bp"], None, None).expect_ok("exim -bp").stdout
    }

    /// The uid exim connects with.
    #[track_caller]
    pub fn uid(&self) -> u32 {
        self.root.uid_of("Debian-exim")
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon
            && daemon.ended().is_none()
        {
            // It may end in this moment; `Running` kills what does not.
            let _ = kill(daemon.pid(), Signal::SIGTERM);
            daemon.wait(Duration::from_secs(5));
        }
    }
}
