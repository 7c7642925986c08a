//! Asking a resolver for the addresses of a name, over UDP: just enough for block lists.
//!
//! Not the C library: it adds search domains, tells no error from "nothing", and cannot be pointed at another resolver.

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hasher},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, rdata::RData};

use crate::neighbours::files::Text;

const PORT: u16 = 53;
/// Each server is asked this often, and waited for so long.
const TRIES: usize = 2;
const PATIENCE: Duration = Duration::from_secs(2);
/// As many as the C library asks.
const MOST_SERVERS: usize = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Addresses(Vec<Ipv4Addr>),
    /// The name does not exist, or has no IPv4 address.
    Nothing,
    /// The resolver answers that it does not.
    Refused(String),
    /// No server gave an answer.
    Silent(String),
}

#[derive(Debug, Clone)]
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    patience: Duration,
}

impl Resolver {
    pub(super) fn at(server: SocketAddr) -> Self {
        Self { servers: vec![server], patience: PATIENCE }
    }

    /// Those that resolv.conf(5) names; this host's own where it names none.
    pub(super) fn of_host(root: &Path) -> Self {
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
    pub(super) fn waiting(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The IPv4 addresses of a name.
    pub(super) fn lookup(&self, name: &str) -> Answer {
        let mut last = Answer::Silent("there is none to ask".to_owned());
        for _ in 0..TRIES {
            for server in &self.servers {
                last = match self.ask(*server, name) {
                    // Another server may do better.
                    Ok(Answer::Refused(why)) => Answer::Refused(why),
                    Ok(answer) => return answer,
                    Err(e) => Answer::Silent(format!("{server}: {}", reason(&e))),
                };
            }
            if matches!(last, Answer::Refused(_)) {
                break;
            }
        }
        last
    }

    fn ask(&self, server: SocketAddr, name: &str) -> io::Result<Answer> {
        // Who can read nothing of ours cannot guess number and port, so no answer can be forged from afar.
        let id = random();
        let query = query(id, name)?;
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        // Connected: what others send is not seen, and a port where nobody listens is told at once.
        socket.connect(server)?;
        socket.send(&query)?;
        let deadline = Instant::now() + self.patience;
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            socket.set_read_timeout(Some(left))?;
            let length = socket.recv(&mut buffer)?;
            if let Some(answer) = understood(&buffer[..length], id, name) {
                return Ok(answer);
            }
        }
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        f.write_str(&servers.join(", "))
    }
}

/// `IP` or `IP:PORT`, for the command line.
pub fn server_address(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    let address = ip.or_else(|_| text.parse::<SocketAddr>()).ok().filter(|address| address.port() != 0);
    address
        .ok_or_else(|| "it is no address of a resolver; write 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53".into())
}

fn query(id: u16, name: &str) -> io::Result<Vec<u8>> {
    let invalid = |e| io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is no name: {e}"));
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).map_err(invalid)?,
        QTYPE::TYPE(TYPE::A),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().map_err(invalid)
}

/// The answer, where this is one to the question.
pub(super) fn understood(bytes: &[u8], id: u16, name: &str) -> Option<Answer> {
    let packet = Packet::parse(bytes).ok()?;
    let asked = packet.questions.first()?;
    let same = asked.qname.to_string().eq_ignore_ascii_case(name) && asked.qtype == QTYPE::TYPE(TYPE::A);
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) || !same {
        return None;
    }
    match packet.rcode() {
        RCODE::NoError => {
            let addresses = packet.answers.iter().filter_map(|record| match &record.rdata {
                RData::A(a) => Some(Ipv4Addr::from(a.address)),
                _ => None,
            });
            let addresses: Vec<_> = addresses.collect();
            Some(if addresses.is_empty() { Answer::Nothing } else { Answer::Addresses(addresses) })
        }
        RCODE::NameError => Some(Answer::Nothing),
        other => Some(Answer::Refused(format!("{other:?}"))),
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
