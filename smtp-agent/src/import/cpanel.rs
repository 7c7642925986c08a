//! cPanel: WHM's Tweak Settings, the accounts, and who may not send.
//!
//! What a limit means there is taken from cPanel's documentation and from its `Cpanel::EmailLimits`: a number is of
//! messages that one *domain* sends in an hour through Exim, and `default`, nothing or 0 mean the next higher level.

mod account;
mod server;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    draft::{ALLOW, DENY, Draft, Exception, Key, Named, Plan, Rule, SEE_RULES, STANDARD, from},
    lines,
    plans::Plans,
    report::Report,
    tree::Tree,
};
use crate::exit::Result;
use account::Account;
use server::{CONFIG, Limit, Server};

const USERS: &str = "/var/cpanel/users";
const PACKAGES: &str = "/var/cpanel/packages";
const DOMAINS: &str = "/etc/userdomains";
const SUSPENDED: &str = "/etc/outgoing_mail_suspended_users";
const HELD: &str = "/etc/outgoing_mail_hold_users";
/// There while WHM's SMTP Restrictions are on.
const RESTRICTED: &str = "/var/cpanel/smtpgidonlytweak";
/// cPanel keeps settings of its own among the accounts under this name.
const NO_ACCOUNT: &str = "system";

pub(super) fn read(tree: &Tree, report: &mut Report) -> Result<Option<Draft>> {
    let config = tree.read(CONFIG, report)?;
    let users = tree.list(USERS, report)?;
    if config.is_none() && users.is_empty() {
        return Ok(None);
    }
    let mut server = server::read(config.as_ref(), report);
    if let Some(flag) = tree.read(RESTRICTED, report)? {
        server.restricted.get_or_insert_with(|| from(&flag.origin(), "SMTP Restrictions are on"));
    }
    let mut draft = Draft::new(Named::new(ALLOW, &server.limit.from));
    match &server.nobody {
        Some((false, from)) => draft.nobody_denied = format!("{from}: nobody may send"),
        Some((true, from)) => draft.deny_users.push(Named::new("nobody", from)),
        None => {
            let from = format!("{CONFIG}: nobodyspam is not set, and 1 by default");
            draft.deny_users.push(Named::new("nobody", from));
        }
    }
    accounts(tree, &users, &server, &mut draft, report)?;
    packages(tree, report)?;
    if !draft.plans.is_empty() {
        report.smtp_auth("Exim", "cPanel");
        let how = "cPanel queues them for the next hour; here sendmail fails at once, so that the script is told";
        report.differs("messages above the limit", how);
        report.differs("an hour", "cPanel's begins on the hour; here no 60 minutes have more than the limit");
    }
    match server.restricted {
        Some(from) if draft.plans.is_empty() => {
            draft.default_plan = Named::new(DENY, format!("{from}; the local MTA can still be reached"));
        }
        Some(from) => {
            // A plan limits what is handed to Exim; this closes the way around it.
            let ports = vec![25, 465, 587];
            draft.exceptions.push(Exception { user: None, group: None, to: None, ports, allow: false, from });
        }
        None => {}
    }
    Ok(Some(draft))
}

fn accounts(tree: &Tree, users: &[String], server: &Server, draft: &mut Draft, report: &mut Report) -> Result<()> {
    let domains = domains(tree, report)?;
    let mut plans = Plans::default();
    let everyone = (server.limit.of, server.failed.of);
    if let Some(plan) = plan(&mut plans, server, &server.limit, &server.failed) {
        let from = if server.limit.of.is_some() { &server.limit.from } else { &server.failed.from };
        draft.default_plan = Named::new(plan, from);
    }
    let mut held = BTreeMap::new();
    let mut rules = Vec::new();
    for file in users.iter().filter(|file| *file != NO_ACCOUNT) {
        let Some(text) = tree.read_entry(&format!("{USERS}/{file}"), report)? else { continue };
        let name = match lines::account(file) {
            Ok(name) => name,
            Err(why) => {
                report.not_understood("the name of an account", why, &text.origin());
                continue;
            }
        };
        let account = Account::read(&text, server, domains.get(&name), report);
        draft.deny_users.extend(account.suspended.iter().map(|from| Named::new(&name, from)));
        if let Some(from) = account.held {
            held.insert(name, from);
        } else if (account.limit.of, account.failed.of) != everyone {
            let plan = plan(&mut plans, server, &account.limit, &account.failed).unwrap_or_else(|| ALLOW.to_owned());
            let mut from = account.limit.from;
            if account.failed.of != server.failed.of {
                from = format!("{from}; {}", account.failed.from);
            }
            rules.push(Rule { user: Named::new(name, text.origin()), plan: Named::new(plan, from) });
        }
    }
    draft.deny_users.extend(listed(tree, SUSPENDED, report)?.into_iter().map(|(name, from)| Named::new(name, from)));
    held.extend(listed(tree, HELD, report)?);
    // First, since of two rules for a name the first one is written.
    draft.rules = held
        .into_iter()
        .map(|(name, from)| {
            let plan = Named::new(DENY, format!("{from}; the local MTA can still be reached, and holds his mail"));
            Rule { user: Named::new(name, from), plan }
        })
        .chain(rules)
        .collect();
    draft.plans = plans.list;
    Ok(())
}

/// The domains of each user.
fn domains(tree: &Tree, report: &mut Report) -> Result<HashMap<String, BTreeSet<String>>> {
    let mut domains: HashMap<String, BTreeSet<String>> = HashMap::new();
    let Some(text) = tree.read(DOMAINS, report)? else { return Ok(domains) };
    for line in text.lines(report) {
        match line.text.split_once(':') {
            // `*: nobody` is for everything that has no owner.
            Some(("*", _)) => {}
            Some((domain, user)) => {
                domains.entry(user.trim().to_owned()).or_default().insert(domain.trim().to_owned());
            }
            None => report.not_understood("a line", "not of the form DOMAIN: USER", &line.at),
        }
    }
    Ok(domains)
}

/// Users in a list of users and mailboxes.
fn listed(tree: &Tree, path: &str, report: &mut Report) -> Result<Vec<(String, String)>> {
    let Some(text) = tree.read(path, report)? else { return Ok(Vec::new()) };
    let mut users = Vec::new();
    for line in text.lines(report) {
        if line.text.contains('@') {
            let why = "Exim knows mailboxes, and goes on stopping it";
            report.no_equivalent("a mailbox that may not send", why, &line.at);
            continue;
        }
        match lines::account(line.text) {
            Ok(name) => users.push((name, from(&line.at, "outgoing mail is suspended or held"))),
            Err(why) => report.not_understood("the name of an account", why, &line.at),
        }
    }
    Ok(users)
}

/// The name of the plan with these limits; `None` where there is nothing to limit.
fn plan(
    plans: &mut Plans<(Option<u32>, Option<u32>)>,
    server: &Server,
    limit: &Limit,
    failed: &Limit,
) -> Option<String> {
    let everyone = (server.limit.of, server.failed.of);
    let name = match (limit.of, failed.of) {
        (None, None) => return None,
        both if both == everyone => STANDARD.to_owned(),
        (Some(n), failed) if failed == server.failed.of => format!("hourly-{n}"),
        (Some(n), Some(percent)) => format!("hourly-{n}-failed-{percent}"),
        (Some(n), None) => format!("hourly-{n}-failed-any"),
        (None, Some(percent)) => format!("failed-{percent}"),
    };
    let make = || Plan { name, keys: keys(server, limit, failed) };
    Some(plans.of((limit.of, failed.of), make))
}

fn keys(server: &Server, limit: &Limit, failed: &Limit) -> Vec<Key> {
    let from = |limit: &Limit, everyone: &Limit| match limit.of == everyone.of {
        true => everyone.from.clone(),
        false => SEE_RULES.to_owned(),
    };
    let mut keys = Vec::new();
    if let Some(n) = limit.of {
        keys.push(Key::number("messages_per_hour", n, from(limit, &server.limit)));
        keys.push(Key::number("per_hour", n, "connections too: inside TLS messages cannot be seen"));
        keys.push(Key::number("soft_percent", server.soft.0, &server.soft.1));
    }
    if let Some(percent) = failed.of {
        keys.push(Key::number("max_failed_percent", percent, from(failed, &server.failed)));
        keys.push(Key::number("min_failed", server.min_failed.0, &server.min_failed.1));
    }
    keys.push(Key::switch("local", true, "cPanel counts what is handed to Exim"));
    keys
}

fn packages(tree: &Tree, report: &mut Report) -> Result<()> {
    for name in tree.list(PACKAGES, report)? {
        let Some(text) = tree.read_entry(&format!("{PACKAGES}/{name}"), report)? else { continue };
        for (key, value) in text.settings(report) {
            let limits = matches!(key, "MAX_EMAIL_PER_HOUR" | "MAX_DEFER_FAIL_PERCENTAGE");
            if limits && !matches!(value.text, "" | "0" | "default" | "unlimited") {
                let why = "packages are for accounts that do not exist yet: import again, or write a rule for each";
                report.no_equivalent(&format!("{key} of a package"), why, &value.at);
            }
        }
    }
    Ok(())
}
