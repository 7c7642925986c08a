//! Questions and answers as they go over the wire (RFC 1035).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, header_buffer, rdata::RData};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    V4,
    V6,
    Names,
    Exchanges,
}

impl Wanted {
    const fn code(self) -> TYPE {
        match self {
            Self::V4 => TYPE::A,
            Self::V6 => TYPE::AAAA,
            Self::Names => TYPE::PTR,
            Self::Exchanges => TYPE::MX,
        }
    }
}

/// A record that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Address(IpAddr),
    Name(String),
    Exchange(u16, String),
}

/// What a packet says to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing at all where the name does not exist, or has no such record.
    Found(Vec<Found>),
    /// The server answers that it does not.
    Refused(String),
    /// There is more than a datagram holds.
    Truncated,
}

pub(super) fn query(id: u16, name: &str, wanted: Wanted) -> io::Result<Vec<u8>> {
    let invalid = |e| io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is no name: {e}"));
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).map_err(invalid)?,
        QTYPE::TYPE(wanted.code()),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().map_err(invalid)
}

/// The answer, where this is one to the question.
pub(super) fn understood(bytes: &[u8], id: u16, name: &str, wanted: Wanted) -> Option<Said> {
    let flags = PacketFlag::RESPONSE | PacketFlag::TRUNCATION;
    if header_buffer::id(bytes).ok()? == id && header_buffer::has_flags(bytes, flags).ok()? {
        // It may be cut anywhere.
        return Some(Said::Truncated);
    }
    let packet = Packet::parse(bytes).ok()?;
    let asked = packet.questions.first()?;
    let same = asked.qname.to_string().eq_ignore_ascii_case(name) && asked.qtype == QTYPE::TYPE(wanted.code());
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) || !same {
        return None;
    }
    match packet.rcode() {
        RCODE::NoError => {
            let records = packet.answers.iter().filter_map(|record| match (&record.rdata, wanted) {
                (RData::A(a), Wanted::V4) => Some(Found::Address(Ipv4Addr::from(a.address).into())),
                (RData::AAAA(a), Wanted::V6) => Some(Found::Address(Ipv6Addr::from(a.address).into())),
                (RData::PTR(ptr), Wanted::Names) => Some(Found::Name(ptr.0.to_string())),
                (RData::MX(mx), Wanted::Exchanges) => Some(Found::Exchange(mx.preference, mx.exchange.to_string())),
                _ => None,
            });
            Some(Said::Found(records.collect()))
        }
        RCODE::NameError => Some(Said::Found(Vec::new())),
        other => Some(Said::Refused(format!("{other:?}"))),
    }
}

/// Octets or nibbles in reverse, as they stand before a zone.
pub(crate) fn reversed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            let nibbles = octets.iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
        }
    }
}
