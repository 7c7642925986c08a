//! Plesk: limits of outgoing mail, from files the administrator exports.
//!
//! Plesk keeps them in its database. What is read here are two texts with tabs. `server.tsv` has names and values of
//! the server-wide settings, under the names they have in Plesk's XML API (`outgoing_messages_subscription_limit` and
//! so on; `-` and `_` are the same). `subscriptions.tsv` has system user, domain and limit of each subscription. Limits
//! are of messages in an hour; -1 is no limit, 0 forbids sending.

use std::collections::HashMap;

use super::{
    draft::{ALLOW, Draft, Key, Named, Plan, Rule, SEE_RULES, STANDARD, from},
    lines::{Line, Text, account, number},
    plans::Plans,
    report::Report,
    tree::Tree,
};
use crate::exit::Result;

const INSTALLED: &str = "/etc/psa/psa.conf";
const SERVER: &str = "/root/smtp-agent-import/server.tsv";
const SUBSCRIPTIONS: &str = "/root/smtp-agent-import/subscriptions.tsv";

pub(super) const HOW_TO_EXPORT: &str = r#"Plesk's limits are in its database. Export them, then import again:
  mkdir -m 700 /root/smtp-agent-import
  plesk db -Ne "SELECT param, val FROM misc WHERE param LIKE 'outgoing%'" > /root/smtp-agent-import/server.tsv
  plesk db -Ne "SELECT sys_users.login, domains.name, 'default' FROM domains
    JOIN hosting ON hosting.dom_id = domains.id JOIN sys_users ON sys_users.id = hosting.sys_user_id
    WHERE domains.webspace_id = 0" > /root/smtp-agent-import/subscriptions.tsv
Compare server.tsv with Tools & Settings > Mail Server Settings, and write the limit of each subscription that has
its own (Tools & Settings > Outgoing Mail Control) into subscriptions.tsv in place of `default`."#;

/// A limit of messages in an hour; `None`: any number.
type Limit = Option<u32>;

/// The server-wide settings and where they come from.
#[derive(Default)]
struct Server {
    limit: Option<(Limit, String)>,
    off: Option<String>,
}

pub(super) fn read(tree: &Tree, report: &mut Report) -> Result<Option<Draft>> {
    let server = tree.read(SERVER, report)?;
    let subscriptions = tree.read(SUBSCRIPTIONS, report)?;
    tree.read(INSTALLED, report)?;
    if server.is_none() && subscriptions.is_none() {
        return Ok(None);
    }
    let Server { limit, off } = server.map(|text| settings(&text, report)).unwrap_or_default();
    let nothing = format!("{SERVER}: no outgoing_messages_subscription_limit, or -1: no limit");
    let mut draft = Draft::new(Named::new(ALLOW, nothing));
    draft.allow_users.push(Named::new("qmailr", "qmail, where Plesk uses it, sends as this user"));
    if let Some(off) = off {
        draft.default_plan = Named::new(ALLOW, format!("{off}: limits are switched off in Plesk"));
        if subscriptions.is_some() {
            report.differs("limits of subscriptions", "they are switched off in Plesk, and so they are here");
        }
        return Ok(Some(draft));
    }
    let mut plans = Plans::default();
    let everyone = limit.as_ref().and_then(|(limit, _)| *limit);
    if let Some((Some(n), from)) = limit {
        plans.of(n, || plan(STANDARD.to_owned(), n, &from));
        draft.default_plan = Named::new(STANDARD, from);
    }
    if let Some(text) = subscriptions {
        rules(&text, everyone, &mut plans, &mut draft, report);
    }
    draft.plans = plans.list;
    if !draft.plans.is_empty() {
        report.smtp_auth("the mail server", "Plesk");
        report.differs("limits of service plans", "only what holds for each subscription in the end is taken over");
    }
    Ok(Some(draft))
}

fn settings(text: &Text, report: &mut Report) -> Server {
    let mut server = Server::default();
    for line in text.lines(report) {
        let (name, value) = line.text.split_once('\t').unwrap_or((line.text, ""));
        let value = Line { text: value.trim(), at: line.at.clone() };
        let written = from(&value.at, &line.text.replace('\t', " "));
        match name.trim().to_ascii_lowercase().replace('-', "_").as_str() {
            key @ "outgoing_messages_subscription_limit" => {
                server.limit = parse(key, &value, report).map(|limit| (limit, written));
            }
            key @ ("outgoing_messages_mbox_limit" | "outgoing_messages_domain_limit") => {
                if parse(key, &value, report).flatten().is_some() {
                    let why = "mailboxes and domains are the mail server's, which goes on limiting them: \
                               here a limit holds for a user of the host";
                    report.no_equivalent(key, why, &value.at);
                }
            }
            "outgoing_antispam" => server.off = is_off(value.text).then_some(written),
            key @ ("enable_sendmail" | "outgoing_messages_enable_sendmail") if is_off(value.text) => {
                let why = "sendmail is open to everyone who is not in [deny]; messages_per_hour = 0, per_hour = 0 and \
                           local = true in a plan close it to those who have the plan";
                report.no_equivalent(key, why, &value.at);
            }
            "enable_sendmail" | "outgoing_messages_enable_sendmail" => {}
            _ => report.not_understood("a setting", "none of those this import knows", &line.at),
        }
    }
    server
}

fn rules(text: &Text, everyone: Limit, plans: &mut Plans<u32>, draft: &mut Draft, report: &mut Report) {
    // A system user has one subscription, but a file may say anything.
    let mut known: HashMap<String, Limit> = HashMap::new();
    for line in text.lines(report) {
        let columns: Vec<_> = line.text.split('\t').map(str::trim).collect();
        let [user, _domain, limit] = columns[..] else {
            report.not_understood("a line", "not of the form USER, tab, DOMAIN, tab, LIMIT", &line.at);
            continue;
        };
        let user = match account(user) {
            Ok(user) => user,
            Err(why) => {
                report.not_understood("the name of an account", why, &line.at);
                continue;
            }
        };
        let value = Line { text: limit, at: line.at.clone() };
        let Some(limit) = parse("the limit of a subscription", &value, report) else { continue };
        if let Some(first) = known.get(&user) {
            if *first != limit {
                report.not_understood("a second limit", "the user has one already, which holds", &line.at);
            }
            continue;
        }
        known.insert(user.clone(), limit);
        if limit == everyone {
            continue;
        }
        let from = from(&line.at, &columns.join(" "));
        let plan = match limit {
            None => ALLOW.to_owned(),
            Some(0) => {
                draft.deny_users.push(Named::new(user, from));
                continue;
            }
            Some(n) => plans.of(n, || plan(format!("hourly-{n}"), n, SEE_RULES)),
        };
        draft.rules.push(Rule { user: Named::new(user, &line.at), plan: Named::new(plan, from) });
    }
}

/// `None`: the higher level's, also where it is not understood.
fn parse(key: &str, value: &Line<'_>, report: &mut Report) -> Option<Limit> {
    match value.text {
        "" | "default" | "NULL" => None,
        "-1" | "unlimited" => Some(None),
        text => {
            let n = number(text);
            if n.is_none() {
                let why = "not a number, -1 or \"default\": the higher level's holds";
                report.not_understood(key, why, &value.at);
            }
            n.map(Some)
        }
    }
}

fn is_off(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "0" | "false" | "off" | "no")
}

/// The plan for `n` in an hour.
fn plan(name: String, n: u32, from: &str) -> Plan {
    let keys = vec![
        Key::number("messages_per_hour", n, from),
        Key::number("per_hour", n, "connections too: inside TLS messages cannot be seen"),
        Key::number("soft_percent", 100, "Plesk refuses what is above the limit"),
        Key::switch("local", true, "Plesk counts what is handed to its mail server"),
    ];
    Plan { name, keys }
}
