//! Asking a resolver: just enough for block lists and for the names of destinations.
//!
//! Not the C library: it adds search domains, tells no error from "nothing", and cannot be pointed at another resolver.
#![forbid(unsafe_code)]

mod message;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hasher},
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

pub(crate) use message::reversed;
use message::{Found, Said, Wanted, query, understood};

use crate::neighbours::files::Text;

const PORT: u16 = 53;
/// Each server is asked this often, and waited for so long.
const TRIES: usize = 2;
const PATIENCE: Duration = Duration::from_secs(2);
/// As many as the C library asks.
const MOST_SERVERS: usize = 3;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The resolver answers that it does not.
    Refused(String),
    /// No server gave an answer.
    Silent(String),
}

/// What was asked for: nothing where the name does not exist, or has no such record.
pub(crate) type Answer<T> = Result<Vec<T>, Trouble>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolver {
    servers: Vec<SocketAddr>,
    patience: Duration,
}

impl Resolver {
    pub(crate) fn at(server: SocketAddr) -> Self {
        Self { servers: vec![server], patience: PATIENCE }
    }

    /// Those that resolv.conf(5) names; this host's own where it names none.
    pub(crate) fn of_host(root: &Path) -> Self {
        let text = Text::read(root, Path::new("/etc/resolv.conf")).and_then(Result::ok);
        // Lines that are not understood are left out, as the C library does.
        let named = text.map(|text| resolv_conf::Config::parse_with_errors(text.text.as_bytes()).0.nameservers);
        let ips = named.unwrap_or_default().into_iter().map(IpAddr::from);
        let mut servers: Vec<_> = ips.map(|ip| SocketAddr::new(ip, PORT)).take(MOST_SERVERS).collect();
        if servers.is_empty() {
            servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        Self { servers, patience: PATIENCE }
    }

    #[cfg(test)]
    pub(crate) fn waiting(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The IPv4 addresses of a name.
    pub(crate) fn ipv4(&self, name: &str) -> Answer<Ipv4Addr> {
        let v4 = |address| if let Found::Address(IpAddr::V4(v4)) = address { Some(v4) } else { None };
        Ok(self.ask(name, Wanted::V4)?.into_iter().filter_map(v4).collect())
    }

    /// The addresses of a name that are of the same family as this one.
    pub(crate) fn addresses_like(&self, name: &str, like: IpAddr) -> Answer<IpAddr> {
        let wanted = if like.is_ipv4() { Wanted::V4 } else { Wanted::V6 };
        let address = |found| if let Found::Address(address) = found { Some(address) } else { None };
        Ok(self.ask(name, wanted)?.into_iter().filter_map(address).collect())
    }

    /// What an address is called by whoever holds its reverse zone, which proves nothing.
    pub(crate) fn names(&self, ip: IpAddr) -> Answer<String> {
        let zone = if ip.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
        let name = |found| if let Found::Name(name) = found { Some(name) } else { None };
        Ok(self.ask(&format!("{}.{zone}", reversed(ip)), Wanted::Names)?.into_iter().filter_map(name).collect())
    }

    /// The servers that take a domain's mail, the preferred first (RFC 5321, 5.1): the domain itself where it names none, and
    /// nobody where it takes none (RFC 7505).
    pub(crate) fn exchanges(&self, domain: &str) -> Answer<String> {
        let exchange =
            |found| if let Found::Exchange(preference, name) = found { Some((preference, name)) } else { None };
        let mut all: Vec<(u16, String)> =
            self.ask(domain, Wanted::Exchanges)?.into_iter().filter_map(exchange).collect();
        if all.is_empty() {
            return Ok(vec![domain.to_owned()]);
        }
        all.sort();
        Ok(all.into_iter().map(|(_, name)| name).filter(|name| !name.is_empty() && name != ".").collect())
    }

    fn ask(&self, name: &str, wanted: Wanted) -> Answer<Found> {
        let mut last = Trouble::Silent("there is none to ask".to_owned());
        for _ in 0..TRIES {
            for server in &self.servers {
                last = match self.ask_one(*server, name, wanted) {
                    // Another server may do better.
                    Ok(Err(why)) => Trouble::Refused(why),
                    Ok(Ok(answer)) => return Ok(answer),
                    Err(e) => Trouble::Silent(format!("{server}: {}", reason(&e))),
                };
            }
            if matches!(last, Trouble::Refused(_)) {
                break;
            }
        }
        Err(last)
    }

    fn ask_one(&self, server: SocketAddr, name: &str, wanted: Wanted) -> io::Result<Result<Vec<Found>, String>> {
        // Who can read nothing of ours cannot guess number and port, so no answer can be forged from afar.
        let id = random();
        let query = query(id, name, wanted)?;
        let deadline = Instant::now() + self.patience;
        let mut said = datagram(server, &query, deadline, |bytes| understood(bytes, id, name, wanted))?;
        if said == Said::Truncated {
            said = stream(server, &query, deadline)
                .map(|bytes| understood(&bytes, id, name, wanted))?
                .ok_or_else(|| io::Error::other("the answer over TCP is to another question"))?;
        }
        match said {
            Said::Found(found) => Ok(Ok(found)),
            Said::Refused(why) => Ok(Err(why)),
            Said::Truncated => Err(io::Error::other("the answer is cut short")),
        }
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        f.write_str(&servers.join(", "))
    }
}

/// `IP` or `IP:PORT`, of the command line or of a configuration.
pub fn server_address(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    let address = ip.or_else(|_| text.parse::<SocketAddr>()).ok().filter(|address| address.port() != 0);
    address
        .ok_or_else(|| "it is no address of a resolver; write 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53".into())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The first datagram of the server's that is an answer.
fn datagram<T>(
    server: SocketAddr,
    query: &[u8],
    deadline: Instant,
    understood: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<T> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    // Connected: what others send is not seen, and a port where nobody listens is told at once.
    socket.connect(server)?;
    socket.send(query)?;
    let mut buffer = [0; 4096];
    loop {
        socket.set_read_timeout(Some(left(deadline)?))?;
        let length = socket.recv(&mut buffer)?;
        if let Some(answer) = understood(&buffer[..length]) {
            return Ok(answer);
        }
    }
}

/// The answer over TCP, where a length comes before each message (RFC 1035, 4.2.2).
fn stream(server: SocketAddr, query: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, left(deadline)?)?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?.to_be_bytes();
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(&[&length, query].concat())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let read = stream.read(&mut buffer)?;
        answer.extend(&buffer[..read]);
        if let [high, low, rest @ ..] = &answer[..]
            && let Some(message) = rest.get(..u16::from_be_bytes([*high, *low]).into())
        {
            return Ok(message.to_vec());
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Different each time, by the keys that std makes for its hash maps.
fn random() -> u16 {
    RandomState::new().build_hasher().finish() as u16
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}
