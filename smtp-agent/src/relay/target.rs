//! Which server is meant, whether it is this host's own, and what an answer from here is worth.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    str::FromStr,
    sync::mpsc,
    thread,
    time::Duration,
};

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use serde::Serialize;

use super::command::is_domain;
use crate::exit::{Failure, Result};

const SMTP: u16 = 25;

/// `HOST`, `HOST:PORT`, `[v6]:PORT`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
}

impl Target {
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name, unless the server was named by address.
    pub(super) fn name(&self) -> Option<&str> {
        self.host.parse::<IpAddr>().is_err().then_some(self.host.as_str())
    }

    /// Every address of the server, each once.
    pub(super) fn addresses(&self, timeout: Duration) -> Result<Vec<SocketAddr>> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        // The C library's resolver keeps time by /etc/resolv.conf, so it is left behind where it takes too long.
        let (send, receive) = mpsc::channel();
        let (host, port) = (self.host.clone(), self.port);
        thread::spawn(move || send.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)));
        let host = &self.host;
        let found = receive
            .recv_timeout(timeout)
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver gave no answer in time")))
            .map_err(|e| Failure::unavailable(format!("unclear: the address of {host} cannot be found: {e}")))?;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in found {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(Failure::unavailable(format!("unclear: {host} has no address")));
        }
        Ok(addresses)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = "write HOST, HOST:PORT or [IPv6 address]:PORT";
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let Some((host, port)) = rest.split_once(']') else { return Err(format!("the ] is missing; {advice}")) };
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("{host:?} is no IPv6 address; {advice}"));
            }
            match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if port.is_empty() => (host, None),
                None => return Err(format!("after the ] comes {port:?}; {advice}")),
            }
        } else if text.matches(':').count() > 1 {
            (text, None)
        } else {
            text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
        };
        let port = match port {
            None => SMTP,
            Some(port) => match port.parse() {
                Ok(number @ 1..) if port.bytes().all(|b| b.is_ascii_digit()) => number,
                _ => return Err(format!("{port:?} is no port; write a number from 1 to 65535")),
            },
        };
        // A dot at the end says that a name is whole.
        let name = host.strip_suffix('.').unwrap_or(host);
        // The C library takes such "names" for addresses: 127.1, 0x7f000001.
        let numeric = name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
        match host.parse::<IpAddr>() {
            Ok(ip) => Ok(Self { host: ip.to_string(), port }),
            Err(_) if is_domain(name) && !numeric => Ok(Self { host: name.to_owned(), port }),
            Err(_) => Err(format!("{host:?} is neither a host name nor an address; {advice}")),
        }
    }
}

/// The addresses of this host's interfaces, with their networks.
pub(super) fn own_networks() -> Result<Vec<IpNet>> {
    let found =
        getifaddrs().map_err(|e| Failure::from_io(&io::Error::from(e), "the addresses of this host cannot be read"))?;
    Ok(found
        .filter_map(|interface| {
            let address = ip(interface.address.as_ref()?)?;
            let mask = interface.netmask.as_ref().and_then(ip);
            mask.and_then(|mask| IpNet::with_netmask(address, mask).ok()).or(Some(IpNet::from(address)))
        })
        .collect())
}

fn ip(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = || address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())).or_else(v4)
}

/// Whether an address leads to this host. The unspecified ones do: connect(2) takes them for loopback.
pub(super) fn is_own(ip: IpAddr, own: &[IpNet]) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified() || own.iter().any(|net| net.addr() == ip)
}

/// From where the server is asked, as it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Vantage {
    Loopback,
    /// From the host itself, at another address than loopback.
    Itself,
    /// At a private address.
    Private,
    /// From the network that the server is in.
    SameNetwork,
    /// From a private address, which a router has made a public one.
    Translated,
    Outside,
}

impl Vantage {
    pub(super) fn of(server: IpAddr, client: IpAddr, own: &[IpNet]) -> Self {
        let (server, client) = (server.to_canonical(), client.to_canonical());
        if server.is_loopback() || client.is_loopback() || server.is_unspecified() {
            Self::Loopback
        } else if is_own(server, own) || server == client {
            Self::Itself
        } else if is_private(server) {
            Self::Private
        } else if own.iter().any(|net| net.contains(&server)) {
            Self::SameNetwork
        } else if is_private(client) {
            Self::Translated
        } else {
            Self::Outside
        }
    }

    /// Whether a server may relay for this client on purpose, so that what it takes from here says nothing of others.
    pub(super) fn is_trusted(self) -> bool {
        matches!(self, Self::Loopback | Self::Itself | Self::Private)
    }

    /// What a verdict from here is worth.
    pub fn worth(self) -> &'static str {
        match self {
            Self::Loopback => {
                "asked over loopback, which servers trust: `closed` holds for what listens there, and what is taken from here \
                 proves nothing; ask from a host outside with --i-operate-this-host"
            }
            Self::Itself => {
                "asked from the server's own host, which servers often trust: `closed` holds for others too, and what \
                 is taken from here proves nothing; ask from a host outside with --i-operate-this-host"
            }
            Self::Private => {
                "asked at a private address, and servers often trust their own network: `closed` holds for this \
                 network, and what is taken from here proves nothing; ask from a host outside with --i-operate-this-host"
            }
            Self::SameNetwork => {
                "asked from the network that the server is in, which some servers trust: `open` holds at least for the \
                 neighbours in it; ask from a host outside to be sure"
            }
            Self::Translated => {
                "asked through NAT: this is what strangers meet, unless the server is this host itself or stands \
                 behind the same router"
            }
            Self::Outside => "asked from outside: this is what strangers meet",
        }
    }
}

/// Addresses that do not lead into the Internet.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        // 100.64.0.0/10 is for carriers' NAT (RFC 6598).
        IpAddr::V4(v4) => {
            v4.is_private() || v4.is_link_local() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
