//! Mail servers: which are installed, which run, and where they listen.

use std::path::{Path, PathBuf};

use super::{
    Finding, Level, few,
    host::{Host, Process},
    nobody::at,
};
use crate::neighbours;

const SUBJECT: &str = "mta";

struct Known {
    name: &'static str,
    /// Programs that only this one brings.
    programs: &'static [&'static str],
    /// Names of processes that are its own. Anybody can give his processes any name, and `sendmail` is also what mail
    /// is handed in with, whichever server takes it.
    processes: &'static [&'static str],
    /// Where the program of a process lies whose name says too little.
    homes: &'static [&'static str],
    /// Users that packages make for it.
    users: &'static [&'static str],
}

impl Known {
    /// Whether a process is this server's: by where its program is, and only where that cannot be read by its name, as
    /// long as no user of the host can have such a process.
    fn has(&self, host: &Host, process: &Process) -> bool {
        let named = self.processes.contains(&process.name.as_str());
        let Some(exe) = &process.exe else {
            let trusted = |uid: &u32| *uid == 0 || self.users.iter().any(|user| host.uid(user) == Some(*uid));
            return named && process.uids.iter().all(trusted);
        };
        // A program that was replaced while it runs, as packages do.
        let exe = exe.to_string_lossy();
        let exe = Path::new(exe.strip_suffix(" (deleted)").unwrap_or(&exe));
        let leads = |path: &&str| host.follow(path).map_or_else(|_| PathBuf::from(path), |way| way.last().to_owned());
        let at_home = self.homes.iter().any(|home| exe.starts_with(leads(home)));
        at_home || (named && self.programs.iter().any(|program| exe == leads(program)))
    }
}

const KNOWN: [Known; 5] = [
    Known {
        name: "exim",
        programs: &["/usr/sbin/exim4", "/usr/sbin/exim", "/usr/exim/bin/exim", "/usr/local/sbin/exim"],
        processes: &["exim4", "exim"],
        homes: &[],
        users: &["Debian-exim", "exim", "mailnull"],
    },
    Known {
        name: "postfix",
        programs: &["/usr/sbin/postfix", "/usr/libexec/postfix/master", "/usr/lib/postfix/sbin/master"],
        processes: &["qmgr"],
        homes: &["/usr/lib/postfix", "/usr/libexec/postfix"],
        users: &["postfix"],
    },
    Known {
        name: "sendmail",
        programs: &[
            "/usr/sbin/sendmail.sendmail",
            "/usr/libexec/sendmail/sendmail",
            "/usr/lib/sm.bin/sendmail",
            "/usr/sbin/sendmail-mta",
        ],
        processes: &["sendmail", "sendmail-mta"],
        homes: &[],
        users: &["smmsp", "smmta"],
    },
    Known {
        name: "qmail",
        programs: &["/var/qmail/bin/qmail-send"],
        processes: &["qmail-send"],
        homes: &["/var/qmail/bin"],
        users: &["qmails"],
    },
    // Postfix has a process called smtpd as well.
    Known {
        name: "opensmtpd",
        programs: &["/usr/sbin/smtpd"],
        processes: &[],
        homes: &["/usr/sbin/smtpd"],
        users: &[],
    },
];

pub(super) fn examine(host: &Host) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut running = Vec::new();
    for known in &KNOWN {
        let programs: Vec<String> =
            known.programs.iter().filter(|path| host.exists(path)).map(|path| (*path).to_owned()).collect();
        let processes: Vec<String> = host
            .processes
            .iter()
            .filter(|process| known.has(host, process))
            .map(|process| format!("{} (pid {})", process.name, process.pid))
            .collect();
        if programs.is_empty() && processes.is_empty() {
            continue;
        }
        let state = if processes.is_empty() { "is installed and does not run" } else { "runs" };
        let mut finding = Finding::new(Level::Ok, SUBJECT, format!("{} {state}", known.name));
        finding.evidence.extend((!programs.is_empty()).then(|| few(&programs)));
        if !processes.is_empty() {
            finding.evidence.push(few(&processes));
            running.push(known.name);
        }
        found.push(finding);
    }
    if found.is_empty() {
        found.push(Finding::new(
            Level::Ok,
            SUBJECT,
            "no mail server was found: what is sent, programs send themselves",
        ));
    }
    if let [first, .., last] = running.as_slice() {
        found.push(
            Finding::new(Level::Warning, SUBJECT, format!("{first} and {last} run at the same time"))
                .advice("stop the one that you do not use: each has a queue and rules of its own"),
        );
    }
    found.extend(listeners(host));
    found
}

/// Who takes mail on the ports for it.
fn listeners(host: &Host) -> Option<Finding> {
    let listening = neighbours::smtp_listeners(host.root());
    if listening.is_empty() {
        return None;
    }
    let shown: Vec<_> = listening
        .iter()
        .map(|(port, one)| {
            let program = one.program.as_deref().unwrap_or("an unknown program");
            format!("{program} on {} as {}", at(one.address, *port), host.user(one.uid))
        })
        .collect();
    let public = listening.iter().any(|(_, one)| !one.address.is_loopback());
    if public {
        let finding = Finding::new(Level::Ok, SUBJECT, "mail is taken from other hosts");
        return Some(finding.because(shown).advice("see that it relays for nobody: `smtp-agent relay-check HOST`"));
    }
    Some(Finding::new(Level::Ok, SUBJECT, "mail is taken from this host alone").because(shown))
}
