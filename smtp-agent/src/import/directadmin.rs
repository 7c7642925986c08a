//! DirectAdmin: how many mails a user may send in a day, and who may not.
//!
//! What the files mean is taken from DirectAdmin's documentation and its `exim.pl`: a number is of *recipients* in a
//! day (each one adds an octet to `/etc/virtual/usage/USER`, retries left out), 0 is no limit, and `limit_USER`
//! replaces `limit`.

use super::{
    draft::{ALLOW, Draft, Key, Named, Plan, Rule, SEE_RULES, STANDARD, from},
    lines::{Line, Text, account, number},
    plans::Plans,
    report::Report,
    tree::Tree,
};
use crate::exit::Result;

const VIRTUAL: &str = "/etc/virtual";
const LIMIT: &str = "/etc/virtual/limit";
const UNKNOWN: &str = "/etc/virtual/limit_unknown";
const MAILBOX: &str = "/etc/virtual/user_limit";
const BLACKLIST: &str = "/etc/virtual/blacklist_usernames";
const SCRIPTS: &str = "/etc/virtual/blacklist_script_usernames";
const LOGINS: &str = "/etc/virtual/blacklist_smtp_usernames";
const CONFIG: &str = "/usr/local/directadmin/conf/directadmin.conf";
const USERS: &str = "/usr/local/directadmin/data/users";
/// Files in /etc/virtual whose names look like those of a user's limit.
const NOT_USERS: [&str; 1] = ["limit_unknown"];

pub(super) fn read(tree: &Tree, report: &mut Report) -> Result<Option<Draft>> {
    let common = tree.read(LIMIT, report)?;
    let names = tree.list(VIRTUAL, report)?;
    let config = tree.read(CONFIG, report)?;
    let users = tree.list(USERS, report)?;
    let of_the_panel = |name: &String| ["limit_", "user_limit", "blacklist_"].iter().any(|it| name.starts_with(it));
    if common.is_none() && !names.iter().any(of_the_panel) && config.is_none() && users.is_empty() {
        return Ok(None);
    }
    let mut plans = Plans::default();
    let mut draft = Draft::new(Named::new(ALLOW, format!("{LIMIT} is not there, or says 0: no limit")));
    draft.allow_users.push(Named::new("mail", "DirectAdmin runs Exim as this user"));
    let limit = common.as_ref().and_then(|text| value(text, report)).filter(|(n, _)| *n > 0);
    let common = limit.as_ref().map(|(n, _)| *n);
    if let Some((n, from)) = limit {
        plans.of(n, || plan(STANDARD.to_owned(), n, &from));
        draft.default_plan = Named::new(STANDARD, from);
    }
    rules(tree, &names, common, &mut draft, &mut plans, report)?;
    for (path, why) in [(BLACKLIST, "may not send"), (SCRIPTS, "his scripts may not send")] {
        for line in tree.read(path, report)?.iter().flat_map(|text| text.lines(report)).collect::<Vec<_>>() {
            match account(name_in(&line)) {
                Ok(name) => draft.deny_users.push(Named::new(name, from(&line.at, why))),
                Err(why) => report.not_understood("the name of an account", why, &line.at),
            }
        }
    }
    for name in users {
        let path = format!("{USERS}/{name}/user.conf");
        let Some(text) = tree.read_entry(&path, report)? else { continue };
        suspended(&name, &text, &mut draft, report);
    }
    draft.plans = plans.list;
    only_there(tree, &names, config.as_ref(), report)?;
    if !draft.plans.is_empty() {
        report.smtp_auth("Exim", "DirectAdmin");
        report.differs("a day", "DirectAdmin's ends in the night; here no 24 hours have more than the limit");
        let how = "here it may send again as soon as its mails are a day old; nothing stays blocked until it is lifted";
        report.differs("an account that reached its limit", how);
    }
    Ok(Some(draft))
}

/// `fred`, `fred:1409557166` or `fred: 1409557166`
fn name_in<'l>(line: &Line<'l>) -> &'l str {
    line.text.split(':').next().unwrap_or_default().trim_end()
}

/// The number in a file, and where it stands.
fn value(text: &Text, report: &mut Report) -> Option<(u32, String)> {
    let Some(line) = text.value(report) else {
        report.not_understood("a limit", "the file holds no number", &text.origin());
        return None;
    };
    let n = number(line.text);
    if n.is_none() {
        report.not_understood("a limit", "not a whole number: the limit of everyone else holds", &line.at);
    }
    Some((n?, from(&line.at, line.text)))
}

fn rules(
    tree: &Tree,
    names: &[String],
    common: Option<u32>,
    draft: &mut Draft,
    plans: &mut Plans<u32>,
    report: &mut Report,
) -> Result<()> {
    let special = names.iter().filter(|name| !NOT_USERS.contains(&name.as_str()));
    for (file, user) in special.filter_map(|name| Some((name, name.strip_prefix("limit_")?))) {
        let Some(text) = tree.read_entry(&format!("{VIRTUAL}/{file}"), report)? else { continue };
        let user = match account(user) {
            Ok(user) => user,
            Err(why) => {
                report.not_understood("the name of an account", why, &text.origin());
                continue;
            }
        };
        let Some((n, from)) = value(&text, report) else { continue };
        if Some(n).filter(|n| *n > 0) == common {
            continue;
        }
        let plan = match n {
            0 => ALLOW.to_owned(),
            n => plans.of(n, || plan(format!("daily-{n}"), n, SEE_RULES)),
        };
        let user = Named::new(user, text.origin());
        draft.rules.push(Rule { user, plan: Named::new(plan, from) });
    }
    Ok(())
}

/// The plan for `n` in a day.
fn plan(name: String, n: u32, from: &str) -> Plan {
    let keys = vec![
        Key::number("recipients_per_day", n, from),
        Key::number("messages_per_day", n, "of an execution of sendmail the recipients cannot be seen"),
        Key::number("per_day", n, "connections too: inside TLS neither can be seen"),
        Key::number("soft_percent", 100, "DirectAdmin refuses what is above the limit"),
        Key::switch("local", true, "DirectAdmin counts what is handed to Exim"),
    ];
    Plan { name, keys }
}

fn suspended(name: &str, text: &Text, draft: &mut Draft, report: &mut Report) {
    for (key, value) in text.settings(report) {
        match key {
            "suspended" if value.text.eq_ignore_ascii_case("yes") => match account(name) {
                Ok(name) => draft.deny_users.push(Named::new(name, from(&value.at, "suspended=yes"))),
                Err(why) => report.not_understood("the name of an account", why, &value.at),
            },
            "email_limit" if number(value.text).is_some_and(|n| n > 0) => {
                let why = "the file that Exim asks is /etc/virtual/limit_USER, and only that one is taken over";
                report.no_equivalent("email_limit in user.conf", why, &value.at);
            }
            _ => {}
        }
    }
}

/// What holds only for mailboxes and logins.
fn only_there(tree: &Tree, names: &[String], config: Option<&Text>, report: &mut Report) -> Result<()> {
    let mailboxes = "mailboxes are Exim's, which goes on limiting them: here a limit holds for a user of the host";
    if let Some(text) = tree.read(MAILBOX, report)?
        && let Some(line) = text.value(report).filter(|line| line.text != "0")
    {
        report.no_equivalent("user_limit, the limit of a mailbox", mailboxes, &line.at);
    }
    if let Some(text) = tree.read(UNKNOWN, report)?
        && let Some(line) = text.value(report).filter(|line| line.text != "0")
    {
        let why = "here every connection has a user: those without a rule of their own have the plan of [default]";
        report.no_equivalent("limit_unknown", why, &line.at);
    }
    if let Some(text) = tree.read(LOGINS, report)? {
        for line in text.lines(report) {
            report.no_equivalent(
                "a login that may not send",
                "logins are Exim's, which goes on stopping them",
                &line.at,
            );
        }
    }
    for domain in names.iter().filter(|name| name.contains('.')) {
        let path = format!("{VIRTUAL}/{domain}/limit");
        let mut unheard = Report::default();
        for mailbox in tree.list(&path, &mut unheard)? {
            if let Some(text) = tree.read_entry(&format!("{path}/{mailbox}"), &mut unheard)? {
                report.no_equivalent("the limit of a mailbox", mailboxes, &text.origin());
            }
        }
    }
    let Some(config) = config else { return Ok(()) };
    for (key, value) in config.settings(report) {
        let why = match key {
            "user_can_set_email_limit" if value.text == "1" => "users cannot change their limits here",
            "max_per_email_send_limit" if number(value.text).is_some_and(|n| n > 0) => mailboxes,
            _ => continue,
        };
        report.no_equivalent(key, why, &value.at);
    }
    Ok(())
}
