//! A resolver on loopback that answers as a test says, and what is understood of it.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord,
    rdata::{A, CNAME, RData},
};

use super::super::dns::{Answer, Resolver, server_address, understood};

pub(super) enum Act {
    Addresses(Vec<Ipv4Addr>),
    Alias,
    Code(RCODE),
    Silence,
    Garbage(Vec<u8>),
    /// The right answer under another number, and then the right one.
    Forged(Ipv4Addr, Ipv4Addr),
    /// An answer to another question.
    OtherName,
}

pub(super) fn is(last: u8) -> Act {
    Act::Addresses(vec![Ipv4Addr::new(127, 0, 0, last)])
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
}

impl Server {
    pub(super) fn new(answer: impl Fn(&str) -> Act + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port on loopback");
        let server =
            Self { address: socket.local_addr().expect("its address"), asked: Arc::default(), over: Arc::default() };
        let (asked, over) = (server.asked.clone(), server.over.clone());
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(query) = Packet::parse(&buffer[..length]) else { continue };
                let name = query.questions[0].qname.to_string();
                asked.lock().expect("no panic in another thread").push(name.clone());
                for answer in answers(&query, &name, answer(&name)) {
                    socket.send_to(&answer, client).expect("an answer");
                }
            }
        });
        server
    }

    pub(super) fn resolver(&self) -> Resolver {
        Resolver::at(self.address).waiting(Duration::from_millis(150))
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic in another thread").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes it up, and it ends.
        let woken = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", self.address));
        drop(woken);
    }
}

fn reply(query: &Packet, id: u16, name: &str, code: RCODE, addresses: &[Ipv4Addr], alias: bool) -> Vec<u8> {
    let mut reply = Packet::new_reply(id);
    reply.set_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE);
    *reply.rcode_mut() = code;
    let mut question = query.questions[0].clone();
    question.qname = Name::new_unchecked(name);
    reply.questions.push(question);
    if alias {
        let record = RData::CNAME(CNAME(Name::new_unchecked("elsewhere.example")));
        reply.answers.push(ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 60, record));
    }
    for address in addresses {
        let record = RData::A(A { address: u32::from(*address) });
        reply.answers.push(ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 60, record));
    }
    reply.build_bytes_vec_compressed().expect("a packet")
}

fn answers(query: &Packet, name: &str, act: Act) -> Vec<Vec<u8>> {
    let (id, good) = (query.id(), RCODE::NoError);
    match act {
        Act::Addresses(addresses) => vec![reply(query, id, name, good, &addresses, false)],
        Act::Alias => vec![reply(query, id, name, good, &[Ipv4Addr::new(127, 0, 0, 4)], true)],
        Act::Code(code) => vec![reply(query, id, name, code, &[], false)],
        Act::Silence => Vec::new(),
        Act::Garbage(bytes) => vec![bytes],
        Act::Forged(wrong, right) => vec![
            reply(query, id.wrapping_add(1), name, good, &[wrong], false),
            reply(query, id, name, good, &[right], false),
        ],
        Act::OtherName => vec![reply(query, id, "other.example", good, &[Ipv4Addr::LOCALHOST], false)],
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
    assert_eq!(resolver.lookup("two.example"), Answer::Addresses(vec![ip(2), ip(9)]));
    assert_eq!(resolver.lookup("alias.example"), Answer::Addresses(vec![ip(4)]));
    assert_eq!(resolver.lookup("empty.example"), Answer::Nothing);
    assert_eq!(resolver.lookup("absent.example"), Answer::Nothing);
    assert_eq!(resolver.lookup("refused.example"), Answer::Refused("Refused".into()));
    assert_eq!(resolver.lookup("broken.example"), Answer::Refused("ServerFailure".into()));
    assert!(matches!(resolver.lookup("no..name"), Answer::Silent(_)));
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
    assert_eq!(resolver.lookup("forged.example"), Answer::Addresses(vec![right]));
    let began = Instant::now();
    for name in ["wrong.example", "garbage.example", "silent.example"] {
        let answer = resolver.lookup(name);
        assert!(matches!(&answer, Answer::Silent(why) if why.contains("no answer in time")), "{name}: {answer:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // A port where nobody listens is told at once.
    let nobody = Resolver::at(([127, 0, 0, 1], 1).into());
    assert!(
        matches!(nobody.lookup("a.example"), Answer::Silent(why) if why.contains("127.0.0.1:1: Connection refused"))
    );
}

#[test]
fn the_resolvers_of_the_host_are_those_of_resolv_conf() {
    let tree = super::Tree::new();
    assert_eq!(Resolver::of_host(tree.root()).to_string(), "127.0.0.1:53");
    tree.write("/etc/resolv.conf", "# x\nsearch example.org\nnonsense\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n");
    assert_eq!(Resolver::of_host(tree.root()).to_string(), "192.0.2.1:53, [2001:db8::1]:53");
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
        let _ = understood(&bytes, id, "a.example");
    }

    #[test]
    fn a_packet_with_octets_changed_is_read(changes in prop::collection::vec((0usize..80, any::<u8>()), 0..6)) {
        let mut query = Packet::new_query(7);
        query.questions.push(simple_dns::Question::new(
            Name::new_unchecked("2.0.0.127.zone.example"),
            simple_dns::QTYPE::TYPE(simple_dns::TYPE::A),
            simple_dns::QCLASS::CLASS(CLASS::IN),
            false,
        ));
        let mut bytes = reply(&query, 7, "2.0.0.127.zone.example", RCODE::NoError, &[Ipv4Addr::LOCALHOST], true);
        for (at, octet) in changes {
            let at = at % bytes.len();
            bytes[at] = octet;
        }
        let _ = understood(&bytes, 7, "2.0.0.127.zone.example");
    }
}
