//! The ways by which mail may leave under the name of nobody, or of a user that all sites share.

use std::{io::ErrorKind, time::SystemTime};

use super::{Finding, Gap, Level, few, host::Host, php};
use crate::{
    by_hand::{self, Entry, Says, Subject},
    config::{Config, Mode, Name, Paths},
    neighbours::{self, way::Way},
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
    /// Let out by hand, whatever the configuration says.
    LetOut,
    NotDenied,
    Unknown,
}

pub(super) fn examine(host: &Host, config: Option<&Config>, now: SystemTime) -> Vec<Finding> {
    let uid = host.uid(NAME).unwrap_or(USUAL);
    let (entry, unread) = match by_hand(host, config, uid, now) {
        Ok(entry) => (entry, None),
        Err(finding) => (None, Some(finding)),
    };
    let policy = policy(config, entry.as_ref(), uid);
    let mut found = vec![said(policy).because(entry.as_ref().map(told))];
    found.extend(unread);
    found.extend(processes(host, uid, policy));
    found.extend(php::examine(host).into_iter().map(|handler| handled(&handler, policy)));
    found.extend(local_mta(host, policy));
    found.extend(program(host, config, policy));
    found
}

/// What was said by hand of nobody, or of a group of his, and comes before the configuration. Of cgroups it is not
/// known what will run in them.
fn by_hand(host: &Host, config: Option<&Config>, uid: u32, now: SystemTime) -> Result<Option<Entry>, Finding> {
    let state = config.map_or_else(|| Paths::default().state, |config| config.paths.state.clone());
    let state = host.path(&state.to_string_lossy());
    let mut entries = by_hand::store::read(&state).map_err(|why| {
        let path = state.join(by_hand::store::NAME);
        let is_closed = path.symlink_metadata().and(std::fs::File::open(&path).map(|_| ()));
        let is_closed = is_closed.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
        let what = format!("what was said by hand cannot be read, so whether nobody was let out is not known: {why}");
        let gap = if is_closed { Gap::Rights } else { Gap::Broken };
        Finding::unseen(SUBJECT, gap, what).advice("see `smtp-agent block --list` as root")
    })?;
    entries.retain(|entry| entry.holds(now.into()));
    let groups = host.groups_of(NAME);
    let id = |name: &Name, of: &dyn Fn(&str) -> Option<u32>| match name {
        Name::Text(text) => of(text),
        Name::Id(id) => Some(*id),
    };
    let own = |whom: &Subject| match whom {
        Subject::User(name) => id(name, &|text| host.uid(text).or((text == NAME).then_some(USUAL))) == Some(uid),
        _ => false,
    };
    let of_group = |whom: &Subject| match whom {
        Subject::Group(name) => id(name, &|text| host.gid(text)).is_some_and(|gid| groups.contains(&gid)),
        _ => false,
    };
    // Of two alike the later holds.
    let last = |is: &dyn Fn(&Subject) -> bool| entries.iter().rev().find(|entry| is(&entry.whom));
    Ok(last(&own).or_else(|| last(&of_group)).cloned())
}

/// `said by hand: allowed user nobody until 2026-11-20T10:17:11.639Z`
fn told(entry: &Entry) -> String {
    let until = entry.until.map_or_else(|| "until it is released".to_owned(), |until| format!("until {until}"));
    format!("said by hand: {} {} {until}", entry.says.name(), entry.whom)
}

fn policy(config: Option<&Config>, by_hand: Option<&Entry>, uid: u32) -> Policy {
    let says = by_hand.map(|entry| entry.says);
    if says == Some(Says::Allowed) {
        return Policy::LetOut;
    }
    let Some(config) = config else { return Policy::Unknown };
    let named = says == Some(Says::Blocked)
        || config.deny.iter().any(|name| match &name.value {
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
        Policy::LetOut => new(Level::Warning, "nobody was let out by hand, whatever the policy says of him")
            .advice("take it back with `smtp-agent release`, once it is not needed any more"),
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
        Policy::NotDenied | Policy::LetOut if walked => Level::Warning,
        Policy::NotDenied | Policy::LetOut => Level::Note,
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
        Policy::Denied | Policy::LetOut => finding,
        _ => finding.advice("name nobody in [deny]: connections to the local MTA are then refused, too"),
    })
}

fn program(host: &Host, config: Option<&Config>, policy: Policy) -> Option<Finding> {
    let mut shown: Vec<String> = Vec::new();
    for path in super::sendmail::paths(config) {
        let Ok(Way { end, .. }) = host.follow(&path) else { continue };
        if end.is_file() && std::os::unix::fs::PermissionsExt::mode(&end.permissions()) & 0o001 != 0 {
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
