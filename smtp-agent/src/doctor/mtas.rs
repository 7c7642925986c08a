//! Mail servers: which are installed, which run, and where they listen.

use std::path::Path;

use super::{Finding, Level, few, host::Host, nobody::at};
use crate::neighbours;

const SUBJECT: &str = "mta";

struct Known {
    name: &'static str,
    /// Programs that only this one brings.
    programs: &'static [&'static str],
    /// Names of processes that are its own.
    processes: &'static [&'static str],
    /// Where the program of a process lies whose name says too little.
    homes: &'static [&'static str],
}

const KNOWN: [Known; 5] = [
    Known {
        name: "exim",
        programs: &["/usr/sbin/exim4", "/usr/sbin/exim", "/usr/exim/bin/exim", "/usr/local/sbin/exim"],
        processes: &["exim4", "exim"],
        homes: &[],
    },
    Known {
        name: "postfix",
        programs: &["/usr/sbin/postfix", "/usr/libexec/postfix/master", "/usr/lib/postfix/sbin/master"],
        processes: &["qmgr"],
        homes: &["/usr/lib/postfix", "/usr/libexec/postfix"],
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
    },
    Known {
        name: "qmail",
        programs: &["/var/qmail/bin/qmail-send"],
        processes: &["qmail-send"],
        homes: &["/var/qmail/bin"],
    },
    // Postfix has a process called smtpd as well.
    Known { name: "opensmtpd", programs: &["/usr/sbin/smtpd"], processes: &[], homes: &["/usr/sbin/smtpd"] },
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
            .filter(|process| {
                let home = |exe: &Path| known.homes.iter().any(|home| exe.starts_with(home));
                known.processes.contains(&process.name.as_str()) || process.exe.as_deref().is_some_and(home)
            })
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
