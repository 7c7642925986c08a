//! CSF (ConfigServer Firewall): who may connect to SMTP servers, and what is counted by lfd.
//!
//! Read from `csf.conf`, `csf.allow` and `csf.deny` as `csf.pl` reads them: what the two lists say stands before
//! SMTP_BLOCK in the chain; a filter with `u=` or `g=` is for outgoing connections and its address is not looked at.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    draft::{ALLOW, DENY, Draft, Exception, Named, from},
    lines::{Line, Text, account, number, shown},
    report::Report,
    tree::Tree,
};
use crate::exit::Result;

const CONFIG: &str = "/etc/csf/csf.conf";
const ALLOWED: &str = "/etc/csf/csf.allow";
const DENIED: &str = "/etc/csf/csf.deny";
const PORTS: [u16; 3] = [25, 465, 587];
/// As many as `[smtp] ports` takes.
const MAX_PORTS: usize = 32;

/// Settings that only raise an alarm, the switch without which they do nothing, and what is like them here.
const ALARMS: [(&str, &str, &str); 10] = [
    (
        "LF_SCRIPT_LIMIT",
        "LF_SCRIPT_ALERT",
        "lfd only mails; here messages_per_hour with local = true in a plan refuses",
    ),
    ("LF_SCRIPT_PERM", "LF_SCRIPT_PERM", "directories of scripts are never changed here"),
    (
        "RT_LOCALRELAY_LIMIT",
        "RT_LOCALRELAY_ALERT",
        "lfd only mails; here messages_per_hour with local = true in a plan refuses",
    ),
    (
        "RT_LOCALHOSTRELAY_LIMIT",
        "RT_LOCALHOSTRELAY_ALERT",
        "lfd only mails; here messages_per_hour with local = true in a plan refuses",
    ),
    ("RT_RELAY_LIMIT", "RT_RELAY_ALERT", "it counts mail that comes in over the network, which is the MTA's own here"),
    (
        "RT_AUTHRELAY_LIMIT",
        "RT_AUTHRELAY_ALERT",
        "it counts mail that comes in over the network, which is the MTA's own here",
    ),
    (
        "RT_POPRELAY_LIMIT",
        "RT_POPRELAY_ALERT",
        "it counts mail that comes in over the network, which is the MTA's own here",
    ),
    ("LF_QUEUE_ALERT", "LF_QUEUE_ALERT", "the queue is the MTA's, and not looked at here"),
    ("UID_LIMIT", "UID_INTERVAL", "it only mails; alert on smtp_connections_total{verdict=\"refused\"}"),
    ("SMTPAUTH_RESTRICT", "SMTPAUTH_RESTRICT", "who may log in to the MTA is the MTA's business"),
];

type Settings<'t> = BTreeMap<String, Line<'t>>;

pub(super) fn read(tree: &Tree, report: &mut Report) -> Result<Option<Draft>> {
    let Some(config) = tree.read(CONFIG, report)? else { return Ok(None) };
    let settings = settings(&config, report);
    let on = |key: &str| settings.get(key).filter(|value| is_on(value));
    let ports = ports(settings.get("SMTP_PORTS"), report);
    let mut draft = match on("SMTP_BLOCK") {
        Some(value) => {
            let why = format!("{}; the local MTA can still be reached", from(&value.at, "SMTP_BLOCK = 1"));
            let mut draft = Draft::new(Named::new(DENY, why));
            exempt(&settings, &mut draft, report);
            let filters = Filters { ports: &ports.0 };
            filters.read(tree, ALLOWED, true, &mut draft, report)?;
            filters.read(tree, DENIED, false, &mut draft, report)?;
            draft
        }
        None => {
            let at = settings.get("SMTP_BLOCK").map_or_else(|| config.origin(), |value| value.at.clone());
            Draft::new(Named::new(ALLOW, from(&at, "SMTP_BLOCK is off: CSF stops nobody")))
        }
    };
    draft.ports = Some(ports);
    different(&settings, &draft, report);
    Ok(Some(draft))
}

fn is_on(value: &Line<'_>) -> bool {
    !matches!(value.text, "" | "0")
}

/// `KEY = "VALUE"`; of a key that is there twice the later one holds.
fn settings<'t>(config: &'t Text, report: &mut Report) -> Settings<'t> {
    let mut settings = BTreeMap::new();
    for (key, value) in config.settings(report) {
        let inner = value.text.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        match inner {
            Some((text, _)) => settings.insert(key.to_owned(), Line { text: text.trim(), at: value.at }),
            None => {
                report.not_understood("a line", "not of the form KEY = \"VALUE\"", &value.at);
                None
            }
        };
    }
    settings
}

/// The ports that are blocked, and where they are named.
fn ports(value: Option<&Line<'_>>, report: &mut Report) -> (Vec<u16>, String) {
    let Some(value) = value else { return (PORTS.to_vec(), format!("{CONFIG}: SMTP_PORTS is not set")) };
    let mut ports = Vec::new();
    for item in value.text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        match number(item).and_then(|port| u16::try_from(port).ok()) {
            Some(port) if port > 0 && ports.len() < MAX_PORTS => {
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
            _ => report.not_understood(
                "a port in SMTP_PORTS",
                "not a port from 1 to 65535, or more than 32 of them",
                &value.at,
            ),
        }
    }
    if ports.is_empty() {
        let why = "CSF blocks nothing without a port; 25, 465 and 587 are watched here";
        report.no_equivalent("SMTP_PORTS without a port", why, &value.at);
        return (PORTS.to_vec(), from(&value.at, "no port there; smtp-agent's own default"));
    }
    (ports, from(&value.at, "SMTP_PORTS"))
}

fn exempt(settings: &Settings<'_>, draft: &mut Draft, report: &mut Report) {
    let mut users = Vec::new();
    for (key, list) in [("SMTP_ALLOWUSER", &mut users), ("SMTP_ALLOWGROUP", &mut draft.allow_groups)] {
        let Some(value) = settings.get(key) else { continue };
        for item in value.text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match account(item) {
                Ok(name) => list.push(Named::new(name, from(&value.at, key))),
                Err(why) => report.not_understood(&format!("a name in {key}"), why, &value.at),
            }
        }
    }
    draft.allow_users.extend(users);
    if let Some(value) = settings.get("SMTP_ALLOWGROUP").filter(|_| !draft.allow_groups.is_empty()) {
        report.no_equivalent(
            "SMTP_ALLOWGROUP",
            "CSF looks at the group of a process, smtp-agent at the groups of its user: every member is exempt here",
            &value.at,
        );
    }
    for (key, why) in [
        (
            "SMTP_REDIRECT",
            "connections are refused; the local MTA gets only what is over a limit (on_soft = \"redirect\" in a plan)",
        ),
        ("SMTP_REDIRECT6", "as SMTP_REDIRECT"),
    ] {
        if let Some(value) = settings.get(key).filter(|value| is_on(value)) {
            report.no_equivalent(key, why, &value.at);
        }
    }
    if let Some(value) = settings.get("SMTP_ALLOWLOCAL").filter(|value| !is_on(value)) {
        report.no_equivalent(
            "SMTP_ALLOWLOCAL = 0",
            "the plan \"deny\" leaves the local MTA open; only [deny] closes it, and is for users by name",
            &value.at,
        );
    }
}

/// Lines of `csf.allow` and `csf.deny` that are about SMTP.
struct Filters<'p> {
    ports: &'p [u16],
}

/// `tcp/udp|in/out|s/d=port|s/d=ip|u/g=id` as far as it is about outgoing SMTP.
#[derive(Debug, PartialEq, Eq)]
struct Filter {
    user: Option<String>,
    group: Option<String>,
    to: Option<String>,
    ports: Vec<u16>,
}

impl Filters<'_> {
    fn read(&self, tree: &Tree, path: &str, allow: bool, draft: &mut Draft, report: &mut Report) -> Result<()> {
        let Some(text) = tree.read(path, report)? else { return Ok(()) };
        for line in text.lines(report) {
            // What follows a blank is a comment.
            let rule = line.text.split_whitespace().next().unwrap_or_default();
            if rule.eq_ignore_ascii_case("include") {
                report.not_understood("Include", "files that are included are not read", &line.at);
            } else if network(rule).is_some() {
                let why = match allow {
                    true => {
                        "CSF lets everyone out to it; if it takes mail, add a [[rule]] with `to` and plan = \"allow\""
                    }
                    false => "CSF goes on refusing this address on every port",
                };
                report.no_equivalent("an address without a port", why, &line.at);
            } else {
                match self.filter(rule) {
                    Ok(Some(Filter { user, group, to, ports })) => {
                        let from = from(&line.at, rule);
                        draft.exceptions.push(Exception { user, group, to, ports, allow, from });
                    }
                    Ok(None) => {}
                    Err(why) => report.not_understood("a filter", why, &line.at),
                }
            }
        }
        Ok(())
    }

    /// `None` where it is about something else than outgoing connections to SMTP ports.
    fn filter(&self, rule: &str) -> std::result::Result<Option<Filter>, &'static str> {
        if !rule.contains('|') {
            return Err("not of the form tcp|out|d=PORT|d=ADDRESS");
        }
        let mut parts = rule.split('|').peekable();
        if let Some(protocol) =
            parts.next_if(|part| ["tcp", "udp", "icmp"].iter().any(|p| part.eq_ignore_ascii_case(p)))
            && !protocol.eq_ignore_ascii_case("tcp")
        {
            return Ok(None);
        }
        let direction = parts.next_if(|part| ["in", "out"].iter().any(|d| part.eq_ignore_ascii_case(d)));
        let out = direction.is_some_and(|direction| direction.eq_ignore_ascii_case("out"));
        let (mut ports, mut to, mut user, mut group) = (None, None, None, None);
        let mut sourced = false;
        for part in parts.filter(|part| !part.is_empty()) {
            match part.split_once('=').map(|(key, value)| (key.to_ascii_lowercase(), value)) {
                Some((key, value)) if key == "d" && ports.is_none() && !sourced => ports = Some(value),
                Some((key, value)) if key == "d" => to = Some(value),
                Some((key, _)) if key == "s" => sourced = true,
                Some((key, value)) if key == "u" => user = Some(owner(value)?),
                Some((key, value)) if key == "g" => group = Some(owner(value)?),
                _ => return Err("it has a part that is none of s=, d=, u= and g="),
            }
        }
        let owned = user.is_some() || group.is_some();
        if !out && !owned {
            return Ok(None);
        }
        let Some(ports) = ports else {
            // A source port alone says nothing of where it goes.
            return if sourced { Ok(None) } else { Err("it names no port to connect to") };
        };
        let ports = self.smtp_ports(ports)?;
        if ports.is_empty() {
            return Ok(None);
        }
        let to = match to {
            _ if owned => None,
            Some(to) => Some(network(to).ok_or("its address is none")?),
            None if sourced => {
                return Err("it asks for the address a connection comes from, which is not looked at here");
            }
            None => return Err("it names neither an address nor a user"),
        };
        Ok(Some(Filter { user, group, to, ports }))
    }

    /// The SMTP ports in a list of ports and of ranges with `_`.
    fn smtp_ports(&self, list: &str) -> std::result::Result<Vec<u16>, &'static str> {
        let mut ranges = Vec::new();
        for item in list.split(',') {
            let (first, last) = item.split_once('_').unwrap_or((item, item));
            match (number(first), number(last)) {
                (Some(first), Some(last)) => ranges.push(first..=last),
                _ => return Err("its port is none"),
            }
        }
        let within = |port: &&u16| ranges.iter().any(|range| range.contains(&u32::from(**port)));
        Ok(self.ports.iter().filter(within).copied().collect())
    }
}

/// A uid, a gid or a name.
fn owner(text: &str) -> std::result::Result<String, &'static str> {
    match text.parse::<u32>() {
        Ok(id) if id < u32::MAX && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(id.to_string()),
        _ => account(text),
    }
}

/// An address or a network, the bits behind its prefix zero.
fn network(text: &str) -> Option<String> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    let whole = net.prefix_len() == net.max_prefix_len();
    Some(if whole { net.addr().to_string() } else { net.trunc().to_string() })
}

/// What is different, and what CSF does that a configuration does not say.
fn different(settings: &Settings<'_>, draft: &Draft, report: &mut Report) {
    for (key, switch, why) in ALARMS {
        if let Some(value) = settings.get(key).filter(|_| settings.get(switch).is_some_and(is_on)) {
            report.no_equivalent(&format!("{key} = {}", shown(value.text)), why, &value.at);
        }
    }
    for (key, value) in settings {
        if key.starts_with("RT_") && key.ends_with("_BLOCK") && is_on(value) {
            report.no_equivalent("RT_…_BLOCK", "addresses of clients are never blocked here", &value.at);
        }
        if matches!(key.as_str(), "RT_ACTION" | "LF_SCRIPT_ACTION") && !value.text.is_empty() {
            report.no_equivalent(key, "no program is started here; follow `smtp-agent events --json`", &value.at);
        }
    }
    if let Some(value) = settings.get("TESTING").filter(|value| is_on(value)) {
        report.no_equivalent(
            "TESTING = 1",
            "CSF takes its rules away every few minutes as long as it is set",
            &value.at,
        );
    }
    if draft.default_plan.name == DENY {
        report.differs(
            "containers",
            "CSF's owner rules do not see them; here they have the default plan unless [containers] says otherwise",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_as_csf_reads_it() {
        let filters = Filters { ports: &PORTS };
        let read = |rule: &str| filters.filter(rule);
        let filter = |user: Option<&str>, group: Option<&str>, to: Option<&str>, ports: &[u16]| {
            let [user, group, to] = [user, group, to].map(|text| text.map(str::to_owned));
            Ok(Some(Filter { user, group, to, ports: ports.to_vec() }))
        };
        assert_eq!(read("tcp|out|d=25|d=192.0.2.1"), filter(None, None, Some("192.0.2.1"), &[25]));
        assert_eq!(read("out|d=25,587,80|d=2001:db8::1/32"), filter(None, None, Some("2001:db8::/32"), &[25, 587]));
        assert_eq!(read("TCP|OUT|d=20_600|d=198.51.100.77/24"), filter(None, None, Some("198.51.100.0/24"), &PORTS));
        assert_eq!(read("tcp|out|d=25||u=99"), filter(Some("99"), None, None, &[25]));
        assert_eq!(read("d=25|d=192.0.2.1|u=shop"), filter(Some("shop"), None, None, &[25]), "u= makes it outgoing");
        assert_eq!(read("tcp|out|d=465||g=mailman"), filter(None, Some("mailman"), None, &[465]));
        assert_eq!(read("tcp|in|d=25|s=192.0.2.1"), Ok(None));
        assert_eq!(read("d=25|s=192.0.2.1"), Ok(None), "incoming, where nothing is said");
        assert_eq!(read("udp|out|d=25|d=192.0.2.1"), Ok(None));
        assert_eq!(read("tcp|out|d=443|d=192.0.2.1"), Ok(None));
        assert_eq!(read("tcp|out|s=25|d=192.0.2.1"), Ok(None), "a source port");
        for wrong in [
            "tcp|out|d=25",
            "tcp|out|d=25|s=192.0.2.1",
            "tcp|out|d=x|d=192.0.2.1",
            "tcp|out|d=25|d=example.com",
            "tcp|out|x=1",
            "25:192.0.2.1",
            "tcp|out|d=25||u=a/b",
        ] {
            assert!(read(wrong).is_err(), "{wrong}: {:?}", read(wrong));
        }
    }

    #[test]
    fn networks_lose_the_bits_behind_their_prefix() {
        let all = [
            "192.0.2.77/24",
            "192.0.2.1",
            "192.0.2.1/32",
            "10.1.2.3/0",
            "2001:db8::1/64",
            "::/0",
            "192.0.2.1/33",
            "x",
            "1.2.3.4/",
        ];
        let read = all.map(|text| network(text).unwrap_or_else(|| "none".to_owned()));
        assert_eq!(
            read,
            ["192.0.2.0/24", "192.0.2.1", "192.0.2.1", "0.0.0.0/0", "2001:db8::/64", "::/0", "none", "none", "none"]
        );
    }
}
