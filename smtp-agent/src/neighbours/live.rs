//! The rules in force, as nft(8) and iptables-save(8) list them.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::Path,
};

use nix::unistd::{Gid, Group};
use serde_json::Value;

use super::{
    Neighbour, Ours, Severity, command, csf, files, firewalld, imunify, iptables, nft,
    rules::{Effect, Found, Mask, Ports, Ruleset, Stop},
    whm,
};
use crate::accounts::database::user_name;

/// Named sets that are asked for; more than these few no rule on SMTP ports needs.
const MOST_SETS: u32 = 16;
/// Rules shown of one neighbour.
const SHOWN: usize = 3;

/// What was listed, by tool.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) listed: Vec<(&'static str, Ruleset)>,
    pub(super) failed: Vec<String>,
}

impl Rules {
    /// Asks the tools that are installed. A host without any has no rules that anybody could have made with them.
    pub(super) fn of_this_host(root: &Path, ports: &[u16]) -> Self {
        let ports = Ports(ports);
        let mut all = Self::default();
        // Tables that were read with iptables, of which nft tells less.
        let mut known = HashSet::new();
        for (family, prefix) in [("ip", "iptables"), ("ip6", "ip6tables")] {
            for (program, is_nft) in savers(root, prefix) {
                // Without a table in force the old tool has nothing to say, and might load modules to say it.
                if !is_nft && !has_tables(root, family) {
                    continue;
                }
                match command::output(&program, &[]) {
                    Ok(text) => {
                        if is_nft {
                            let tables = text.lines().filter_map(|line| line.strip_prefix('*'));
                            known.extend(tables.map(|table| format!("{family} {}", table.trim())));
                        }
                        all.listed.push(("iptables", iptables::parse(&text, family, ports)));
                    }
                    Err(why) => all.failed.push(why),
                }
            }
        }
        all.nft(root, &known, ports);
        all
    }

    fn nft(&mut self, root: &Path, known: &HashSet<String>, ports: Ports<'_>) {
        let Some(program) = command::locate(root, "nft") else { return };
        // Without the elements of sets, which may be a hundred thousand addresses; before 0.9.3 there was no such option.
        let listing = command::output(&program, &["-j", "-t", "list", "ruleset"])
            .or_else(|_| command::output(&program, &["-j", "list", "ruleset"]));
        let asked = Cell::new(0);
        let mut cache: HashMap<String, Option<Value>> = HashMap::new();
        let mut elements = |family: &str, table: &str, name: &str| {
            let asks = asked.get() < MOST_SETS;
            let ask = || {
                asked.set(asked.get() + 1);
                let list = |kind| command::output(&program, &["-j", "list", kind, family, table, name]).ok();
                set_elements(&list("set").or_else(|| list("map"))?)
            };
            cache.entry(format!("{family} {table} {name}")).or_insert_with(|| asks.then(ask).flatten()).clone()
        };
        match listing.and_then(|text| nft::parse(&text, known, ports, &mut elements)) {
            Ok(listing) => {
                let opaque = listing.opaque.iter();
                self.failed.extend(opaque.map(|table| {
                    format!("table {table} was made with iptables, and there is no iptables-nft-save to list it with")
                }));
                self.listed.push(("nftables", listing.rules));
            }
            Err(why) => self.failed.push(why),
        }
    }
}

/// The elements in what `nft -j list set` prints.
fn set_elements(text: &str) -> Option<Value> {
    let listing: Value = serde_json::from_str(text).ok()?;
    let set = listing["nftables"].as_array()?.iter().find_map(|o| o.get("set").or(o.get("map")))?;
    Some(set["elem"].clone())
}

/// The programs that save tables, and whether they save those kept by nf_tables.
fn savers(root: &Path, prefix: &str) -> Vec<(std::path::PathBuf, bool)> {
    let find = |way: &str| command::locate(root, &format!("{prefix}{way}-save"));
    match (find("-nft"), find("-legacy"), find("")) {
        (None, None, Some(only)) => {
            let is_nft = fs::canonicalize(&only).is_ok_and(|p| p.to_string_lossy().contains("nft"));
            vec![(only, is_nft)]
        }
        (nft, legacy, _) => nft.map(|p| (p, true)).into_iter().chain(legacy.map(|p| (p, false))).collect(),
    }
}

fn has_tables(root: &Path, family: &str) -> bool {
    fs::read(root.join(format!("proc/net/{family}_tables_names"))).is_ok_and(|names| !names.is_empty())
}

/// Everybody whose rules decide about the ports. `found` are those that configurations tell of.
pub(super) fn neighbours(rules: &Rules, ours: &Ours, found: &[Neighbour]) -> Vec<Neighbour> {
    let ports = Ports(&ours.ports);
    let mut groups: BTreeMap<(String, Effect, Vec<String>), Vec<Found>> = BTreeMap::new();
    for (tool, set) in &rules.listed {
        for one in set.find(ports) {
            let key = (owner(tool, &one, found), one.effect, one.owners.clone());
            groups.entry(key).or_default().push(one);
        }
    }
    let mut out: Vec<_> = groups.into_iter().map(|((who, effect, _), all)| say(&who, effect, &all, ours)).collect();
    if !rules.failed.is_empty() {
        let mut one = Neighbour::unseen("the firewall's rules", "");
        one.evidence = rules.failed.clone();
        out.push(one);
    }
    out
}

/// Whose rule it is, as far as its place tells.
fn owner(tool: &str, one: &Found, found: &[Neighbour]) -> String {
    let told = |who: &str| found.iter().any(|n| n.who == who && n.severity != Severity::Unseen);
    let place = one.chain.to_ascii_lowercase();
    let redirects = one.effect == Effect::Stop(Stop::Redirect) && place.ends_with(" nat output");
    let who = match () {
        () if place.contains("imunify") || one.rule.contains("i360.") => imunify::WHO,
        () if place.contains("smtpoutput") || place.contains("logdropout") => csf::WHO,
        () if place.contains(" firewalld ") || place.ends_with("_direct") => firewalld::WHO,
        () if place.contains(" ufw") => "ufw",
        () if place.ends_with(" smtp_blk") => "APF",
        // Both put theirs into the tables' own chains.
        () if (redirects || place.ends_with(" filter output")) && told(whm::WHO) => whm::WHO,
        () if redirects && told(csf::WHO) => csf::WHO,
        () => tool,
    };
    who.to_owned()
}

fn say(who: &str, effect: Effect, all: &[Found], ours: &Ours) -> Neighbour {
    let mask = all.iter().fold(0, |mask: Mask, one| mask | one.ports);
    let list = Ports(&ours.ports).list(mask);
    let ports = files::ports(&list);
    let everyone = all.iter().any(|one| one.owners.is_empty());
    let whom = whom(all);
    let mut severity = if everyone && !ours.only_mta && all.iter().any(|one| !one.conditional) {
        Severity::Warning
    } else {
        Severity::Information
    };
    let together = match effect {
        Effect::Stop(Stop::Reject) => format!("rejects {ports} for {whom}: {REJECTED}"),
        Effect::Stop(Stop::Drop) => format!("drops {ports} for {whom}: {DROPPED}"),
        Effect::Default(stop) => {
            let so = if stop == Stop::Reject { REJECTED } else { DROPPED };
            format!("lets {ports} through for {}: {so}", let_through(all))
        }
        Effect::Stop(Stop::Redirect) => {
            severity = Severity::Warning;
            format!("sends {ports} of {whom} to another server: {}", redirected(&list, ours))
        }
        Effect::Stop(Stop::Queue) => {
            severity = Severity::Information;
            format!(
                "leaves {ports} of {whom} to a program (NFQUEUE): what it stops has been charged by smtp-agent before"
            )
        }
        Effect::Limit => {
            severity = Severity::Information;
            format!(
                "limits {ports} for {whom} by counts of its own: both limits hold and the tighter one decides; what is \
                 stopped there has been charged by smtp-agent before"
            )
        }
    };
    let mut evidence: Vec<_> = all.iter().take(SHOWN).map(evidence).collect();
    if all.len() > SHOWN {
        evidence.push(format!("and {} more rules", all.len() - SHOWN));
    }
    Neighbour::new(severity, who, evidence, together)
}

/// What becomes of a connection that both decide about; CSF and the others have the same ways.
pub(super) const REJECTED: &str = "what smtp-agent lets out there still fails, with ECONNREFUSED as if it were deferred \
    (or EHOSTUNREACH), and has been charged, since netfilter sees a connection only after connect() was decided. Its \
    session ends as `refused`, `unreachable` or `aborted`";
pub(super) const DROPPED: &str = "what smtp-agent lets out there hangs until the client gives up, and has been charged, \
    since netfilter sees a connection only after connect() was decided. Its session ends as `timed_out` or `aborted`";

/// The same for those that are sent elsewhere.
pub(super) fn redirected(ports: &[u16], ours: &Ours) -> String {
    let mut text =
        "smtp-agent decides before and charges a connection to the server that was asked for (route `remote`); \
                    what the MTA that answers sends on is charged once more, to the MTA and to the host's budget"
            .to_owned();
    if ours.redirects {
        text.push_str(
            ". An account within its limits is redirected as well, so on_soft = \"redirect\" changes nothing for it",
        );
    }
    if ports.iter().any(|port| *port != 25) {
        text.push_str(". Clients that check certificates fail where it is not port 25");
    }
    text
}

fn evidence(one: &Found) -> String {
    let via = match one.via.last() {
        Some(via) => format!(" (reached by: {via})"),
        None => String::new(),
    };
    format!("{}: {}{via}", one.chain, one.rule)
}

fn whom(all: &[Found]) -> String {
    let owners = named(all.iter().flat_map(|one| &one.owners));
    if !owners.is_empty() {
        return owners;
    }
    let spared = named(all.iter().flat_map(|one| &one.spared));
    if spared.is_empty() { "everyone".to_owned() } else { format!("everyone but {spared}") }
}

fn let_through(all: &[Found]) -> String {
    let spared = named(all.iter().flat_map(|one| &one.spared));
    if spared.is_empty() { "nobody".to_owned() } else { format!("nobody but {spared}") }
}

/// "uid 0 (root) and gid 12 (mail)"
fn named<'a>(owners: impl Iterator<Item = &'a String>) -> String {
    let mut seen = HashSet::new();
    let owners: Vec<_> = owners.filter(|owner| seen.insert(*owner)).collect();
    let name = |owner: &str| {
        let (kind, number) = owner.split_once(' ')?;
        let number = number.parse().ok()?;
        match kind {
            "uid" => user_name(number),
            "gid" => Group::from_gid(Gid::from_raw(number)).ok().flatten().map(|group| group.name),
            _ => None,
        }
    };
    files::listed(owners.into_iter().take(12).map(|owner| match name(owner) {
        Some(name) => format!("{owner} ({})", files::shown(&name)),
        None => owner.clone(),
    }))
}
