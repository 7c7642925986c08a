//! Imunify360's SMTP Traffic Management: the section `SMTP_BLOCKING` of its configuration.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{
    Neighbour, Ours, Severity,
    files::{self, Text},
    live::{REJECTED, redirected},
    rules::{Ports, port},
};

pub(super) const WHO: &str = "Imunify360";
const DIR: &str = "/etc/sysconfig/imunify360";
const SECTION: &str = "SMTP_BLOCKING";

#[derive(Deserialize)]
struct File {
    #[serde(rename = "SMTP_BLOCKING", default)]
    section: Option<Section>,
}

/// What a file does not say, an earlier one does.
#[derive(Deserialize, Default)]
struct Section {
    enable: Option<bool>,
    ports: Option<List>,
    allow_users: Option<List>,
    allow_groups: Option<List>,
    allow_local: Option<bool>,
    redirect: Option<bool>,
}

/// A list, or what people write instead: "25,587".
#[derive(Deserialize)]
#[serde(untagged)]
enum List {
    Many(Vec<Item>),
    One(Item),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
    Number(u32),
    Text(String),
}

impl List {
    fn items(&self) -> Vec<String> {
        let text = |item: &Item| match item {
            Item::Number(number) => number.to_string(),
            Item::Text(text) => text.clone(),
        };
        let texts = match self {
            Self::Many(items) => items.iter().map(text).collect(),
            Self::One(item) => vec![text(item)],
        };
        let items = texts.iter().flat_map(|text| text.split(',')).map(files::shown);
        items.filter(|item| !item.is_empty()).collect()
    }
}

pub(super) fn find(root: &Path, ours: &Ours) -> Vec<Neighbour> {
    let mut unseen = Vec::new();
    let mut section = Section::default();
    let mut evidence = Vec::new();
    for path in sources(root) {
        let Some(text) = Text::read(root, &path) else { continue };
        let parsed = text.and_then(|text| match serde_saphyr::from_str::<File>(&text.text) {
            Ok(file) => Ok((text, file)),
            Err(e) => Err(format!("{}: {}", path.display(), files::shown(e.to_string().lines().next().unwrap_or("")))),
        });
        match parsed {
            Ok((text, File { section: Some(theirs) })) => {
                if theirs.enable.is_some() {
                    evidence = vec![text.line(line_of_enable(&text.text))];
                }
                section = over(section, theirs);
            }
            Ok(_) => {}
            Err(why) => unseen.push(Neighbour::unseen(WHO, why)),
        }
    }
    unseen.extend(said(&section, evidence, ours));
    unseen
}

/// The file that Imunify merges for us, else those it is merged from, in their order.
fn sources(root: &Path) -> Vec<PathBuf> {
    let merged = format!("{DIR}/imunify360-merged.config");
    if files::exists(root, &merged) {
        return vec![merged.into()];
    }
    let mut all = vec![PathBuf::from(format!("{DIR}/imunify360.config"))];
    let drop_ins = files::in_directory(root, &format!("{DIR}/imunify360.config.d"), ".config");
    // By number first: 100-x after 20-x.
    let number = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0)
    };
    let mut drop_ins = drop_ins;
    drop_ins.sort_by_key(number);
    all.extend(drop_ins);
    all
}

fn over(below: Section, above: Section) -> Section {
    Section {
        enable: above.enable.or(below.enable),
        ports: above.ports.or(below.ports),
        allow_users: above.allow_users.or(below.allow_users),
        allow_groups: above.allow_groups.or(below.allow_groups),
        allow_local: above.allow_local.or(below.allow_local),
        redirect: above.redirect.or(below.redirect),
    }
}

fn line_of_enable(text: &str) -> usize {
    let section = text.lines().position(|line| line.starts_with(SECTION)).unwrap_or(0);
    let enable = text.lines().skip(section).position(|line| line.trim_start().starts_with("enable")).unwrap_or(0);
    section + enable + 1
}

fn said(section: &Section, evidence: Vec<String>, ours: &Ours) -> Option<Neighbour> {
    if section.enable != Some(true) {
        return None;
    }
    let ports = Ports(&ours.ports);
    let theirs = section.ports.as_ref().map_or(vec!["25".into(), "587".into(), "465".into()], List::items);
    let mask = theirs.iter().filter_map(|text| port(text)).fold(0, |mask, port| mask | ports.within(port, port));
    let ports = ports.list(mask);
    if ports.is_empty() {
        return None;
    }
    let names = |list: &Option<List>| list.as_ref().map(List::items).unwrap_or_default();
    let users = names(&section.allow_users).into_iter().map(|name| format!("user {name}"));
    let groups = names(&section.allow_groups).into_iter().map(|name| format!("group {name}"));
    let but = files::listed(["root".to_owned()].into_iter().chain(users).chain(groups));
    let shown = files::ports(&ports);
    let redirects = section.redirect == Some(true);
    let mut severity = if redirects || !ours.only_mta { Severity::Warning } else { Severity::Information };
    let mut together = if redirects {
        format!("(SMTP_BLOCKING) sends {shown} of everyone but {but} to this host's MTA: {}", redirected(&ports, ours))
    } else {
        format!("(SMTP_BLOCKING) blocks {shown} for everyone but {but}: {REJECTED}")
    };
    if !redirects && section.allow_local != Some(true) {
        together.push_str(". Connections to the local MTA are stopped as well");
        if ours.redirects {
            severity = Severity::Warning;
            together.push_str(", those that on_soft = \"redirect\" sends there included");
        }
    }
    Some(Neighbour::new(severity, WHO, evidence, together))
}
