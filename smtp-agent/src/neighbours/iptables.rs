//! Rules as iptables writes and reads them: the output of iptables-save(8), and single rules in files of others.

use super::{
    files::shown,
    rules::{Chain, Does, Mask, Ports, Rule, Ruleset, Stop, When, port},
};

/// Tables and chains of an iptables-save(8) output. `family` ("ip", "ip6") goes before their names, as nft(8) has it.
pub(super) fn parse(text: &str, family: &str, ports: Ports<'_>) -> Ruleset {
    let mut set = Ruleset::default();
    let mut table = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            table = name.to_owned();
        } else if let Some(declared) = line.strip_prefix(':') {
            let mut words = declared.split_whitespace();
            let (Some(name), policy) = (words.next(), words.next()) else { continue };
            let chain = set.chains.entry(full(family, &table, name)).or_default();
            chain.leaving = leaves(name);
            chain.drops_by_policy = policy == Some("DROP");
        } else if line.starts_with("-A ") {
            add(&mut set, family, &table, None, line, ports);
        }
    }
    set
}

/// Puts a rule into its chain. `chain` where its text does not begin with `-A CHAIN`.
pub(super) fn add(
    set: &mut Ruleset,
    family: &str,
    table: &str,
    chain: Option<&str>,
    text: &str,
    ports: Ports<'_>,
) -> Option<()> {
    let words = words(text)?;
    let mut words = words.as_slice();
    let name = match chain {
        Some(name) => name.to_owned(),
        None => loop {
            // Tables of direct passthroughs come before the chain.
            match words {
                [option, _, rest @ ..] if option == "-t" || option == "--table" => words = rest,
                [option, name, rest @ ..] if ["-A", "-I", "--append", "--insert"].contains(&option.as_str()) => {
                    words = rest;
                    break name.clone();
                }
                _ => return None,
            }
        },
    };
    let (when, target) = read(words, ports)?;
    let jump = |name: &str| full(family, table, name);
    let does = match target {
        None => Does::Nothing,
        Some((name, goes)) => does(&name, goes, jump),
    };
    let entry = set
        .chains
        .entry(full(family, table, &name))
        .or_insert_with(|| Chain { leaving: leaves(&name), ..Chain::default() });
    entry.rules.push(Rule { text: shown(text), when, does });
    Some(())
}

fn full(family: &str, table: &str, chain: &str) -> String {
    format!("{family} {table} {chain}")
}

fn leaves(chain: &str) -> bool {
    matches!(chain, "OUTPUT" | "POSTROUTING")
}

fn does(target: &str, goes: bool, chain: impl Fn(&str) -> String) -> Does {
    match target {
        "ACCEPT" => Does::Accept,
        "RETURN" => Does::Return,
        "DROP" | "TARPIT" | "DELUDE" => Does::Stop(Stop::Drop),
        "REJECT" => Does::Stop(Stop::Reject),
        "REDIRECT" | "DNAT" | "TPROXY" => Does::Stop(Stop::Redirect),
        "QUEUE" | "NFQUEUE" => Does::Stop(Stop::Queue),
        // A chain; a target that only looks or marks leads nowhere.
        name if goes => Does::Goto(chain(name)),
        name => Does::Jump(chain(name)),
    }
}

/// Conditions and target of a rule; `None` for one that never concerns a TCP connection being made to another host.
fn read(words: &[String], ports: Ports<'_>) -> Option<(When, Option<(String, bool)>)> {
    let mut when = When::always(ports);
    let mut target = None;
    let mut local = false;
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let not = word == "!";
        let option = if not { words.next()? } else { word };
        match option {
            "-p" | "--protocol" | "--proto" => {
                let tcp = matches!(words.next()?, "tcp" | "6" | "all" | "0");
                if tcp == not {
                    return None;
                }
            }
            "--dport" | "--dports" | "--destination-port" | "--destination-ports" | "--ports" => {
                let named = mask(words.next()?, ports);
                when.ports &= if not { !named } else { named };
                when.named = true;
            }
            "--uid-owner" | "--gid-owner" | "--cgroup" | "--path" => {
                let what = match option {
                    "--uid-owner" => "uid",
                    "--gid-owner" => "gid",
                    _ => "cgroup",
                };
                let owner = format!("{what} {}", shown(words.next()?));
                if not { &mut when.but } else { &mut when.owners }.push(owner);
            }
            "-j" | "--jump" => target = Some((words.next()?.to_owned(), false)),
            "-g" | "--goto" => target = Some((words.next()?.to_owned(), true)),
            "-o" | "--out-interface" => match (words.next()?, not) {
                ("lo", false) => local = true,
                ("lo", true) => {}
                _ => when.narrowed = true,
            },
            "--state" | "--ctstate" => {
                let new = words.next()?.split(',').any(|state| state.eq_ignore_ascii_case("NEW"));
                if new == not {
                    return None;
                }
            }
            "--syn" if not => return None,
            "--syn" | "--suppl-groups" => {}
            "--tcp-flags" => {
                words.next()?;
                words.next()?;
            }
            "-m" | "--match" => match words.next()? {
                "tcp" | "owner" | "multiport" | "comment" | "conntrack" | "state" | "cgroup" => {}
                "limit" | "hashlimit" | "connlimit" | "quota" | "recent" | "statistic" => when.rate = true,
                _ => when.narrowed = true,
            },
            "-4" | "--ipv4" | "-6" | "--ipv6" | "-c" | "-w" | "--wait" => {}
            "--comment" => drop(words.next()),
            // Behind the target stand its own options.
            _ if target.is_some() => {}
            // Those of a match that makes the rule a limit say how much.
            _ if when.rate && option.starts_with("--") => {}
            option if option.starts_with('-') => when.narrowed = true,
            // A value of what was not understood.
            _ => {}
        }
    }
    when.narrowed |= local;
    let lets = matches!(&target, Some((name, _)) if name == "ACCEPT" || name == "RETURN");
    (!(local && lets)).then_some((when, target))
}

/// "25,465:587"
fn mask(list: &str, ports: Ports<'_>) -> Mask {
    let range = |part: &str| match part.split_once([':', '-']) {
        Some((first, last)) => {
            let first = if first.is_empty() { Some(0) } else { port(first) };
            let last = if last.is_empty() { Some(u16::MAX) } else { port(last) };
            Some((first?, last?))
        }
        None => port(part).map(|port| (port, port)),
    };
    list.split(',').filter_map(range).fold(0, |mask, (first, last)| mask | ports.within(first, last))
}

/// Splits at blanks, but not within double or single quotes (`xtables_save_string`). `None` where a quote is left open.
fn words(text: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', Some('"')) => word.get_or_insert_default().push(chars.next()?),
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => all.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    quote.is_none().then_some(all)
}
