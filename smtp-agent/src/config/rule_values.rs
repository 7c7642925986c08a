//! Values of plans and rules with a grammar of their own: releases, days and hours, cgroups, networks.

use std::{collections::HashSet, time::Duration};

use toml::de::DeValue;

use super::{
    network::Network,
    pattern::Pattern,
    place::Spot,
    plan::{LONGEST_RELEASE, Release},
    problem::Problem,
    reader::{Entry, Reader, describe},
    render::quoted,
    schedule::{Days, parse_hours},
    values::Advice,
};

/// How to have a brake that no time releases.
const NO_RELEASE: &str =
    "leave the key out to hold until the share has fallen, or write \"never\" to release it by hand";

impl Reader<'_> {
    /// A length of time in whole seconds, as "30m" or "1h 30m", or "never".
    pub(super) fn release(&mut self, entry: Option<Entry<'_>>) -> Option<Spot<Release>> {
        let entry = entry?;
        let key = entry.key;
        let DeValue::String(text) = entry.value.get_ref() else {
            let hint = match entry.value.get_ref() {
                DeValue::Integer(number) => {
                    Some(format!("write \"{number}s\" for seconds or \"{number}m\" for minutes"))
                }
                DeValue::Boolean(false) => Some(NO_RELEASE.to_owned()),
                _ => None,
            };
            self.wrong_type(&entry, "a length of time in quotes, as in \"30m\", or \"never\"", hint);
            return None;
        };
        if text == "never" {
            return Some(self.spot(Release::Never, entry.value));
        }
        let shown = quoted(text);
        let (message, hint) = match humantime::parse_duration(text) {
            Ok(time) if time.subsec_nanos() != 0 => {
                (format!("`{key}` must be in whole seconds, not \"{shown}\""), None)
            }
            Ok(time) if (Duration::from_secs(1)..=LONGEST_RELEASE).contains(&time) => {
                return Some(self.spot(Release::After(time), entry.value));
            }
            Ok(time) => {
                let hint = match time.is_zero() {
                    true => Some(NO_RELEASE),
                    false => text.contains('M').then_some("`M` is a month; write `m` for minutes"),
                };
                (format!("`{key}` must be from \"1s\" to \"30d\", not \"{shown}\""), hint)
            }
            Err(_) => {
                let hint = match text.to_lowercase().as_str() {
                    "never" => Some("write \"never\""),
                    "none" | "off" | "no" | "" | "unlimited" | "infinite" | "forever" => Some(NO_RELEASE),
                    _ => None,
                };
                (format!("`{key}` must be a length of time such as \"30m\", or \"never\", not \"{shown}\""), hint)
            }
        };
        self.wrong(entry.value, message, hint.map(str::to_owned));
        None
    }

    pub(super) fn days(&mut self, entry: Option<Entry<'_>>) -> Option<Days> {
        let entry = entry?;
        let list: Vec<_> = self.list(&entry, "days")?.collect();
        if list.is_empty() {
            let hint = Some("leave the key out for every day".to_owned());
            self.wrong(entry.value, "`days` is empty: it would never hold".to_owned(), hint);
            return None;
        }
        let mut days = Some(Days::default());
        for node in list {
            let parsed = match node.get_ref() {
                DeValue::String(text) => Days::parse(text),
                other => {
                    let hint = Some("write days = [\"mon-fri\"]".to_owned());
                    Err((format!("`days` takes days in quotes, not {}", describe(other)), hint))
                }
            };
            match parsed {
                Ok(more) => days = days.map(|days| days.with(more)),
                Err((message, hint)) => {
                    self.wrong(node, message, hint);
                    days = None;
                }
            }
        }
        days
    }

    /// Minutes of the day.
    pub(super) fn hours(&mut self, entry: Option<Entry<'_>>) -> Option<(u16, u16)> {
        let entry = entry?;
        if let DeValue::Array(_) = entry.value.get_ref() {
            let hint = Some("write one schedule for each span".to_owned());
            self.wrong_type(&entry, "one span such as \"08:00-18:00\"", hint);
            return None;
        }
        self.parsed(&entry, parse_hours)
    }

    pub(super) fn pattern(&mut self, entry: Option<Entry<'_>>) -> Option<Spot<Pattern>> {
        let entry = entry?;
        let pattern = self.parsed(&entry, Pattern::parse)?;
        Some(self.spot(pattern, entry.value))
    }

    /// One network or a list of them.
    pub(super) fn networks(&mut self, entry: Option<Entry<'_>>) -> Option<Vec<Network>> {
        let entry = entry?;
        let DeValue::Array(list) = entry.value.get_ref() else {
            return self.parsed(&entry, Network::parse).map(|network| vec![network]);
        };
        if list.is_empty() {
            let hint = Some("leave the key out for any destination".to_owned());
            self.wrong(entry.value, "`to` is empty: no connection would match".to_owned(), hint);
            return None;
        }
        let mut seen = HashSet::new();
        let mut networks = Some(Vec::new());
        for node in list.iter() {
            let parsed = match node.get_ref() {
                DeValue::String(text) => Network::parse(text),
                other => Err((format!("`to` takes addresses and networks in quotes, not {}", describe(other)), None)),
            };
            match parsed {
                Ok(network) if seen.insert(network) => networks.iter_mut().for_each(|list| list.push(network)),
                Ok(network) => {
                    let place = self.place(node.span());
                    self.report(Problem::warning(format!("`{network}` is in `to` twice")).at(place).hint("remove one"));
                }
                Err((message, hint)) => {
                    self.wrong(node, message, hint);
                    networks = None;
                }
            }
        }
        networks
    }

    fn parsed<T>(&mut self, entry: &Entry<'_>, parse: fn(&str) -> Result<T, Advice>) -> Option<T> {
        let DeValue::String(text) = entry.value.get_ref() else {
            self.wrong_type(entry, "a text in quotes", None);
            return None;
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err((message, hint)) => {
                self.wrong(entry.value, message, hint);
                None
            }
        }
    }
}
