//! The ways by which mail may leave under the name of nobody, or of a user that all sites share.

use super::{Finding, Level, few, host::Host, php};
use crate::{
    config::{Config, Mode, Name},
    neighbours,
};

const SUBJECT: &str = "nobody";
/// The uid where /etc/passwd names none.
const USUAL: u32 = 65_534;
const NAME: &str = "nobody";

/// What the policy says of nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Denied,
    /// Counted, not stopped.
    Observed,
    NotDenied,
    Unknown,
}

pub(super) fn examine(host: &Host, config: Option<&Config>) -> Vec<Finding> {
    let uid = host.uid(NAME).unwrap_or(USUAL);
    let policy = policy(config, uid);
    let mut found = vec![said(policy)];
    found.extend(processes(host, uid, policy));
    found.extend(php::examine(host).into_iter().map(|handler| handled(&handler, policy)));
    found.extend(local_mta(host, policy));
    found.extend(program(host, config, policy));
    found
}

fn policy(config: Option<&Config>, uid: u32) -> Policy {
    let Some(config) = config else { return Policy::Unknown };
    let named = config.deny.iter().any(|name| match &name.value {
        Name::Text(text) => text == NAME,
        Name::Id(id) => *id == uid,
    });
    match config.mode {
        _ if !named => Policy::NotDenied,
        Mode::Enforce => Policy::Denied,
        Mode::Observe => Policy::Observed,
    }
}

fn said(policy: Policy) -> Finding {
    let new = |level, what| Finding::new(level, SUBJECT, what);
    match policy {
        Policy::Denied => new(Level::Ok, "the policy refuses nobody everywhere, the local MTA and sendmail included"),
        Policy::Observed => new(Level::Note, "the policy would refuse nobody, but mode = \"observe\" stops no one")
            .advice("write mode = \"enforce\" once you have seen what would be refused"),
        Policy::NotDenied => new(Level::Warning, "the policy does not refuse nobody")
            .advice("write users = [\"nobody\"] in [deny], or leave the key out: that is the default"),
        Policy::Unknown => {
            new(Level::Note, "the configuration cannot be read, so whether it refuses nobody is not known")
                .advice("see `smtp-agent check`")
        }
    }
}

/// How grave it is that a way is open, when somebody is there who walks it, or only might.
fn level(policy: Policy, walked: bool) -> Level {
    match policy {
        Policy::Denied => Level::Ok,
        Policy::Observed | Policy::Unknown => Level::Note,
        Policy::NotDenied if walked => Level::Warning,
        Policy::NotDenied => Level::Note,
    }
}

fn processes(host: &Host, uid: u32, policy: Policy) -> Option<Finding> {
    let theirs = host.processes.iter().filter(|process| process.uids.contains(&uid));
    let shown: Vec<_> = theirs.map(|process| format!("{} (pid {})", process.name, process.pid)).collect();
    let (count, are) = match shown.len() {
        0 => return None,
        1 => ("1 process".to_owned(), "is"),
        n => (format!("{n} processes"), "are"),
    };
    let what = format!("{count} run{} as nobody now", if are == "is" { "s" } else { "" });
    let finding = Finding::new(level(policy, true), SUBJECT, what).because([few(&shown)]);
    Some(finding.advice("give each of them a user of its own, so that it can be told apart and limited"))
}

/// PHP that runs as nobody is walked; as a web server's user it makes all sites one account.
fn handled(handler: &php::Handler, policy: Policy) -> Finding {
    let php::Handler { how, user, evidence } = handler;
    if user == NAME {
        let what = format!("{how} runs PHP as nobody, so all its sites are one user");
        return Finding::new(level(policy, true), SUBJECT, what)
            .because(evidence.iter().cloned())
            .advice("run each site as its owner: PHP-FPM with a pool for each, or suEXEC");
    }
    let what = format!("{how} runs PHP as {user}, so all its sites share one limit and one name in reports");
    Finding::new(Level::Note, SUBJECT, what)
        .because(evidence.iter().cloned())
        .advice("run each site as its owner: PHP-FPM with a pool for each, or suEXEC")
}

fn local_mta(host: &Host, policy: Policy) -> Option<Finding> {
    let listeners = neighbours::local_mta(host.root());
    let shown: Vec<_> = listeners
        .iter()
        .map(|one| format!("{} on {}", one.program.as_deref().unwrap_or("an unknown program"), at(one.address, 25)))
        .collect();
    if shown.is_empty() {
        return None;
    }
    let what = "the local MTA takes mail over loopback, from nobody as from every user";
    let finding = Finding::new(level(policy, false), SUBJECT, what).because([few(&shown)]);
    Some(match policy {
        Policy::Denied => finding,
        _ => finding.advice("name nobody in [deny]: connections to the local MTA are then refused, too"),
    })
}

fn program(host: &Host, config: Option<&Config>, policy: Policy) -> Option<Finding> {
    let mut shown: Vec<String> = Vec::new();
    for path in super::sendmail::paths(config) {
        let Ok((_, found)) = host.follow(&path) else { continue };
        if found.is_file() && std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o001 != 0 {
            shown.push(path);
        }
    }
    if shown.is_empty() {
        return None;
    }
    let finding = Finding::new(level(policy, false), SUBJECT, "nobody may execute sendmail, as every user may");
    Some(finding.because([few(&shown)]))
}

/// An address and a port as they are written.
pub(super) fn at(ip: std::net::IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}
