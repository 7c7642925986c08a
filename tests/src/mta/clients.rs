//! Small programs that connect as whoever runs them: swaks and msmtp.

use super::{Letter, root::Root};
use crate::{
    Cgroup, Must, Netns,
    process::{self, Output},
    scratch,
};
use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, process::Stdio, time::Duration};

const PATIENCE: Duration = Duration::from_secs(60);
const ROOT: &str = "mta-postfix";

/// The Swiss army knife for SMTP: one session for each letter, in every dialect its options name.
pub struct Swaks {
    root: Root,
    server: SocketAddr,
}

impl Swaks {
    #[track_caller]
    pub fn sending_to(server: SocketAddr) -> Self {
        Self { root: Root::new(ROOT, None, &[], &[]), server }
    }

    /// The same from a network namespace.
    #[track_caller]
    pub fn sending_from(ns: &Netns, server: SocketAddr) -> Self {
        Self { root: Root::new(ROOT, Some(ns.clone()), &[], &[]), server }
    }

    /// Sends as this user, with options such as `--pipeline`, `--protocol=LMTP`, `--prdr`, `--tls`, `--tlsc` or
    /// `--auth=LOGIN --auth-user=a --auth-password=b`. The output is the conversation.
    #[track_caller]
    pub fn send(&self, uid: u32, cgroup: Option<&Cgroup>, letter: &Letter, options: &[&str]) -> Output {
        // `--data` wants a file that everyone may read, or takes what it is given for the text.
        let name = format!("tmp/{}", scratch::name("letter"));
        self.root.inside(|root| {
            let path = root.join(&name);
            fs::write(&path, letter.text()).must("cannot write a message");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).must("cannot open a message to all");
        });
        let mut command = self.root.command("/usr/bin/swaks", Some(uid), cgroup);
        command.args(["--server", &self.server.ip().to_string(), "--port", &self.server.port().to_string()]);
        command.args(["--helo", "client.test", "--from", &letter.from, "--to", &letter.to.join(",")]);
        command.args(["--data", &format!("@/{name}")]).args(options).stdin(Stdio::null());
        if self.server.is_ipv6() {
            command.arg("-6");
        }
        process::output(&mut command, PATIENCE)
    }
}

/// A plain client, which gives up a message when one of its recipients is refused.
pub struct Msmtp {
    root: Root,
    server: SocketAddr,
}

impl Msmtp {
    #[track_caller]
    pub fn sending_to(server: SocketAddr) -> Self {
        Self { root: Root::new(ROOT, None, &[], &[]), server }
    }

    /// The same from a network namespace.
    #[track_caller]
    pub fn sending_from(ns: &Netns, server: SocketAddr) -> Self {
        Self { root: Root::new(ROOT, Some(ns.clone()), &[], &[]), server }
    }

    /// Sends as this user, with options such as `--protocol=lmtp`, or `--tls=on --tls-certcheck=off`.
    #[track_caller]
    pub fn send(&self, uid: u32, cgroup: Option<&Cgroup>, letter: &Letter, options: &[&str]) -> Output {
        let mut command = self.root.command("/usr/bin/msmtp", Some(uid), cgroup);
        command.arg(format!("--host={}", self.server.ip())).arg(format!("--port={}", self.server.port()));
        command.arg(format!("--from={}", letter.from)).args(["--domain=client.test", "--timeout=30"]);
        command.args(options).arg("--").args(&letter.to).stdin(letter.file());
        process::output(&mut command, PATIENCE)
    }
}
