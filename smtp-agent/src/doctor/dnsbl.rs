//! Whether the addresses of this host are on block lists that receivers ask (RFC 5782).
//!
//! An address is listed where the name made of it has an address in 127.0.0.0/8. Each list is first asked for its two
//! test entries, so that a list that has died, or answers everything, is not believed.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    str::FromStr,
    thread,
};

use super::{Finding, Gap, Level};
use crate::{
    dns::{Resolver, Trouble, reversed},
    relay::is_domain,
};

const SUBJECT: &str = "dnsbl";
/// More than a list would like to be asked for in one go.
const MOST_ADDRESSES: usize = 32;
/// A name has 253 characters, and that of an IPv6 address takes 64 of them.
const LONGEST_ZONE: usize = 180;

/// The zone of a block list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(String);

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let zone = text.strip_suffix('.').unwrap_or(text);
        if is_domain(zone) && zone.contains('.') && zone.len() <= LONGEST_ZONE && zone.parse::<IpAddr>().is_err() {
            Ok(Self(zone.to_ascii_lowercase()))
        } else {
            Err("it is no zone of a block list; write one such as zen.spamhaus.org".to_owned())
        }
    }
}

/// What a list says of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Clean,
    Listed(Vec<Ipv4Addr>),
    Unknown(Unknown),
}

/// Why it is not known what a list says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unknown {
    /// It does not answer this resolver.
    Unserved(Ipv4Addr),
    /// An answer that means nothing.
    Strange(Vec<Ipv4Addr>),
    Refused(String),
    Silent(String),
}

/// `own` are of this host, `named` came from the command line.
pub(super) fn examine(
    root: &Path,
    zones: &[Zone],
    server: Option<SocketAddr>,
    (own, named): (&[IpAddr], &[IpAddr]),
) -> Vec<Finding> {
    if zones.is_empty() {
        return vec![Finding::new(Level::Ok, SUBJECT, "block lists were not asked")];
    }
    let addresses = own.iter().chain(named).map(IpAddr::to_canonical);
    let mut public: Vec<IpAddr> = addresses.filter(|ip| is_public(*ip)).collect();
    public.sort();
    public.dedup();
    let mut dropped: Vec<_> =
        named.iter().map(IpAddr::to_canonical).filter(|ip| !is_public(*ip)).map(private).collect();
    if public.is_empty() {
        let what = "this host has no public address of its own, so block lists were not asked";
        let advice = "name the address that its mail leaves by with --address";
        dropped.push(Finding::new(Level::Note, SUBJECT, what).advice(advice));
        return dropped;
    }
    let left_out = public.len().saturating_sub(MOST_ADDRESSES);
    public.truncate(MOST_ADDRESSES);
    let resolver = server.map_or_else(|| Resolver::of_host(root), Resolver::at);
    let mut found = ask(&resolver, zones, &public);
    found.append(&mut dropped);
    if left_out > 0 {
        found.push(Finding::new(Level::Note, SUBJECT, format!("{left_out} more addresses were not asked for")));
    }
    found
}

/// Of an address that was named, and that no list can have.
fn private(ip: IpAddr) -> Finding {
    let what = format!("{ip} was not asked for: nobody outside sees mail come from it");
    Finding::new(Level::Note, SUBJECT, what).advice("name the public address that mail leaves by with --address")
}

/// Every list at once, each address by address.
pub(super) fn ask(resolver: &Resolver, zones: &[Zone], addresses: &[IpAddr]) -> Vec<Finding> {
    thread::scope(|scope| {
        let asked: Vec<_> = zones.iter().map(|zone| scope.spawn(|| one_list(resolver, zone, addresses))).collect();
        let answers = asked.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        answers.flatten().collect()
    })
}

fn one_list(resolver: &Resolver, zone: &Zone, addresses: &[IpAddr]) -> Vec<Finding> {
    // RFC 5782, 5: 127.0.0.2 is always listed, 127.0.0.1 never.
    for (test, wanted) in [(Ipv4Addr::new(127, 0, 0, 2), true), (Ipv4Addr::LOCALHOST, false)] {
        match lookup(resolver, zone, test.into()) {
            Said::Listed(_) if wanted => {}
            Said::Clean if !wanted => {}
            Said::Clean => return vec![unusable(zone, "it does not list its test entry, so it may not work any more")],
            Said::Listed(_) => {
                return vec![unusable(zone, "it lists an address that no list has, so it lists everything")];
            }
            Said::Unknown(why) => return vec![unknown(resolver, zone, &why)],
        }
    }
    let mut found = Vec::new();
    let mut clean = Vec::new();
    for ip in addresses {
        match lookup(resolver, zone, *ip) {
            Said::Clean => clean.push(ip.to_string()),
            Said::Listed(codes) => found.push(listed(zone, *ip, &codes)),
            Said::Unknown(why) => {
                found.push(unknown(resolver, zone, &why));
                break;
            }
        }
    }
    if !clean.is_empty() {
        let what = format!("{} {} not on {zone}", super::few(&clean), if clean.len() == 1 { "is" } else { "are" });
        found.push(Finding::new(Level::Ok, SUBJECT, what));
    }
    found
}

fn listed(zone: &Zone, ip: IpAddr, codes: &[Ipv4Addr]) -> Finding {
    let name = name(ip, zone);
    let codes = codes.iter().map(|code| match meaning(zone, *code) {
        Some(meaning) => format!("{name} is {code}: {meaning}"),
        None => format!("{name} is {code}"),
    });
    Finding::new(Level::Warning, SUBJECT, format!("{ip} is on {zone}, so servers that ask it refuse mail from there"))
        .because(codes)
        .advice("find and stop who sends (`smtp-agent who`), then ask for removal on the list's own page")
}

/// Of the list that most servers ask, what its codes say.
fn meaning(zone: &Zone, code: Ipv4Addr) -> Option<&'static str> {
    if !zone.0.ends_with("spamhaus.org") && !zone.0.ends_with("spamhaus.net") {
        return None;
    }
    match code.octets() {
        [127, 0, 0, 2] => Some("SBL, seen sending spam"),
        [127, 0, 0, 3] => Some("CSS, seen sending spam in small amounts"),
        [127, 0, 0, 4..=7] => Some("XBL, a hijacked host or an open proxy"),
        [127, 0, 0, 9] => Some("DROP, a hijacked network"),
        [127, 0, 0, 10 | 11] => Some("PBL, an address that is not meant to send mail itself"),
        _ => None,
    }
}

fn unusable(zone: &Zone, why: &str) -> Finding {
    Finding::new(Level::Note, SUBJECT, format!("{zone} was not believed: {why}")).advice("leave it out with --dnsbl")
}

/// What is not known, and never taken for a listing.
fn unknown(resolver: &Resolver, zone: &Zone, why: &Unknown) -> Finding {
    let own = "name a resolver of your own with --resolver: the list does not serve public and shared ones";
    match why {
        Unknown::Unserved(code) => {
            let what = format!("{zone} refuses the resolver ({resolver}), so whether it lists this host is not known");
            Finding::new(Level::Note, SUBJECT, what).because([format!("it answered {code}")]).advice(own)
        }
        Unknown::Strange(codes) => {
            let what = format!("{zone} was not believed: the answers are none of a block list");
            let codes: Vec<_> = codes.iter().map(ToString::to_string).collect();
            Finding::new(Level::Note, SUBJECT, what)
                .because([format!("it answered {}", super::few(&codes))])
                .advice("the resolver may answer for names that do not exist; name another with --resolver")
        }
        Unknown::Refused(why) => {
            let what = format!("whether {zone} lists this host is not known: the resolver ({resolver}) answers {why}");
            Finding::new(Level::Note, SUBJECT, what).advice(own)
        }
        Unknown::Silent(why) => {
            let what = format!("whether {zone} lists this host is not known: no resolver answers ({why})");
            Finding::unseen(SUBJECT, Gap::Resolver, what)
                .advice("name a resolver with --resolver, or leave lists out with --no-dnsbl")
        }
    }
}

fn lookup(resolver: &Resolver, zone: &Zone, ip: IpAddr) -> Said {
    match resolver.ipv4(&name(ip, zone)) {
        Ok(codes) if codes.is_empty() => Said::Clean,
        Ok(codes) => read(codes),
        Err(Trouble::Refused(why)) => Said::Unknown(Unknown::Refused(why)),
        Err(Trouble::Silent(why)) => Said::Unknown(Unknown::Silent(why)),
    }
}

/// 127.255.255.0/24 is Spamhaus's way to say that it does not answer, 127.0.0.1 that of others.
fn read(codes: Vec<Ipv4Addr>) -> Said {
    let unserved = |code: &&Ipv4Addr| matches!(code.octets(), [127, 255, 255, _] | [127, 0, 0, 1]);
    if let Some(code) = codes.iter().find(unserved) {
        return Said::Unknown(Unknown::Unserved(*code));
    }
    let (codes, strange): (Vec<_>, Vec<_>) = codes.into_iter().partition(Ipv4Addr::is_loopback);
    if codes.is_empty() { Said::Unknown(Unknown::Strange(strange)) } else { Said::Listed(codes) }
}

/// Its octets or nibbles before the zone.
pub(super) fn name(ip: IpAddr, zone: &Zone) -> String {
    format!("{}.{zone}", reversed(ip))
}

/// Addresses that others can see: none that are private, local, for documentation or for tests (RFC 6890).
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && b & 0xc0 == 64;
            let benchmarks = a == 198 && b & 0xfe == 18;
            let protocols = v4.octets()[..3] == [192, 0, 0];
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || shared
                || benchmarks
                || protocols)
        }
        // Global unicast is 2000::/3; of it 2001:db8::/32 is for documentation, as is 3fff::/20 (RFC 9637).
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            let documentation = (first, second) == (0x2001, 0xdb8) || (first == 0x3fff && second < 0x1000);
            first & 0xe000 == 0x2000 && !documentation && v6 != Ipv6Addr::UNSPECIFIED
        }
    }
}
