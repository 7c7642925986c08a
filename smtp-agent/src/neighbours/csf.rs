//! ConfigServer Security & Firewall and its forks: `SMTP_BLOCK` in /etc/csf/csf.conf.

use std::{collections::HashMap, path::Path};

use super::{
    Neighbour, Ours, Severity,
    files::{self, Text},
    live::{DROPPED, REJECTED, redirected},
    rules::{Ports, port},
};

pub(super) const WHO: &str = "CSF";
const CONF: &str = "/etc/csf/csf.conf";
/// `csf -x` makes it and removes every rule.
const DISABLED: &str = "/etc/csf/csf.disable";

pub(super) fn find(root: &Path, ours: &Ours) -> Option<Neighbour> {
    let conf = match Text::read(root, Path::new(CONF))? {
        Ok(conf) => conf,
        Err(why) => return Some(Neighbour::unseen(WHO, why)),
    };
    let keys = Keys::of(&conf);
    if !keys.is_on("SMTP_BLOCK") {
        return None;
    }
    let ports = keys.ports(ours);
    if ports.is_empty() {
        return None;
    }
    let mut evidence = vec![keys.line("SMTP_BLOCK")];
    let shown = files::ports(&ports);
    let but = keys.spared();
    let redirects = keys.is_on("SMTP_REDIRECT");
    let mut together = if redirects {
        evidence.push(keys.line("SMTP_REDIRECT"));
        format!("(SMTP_BLOCK) sends {shown} of everyone but {but} to this host's MTA: {}", redirected(&ports, ours))
    } else {
        let drops = keys.get("DROP_OUT").is_some_and(|how| how.eq_ignore_ascii_case("DROP"));
        let (verb, so) = if drops { ("drops", DROPPED) } else { ("rejects", REJECTED) };
        format!("(SMTP_BLOCK) {verb} {shown} for everyone but {but}: {so}")
    };
    let mut severity = if redirects || !ours.only_mta { Severity::Warning } else { Severity::Information };
    if !redirects && keys.get("SMTP_ALLOWLOCAL") == Some("0") {
        evidence.push(keys.line("SMTP_ALLOWLOCAL"));
        together.push_str(". Connections to the local MTA are stopped as well");
        if ours.redirects {
            severity = Severity::Warning;
            together.push_str(", those that on_soft = \"redirect\" sends there included");
        }
    }
    if keys.is_on("TESTING") {
        evidence.push(keys.line("TESTING"));
        together.push_str(". CSF is in testing mode and takes its rules away every few minutes");
    }
    if files::exists(root, DISABLED) {
        severity = Severity::Information;
        evidence.push(DISABLED.to_owned());
        together.push_str(". CSF is disabled now (csf -x), so none of this holds until it is enabled");
    }
    Some(Neighbour::new(severity, WHO, evidence, together))
}

/// `KEY = "value"` lines; the last one of a key holds, as for csf itself.
struct Keys<'a> {
    conf: &'a Text,
    values: HashMap<&'a str, (&'a str, usize)>,
}

impl<'a> Keys<'a> {
    fn of(conf: &'a Text) -> Self {
        let values = conf.text.lines().enumerate().filter_map(|(n, line)| {
            let (key, value) = line.split_once('=')?;
            let value = value.trim();
            let value = match value.strip_prefix('"') {
                Some(rest) => rest.split('"').next().unwrap_or_default(),
                None => value,
            };
            let key = key.trim();
            (!key.starts_with('#')).then_some((key, (value, n + 1)))
        });
        Self { conf, values: values.collect() }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.values.get(key).map(|(value, _)| *value)
    }

    /// Any value but these is true to Perl.
    fn is_on(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !matches!(value, "" | "0"))
    }

    fn line(&self, key: &str) -> String {
        self.conf.line(self.values.get(key).map_or(1, |(_, line)| *line))
    }

    fn list(&self, key: &str) -> Vec<String> {
        let items = self.get(key).unwrap_or_default().split(',').map(files::shown);
        items.filter(|item| !item.is_empty()).collect()
    }

    /// Those of its ports that are ours too. Without the key csf blocks none.
    fn ports(&self, ours: &Ours) -> Vec<u16> {
        let ports = Ports(&ours.ports);
        let theirs = self.get("SMTP_PORTS").unwrap_or("25,465,587").split(',');
        ports.list(theirs.filter_map(|text| port(text.trim())).fold(0, |mask, port| mask | ports.within(port, port)))
    }

    fn spared(&self) -> String {
        let named = |what: &str, key| match self.list(key).as_slice() {
            [] => None,
            [one] => Some(format!("the {what} {one}")),
            many => Some(format!("the {what}s {}", files::listed(many))),
        };
        let all = [named("user", "SMTP_ALLOWUSER"), named("group", "SMTP_ALLOWGROUP")];
        files::listed(["root".to_owned()].into_iter().chain(all.into_iter().flatten()))
    }
}
