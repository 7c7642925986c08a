//! Names of destinations, where `[history] resolve` asks for them: none is looked up by default, and none is guessed.
//!
//! A PTR record says whatever the holder of the address likes: the name is believed where it leads back to the address. An MX
//! is said by the domain: its servers are known by their addresses, of the domains that the configuration lists.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    config::{self, Resolve},
    dns::{Resolver, Trouble},
    relay::is_domain,
    store::{Host, Named, now},
};

/// Names of one address that are tried.
const MOST_NAMES: usize = 4;
/// Servers of one domain that are asked for.
const MOST_SERVERS: usize = 10;
/// How often the servers of the domains are asked for: the great ones change what they answer.
const MX_AGAIN: Duration = Duration::from_secs(600);
/// How long an address of an answer is remembered.
const MX_HOLDS: Duration = Duration::from_secs(7 * 86_400);
const MOST_ADDRESSES: usize = 10_000;
/// When so many questions in a row have no answer, the resolver is left alone for a while.
const MOST_SILENCE: u32 = 3;
const REST: Duration = Duration::from_secs(300);

/// Asks, and remembers what it need not ask again.
pub struct Asker {
    config: config::History,
    resolver: Resolver,
    servers: HashMap<IpAddr, HashMap<String, Instant>>,
    mx_asked: Option<Instant>,
    rests_until: Option<Instant>,
    /// The resolver does not answer, and that was said.
    said: bool,
}

impl Asker {
    pub fn new(config: &config::History, root: &Path) -> Self {
        let resolver = config.resolver.map_or_else(|| Resolver::of_host(root), Resolver::at);
        Self {
            config: config.clone(),
            resolver,
            servers: HashMap::new(),
            mx_asked: None,
            rests_until: None,
            said: false,
        }
    }

    /// Whether it asks as the configuration says now.
    pub fn is_of(&self, config: &config::History) -> bool {
        self.config == *config
    }

    pub fn is_resting(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }

    /// What these are called: those it came to in this time.
    pub fn ask(&mut self, addresses: &[IpAddr], time: Duration) -> Vec<Host> {
        let end = Instant::now() + time;
        let has = |what| self.config.resolve.contains(&what);
        let (ptr, mx) = (has(Resolve::Ptr), has(Resolve::Mx));
        if mx && self.mx_asked.is_none_or(|asked| asked.elapsed() >= MX_AGAIN) && addresses.iter().any(is_asked_for) {
            self.ask_for_servers();
        }
        let mut hosts = Vec::new();
        let mut silence = 0;
        for address in addresses {
            if Instant::now() >= end {
                break;
            }
            let (name, how) = self.name(*address, ptr, &mut silence);
            hosts.push(Host { address: *address, name, how, asked: now() });
            if silence >= MOST_SILENCE {
                self.rests_until = Some(Instant::now() + REST);
                break;
            }
        }
        hosts
    }

    fn name(&mut self, address: IpAddr, ptr: bool, silence: &mut u32) -> (Option<String>, Named) {
        if !is_asked_for(&address) {
            return (None, Named::Not);
        }
        if let Some(domains) = self.domains(address) {
            return (Some(domains), Named::Mx);
        }
        if !ptr {
            return (None, Named::Failed);
        }
        match confirmed(&self.resolver, address) {
            Ok(name) => {
                *silence = 0;
                if std::mem::take(&mut self.said) {
                    tracing::info!(resolver = %self.resolver, "the resolver answers again");
                }
                let how = if name.is_some() { Named::Ptr } else { Named::Not };
                (name, how)
            }
            Err(Trouble::Refused(why)) => {
                *silence = 0;
                tracing::debug!(%address, why, "the resolver has no name");
                (None, Named::Failed)
            }
            Err(Trouble::Silent(why)) => {
                *silence += 1;
                self.silent(&why);
                (None, Named::Failed)
            }
        }
    }

    fn silent(&mut self, why: &str) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!("names of destinations are not known, no resolver answers: {why}");
        }
    }

    /// The domains whose mail an address takes.
    fn domains(&self, address: IpAddr) -> Option<String> {
        let domains: BTreeSet<&str> = self.servers.get(&address)?.keys().map(String::as_str).collect();
        Some(domains.into_iter().collect::<Vec<_>>().join(", "))
    }

    fn ask_for_servers(&mut self) {
        let asked = Instant::now();
        self.mx_asked = Some(asked);
        for domain in &self.config.mx_domains {
            let servers = match self.resolver.exchanges(domain) {
                Ok(servers) => servers,
                Err(Trouble::Refused(why)) => {
                    tracing::debug!(domain, why, "the resolver knows no servers");
                    continue;
                }
                // Each of the others would take as long.
                Err(Trouble::Silent(why)) => return self.silent(&why),
            };
            for server in servers.iter().take(MOST_SERVERS) {
                for like in [IpAddr::from([0; 4]), IpAddr::from([0; 16])] {
                    for address in self.resolver.addresses_like(server, like).unwrap_or_default() {
                        if self.servers.len() < MOST_ADDRESSES || self.servers.contains_key(&address) {
                            self.servers.entry(address).or_default().insert(domain.clone(), asked);
                        }
                    }
                }
            }
        }
        self.servers.retain(|_, domains| {
            domains.retain(|_, seen| seen.elapsed() < MX_HOLDS);
            !domains.is_empty()
        });
    }
}

/// What others may be asked of: addresses of this host and of its link have no name elsewhere.
fn is_asked_for(address: &IpAddr) -> bool {
    let here = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    let link = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(here || link)
}

/// The name of an address that has this address.
fn confirmed(resolver: &Resolver, address: IpAddr) -> Result<Option<String>, Trouble> {
    for name in resolver.names(address)?.into_iter().take(MOST_NAMES) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if is_domain(&name)
            && name.contains('.')
            && name.parse::<IpAddr>().is_err()
            && resolver.addresses_like(&name, address)?.contains(&address)
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::tests::{Act, Server};
    use simple_dns::{RCODE, TYPE};

    const SOON: Duration = Duration::from_secs(5);

    fn asker(server: &Server, resolve: &[Resolve]) -> Asker {
        let config = config::History {
            resolve: resolve.to_vec(),
            resolver: Some(server.address),
            mx_domains: vec!["big.example".to_owned(), "same.example".to_owned()],
            ..config::History::default()
        };
        Asker { resolver: server.resolver(), ..Asker::new(&config, Path::new("/nonexistent")) }
    }

    fn told(hosts: &[Host]) -> Vec<(Option<&str>, Named)> {
        hosts.iter().map(|host| (host.name.as_deref(), host.how)).collect()
    }

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn a_name_is_believed_where_it_leads_back() {
        let server = Server::typed(|name, of| match (name, of) {
            ("1.2.0.192.in-addr.arpa", _) => Act::Names(vec!["MX1.Provider.Example"]),
            ("mx1.provider.example", TYPE::A) => Act::Mixed(vec![ip(9), ip(1)]),
            ("2.2.0.192.in-addr.arpa", _) => Act::Names(vec!["mail.google.com"]),
            ("mail.google.com", TYPE::A) => Act::Mixed(vec![ip(200)]),
            ("3.2.0.192.in-addr.arpa", _) => Act::Names(vec!["<b>.example", "localhost", "evil\u{1b}[2J.example"]),
            ("4.2.0.192.in-addr.arpa", _) => Act::Code(RCODE::ServerFailure),
            ("5.2.0.192.in-addr.arpa", _) => Act::Names(vec!["lost.example", "found.example"]),
            ("found.example", TYPE::A) => Act::Mixed(vec![ip(5)]),
            _ => Act::Code(RCODE::NameError),
        });
        let mut asker = asker(&server, &[Resolve::Ptr]);
        let hosts = asker.ask(&[ip(1), ip(2), ip(3), ip(4), ip(5), ip(6), [127, 0, 0, 1].into()], SOON);
        let none = (None, Named::Not);
        assert_eq!(
            told(&hosts),
            [
                (Some("mx1.provider.example"), Named::Ptr),
                none,
                none,
                (None, Named::Failed),
                (Some("found.example"), Named::Ptr),
                none,
                none
            ]
        );
        assert!(!server.asked().iter().any(|name| name.starts_with("1.0.0.127")), "{:?}", server.asked());
        assert!(!server.asked().iter().any(|name| name.contains("big.example")), "MX was not asked for");
    }

    #[test]
    fn servers_are_known_by_the_domains_whose_mail_they_take() {
        let server = Server::typed(|name, of| match (name, of) {
            ("big.example", TYPE::MX) => Act::Exchanges(vec![(10, "mx.big.example")]),
            ("same.example", TYPE::MX) => Act::Exchanges(vec![(10, "mx2.big.example")]),
            ("mx.big.example", TYPE::A) => Act::Mixed(vec![ip(1), ip(2)]),
            ("mx2.big.example", TYPE::A) => Act::Mixed(vec![ip(2)]),
            ("3.2.0.192.in-addr.arpa", _) => Act::Names(vec!["a.example"]),
            ("a.example", TYPE::A) => Act::Mixed(vec![ip(3)]),
            _ => Act::Code(RCODE::NameError),
        });
        let addresses = [ip(1), ip(2), ip(3)];
        let mut both = asker(&server, &[Resolve::Ptr, Resolve::Mx]);
        let hosts = both.ask(&addresses, SOON);
        let [one, two] = [(Some("big.example"), Named::Mx), (Some("big.example, same.example"), Named::Mx)];
        assert_eq!(told(&hosts), [one, two, (Some("a.example"), Named::Ptr)]);
        let asked = server.asked().len();
        both.ask(&addresses[..2], SOON);
        assert_eq!(server.asked().len(), asked, "the servers are remembered");
        let mut alone = asker(&server, &[Resolve::Mx]);
        assert_eq!(told(&alone.ask(&addresses, SOON)), [one, two, (None, Named::Failed)]);
        assert_eq!(told(&alone.ask(&[[127, 0, 0, 1].into()], SOON)), [(None, Named::Not)]);
    }

    #[test]
    fn a_resolver_that_does_not_answer_is_left_alone_for_a_while() {
        let server = Server::typed(|_, _| Act::Silence);
        let mut asker = asker(&server, &[Resolve::Ptr]);
        let hosts = asker.ask(&[ip(1), ip(2), ip(3), ip(4), ip(5)], SOON);
        assert_eq!(told(&hosts), [(None, Named::Failed); 3]);
        assert!(asker.is_resting());
        let mut none = Asker { rests_until: None, ..asker };
        assert!(none.ask(&[ip(1)], Duration::ZERO).is_empty(), "there was no time");
    }
}
