//! Values of `[notify]` with a grammar of their own: kinds, lengths of time, addresses, URLs, programs, templates.

use std::{ops::RangeInclusive, time::Duration};

use toml::de::DeValue;
use ureq::http::Uri;

use super::{
    nearest::nearest,
    notify::{Kind, Kinds},
    place::Spot,
    problem::Problem,
    reader::{Entry, Reader, describe},
    render::{quoted, quoted_url},
    template::Template,
    values::Advice,
};

/// RFC 5321, section 4.5.3.1.3.
const LONGEST_ADDRESS: usize = 254;
const MOST_ADDRESSES: usize = 32;
const LONGEST_URL: usize = 2048;
/// Words of a command and bytes of all of them: far below what execve(2) takes.
const MOST_WORDS: usize = 64;
const LONGEST_COMMAND: usize = 32 << 10;

impl Reader<'_> {
    /// A list of kinds. An empty one is none.
    pub(super) fn kinds(&mut self, entry: Option<Entry<'_>>) -> Option<Kinds> {
        let entry = entry?;
        let list: Vec<_> = self.list(&entry, "kinds of notices")?.collect();
        let mut kinds = Some(Kinds::NONE);
        for node in list {
            let kind = match node.get_ref() {
                DeValue::String(text) => Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
                    let names = Kind::ALL.map(Kind::name);
                    let near = nearest(text, names).map(|name| format!("did you mean \"{name}\"? "));
                    let hint = format!("{}known are {}", near.unwrap_or_default(), names.join(", "));
                    (format!("\"{}\" is no kind of notice", quoted(text)), Some(hint))
                }),
                other => Err((format!("`{}` takes kinds in quotes, not {}", entry.key, describe(other)), None)),
            };
            match kind {
                Ok(kind) => kinds = kinds.map(|kinds| kinds.with(kind)),
                Err((message, hint)) => {
                    self.wrong(node, message, hint);
                    kinds = None;
                }
            }
        }
        kinds
    }

    /// A length of time in whole seconds, as "30s" or "1h 30m".
    pub(super) fn length(&mut self, entry: Option<Entry<'_>>, range: RangeInclusive<Duration>) -> Option<Duration> {
        let entry = entry?;
        let key = entry.key;
        let DeValue::String(text) = entry.value.get_ref() else {
            let hint = match entry.value.get_ref() {
                DeValue::Integer(number) => {
                    Some(format!("write \"{number}s\" for seconds or \"{number}m\" for minutes"))
                }
                _ => None,
            };
            self.wrong_type(&entry, "a length of time in quotes, as in \"30m\"", hint);
            return None;
        };
        let parsed = humantime::parse_duration(text).ok();
        if let Some(time) = parsed.filter(|time| time.subsec_nanos() == 0 && range.contains(time)) {
            return Some(time);
        }
        let [low, high] = [range.start(), range.end()].map(|time| short(*time));
        let message = match parsed {
            Some(time) if time.subsec_nanos() != 0 => {
                format!("`{key}` must be in whole seconds, not \"{}\"", quoted(text))
            }
            Some(_) => format!("`{key}` must be from \"{low}\" to \"{high}\", not \"{}\"", quoted(text)),
            None => format!("`{key}` must be a length of time such as \"30m\", not \"{}\"", quoted(text)),
        };
        let month = text.contains('M').then(|| "`M` is a month; write `m` for minutes".to_owned());
        self.wrong(entry.value, message, month);
        None
    }

    pub(super) fn template(&mut self, entry: Option<Entry<'_>>, line: bool) -> Option<Template> {
        let parse = if line { Template::parse_line } else { Template::parse };
        self.checked(entry, parse)
    }

    pub(super) fn url(&mut self, entry: Option<Entry<'_>>) -> Option<Spot<String>> {
        let entry = entry?;
        let url = self.checked(Some(entry.clone()), |text| url_fault(text).map_or_else(|| Ok(text.to_owned()), Err))?;
        let spot = self.spot(url, entry.value);
        if let Some(host) = clear_text(&spot.value) {
            let message = format!("notices would go to {} unencrypted", quoted(&host));
            self.report(Problem::warning(message).at(spot.at.clone()).hint("write https://"));
        }
        Some(spot)
    }

    pub(super) fn address(&mut self, entry: Option<Entry<'_>>) -> Option<String> {
        self.checked(entry, mail_address)
    }

    /// One address or a list of them.
    pub(super) fn mail_addresses(&mut self, entry: Option<Entry<'_>>) -> Option<Vec<String>> {
        let entry = entry?;
        if let DeValue::String(_) = entry.value.get_ref() {
            return self.address(Some(entry)).map(|address| vec![address]);
        }
        let list: Vec<_> = self.list(&entry, "mail addresses")?.collect();
        if list.is_empty() || list.len() > MOST_ADDRESSES {
            let message = format!("`{}` takes from 1 to {MOST_ADDRESSES} addresses, not {}", entry.key, list.len());
            self.wrong(entry.value, message, None);
            return None;
        }
        let mut addresses = Some(Vec::new());
        for node in list {
            let address = match node.get_ref() {
                DeValue::String(text) => mail_address(text),
                other => Err((format!("`{}` takes addresses in quotes, not {}", entry.key, describe(other)), None)),
            };
            match address {
                Ok(address) => addresses.iter_mut().for_each(|list| list.push(address.clone())),
                Err((message, hint)) => {
                    self.wrong(node, message, hint);
                    addresses = None;
                }
            }
        }
        addresses
    }

    /// A program and its arguments.
    pub(super) fn argv(&mut self, entry: Option<Entry<'_>>) -> Option<Vec<String>> {
        let entry = entry?;
        let list: Vec<_> = self.list(&entry, "words")?.collect();
        let mut argv = Vec::new();
        for node in &list {
            match node.get_ref() {
                DeValue::String(text) if !text.contains('\0') => argv.push(text.to_string()),
                DeValue::String(_) => {
                    self.wrong(node, format!("a word of `{}` contains a NUL character", entry.key), None);
                    return None;
                }
                other => {
                    let message = format!("`{}` takes words in quotes, not {}", entry.key, describe(other));
                    self.wrong(node, message, None);
                    return None;
                }
            }
        }
        let fault = match argv.first() {
            None => Some("is empty: it needs a program".to_owned()),
            Some(program) if !program.starts_with('/') => {
                Some(format!("must begin with the path of a program, not \"{}\"", quoted(program)))
            }
            _ if argv.len() > MOST_WORDS || argv.iter().map(String::len).sum::<usize>() > LONGEST_COMMAND => {
                Some(format!("takes up to {MOST_WORDS} words and {} KiB", LONGEST_COMMAND >> 10))
            }
            _ => None,
        };
        let Some(fault) = fault else { return Some(argv) };
        let hint = "write argv = [\"/path/of/program\", \"argument\"]; there is no shell and no PATH".to_owned();
        self.wrong(entry.value, format!("`{}` {fault}", entry.key), Some(hint));
        None
    }

    /// The name of a sink.
    pub(super) fn sink_name(&mut self, entry: Option<Entry<'_>>) -> Option<Spot<String>> {
        let entry = entry?;
        let name = self.checked(Some(entry.clone()), |text| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if (1..=32).contains(&text.len()) && text.chars().all(fits) {
                return Ok(text.to_owned());
            }
            let hint = "use 1 to 32 letters, digits, `-` and `_`".to_owned();
            Err((format!("\"{}\" is not the name of a sink", quoted(text)), Some(hint)))
        })?;
        Some(self.spot(name, entry.value))
    }

    fn checked<T>(&mut self, entry: Option<Entry<'_>>, parse: impl Fn(&str) -> Result<T, Advice>) -> Option<T> {
        let entry = entry?;
        let text = self.text(Some(entry.clone()))?.value;
        match parse(&text) {
            Ok(value) => Some(value),
            Err((message, hint)) => {
                self.wrong(entry.value, format!("`{}`: {message}", entry.key), hint);
                None
            }
        }
    }
}

/// A length of time as it would be written.
fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(24 * 3600, 'd'), (3600, 'h'), (60, 'm')];
    let whole = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{seconds}s"), |(unit, letter)| format!("{}{letter}", seconds / unit))
}

/// An address goes into a header and, as the sender, into a command line: nothing that could mean more there.
fn mail_address(text: &str) -> Result<String, Advice> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.@".contains(c);
    let parts: Vec<_> = text.split('@').collect();
    let whole = parts.len() <= 2 && parts.iter().all(|part| !part.is_empty());
    if whole && text.len() <= LONGEST_ADDRESS && text.chars().all(fits) && !text.starts_with('-') {
        return Ok(text.to_owned());
    }
    let hint = "write it bare, as in \"root\" or \"ops@example.org\"".to_owned();
    Err((format!("\"{}\" is not a mail address", quoted(text)), Some(hint)))
}

fn url_fault(text: &str) -> Option<Advice> {
    let shown = quoted_url(text);
    let example = || Some("write it as in \"https://hooks.example.org/path\"".to_owned());
    if text.len() > LONGEST_URL {
        return Some((format!("a URL takes up to {LONGEST_URL} bytes"), None));
    }
    let Ok(uri) = text.parse::<Uri>() else {
        return Some((format!("\"{shown}\" is not a URL"), example()));
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Some((format!("\"{shown}\" is not a URL of http or https"), example()));
    }
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    if authority.contains('@') {
        let hint = "leave them out: this file may be readable, and webhooks are signed with `secret_file`".to_owned();
        // Not the URL itself: what is in it is a secret.
        return Some(("the URL has a user name or password in it".to_owned(), Some(hint)));
    }
    uri.host().is_none_or(str::is_empty).then(|| (format!("\"{shown}\" names no host"), example()))
}

/// The host that is reached unencrypted, unless it is this one.
fn clear_text(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    (uri.scheme_str() == Some("http") && !here).then_some(host)
}
