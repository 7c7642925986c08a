//! A resolver on loopback that answers as a test says, and what is understood of it.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE,
    rdata::{A, AAAA, CNAME, MX, PTR, RData},
};

use super::{Resolver, Trouble, message, message::Wanted, reversed, server_address};

pub(crate) enum Act {
    Addresses(Vec<Ipv4Addr>),
    /// Of either family.
    Mixed(Vec<IpAddr>),
    Names(Vec<&'static str>),
    Exchanges(Vec<(u16, &'static str)>),
    /// No more than that there is more, unless over TCP.
    Truncated(Vec<&'static str>),
    Alias,
    Code(RCODE),
    Silence,
    Garbage(Vec<u8>),
    /// The right answer under another number, and then the right one.
    Forged(Ipv4Addr, Ipv4Addr),
    /// An answer to another question.
    OtherName,
}

pub(crate) fn is(last: u8) -> Act {
    Act::Addresses(vec![Ipv4Addr::new(127, 0, 0, last)])
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
}

impl Server {
    /// One that has addresses alone.
    pub(crate) fn new(answer: impl Fn(&str) -> Act + Send + Sync + 'static) -> Self {
        Self::typed(move |name, _| answer(name))
    }

    pub(crate) fn typed(answer: impl Fn(&str, TYPE) -> Act + Send + Sync + 'static) -> Self {
        let (socket, listener) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port on loopback");
            // Another program may have the same port of TCP.
            if let Ok(listener) = TcpListener::bind(socket.local_addr().expect("its address")) {
                break (socket, listener);
            }
        };
        let server =
            Self { address: socket.local_addr().expect("its address"), asked: Arc::default(), over: Arc::default() };
        let answer = Arc::new(answer);
        let (asked, over, over_udp) = (server.asked.clone(), server.over.clone(), answer.clone());
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Some((query, name, of)) = question(&buffer[..length]) else { continue };
                asked.lock().expect("no panic in another thread").push(name.clone());
                for answer in answers(&query, &name, over_udp(&name, of)) {
                    socket.send_to(&answer, client).expect("an answer");
                }
            }
        });
        let over = server.over.clone();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let mut length = [0; 2];
                stream.read_exact(&mut length).expect("a length");
                let mut bytes = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut bytes).expect("a question");
                let (query, name, of) = question(&bytes).expect("a question");
                let Act::Truncated(names) = answer(&name, of) else { panic!("{name} was no cut answer") };
                let whole = answers(&query, &name, Act::Names(names)).remove(0);
                let length = u16::try_from(whole.len()).expect("a length").to_be_bytes();
                // In pieces, as they may come.
                for piece in [&length[..1], &length[1..], &whole[..9], &whole[9..]] {
                    stream.write_all(piece).expect("a piece");
                    stream.flush().expect("it goes");
                }
            }
        });
        server
    }

    pub(crate) fn resolver(&self) -> Resolver {
        Resolver::at(self.address).waiting(Duration::from_millis(150))
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic in another thread").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes them up, and they end.
        let woken = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", self.address));
        drop((woken, TcpStream::connect(self.address)));
    }
}

fn question(bytes: &[u8]) -> Option<(Packet<'_>, String, TYPE)> {
    let query = Packet::parse(bytes).ok()?;
    let name = query.questions[0].qname.to_string();
    let QTYPE::TYPE(of) = query.questions[0].qtype else { return None };
    Some((query, name, of))
}

fn reply(query: &Packet, id: u16, name: &str, code: RCODE, records: Vec<RData>) -> Vec<u8> {
    let mut reply = Packet::new_reply(id);
    reply.set_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE);
    *reply.rcode_mut() = code;
    let mut question = query.questions[0].clone();
    question.qname = Name::new_unchecked(name);
    reply.questions.push(question);
    for record in records {
        reply.answers.push(ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 60, record));
    }
    reply.build_bytes_vec_compressed().expect("a packet")
}

fn record(address: IpAddr) -> RData<'static> {
    match address {
        IpAddr::V4(v4) => RData::A(A { address: u32::from(v4) }),
        IpAddr::V6(v6) => RData::AAAA(AAAA { address: u128::from(v6) }),
    }
}

fn v4(addresses: Vec<Ipv4Addr>) -> Vec<RData<'static>> {
    addresses.into_iter().map(|address| record(address.into())).collect()
}

fn answers(query: &Packet, name: &str, act: Act) -> Vec<Vec<u8>> {
    let (id, good) = (query.id(), RCODE::NoError);
    let well = |records| vec![reply(query, id, name, good, records)];
    match act {
        Act::Addresses(addresses) => well(v4(addresses)),
        Act::Mixed(addresses) => well(addresses.into_iter().map(record).collect()),
        Act::Names(names) => well(names.into_iter().map(|name| RData::PTR(PTR(Name::new_unchecked(name)))).collect()),
        Act::Exchanges(all) => {
            let mx = |(preference, name)| RData::MX(MX { preference, exchange: Name::new_unchecked(name) });
            well(all.into_iter().map(mx).collect())
        }
        Act::Truncated(_) => {
            let mut cut = reply(query, id, name, good, Vec::new());
            // TC, in the third octet of the header, and a length that says there is an answer.
            cut[2] |= 2;
            cut[7] = 1;
            vec![cut]
        }
        Act::Alias => {
            let mut records = v4(vec![Ipv4Addr::new(127, 0, 0, 4)]);
            records.insert(0, RData::CNAME(CNAME(Name::new_unchecked("elsewhere.example"))));
            well(records)
        }
        Act::Code(code) => vec![reply(query, id, name, code, Vec::new())],
        Act::Silence => Vec::new(),
        Act::Garbage(bytes) => vec![bytes],
        Act::Forged(wrong, right) => vec![
            reply(query, id.wrapping_add(1), name, good, v4(vec![wrong])),
            reply(query, id, name, good, v4(vec![right])),
        ],
        Act::OtherName => vec![reply(query, id, "other.example", good, v4(vec![Ipv4Addr::LOCALHOST]))],
    }
}

#[test]
fn addresses_nothing_and_refusals_are_told_apart() {
    let server = Server::new(|name| match name {
        "two.example" => Act::Addresses(vec![Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 9)]),
        "alias.example" => Act::Alias,
        "empty.example" => Act::Addresses(Vec::new()),
        "refused.example" => Act::Code(RCODE::Refused),
        "broken.example" => Act::Code(RCODE::ServerFailure),
        _ => Act::Code(RCODE::NameError),
    });
    let resolver = server.resolver();
    let ip = |last| Ipv4Addr::new(127, 0, 0, last);
    assert_eq!(resolver.ipv4("two.example"), Ok(vec![ip(2), ip(9)]));
    assert_eq!(resolver.ipv4("alias.example"), Ok(vec![ip(4)]));
    assert_eq!(resolver.ipv4("empty.example"), Ok(Vec::new()));
    assert_eq!(resolver.ipv4("absent.example"), Ok(Vec::new()));
    assert_eq!(resolver.ipv4("refused.example"), Err(Trouble::Refused("Refused".into())));
    assert_eq!(resolver.ipv4("broken.example"), Err(Trouble::Refused("ServerFailure".into())));
    assert!(matches!(resolver.ipv4("no..name"), Err(Trouble::Silent(_))));
}

#[test]
fn forged_strange_and_missing_answers_are_not_believed_and_end_in_time() {
    let right = Ipv4Addr::new(127, 0, 0, 4);
    let server = Server::new(move |name| match name {
        "forged.example" => Act::Forged(Ipv4Addr::new(127, 0, 0, 66), right),
        "other.example" => Act::OtherName,
        "wrong.example" => Act::OtherName,
        "garbage.example" => Act::Garbage(vec![0xff; 300]),
        _ => Act::Silence,
    });
    let resolver = server.resolver();
    assert_eq!(resolver.ipv4("forged.example"), Ok(vec![right]));
    let began = Instant::now();
    for name in ["wrong.example", "garbage.example", "silent.example"] {
        let answer = resolver.ipv4(name);
        assert!(
            matches!(&answer, Err(Trouble::Silent(why)) if why.contains("no answer in time")),
            "{name}: {answer:?}"
        );
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // A port where nobody listens is told at once.
    let nobody = Resolver::at(([127, 0, 0, 1], 1).into());
    let answer = nobody.ipv4("a.example");
    assert!(matches!(answer, Err(Trouble::Silent(why)) if why.contains("127.0.0.1:1: Connection refused")));
}

#[test]
fn names_of_addresses_and_servers_of_domains_are_asked_for() {
    let server = Server::typed(|name, of| match (name, of) {
        ("25.2.0.192.in-addr.arpa", TYPE::PTR) => Act::Names(vec!["mx.example", "other.example"]),
        ("5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", TYPE::PTR) => {
            Act::Names(vec!["mx6.example"])
        }
        ("26.2.0.192.in-addr.arpa", TYPE::PTR) => Act::Truncated(vec!["long.example"; 40]),
        ("example", TYPE::MX) => Act::Exchanges(vec![(20, "late.example"), (10, "early.example")]),
        ("nobody.example", TYPE::MX) => Act::Exchanges(vec![(0, "")]),
        ("mx.example", of) if of == TYPE::A || of == TYPE::AAAA => {
            Act::Mixed(vec![[192, 0, 2, 25].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x25].into()])
        }
        _ => Act::Code(RCODE::NameError),
    });
    let resolver = server.resolver();
    let [v4, v6]: [IpAddr; 2] = [[192, 0, 2, 25].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x25].into()];
    assert_eq!(resolver.names(v4), Ok(vec!["mx.example".to_owned(), "other.example".to_owned()]));
    assert_eq!(resolver.names(v6), Ok(vec!["mx6.example".to_owned()]));
    assert_eq!(resolver.names([192, 0, 2, 26].into()), Ok(vec!["long.example".to_owned(); 40]), "over TCP");
    assert_eq!(resolver.names([192, 0, 2, 27].into()), Ok(Vec::new()));
    assert_eq!(resolver.addresses_like("mx.example", v4), Ok(vec![v4]));
    assert_eq!(resolver.addresses_like("mx.example", v6), Ok(vec![v6]));
    assert_eq!(resolver.exchanges("example"), Ok(vec!["early.example".to_owned(), "late.example".to_owned()]));
    assert_eq!(resolver.exchanges("bare.example"), Ok(vec!["bare.example".to_owned()]), "it takes its mail itself");
    assert_eq!(resolver.exchanges("nobody.example"), Ok(Vec::new()), "it takes none");
    assert_eq!(reversed([192, 0, 2, 1].into()), "1.2.0.192");
}

#[test]
fn the_resolvers_of_the_host_are_those_of_resolv_conf() {
    let root = tempfile::tempdir().expect("a directory");
    assert_eq!(Resolver::of_host(root.path()).to_string(), "127.0.0.1:53");
    fs::create_dir(root.path().join("etc")).expect("a directory");
    let text = "# x\nsearch example.org\nnonsense\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n";
    fs::write(root.path().join("etc/resolv.conf"), text).expect("a file");
    assert_eq!(Resolver::of_host(root.path()).to_string(), "192.0.2.1:53, [2001:db8::1]:53");
}

#[test]
fn a_resolver_is_named_with_or_without_a_port() {
    for (text, shown) in [
        ("192.0.2.1", "192.0.2.1:53"),
        ("192.0.2.1:5353", "192.0.2.1:5353"),
        ("2001:db8::1", "[2001:db8::1]:53"),
        ("[2001:db8::1]:54", "[2001:db8::1]:54"),
    ] {
        assert_eq!(server_address(text).map(|address| address.to_string()), Ok(shown.to_owned()));
    }
    for bad in ["", "resolver.example", "192.0.2.1:0", "192.0.2.1:x", "[192.0.2.1"] {
        assert!(server_address(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_packet_is_read(bytes: Vec<u8>, id: u16) {
        for wanted in [Wanted::V4, Wanted::V6, Wanted::Names, Wanted::Exchanges] {
            let _ = message::understood(&bytes, id, "a.example", wanted);
        }
    }

    #[test]
    fn a_packet_with_octets_changed_is_read(changes in prop::collection::vec((0usize..80, any::<u8>()), 0..6)) {
        let mut query = Packet::new_query(7);
        query.questions.push(simple_dns::Question::new(
            Name::new_unchecked("2.0.0.127.zone.example"),
            QTYPE::TYPE(TYPE::A),
            simple_dns::QCLASS::CLASS(CLASS::IN),
            false,
        ));
        let mut bytes = reply(&query, 7, "2.0.0.127.zone.example", RCODE::NoError, v4(vec![Ipv4Addr::LOCALHOST; 2]));
        for (at, octet) in changes {
            let at = at % bytes.len();
            bytes[at] = octet;
        }
        let _ = message::understood(&bytes, 7, "2.0.0.127.zone.example", Wanted::V4);
    }
}
