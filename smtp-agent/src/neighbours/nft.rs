//! Rules as `nft -j list ruleset` tells them (libnftables-json(5)). Unknown things make a rule a conditional one.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    files::shown,
    rules::{Chain, Does, Mask, Ports, Rule, Ruleset, Stop, When, port},
};

/// Elements of a named set or map: asked for with family, table and name.
pub(super) type Elements<'a> = dyn FnMut(&str, &str, &str) -> Option<Value> + 'a;

/// What a listing holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) rules: Ruleset,
    /// Tables ("ip filter") that iptables has made, with rules of which nft(8) tells next to nothing.
    pub(super) opaque: Vec<String>,
}

/// Reads a listing. Tables in `known` ("ip filter") are left out: they were read with another tool.
pub(super) fn parse(
    text: &str,
    known: &HashSet<String>,
    ports: Ports<'_>,
    elements: &mut Elements<'_>,
) -> Result<Listing, String> {
    let listing: Value = serde_json::from_str(text).map_err(|e| format!("what nft prints is not understood: {e}"))?;
    let objects = listing["nftables"].as_array().ok_or("what nft prints has no list of rules")?;
    let mut out = Listing::default();
    for object in objects {
        let (chain, rule) = (&object["chain"], &object["rule"]);
        let Some((family, table, name)) = place(if chain.is_object() { chain } else { rule }) else { continue };
        let table_name = format!("{family} {table}");
        if !matches!(family, "ip" | "ip6" | "inet") || known.contains(&table_name) {
            continue;
        }
        let entry = out.rules.chains.entry(format!("{table_name} {name}")).or_default();
        if chain.is_object() {
            declare(entry, chain);
            continue;
        }
        let mut reader = Reader { family, table, ports, elements };
        let Some(expressions) = rule["expr"].as_array() else { continue };
        if expressions.iter().any(|e| e["xt"].is_object()) && !out.opaque.contains(&table_name) {
            out.opaque.push(table_name);
        }
        entry.rules.extend(reader.rules(expressions));
    }
    Ok(out)
}

fn place(object: &Value) -> Option<(&str, &str, &str)> {
    let name = object["chain"].as_str().or(object["name"].as_str())?;
    Some((object["family"].as_str()?, object["table"].as_str()?, name))
}

fn declare(chain: &mut Chain, object: &Value) {
    chain.leaving = matches!(object["hook"].as_str(), Some("output" | "postrouting"));
    chain.drops_by_policy = object["policy"].as_str() == Some("drop");
}

struct Reader<'a, 'e> {
    family: &'a str,
    table: &'a str,
    ports: Ports<'a>,
    elements: &'a mut Elements<'e>,
}

impl Reader<'_, '_> {
    /// A rule, or one for each verdict of its verdict map; none where it never concerns a TCP connection being made.
    fn rules(&mut self, expressions: &[Value]) -> Vec<Rule> {
        let text = shown(&expressions.iter().map(written).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" "));
        let mut when = When::always(self.ports);
        let mut local = false;
        for expression in expressions {
            let Some((kind, body)) = only(expression) else { continue };
            match kind {
                "match" if is_local(body) => local = true,
                "match" => {
                    if self.condition(body, &mut when).is_none() {
                        return Vec::new();
                    }
                }
                "limit" | "quota" | "ct count" => when.rate = true,
                "meter" | "set" => when.rate |= counts(body),
                "xt" => when.narrowed = true,
                "vmap" => return self.verdicts(body, &when, &text),
                _ => {
                    if let Some(does) = self.verdict(kind, body) {
                        let lets = matches!(does, Does::Accept | Does::Return);
                        when.narrowed |= local;
                        return if local && lets { Vec::new() } else { vec![Rule { text, when, does }] };
                    }
                }
            }
        }
        Vec::new()
    }

    fn verdict(&self, kind: &str, body: &Value) -> Option<Does> {
        let target = || Some(format!("{} {} {}", self.family, self.table, body["target"].as_str()?));
        Some(match kind {
            "accept" => Does::Accept,
            "return" => Does::Return,
            "drop" => Does::Stop(Stop::Drop),
            "reject" => Does::Stop(Stop::Reject),
            "redirect" | "dnat" | "tproxy" => Does::Stop(Stop::Redirect),
            "queue" => Does::Stop(Stop::Queue),
            "jump" => Does::Jump(target()?),
            "goto" => Does::Goto(target()?),
            _ => return None,
        })
    }

    fn verdicts(&mut self, body: &Value, when: &When, text: &str) -> Vec<Rule> {
        let data = self.members(&body["data"]).unwrap_or_default();
        let mut rules = Vec::new();
        for pair in &data {
            let (key, verdict) = (bare(&pair[0]), &pair[1]);
            let Some((kind, target)) = only(verdict) else { continue };
            let Some(does) = self.verdict(kind, target) else { continue };
            let mut when = when.clone();
            if self.one_of(&body["key"], std::slice::from_ref(key), false, &mut when).is_some() {
                rules.push(Rule { text: text.to_owned(), when, does });
            }
        }
        rules
    }

    /// Adds what a match asks for; `None` where that is never a TCP connection being made.
    fn condition(&mut self, body: &Value, when: &mut When) -> Option<()> {
        let not = body["op"] == "!=";
        let values = self.members(&body["right"]).filter(|_| matches!(body["op"].as_str(), Some("==" | "!=" | "in")));
        match values {
            Some(values) => self.one_of(&body["left"], &values, not, when),
            None => {
                when.narrowed = true;
                when.named |= body["left"]["payload"]["field"] == "dport";
                Some(())
            }
        }
    }

    fn one_of(&self, left: &Value, values: &[Value], not: bool, when: &mut When) -> Option<()> {
        let has = |word: &str| values.iter().any(|value| bare(value) == word);
        if let Some(parts) = left["concat"].as_array() {
            let part = |at: usize| values.iter().map(|v| bare(v)["concat"][at].clone()).collect::<Vec<_>>();
            // Of "all but this pair" neither half says anything alone.
            when.narrowed |= not;
            for (at, left) in parts.iter().enumerate().filter(|_| !not) {
                self.one_of(left, &part(at), not, when)?;
            }
            return Some(());
        }
        let payload = &left["payload"];
        match (payload["protocol"].as_str(), payload["field"].as_str()) {
            (Some("tcp" | "th"), Some("dport")) => {
                let named = values.iter().fold(0, |mask, value| mask | self.mask(bare(value)));
                when.ports &= if not { !named } else { named };
                when.named = true;
                return Some(());
            }
            (Some("ip" | "ip6"), Some("protocol" | "nexthdr")) => return (has("tcp") != not).then_some(()),
            // The flags of a first packet: SYN and no ACK.
            (Some("tcp"), Some("flags")) => return Some(()),
            (Some("udp" | "udplite" | "sctp" | "dccp" | "icmp" | "icmpv6"), _) => return None,
            _ => {}
        }
        if left["&"][0]["payload"]["field"] == "flags" {
            return Some(());
        }
        match left["meta"]["key"].as_str() {
            Some(key @ ("skuid" | "skgid" | "cgroup")) => self.owner(key, values, not, when),
            Some("l4proto") => {
                let tcp = has("tcp") || values.iter().any(|value| *bare(value) == 6);
                return (tcp != not).then_some(());
            }
            Some("oif" | "oifname") if not && has("lo") => {}
            Some("nfproto" | "protocol") => {}
            _ if left["socket"]["key"] == "cgroupv2" => self.owner("cgroup", values, not, when),
            _ if left["ct"]["key"] == "state" => return (has("new") != not).then_some(()),
            _ => when.narrowed = true,
        }
        Some(())
    }

    fn owner(&self, key: &str, values: &[Value], not: bool, when: &mut When) {
        let key = key.strip_prefix("sk").unwrap_or(key);
        let owners = values.iter().take(20).map(|value| format!("{key} {}", shown(&value_written(bare(value)))));
        if not { &mut when.but } else { &mut when.owners }.extend(owners);
    }

    fn mask(&self, value: &Value) -> Mask {
        let number = |value: &Value| match value {
            Value::String(name) => port(name),
            value => value.as_u64().and_then(|n| u16::try_from(n).ok()),
        };
        match &value["range"] {
            Value::Array(ends) if ends.len() == 2 => match (number(&ends[0]), number(&ends[1])) {
                (Some(first), Some(last)) => self.ports.within(first, last),
                _ => 0,
            },
            _ => number(value).map_or(0, |port| self.ports.within(port, port)),
        }
    }

    /// What a match compares with: the members of a set, named or not, or the one value. `None` where the set cannot be
    /// had.
    fn members(&mut self, right: &Value) -> Option<Vec<Value>> {
        if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
            let elements = (self.elements)(self.family, self.table, name)?;
            // An empty set has no list.
            return Some(elements.as_array().cloned().unwrap_or_default());
        }
        Some(match (&right["set"], right) {
            (Value::Array(members), _) | (_, Value::Array(members)) => members.clone(),
            (_, one) => vec![one.clone()],
        })
    }
}

/// The one key of an object and what belongs to it.
fn only(object: &Value) -> Option<(&str, &Value)> {
    object.as_object()?.iter().next().map(|(key, body)| (key.as_str(), body))
}

/// A member of a set without its timeout, counter and comment.
fn bare(member: &Value) -> &Value {
    let value = &member["elem"]["val"];
    if value.is_null() { member } else { value }
}

fn is_local(body: &Value) -> bool {
    let left = body["left"]["meta"]["key"].as_str();
    matches!(left, Some("oif" | "oifname")) && body["op"] == "==" && body["right"] == "lo"
}

/// Whether a statement of a meter or a dynamic set limits anything.
fn counts(body: &Value) -> bool {
    let statements = [&body["stmt"]].into_iter().chain(body["stmt"].as_array().into_iter().flatten());
    statements.into_iter().any(|s| ["limit", "quota", "ct count"].iter().any(|kind| s.get(kind).is_some()))
}

/// A piece of a rule, about as nft(8) writes it.
fn written(expression: &Value) -> String {
    let Some((kind, body)) = only(expression) else { return String::new() };
    match kind {
        "match" => {
            let op = if body["op"] == "!=" { " !=" } else { "" };
            format!("{}{op} {}", value_written(&body["left"]), value_written(&body["right"]))
        }
        "counter" | "comment" => String::new(),
        "jump" | "goto" => format!("{kind} {}", value_written(&body["target"])),
        "vmap" => format!("{} vmap {}", value_written(&body["key"]), value_written(&body["data"])),
        "limit" => {
            let over = if body["inv"] == true { " over" } else { "" };
            format!("limit rate{over} {}/{}", value_written(&body["rate"]), value_written(&body["per"]))
        }
        "meter" => format!(
            "meter {} {{ {} {} }}",
            value_written(&body["name"]),
            value_written(&body["key"]),
            written(&body["stmt"])
        ),
        "set" => format!("{} {}", value_written(&body["op"]), value_written(&body["set"])),
        "redirect" if body["port"].is_null() => kind.to_owned(),
        "redirect" => format!("redirect to :{}", value_written(&body["port"])),
        "dnat" | "tproxy" => format!("{kind} to {}:{}", value_written(&body["addr"]), value_written(&body["port"])),
        "xt" => format!("xt {}", value_written(&body["name"])),
        _ => kind.to_owned(),
    }
}

fn value_written(value: &Value) -> String {
    let list = |items: &[Value], between: &str| {
        let shown = items.iter().take(8).map(value_written).collect::<Vec<_>>().join(between);
        if items.len() > 8 { format!("{shown}{between}…") } else { shown }
    };
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => list(items, ", "),
        Value::Object(_) => match only(value) {
            Some(("set", Value::Array(items))) => format!("{{ {} }}", list(items, ", ")),
            Some(("concat", Value::Array(items))) => list(items, " . "),
            Some(("range", Value::Array(ends))) => list(ends, "-"),
            Some(("payload", body)) => {
                format!("{} {}", value_written(&body["protocol"]), value_written(&body["field"]))
            }
            Some(("meta", body)) if matches!(body["key"].as_str(), Some("skuid" | "skgid" | "cgroup")) => {
                format!("meta {}", value_written(&body["key"]))
            }
            Some(("meta", body)) => value_written(&body["key"]),
            Some(("ct" | "socket", body)) => {
                format!("{} {}", only(value).map_or("", |(k, _)| k), value_written(&body["key"]))
            }
            Some(("elem", body)) => value_written(&body["val"]),
            Some(("prefix", body)) => format!("{}/{}", value_written(&body["addr"]), value_written(&body["len"])),
            Some(("&", Value::Array(items))) => list(items, " & "),
            Some((verdict @ ("accept" | "drop" | "return" | "continue"), _)) => verdict.to_owned(),
            Some((way @ ("jump" | "goto"), body)) => format!("{way} {}", value_written(&body["target"])),
            Some((kind, _)) => kind.to_owned(),
            None => String::new(),
        },
        Value::Bool(_) | Value::Null => String::new(),
    }
}
