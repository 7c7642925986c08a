//! Values with a grammar of their own: names, ports, paths, addresses.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use toml::{Spanned, de::DeValue};

use super::{
    nearest::nearest,
    place::Spot,
    problem::Problem,
    reader::{Entry, Reader, describe},
    render::quoted,
    schema::{CgroupChoice, LONGEST_RELEASE, MAX_PORTS, MAX_PROGRAMS, Name},
};

/// Longest path that leaves room for "/control.sock" in a `sockaddr_un` (108 bytes with the final NUL).
const LONGEST_RUN: usize = 107 - "/control.sock".len();
/// `LOGIN_NAME_MAX` on Linux.
const LONGEST_NAME: usize = 256;
/// Longer paths are refused by the kernel (`PATH_MAX`).
const LONGEST_PATH: usize = 4095;

/// How to have a brake that only the share releases.
const NO_RELEASE: &str = "leave the key out: the brake then holds until the share has fallen";

type Advice = (String, Option<String>);

fn advice(message: impl Into<String>, hint: &str) -> Advice {
    (message.into(), Some(hint.to_owned()))
}

impl Reader<'_> {
    pub(super) fn names(&mut self, entry: Option<Entry<'_>>) -> Option<Vec<Spot<Name>>> {
        let entry = entry?;
        let list = self.list(&entry, "names")?;
        Some(list.filter_map(|node| self.name_in(entry.key, node)).collect())
    }

    pub(super) fn name(&mut self, entry: Option<Entry<'_>>) -> Option<Spot<Name>> {
        let entry = entry?;
        self.name_in(entry.key, entry.value)
    }

    fn name_in(&mut self, key: &str, node: &Spanned<DeValue<'_>>) -> Option<Spot<Name>> {
        let name = match node.get_ref() {
            DeValue::String(text) => parse_name(text),
            DeValue::Integer(number) => match u32::from_str_radix(number.as_str(), number.radix()) {
                Ok(id) => numeric(id),
                Err(_) => Err(no_id(&number.to_string())),
            },
            other => Err((format!("`{key}` takes names or numeric ids, not {}", describe(other)), None)),
        };
        match name {
            Ok(name) => Some(self.spot(name, node)),
            Err((message, hint)) => {
                self.wrong(node, message, hint);
                None
            }
        }
    }

    pub(super) fn ports(&mut self, entry: Option<Entry<'_>>) -> Option<Vec<u16>> {
        let entry = entry?;
        let list: Vec<_> = self.list(&entry, "ports")?.collect();
        if list.is_empty() {
            let hint = "leave the key out for 25, 465 and 587".to_owned();
            self.wrong(entry.value, "`ports` is empty: nothing would be counted or limited".to_owned(), Some(hint));
        }
        if let Some(surplus) = list.get(MAX_PORTS) {
            self.wrong(surplus, format!("`ports` takes up to {MAX_PORTS} ports, not {}", list.len()), None);
        }
        let mut seen = HashSet::new();
        let mut ports = Vec::new();
        for node in list {
            let Some(port) = self.number_in("ports", node, 1..=65535, &|_| None) else { continue };
            let Ok(port) = u16::try_from(port.value) else { continue };
            if seen.insert(port) {
                ports.push(port);
            } else {
                self.wrong(node, format!("port {port} is listed twice"), Some("remove one".to_owned()));
            }
        }
        Some(ports)
    }

    pub(super) fn path(&mut self, entry: Option<Entry<'_>>) -> Option<PathBuf> {
        let entry = entry?;
        let text = self.text(Some(entry.clone()))?.value;
        let fault = path_fault(&text).or_else(|| {
            (entry.key == "run" && text.len() > LONGEST_RUN).then(|| {
                let message = format!("longer than {LONGEST_RUN} bytes, a socket in it would have no valid address");
                (message, Some("choose a shorter path".to_owned()))
            })
        });
        let Some((why, hint)) = fault else { return Some(text.into()) };
        self.wrong(entry.value, format!("`{}` is not a usable path: {why}", entry.key), hint);
        None
    }

    /// A list of programs by their paths, which need not exist.
    pub(super) fn programs(&mut self, entry: Option<Entry<'_>>) -> Option<Vec<PathBuf>> {
        let entry = entry?;
        let key = entry.key;
        if let DeValue::Boolean(false) = entry.value.get_ref() {
            self.wrong_type(&entry, "a list of paths", Some(format!("for none write {key} = []")));
            return None;
        }
        let list: Vec<_> = self.list(&entry, "paths")?.collect();
        if let Some(surplus) = list.get(MAX_PROGRAMS) {
            self.wrong(surplus, format!("`{key}` takes up to {MAX_PROGRAMS} paths, not {}", list.len()), None);
        }
        let mut programs = Vec::new();
        for node in list {
            let DeValue::String(text) = node.get_ref() else {
                self.wrong(node, format!("`{key}` takes paths in quotes, not {}", describe(node.get_ref())), None);
                continue;
            };
            let path = PathBuf::from(text.as_ref());
            if let Some((why, hint)) = path_fault(text) {
                // What is right for a directory is not for a program.
                let hint = if path.has_root() { None } else { hint };
                self.wrong(node, format!("`{key}` takes paths of programs: {why}"), hint);
            } else if programs.contains(&path) {
                let place = self.place(node.span());
                let problem = Problem::warning(format!("`{}` is in {key} twice", quoted(text)));
                self.report(problem.at(place).hint("remove one"));
            } else {
                programs.push(path);
            }
        }
        Some(programs)
    }

    /// A length of time in whole seconds, as "30m" or "1h 30m".
    pub(super) fn duration(&mut self, entry: Option<Entry<'_>>) -> Option<Spot<Duration>> {
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
            self.wrong_type(&entry, "a length of time in quotes, as in \"30m\"", hint);
            return None;
        };
        let shown = quoted(text);
        let (message, hint) = match humantime::parse_duration(text) {
            Ok(time) if time.subsec_nanos() != 0 => {
                (format!("`{key}` must be in whole seconds, not \"{shown}\""), None)
            }
            Ok(time) if (Duration::from_secs(1)..=LONGEST_RELEASE).contains(&time) => {
                return Some(self.spot(time, entry.value));
            }
            Ok(time) => {
                let hint = match time.is_zero() {
                    true => Some(NO_RELEASE),
                    false => text.contains('M').then_some("`M` is a month; write `m` for minutes"),
                };
                (format!("`{key}` must be from \"1s\" to \"30d\", not \"{shown}\""), hint)
            }
            Err(_) => {
                let never = ["never", "none", "off", "no", "", "unlimited"].contains(&text.to_lowercase().as_str());
                (
                    format!("`{key}` must be a length of time such as \"30m\" or \"2h\", not \"{shown}\""),
                    never.then_some(NO_RELEASE),
                )
            }
        };
        self.wrong(entry.value, message, hint.map(str::to_owned));
        None
    }

    pub(super) fn cgroup(&mut self, entry: Option<Entry<'_>>) -> Option<CgroupChoice> {
        let entry = entry?;
        let text = self.text(Some(entry.clone()))?.value;
        if text == "auto" {
            return Some(CgroupChoice::Auto);
        }
        let Some((why, hint)) = path_fault(&text) else { return Some(CgroupChoice::Path(text.into())) };
        let hint = nearest(&text, ["auto"]).map(|auto| format!("did you mean \"{auto}\"?")).or(hint);
        self.wrong(entry.value, format!("`cgroup` must be \"auto\" or a cgroup v2 directory: {why}"), hint);
        None
    }

    /// `Some(None)` is "off".
    pub(super) fn listen(&mut self, entry: Option<Entry<'_>>) -> Option<Option<SocketAddr>> {
        let entry = entry?;
        let hint = match entry.value.get_ref() {
            DeValue::String(text) if text == "off" => return Some(None),
            DeValue::String(text) => match text.parse() {
                Ok(address) => return Some(Some(address)),
                Err(_) => listen_hint(text),
            },
            DeValue::Integer(number) => number.to_string().parse::<u16>().ok().map(on_loopback),
            DeValue::Boolean(false) => Some("write \"off\"".to_owned()),
            _ => None,
        };
        let found = match entry.value.get_ref() {
            DeValue::String(text) => format!("\"{}\"", quoted(text)),
            other => describe(other).to_owned(),
        };
        let message = format!("`listen` must be an address with a port, or \"off\", not {found}");
        self.wrong(entry.value, message, hint);
        None
    }
}

fn parse_name(text: &str) -> Result<Name, Advice> {
    let shown = quoted(text);
    if text.is_empty() {
        return Err(("a name is empty".to_owned(), None));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| no_id(text)).and_then(numeric);
    }
    if let Some(group) = text.strip_prefix(['@', '%']) {
        let hint = format!("groups are written without the sign: groups = [\"{}\"]", quoted(group));
        return Err((format!("\"{shown}\" is not a name"), Some(hint)));
    }
    if text.trim() != text {
        return Err(advice(format!("\"{shown}\" has blanks around it"), "remove them"));
    }
    // The account files could not hold such a name, nor could NSS return it.
    if let Some(c) = text.chars().find(|c| c.is_control() || [':', '/', ','].contains(c)) {
        let hint = (c == ',').then(|| "write each name in quotes of its own".to_owned());
        return Err((format!("\"{shown}\" is not a name: `{}` cannot be part of one", quoted(&c.to_string())), hint));
    }
    if text.len() > LONGEST_NAME {
        return Err((format!("\"{shown}\" is not a name: it is longer than {LONGEST_NAME} bytes"), None));
    }
    Ok(Name::Text(text.to_owned()))
}

fn numeric(id: u32) -> Result<Name, Advice> {
    // (uid_t)-1 means "no change" to setuid() and nobody can have it.
    if id == u32::MAX { Err(no_id(&id.to_string())) } else { Ok(Name::Id(id)) }
}

fn no_id(text: &str) -> Advice {
    (format!("{} is not a uid or gid: they go from 0 to {}", quoted(text), u32::MAX - 1), None)
}

/// Why a path cannot be used, if so.
fn path_fault(text: &str) -> Option<Advice> {
    let path = Path::new(text);
    if text.is_empty() {
        return Some(("it is empty".to_owned(), None));
    }
    if !path.is_absolute() {
        let hint =
            if text.starts_with('~') { "`~` is not expanded here; write the path in full" } else { "begin it with /" };
        return Some(advice("it is not absolute", hint));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Some(advice("it contains `..`", "write the path without it"));
    }
    if path.components().all(|part| part == Component::RootDir) {
        return Some(advice("it is the root directory", "name a directory below it"));
    }
    if text.chars().any(char::is_control) {
        return Some(("it contains a control character".to_owned(), None));
    }
    (text.len() > LONGEST_PATH).then(|| (format!("it is longer than {LONGEST_PATH} bytes"), None))
}

fn on_loopback(port: u16) -> String {
    format!("write \"127.0.0.1:{port}\"")
}

fn listen_hint(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Some(format!("add a port: \"{}\"", SocketAddr::new(ip, 9725)));
    }
    if ["none", "no", "false", "disabled", "", "OFF", "Off"].contains(&text) {
        return Some("write \"off\"".to_owned());
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port = port.parse::<u16>().ok()?;
    match host {
        "" | "localhost" => Some(on_loopback(port)),
        "*" => Some(format!("write \"0.0.0.0:{port}\" or \"[::]:{port}\"")),
        host => match host.parse::<IpAddr>() {
            Ok(ip @ IpAddr::V6(_)) => Some(format!("write \"{}\"", SocketAddr::new(ip, port))),
            _ => Some("write an IP address; names are not looked up here".to_owned()),
        },
    }
}
