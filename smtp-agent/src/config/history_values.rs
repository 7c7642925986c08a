//! Values of `[history]`: how long, how much, and what the DNS is asked.

use std::{net::SocketAddr, time::Duration};

use toml::de::DeValue;

use super::{
    nearest::nearest,
    reader::{Entry, Reader},
    render::quoted,
    schema::{MAX_MX_DOMAINS, Resolve},
};
use crate::{dns::server_address, relay::is_domain};

const SHORTEST: Duration = Duration::from_secs(3600);
/// Ten years.
const LONGEST: Duration = Duration::from_secs(3_650 * 86_400);
/// Less holds no day.
const SMALLEST: u64 = 16 << 20;
/// 1 TiB, beyond which nobody means it.
const LARGEST: u64 = 1 << 40;

/// What a size may be written in, the powers of 1024 first.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
];

impl Reader<'_> {
    /// For how long something is kept.
    pub(super) fn keep(&mut self, entry: Option<Entry<'_>>) -> Option<Duration> {
        let entry = entry?;
        let key = entry.key;
        let DeValue::String(text) = entry.value.get_ref() else {
            let hint = match entry.value.get_ref() {
                DeValue::Integer(number) => Some(format!("write \"{number}d\" for days")),
                DeValue::Boolean(false) => Some("for no history write enabled = false".to_owned()),
                _ => None,
            };
            self.wrong_type(&entry, "a length of time in quotes, as in \"31d\"", hint);
            return None;
        };
        let shown = quoted(text);
        let (message, hint) = match humantime::parse_duration(text) {
            Ok(time) if (SHORTEST..=LONGEST).contains(&time) => return Some(time),
            Ok(time) => {
                let hint = if time < SHORTEST && text.ends_with('m') {
                    Some("`m` is a minute; write `M` for months")
                } else {
                    time.is_zero().then_some("for no history write enabled = false")
                };
                (format!("`{key}` must be from \"1h\" to \"3650d\", not \"{shown}\""), hint)
            }
            Err(_) => (format!("`{key}` must be a length of time such as \"31d\", not \"{shown}\""), None),
        };
        self.wrong(entry.value, message, hint.map(str::to_owned));
        None
    }

    /// How many octets something may take.
    pub(super) fn size(&mut self, entry: Option<Entry<'_>>) -> Option<u64> {
        let entry = entry?;
        let key = entry.key;
        let DeValue::String(text) = entry.value.get_ref() else {
            let hint = match entry.value.get_ref() {
                DeValue::Integer(number) => Some(format!("write \"{number}MiB\", or another unit")),
                DeValue::Boolean(false) => Some("for no history write enabled = false".to_owned()),
                _ => None,
            };
            self.wrong_type(&entry, "a size in quotes, as in \"512MiB\"", hint);
            return None;
        };
        let shown = quoted(text);
        let (message, hint) = match parse_size(text) {
            Some(octets) if (SMALLEST..=LARGEST).contains(&octets) => return Some(octets),
            Some(_) => (format!("`{key}` must be from \"16MiB\" to \"1024GiB\", not \"{shown}\""), None),
            None => (
                format!("`{key}` must be a size such as \"512MiB\", not \"{shown}\""),
                Some("write a whole number and KiB, MiB, GiB, kB, MB or GB".to_owned()),
            ),
        };
        self.wrong(entry.value, message, hint);
        None
    }
}

/// What the DNS may be asked.
const QUESTIONS: [(&str, Resolve); 2] = [("ptr", Resolve::Ptr), ("mx", Resolve::Mx)];

impl Reader<'_> {
    /// What the DNS is asked. An empty list is nothing.
    pub(super) fn resolve(&mut self, entry: Option<Entry<'_>>) -> Option<Vec<Resolve>> {
        let entry = entry?;
        let key = entry.key;
        let all = self.texts(&entry, "\"ptr\" and \"mx\"", usize::MAX, |text| {
            let found = QUESTIONS.iter().find(|(name, _)| *name == text);
            found.map(|(_, question)| *question).ok_or_else(|| {
                let near = nearest(text, QUESTIONS.map(|(name, _)| name));
                let hint =
                    near.map_or("for no lookups write []".to_owned(), |name| format!("did you mean \"{name}\"?"));
                (format!("`{key}` takes \"ptr\" and \"mx\", not \"{}\"", quoted(text)), Some(hint))
            })
        })?;
        let mut once = Vec::new();
        for question in all {
            if !once.contains(&question) {
                once.push(question);
            }
        }
        Some(once)
    }

    /// Whom the DNS is asked of.
    pub(super) fn resolver(&mut self, entry: Option<Entry<'_>>) -> Option<SocketAddr> {
        let entry = entry?;
        let key = entry.key;
        let text = self.text_in(&entry, entry.value, "an address")?;
        match server_address(text) {
            Ok(address) => Some(address),
            Err(hint) => {
                self.wrong(entry.value, format!("`{key}` must be an address, not \"{}\"", quoted(text)), Some(hint));
                None
            }
        }
    }

    /// Domains that take mail.
    pub(super) fn domains(&mut self, entry: Option<Entry<'_>>) -> Option<Vec<String>> {
        let entry = entry?;
        let key = entry.key;
        self.texts(&entry, "domains", MAX_MX_DOMAINS, |text| {
            let domain = text.trim_end_matches('.').to_ascii_lowercase();
            if is_domain(&domain) && domain.contains('.') {
                return Ok(domain);
            }
            let after = domain.rsplit_once('@').map(|(_, domain)| domain).filter(|domain| is_domain(domain));
            let hint = format!("write the part behind the @, as in \"{}\"", after.unwrap_or("example.org"));
            Err((format!("\"{}\" in {key} is no domain", quoted(text)), Some(hint)))
        })
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (unit, octets) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
    number.checked_mul(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_and_a_unit() {
        for (text, octets) in [
            ("512MiB", Some(512 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("2G", Some(2 << 30)),
            ("500MB", Some(500_000_000)),
            ("64000kB", Some(64_000_000)),
            ("512", None),
            ("MiB", None),
            ("-1MiB", None),
            ("1.5GiB", None),
            ("18446744073709551615GiB", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), octets, "{text}");
        }
    }
}
