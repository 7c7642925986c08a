//! One attempt as it is shown, by `smtp-agent events` and to whoever reads its JSON.

use std::{fmt, net::IpAddr, time::SystemTime};

use serde::{Deserialize, Serialize};
use smtp_common::{
    connection::Route,
    counter::{Reason, Verdict},
    event::{ConnectEvent, flag},
};

use super::{date, endpoint, process::Process, word};
use crate::{
    accounts::{container::unit_of_cgroup, label::printable_until_nul},
    attribution::Culprit,
};

/// All text in it is safe on a terminal: control characters and foreign bytes are escaped.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Story {
    /// RFC 3339, UTC, milliseconds.
    pub time: String,
    pub account: String,
    pub verdict: String,
    pub reason: String,
    pub destination: IpAddr,
    pub port: u16,
    pub route: String,
    /// Real uid and gid in the host's numbering, process and thread id.
    pub uid: u32,
    pub gid: u32,
    pub tgid: u32,
    pub tid: u32,
    /// Name of the thread, as it calls itself: no evidence by itself.
    pub comm: String,
    /// As proc(5) writes it: with ` (deleted)` where its file has no name any more.
    pub exe: Option<String>,
    pub command: Option<Vec<String>>,
    /// cgroup path; on hybrid hosts systemd's v1 path where the v2 one says nothing.
    pub cgroup: Option<String>,
    /// The unit the cgroup belongs to.
    pub unit: Option<String>,
    pub kernel_thread: bool,
    pub container: bool,
    pub subordinate_uid: bool,
    /// Why it was deferred where the plan says "redirect"; one word of a closed list, see docs/metrics.md.
    #[serde(default)]
    pub not_redirected: Option<String>,
    /// Serial of the policy that decided.
    pub policy: u64,
    /// Who is behind it.
    #[serde(default)]
    pub culprit: Box<Culprit>,
}

/// What keeps a connection from being redirected: the word for programs, and the words for people.
const NOT_REDIRECTED: [(&str, &str); 4] = [
    ("port", "not redirected: only port 25 is"),
    ("container", "not redirected: the local MTA is not in its network namespace"),
    ("no_local_mta", "not redirected: nothing it can reach listens on port 25 of loopback"),
    ("socket", "not redirected: its socket is bound to an address or interface, is of MPTCP, or has no memory left"),
];

fn not_redirected(event: &ConnectEvent) -> Option<String> {
    let [port, container, no_local_mta, socket] = NOT_REDIRECTED.map(|(word, _)| word);
    let has = |bit| event.flags & bit != 0;
    let why = match event.port {
        _ if !has(flag::NOT_REDIRECTED) => return None,
        _ if has(flag::NO_LOCAL_MTA) => no_local_mta,
        25 => {
            if has(flag::FOREIGN_NETNS) {
                container
            } else {
                socket
            }
        }
        _ => port,
    };
    Some(why.to_owned())
}

impl Story {
    /// `boot_now` is the boot clock at `now`; together they date the event.
    pub fn tell(
        event: &ConnectEvent,
        account: String,
        process: Process,
        cgroup: Option<String>,
        culprit: Box<Culprit>,
        boot_now: u64,
        now: SystemTime,
    ) -> Self {
        let cgroup = cgroup.or(Some("/".into()));
        let deleted = if culprit.exe_deleted { " (deleted)" } else { "" };
        let exe = culprit.exe.as_ref().map(|exe| format!("{exe}{deleted}"));
        Self {
            time: date(event.time, boot_now, now),
            account,
            verdict: word(Verdict::from_u8(event.verdict).map(Verdict::name)),
            reason: word(Reason::from_u8(event.reason).map(Reason::name)),
            destination: event.destination.into(),
            port: event.port,
            route: word(Route::from_u8(event.route).map(Route::name)),
            uid: event.uid,
            gid: event.gid,
            tgid: event.tgid,
            tid: event.tid,
            comm: printable_until_nul(&event.comm),
            exe: exe.or(process.exe),
            command: culprit.command.clone().or(process.command),
            unit: cgroup.as_deref().and_then(unit_of_cgroup).map(str::to_owned),
            cgroup,
            kernel_thread: event.flags & flag::KERNEL_THREAD != 0,
            container: event.flags & flag::FOREIGN_NETNS != 0,
            subordinate_uid: event.flags & flag::SUBORDINATE != 0,
            not_redirected: not_redirected(event),
            policy: event.policy,
            culprit,
        }
    }
}

/// One line, columns first and what has no fixed width last.
impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = endpoint(self.destination, self.port);
        let what = self.exe.as_deref().unwrap_or(&self.comm);
        write!(
            f,
            "{}  {:<14}  {:<16}  {:<13}  {:<6}  {:<24}  pid {:<8} {}",
            self.time, self.verdict, self.account, self.reason, self.route, to, self.tgid, what
        )?;
        if let Some(unit) = &self.unit {
            write!(f, "  ({unit})")?;
        }
        match &self.command {
            Some(command) => write!(f, "  {}", command.join(" "))?,
            None if self.exe.is_none() => f.write_str("  (the process has ended)")?,
            None => {}
        }
        let shown = |path: &String| self.command.as_ref().is_some_and(|command| command.contains(path));
        if let Some(script) = self.culprit.script.as_ref().filter(|script| !shown(&script.path)) {
            write!(f, "  script {}", script.path)?;
        }
        let why = NOT_REDIRECTED.iter().find(|(word, _)| self.not_redirected.as_deref() == Some(word));
        why.map_or(Ok(()), |(_, text)| write!(f, "  ({text})"))
    }
}
