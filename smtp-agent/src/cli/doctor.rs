//! `smtp-agent doctor`: what a host that sends mail should have looked at.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::Args;
use nix::ifaddrs::getifaddrs;
use serde_json::json;

use super::{Json, output};
use crate::{
    config,
    daemon::logging::colour,
    dns,
    doctor::{self, Finding, Gap, Level, Options, Zone},
    exit::{Code, Failure, Result},
};

#[derive(Args)]
pub(super) struct Doctor {
    /// A block list to ask, instead of those asked by default; may be given several times
    #[arg(long, value_name = "ZONE", value_delimiter = ',', default_values = doctor::ZONES)]
    dnsbl: Vec<Zone>,
    /// Ask no block list
    #[arg(long, conflicts_with_all = ["dnsbl", "resolver"])]
    no_dnsbl: bool,
    /// An address that mail of this host leaves by, where none of its own is seen outside (NAT)
    #[arg(long, value_name = "IP", conflicts_with = "no_dnsbl")]
    address: Vec<IpAddr>,
    /// The resolver to ask, instead of those in /etc/resolv.conf
    #[arg(long, value_name = "IP[:PORT]", value_parser = dns::server_address)]
    resolver: Option<SocketAddr>,
    /// Messages in a queue from which it is worth a warning
    #[arg(long, value_name = "N", default_value_t = doctor::THRESHOLD, value_parser = at_least_one())]
    queue_threshold: u64,
    /// Look at the files below this directory
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
    #[command(flatten)]
    json: Json,
}

fn at_least_one() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}

pub(super) fn doctor(path: &Path, args: &Doctor) -> Result<Code> {
    if !args.root.is_dir() {
        return Err(Failure::config(format!("{} is no directory; name one with --root DIR", args.root.display())));
    }
    let found = doctor::examine(&Options {
        root: args.root.clone(),
        config: config::load(path).ok().map(|loaded| loaded.config),
        zones: if args.no_dnsbl { Vec::new() } else { args.dnsbl.clone() },
        resolver: args.resolver,
        addresses: addresses()?,
        named: args.address.clone(),
        threshold: args.queue_threshold,
        now: SystemTime::now(),
    });
    if args.json.json {
        let count = |level| found.iter().filter(|finding| finding.level == level).count();
        output::json(&json!({
            "ok": code(&found) == Code::Fine, "warnings": count(Level::Warning), "notes": count(Level::Note),
            "findings": found,
        }))?;
    } else {
        output::text(&shown(&found, colour(std::io::stdout())))?;
    }
    Ok(code(&found))
}

/// What was not seen for want of rights is no "fine", nor is a host of which no resolver could tell anything, or a
/// queue that cannot be counted.
fn code(found: &[Finding]) -> Code {
    let unseen = |gap| found.iter().any(|finding| finding.unseen == Some(gap));
    if found.iter().any(|finding| finding.level == Level::Warning) {
        Code::No
    } else if unseen(Gap::Rights) {
        Code::NotPermitted
    } else if unseen(Gap::Resolver) || unseen(Gap::Broken) {
        Code::Unavailable
    } else {
        Code::Fine
    }
}

fn addresses() -> Result<Vec<IpAddr>> {
    let found = getifaddrs()
        .map_err(|e| Failure::from_io(&std::io::Error::from(e), "the addresses of this host cannot be read"))?;
    let ip = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    Ok(found.filter_map(ip).collect())
}

/// A line for each, its evidence and what to do below it.
fn shown(found: &[Finding], colour: bool) -> String {
    let width = found.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    let indent = " ".repeat("warning".len() + width + 4);
    let mut text = String::new();
    for Finding { level, subject, what, evidence, advice, .. } in found {
        let _ = writeln!(text, "{}  {subject:<width$}  {what}", tinted(*level, colour));
        for line in evidence {
            let _ = writeln!(text, "{indent}= {line}");
        }
        if let Some(advice) = advice {
            let _ = writeln!(text, "{indent}> {advice}");
        }
    }
    let count = |level| found.iter().filter(|finding| finding.level == level).count();
    let (warnings, notes) = (count(Level::Warning), count(Level::Note));
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let _ = writeln!(text, "{warnings} warning{}, {notes} note{}", plural(warnings), plural(notes));
    text
}

fn tinted(level: Level, colour: bool) -> String {
    let name = format!("{:<7}", level.name());
    let tint = match level {
        Level::Warning => "1;33",
        Level::Note => "1;36",
        Level::Ok => "1;32",
    };
    if colour { format!("\x1b[{tint}m{name}\x1b[0m") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(level: Level, unseen: Option<Gap>) -> Finding {
        let (what, evidence) = ("it waits".to_owned(), vec!["deferred: 7".to_owned()]);
        Finding { level, subject: "queue", what, evidence, advice: Some("look at it".to_owned()), unseen }
    }

    #[test]
    fn findings_line_up_with_their_evidence_below() {
        let mut found = vec![finding(Level::Warning, None), finding(Level::Ok, None)];
        found[1].subject = "sendmail";
        let text = "warning  queue     it waits\n                   = deferred: 7\n                   > look at it\n\
                    ok       sendmail  it waits\n                   = deferred: 7\n                   > look at it\n\
                    1 warning, 0 notes\n";
        assert_eq!(shown(&found, false), text);
        assert!(shown(&found, true).starts_with("\x1b[1;33mwarning\x1b[0m  queue"));
    }

    #[test]
    fn the_exit_code_tells_the_gravest_and_what_was_not_seen_is_not_fine() {
        let (ok, note) = (finding(Level::Ok, None), finding(Level::Note, None));
        let (rights, resolver) = (finding(Level::Note, Some(Gap::Rights)), finding(Level::Note, Some(Gap::Resolver)));
        assert_eq!(code(&[ok.clone(), note.clone()]), Code::Fine);
        assert_eq!(code(&[finding(Level::Note, Some(Gap::Broken))]), Code::Unavailable);
        assert_eq!(code(&[ok, resolver.clone()]), Code::Unavailable);
        assert_eq!(code(&[resolver, rights.clone()]), Code::NotPermitted);
        assert_eq!(code(&[rights, finding(Level::Warning, None), note]), Code::No);
    }
}
