//! Values with a grammar of their own: names, ports, paths, addresses.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    path::{Component, Path, PathBuf},
};

use regex::Regex;
use toml::{Spanned, de::DeValue};

use super::{
    nearest::nearest,
    place::Spot,
    problem::Problem,
    reader::{Entry, Reader, describe},
    render::quoted,
    schema::{CgroupChoice, MAX_HOSTS, MAX_PORTS, MAX_PROGRAMS, Name},
};

/// Longest path that leaves room for "/control.sock" in a `sockaddr_un` (108 bytes with the final NUL).
const LONGEST_RUN: usize = 107 - "/control.sock".len();
/// `LOGIN_NAME_MAX` on Linux.
const LONGEST_NAME: usize = 256;
/// Longest name in the DNS (RFC 1035), without the final dot.
const LONGEST_HOST: usize = 253;
/// Longer paths are refused by the kernel (`PATH_MAX`).
const LONGEST_PATH: usize = 4095;

/// What is wrong, and what to write instead.
pub(crate) type Advice = (String, Option<String>);

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

    /// `empty` is what an empty list would mean, and what to do instead.
    pub(super) fn ports(&mut self, entry: Option<Entry<'_>>, empty: [&str; 2]) -> Option<Vec<Spot<u16>>> {
        let entry = entry?;
        let list: Vec<_> = self.list(&entry, "ports")?.collect();
        if list.is_empty() {
            let [meaning, hint] = empty;
            self.wrong(entry.value, format!("`ports` is empty: {meaning}"), Some(hint.to_owned()));
        }
        if let Some(surplus) = list.get(MAX_PORTS) {
            self.wrong(surplus, format!("`ports` takes up to {MAX_PORTS} ports, not {}", list.len()), None);
        }
        let mut seen = HashSet::new();
        let mut ports = Vec::new();
        for node in list {
            let Some(port) = self.number_in("ports", node, 1..=65535, &|_| None) else { continue };
            let Spot { value, at } = port;
            let Ok(port) = u16::try_from(value) else { continue };
            if seen.insert(port) {
                ports.push(Spot::new(port, at));
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

    /// A list of regular expressions.
    pub(super) fn regexes(&mut self, entry: Option<Entry<'_>>) -> Option<Vec<String>> {
        let entry = entry?;
        let key = entry.key;
        self.texts(&entry, "regular expressions", usize::MAX, |text| match Regex::new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(e) => {
                // Its last line says what is wrong; those before draw the pattern.
                let why = e.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let hint = "write it as the crate regex does, without look-around: 'customer-(\\d+)'";
                Err(advice(format!("`{}` in {key} is no regular expression: {why}", quoted(text)), hint))
            }
        })
    }

    /// A list of names of hosts, as the address bar of a browser has them.
    pub(super) fn hosts(&mut self, entry: Option<Entry<'_>>) -> Option<Vec<String>> {
        let entry = entry?;
        let key = entry.key;
        self.texts(&entry, "names", MAX_HOSTS, |text| {
            host_name(text).map_err(|hint| (format!("\"{}\" in {key} is no name of a host", quoted(text)), Some(hint)))
        })
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

pub(crate) fn parse_name(text: &str) -> Result<Name, Advice> {
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

/// The name in lower case, else what to write instead.
fn host_name(text: &str) -> Result<String, String> {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split(['/', ':']).next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let is_name = bare.len() <= LONGEST_HOST && bare.split('.').all(is_label);
    match (is_name, bare == text.to_ascii_lowercase()) {
        (true, true) => Ok(bare),
        (true, false) => Err(format!("write it without scheme, port and path: \"{bare}\"")),
        (false, _) => {
            Err("write it as it stands in the address bar: \"mail.example.org\"; addresses need not be listed"
                .to_owned())
        }
    }
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
