//! firewalld: direct rules (firewalld.direct(5)) and policies for what the host itself sends (firewalld.policy(5)).
//!
//! Zones and their rich rules are for what arrives, so they are not looked at.

use std::{collections::HashMap, path::Path};

use roxmltree::{Document, Node};

use super::{
    Neighbour, Ours,
    files::{self, Text, shown},
    iptables, live,
    rules::{Chain, Does, Ports, Rule, Ruleset, Stop, When, port},
};

pub(super) const WHO: &str = "firewalld";
const DIRECT: &str = "/etc/firewalld/direct.xml";
/// The administrator's policies, then those that packages bring and a file of the same name replaces.
const POLICIES: [&str; 2] = ["/etc/firewalld/policies", "/usr/lib/firewalld/policies"];

pub(super) fn find(root: &Path, ours: &Ours) -> Vec<Neighbour> {
    let mut out = Vec::new();
    let mut set = Ruleset::default();
    let ports = Ports(&ours.ports);
    let mut places = HashMap::new();
    let mut names = Vec::new();
    let mut read = |path: &Path, each: &mut dyn FnMut(&Text, &Document<'_>)| {
        let Some(text) = Text::read(root, path) else { return };
        let said = text.and_then(|text| {
            let parsed = Document::parse(&text.text).map(|document| each(&text, &document));
            parsed.map_err(|e| format!("{}: {}", path.display(), shown(&e.to_string())))
        });
        if let Err(why) = said {
            out.push(Neighbour::unseen(WHO, why));
        }
    };
    read(Path::new(DIRECT), &mut |text, document| direct(text, document, ports, &mut set, &mut places));
    for directory in POLICIES {
        for path in files::in_directory(root, directory, ".xml") {
            let Some(name) = path.file_name().map(ToOwned::to_owned) else { continue };
            if !names.contains(&name) {
                read(&path, &mut |text, document| policy(text, document, ports, &mut set, &mut places));
                names.push(name);
            }
        }
    }
    let rules = live::Rules { listed: vec![(WHO, located(set, &places))], failed: Vec::new() };
    let said = live::neighbours(&rules, ours, &[]);
    out.extend(said.into_iter().map(|mut neighbour| {
        neighbour.who = WHO.to_owned();
        neighbour.together.push_str(" (as configured: it holds while firewalld runs)");
        neighbour
    }));
    out
}

/// `file:line: text` for every rule, by its own text.
type Places = HashMap<String, String>;

/// The rules with their places in the texts that are shown.
fn located(mut set: Ruleset, places: &Places) -> Ruleset {
    for rule in set.chains.values_mut().flat_map(|chain| &mut chain.rules) {
        if let Some(place) = places.get(&rule.text) {
            rule.text = place.clone();
        }
    }
    set
}

fn direct(text: &Text, document: &Document<'_>, ports: Ports<'_>, set: &mut Ruleset, places: &mut Places) {
    for node in document.root_element().children().filter(Node::is_element) {
        let arguments = node.text().unwrap_or_default();
        let family = match node.attribute("ipv") {
            Some("ipv4") => "ip",
            Some("ipv6") => "ip6",
            _ => continue,
        };
        let (table, chain) = (node.attribute("table").unwrap_or("filter"), node.attribute("chain"));
        let added = match (node.tag_name().name(), chain) {
            ("rule", Some(chain)) => iptables::add(set, family, table, Some(chain), arguments, ports),
            ("passthrough", _) => {
                let words: Vec<_> = arguments.split_whitespace().collect();
                let table = words.windows(2).find(|pair| pair[0] == "-t").map_or("filter", |pair| pair[1]);
                iptables::add(set, family, table, None, arguments, ports)
            }
            _ => None,
        };
        if added.is_some() {
            places.insert(shown(arguments), place(text, document, node));
        }
    }
}

fn place(text: &Text, document: &Document<'_>, node: Node<'_, '_>) -> String {
    text.line(document.text_pos_at(node.range().start).row as usize)
}

fn policy(text: &Text, document: &Document<'_>, ports: Ports<'_>, set: &mut Ruleset, places: &mut Places) {
    let policy = document.root_element();
    let leaves = policy.children().any(|n| n.has_tag_name("ingress-zone") && n.attribute("name") == Some("HOST"));
    if !leaves {
        return;
    }
    let name = format!("policy {}", text.path.file_stem().unwrap_or_default().to_string_lossy());
    let mut chain = Chain { leaving: true, ..Chain::default() };
    let mut add = |node: Node<'_, '_>, when: When, does: Does| {
        // Many nodes look alike: the place itself is the text.
        let at = place(text, document, node);
        places.insert(at.clone(), at.clone());
        chain.rules.push(Rule { text: at, when, does });
    };
    for node in policy.children().filter(Node::is_element) {
        match node.tag_name().name() {
            "port" | "service" => {
                if let Some(when) = named(node, ports) {
                    add(node, when, Does::Accept);
                }
            }
            "rule" => {
                let part = |name: &str| node.children().find(|child| child.has_tag_name(name));
                let Some(mut when) = part("port").or(part("service")).and_then(|child| named(child, ports)) else {
                    if let Some(mut when) = part("forward-port").and_then(|child| named(child, ports)) {
                        when.narrowed |= part("source").is_some() || part("destination").is_some();
                        add(node, when, Does::Stop(Stop::Redirect));
                    }
                    continue;
                };
                when.narrowed |= part("source").is_some() || part("destination").is_some();
                when.rate |= node.descendants().any(|n| n.has_tag_name("limit"));
                let does = match () {
                    () if part("reject").is_some() => Does::Stop(Stop::Reject),
                    () if part("drop").is_some() => Does::Stop(Stop::Drop),
                    () if part("accept").is_some() => Does::Accept,
                    () => continue,
                };
                add(node, when, does);
            }
            "forward-port" => {
                if let Some(when) = named(node, ports) {
                    add(node, when, Does::Stop(Stop::Redirect));
                }
            }
            _ => {}
        }
    }
    let target = match policy.attribute("target") {
        Some("DROP") => Some(Stop::Drop),
        Some("REJECT" | "%%REJECT%%") => Some(Stop::Reject),
        _ => None,
    };
    if let Some(stop) = target {
        add(policy, When::always(ports), Does::Stop(stop));
    }
    set.chains.insert(name, chain);
}

/// The ports that a `port` or `service` element names; `None` for another protocol or another service.
fn named(node: Node<'_, '_>, ports: Ports<'_>) -> Option<When> {
    let numbers = match node.attribute("port") {
        Some(_) if !matches!(node.attribute("protocol"), Some("tcp")) => return None,
        Some(numbers) => numbers,
        None => match node.attribute("name")? {
            "smtp" => "25",
            "smtps" => "465",
            "smtp-submission" => "587",
            _ => return None,
        },
    };
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let mask = ports.within(port(first)?, port(last)?);
    Some(When { ports: mask, named: true, ..When::always(ports) })
}
