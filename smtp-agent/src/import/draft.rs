//! The configuration that an import writes: each key with a comment that says where it comes from.

use std::collections::HashSet;

use toml::Value;

use super::{
    Imported, Panel,
    lines::{LARGEST, Origin},
    report::Report,
};
use crate::{
    accounts::label::printable,
    config::{self, Config},
    exit::{Failure, Result},
};

/// What a configuration file may hold at most.
const MAX_FILE: usize = 1 << 20;
/// The plan of everyone for whom no line speaks.
pub(super) const STANDARD: &str = "standard";
pub(super) const ALLOW: &str = "allow";
pub(super) const DENY: &str = "deny";
/// Where a key of a plan comes from that many accounts share.
pub(super) const SEE_RULES: &str = "see the rules that name this plan";

/// A name and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) from: String,
}

impl Named {
    pub(super) fn new(name: impl Into<String>, from: impl ToString) -> Self {
        Self { name: name.into(), from: from.to_string() }
    }
}

/// One key of a plan.
#[derive(Clone, Debug)]
pub(super) struct Key {
    name: &'static str,
    value: Value,
    from: String,
}

impl Key {
    pub(super) fn number(name: &'static str, value: u32, from: impl ToString) -> Self {
        Self { name, value: Value::Integer(value.min(LARGEST).into()), from: from.to_string() }
    }

    pub(super) fn switch(name: &'static str, value: bool, from: impl ToString) -> Self {
        Self { name, value: Value::Boolean(value), from: from.to_string() }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) keys: Vec<Key>,
}

/// What one user may do.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) user: Named,
    pub(super) plan: Named,
}

/// Who may connect where in spite of his plan, or may not.
#[derive(Clone, Debug)]
pub(super) struct Exception {
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) to: Option<String>,
    pub(super) ports: Vec<u16>,
    pub(super) allow: bool,
    pub(super) from: String,
}

#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) ports: Option<(Vec<u16>, String)>,
    pub(super) allow_users: Vec<Named>,
    pub(super) allow_groups: Vec<Named>,
    pub(super) deny_users: Vec<Named>,
    /// Why nobody is denied, if so.
    pub(super) nobody_denied: String,
    pub(super) default_plan: Named,
    pub(super) plans: Vec<Plan>,
    pub(super) exceptions: Vec<Exception>,
    pub(super) rules: Vec<Rule>,
}

impl Draft {
    /// Everyone may send, and the users of the usual MTAs are exempt as they are without any configuration.
    pub(super) fn new(default_plan: Named) -> Self {
        let built_in = built_in();
        let names = built_in.iter().flat_map(|config| &config.allow.users);
        let from = "smtp-agent's own default: root, and the users MTAs and list managers run as";
        Self {
            ports: None,
            allow_users: names.map(|name| Named::new(name.value.to_string(), from)).collect(),
            allow_groups: Vec::new(),
            deny_users: Vec::new(),
            nobody_denied: "no user is refused there by name; smtp-agent's own default is [\"nobody\"]".to_owned(),
            default_plan,
            plans: Vec::new(),
            exceptions: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Settles what contradicts: one name in two lists is an error in a configuration, and a panel may well have both.
    pub(super) fn settle(&mut self, report: &mut Report) {
        for list in [&mut self.allow_users, &mut self.allow_groups, &mut self.deny_users] {
            let mut seen = HashSet::new();
            list.retain(|named| seen.insert(named.name.clone()));
        }
        let exempt: HashSet<_> = self.allow_users.iter().map(|named| named.name.clone()).collect();
        let why = "the MTA runs as this user, or it is exempt in the panel: denied, it would stop more than meant";
        self.deny_users.retain(|named| {
            let both = exempt.contains(&named.name);
            if both {
                report.differs(&format!("denying {} ({})", named.name, named.from), why);
            }
            !both
        });
        let denied: HashSet<_> = self.deny_users.iter().map(|named| named.name.clone()).collect();
        let mut ruled = HashSet::new();
        self.rules.retain(|rule| {
            let name = &rule.user.name;
            if exempt.contains(name) {
                let why = "the user is in [allow], whom no limit holds";
                report.differs(&format!("the limit of {name} ({})", rule.plan.from), why);
            }
            !exempt.contains(name) && !denied.contains(name) && ruled.insert(name.clone())
        });
        let mut seen = HashSet::new();
        self.exceptions
            .retain(|it| seen.insert((it.user.clone(), it.group.clone(), it.to.clone(), it.ports.clone(), it.allow)));
        if self.default_plan.name == STANDARD {
            let why = "they have the default plan as well, if they are not in [allow]";
            report.differs("users of the host who are no accounts of the panel", why);
        }
        // A plan nobody has would only be in the way.
        let used: HashSet<_> =
            self.rules.iter().map(|rule| &rule.plan.name).chain([&self.default_plan.name]).cloned().collect();
        self.plans.retain(|plan| used.contains(&plan.name));
    }

    pub(super) fn write(&self, panel: Panel, root: &str, report: Report) -> Result<Imported> {
        let mut main = self.head(panel, root);
        let mut blocks: Vec<String> = self.exceptions.iter().map(exception).collect();
        blocks.extend(self.rules.iter().map(rule));
        let tail: String = std::iter::once("\n".to_owned())
            .chain(report.lines().into_iter().map(|line| format!("# {}\n", printable(line.as_bytes()))))
            .collect();
        let mut drop_ins = Vec::new();
        let fixed = main.len() + tail.len();
        if fixed + blocks.iter().map(String::len).sum::<usize>() <= MAX_FILE {
            main.extend(blocks);
        } else {
            // Half of it, so that a person can add to each of the files.
            let room = (MAX_FILE / 2).checked_sub(fixed);
            let room = room.ok_or_else(|| Failure::unavailable("more accounts are denied than one file may name"))?;
            let mut part = String::new();
            for block in blocks {
                if !part.is_empty() && part.len() + block.len() > room {
                    drop_ins.push(std::mem::take(&mut part));
                }
                part.push_str(&block);
            }
            drop_ins.push(part);
            main.push_str(
                "\n# The rules have no room in one file: they are in conf.d/50-import-*.toml beside this one.\n",
            );
        }
        main.push_str(&tail);
        let name = |(number, text)| (format!("50-import-{:04}.toml", number + 1), text);
        Ok(Imported { main, drop_ins: drop_ins.into_iter().enumerate().map(name).collect(), report })
    }

    /// Everything but rules and the report.
    fn head(&self, panel: Panel, root: &str) -> String {
        let mut out = Writer::default();
        let (title, name) = (panel.title(), panel.name());
        out.line(&format!(
            "# Written by `smtp-agent import {name}` from the settings of {title} below {}",
            printable(root.as_bytes())
        ));
        out.line(&format!("# {title}'s own limits stay in force until they are changed there."));
        out.line("# At the end of this file stands what is not the same here.");
        out.line("");
        let from = "stops nothing: see what would be refused, run `smtp-agent check`, then write \"enforce\"";
        out.key("mode", &"observe".into(), from);
        if let Some((ports, from)) = &self.ports {
            out.line("\n[smtp]");
            let ports = ports.iter().map(|port| i64::from(*port));
            out.key("ports", &ports.collect::<Vec<_>>().into(), from);
        }
        out.line("\n[allow]");
        out.names("users", &self.allow_users, "");
        if !self.allow_groups.is_empty() {
            out.names("groups", &self.allow_groups, "");
        }
        out.line("\n[deny]");
        out.names("users", &self.deny_users, &self.nobody_denied);
        out.line("\n[default]");
        out.key("plan", &self.default_plan.name.clone().into(), &self.default_plan.from);
        for plan in &self.plans {
            out.line(&format!("\n[plan.{}]", plan.name));
            for key in &plan.keys {
                out.key(key.name, &key.value, &key.from);
            }
        }
        out.text
    }
}

fn built_in() -> Option<Config> {
    config::parse_str("built-in defaults", "").ok().map(|loaded| loaded.config)
}

fn rule(rule: &Rule) -> String {
    let mut out = Writer::default();
    out.line("\n[[rule]]");
    out.key("user", &rule.user.name.clone().into(), &rule.user.from);
    out.key("plan", &rule.plan.name.clone().into(), &rule.plan.from);
    out.text
}

fn exception(exception: &Exception) -> String {
    let mut out = Writer::default();
    out.line("\n[[rule]]");
    for (key, value) in [("user", &exception.user), ("group", &exception.group), ("to", &exception.to)] {
        if let Some(value) = value {
            out.key(key, &value.clone().into(), &exception.from);
        }
    }
    if !exception.ports.is_empty() {
        let ports = exception.ports.iter().map(|port| i64::from(*port));
        out.key("ports", &ports.collect::<Vec<_>>().into(), &exception.from);
    }
    out.key("plan", &if exception.allow { ALLOW } else { DENY }.into(), &exception.from);
    out.text
}

/// TOML with a comment behind each value.
#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Comments quote file names, which may hold anything.
    fn key(&mut self, name: &str, value: &Value, from: &str) {
        self.line(&format!("{name} = {value}  # {}", printable(from.as_bytes())));
    }

    fn names(&mut self, key: &str, names: &[Named], none: &str) {
        if names.is_empty() {
            return self.key(key, &Value::Array(Vec::new()), none);
        }
        self.line(&format!("{key} = ["));
        for named in names {
            let value = Value::String(named.name.clone());
            self.line(&format!("    {value},  # {}", printable(named.from.as_bytes())));
        }
        self.line("]");
    }
}

/// `FILE:LINE: SETTING`
pub(super) fn from(at: &Origin, setting: &str) -> String {
    format!("{at}: {setting}")
}
