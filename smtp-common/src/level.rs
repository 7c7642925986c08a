//! Limits that several accounts are held to together: those of a plan, a group, a cgroup.
//!
//! A [`Purse`] is one such limit with windows of its own. Which purses an account spends from is a [`Chain`]; a
//! connection meets two of them, its account's (plan and groups) and its cgroup's.

use crate::{
    connection::{Account, Address, Port, kind},
    pod,
    rule::{Limit, OnSoft, Rule},
    tally::Unit,
    window::Both,
};

/// Whose limit it is; the greater holds the lesser.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    Cgroup = 1,
    /// The account itself.
    User = 2,
    Group = 3,
    Plan = 4,
    Host = 5,
}

impl Level {
    pub const ALL: [Self; 5] = [Self::Cgroup, Self::User, Self::Group, Self::Plan, Self::Host];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::User => "account",
            Self::Group => "group",
            Self::Plan => "plan",
            Self::Host => "host",
        }
    }
}

/// Purses in one chain.
pub const LINKS: usize = 4;

/// Bits of [`Purse::flags`].
pub mod purse_flag {
    /// Submissions to the local MTA are held to it too.
    pub const LOCAL: u8 = 1;
    /// Exempt accounts are held to it too.
    pub const STRICT: u8 = 1 << 1;
}

/// One limit that is shared.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Purse {
    /// Whose windows: of kind [`kind::PLAN`], [`kind::GROUP`] or [`kind::RULE`].
    pub scope: Account,
    pub hour: Limit,
    pub day: Limit,
    pub messages: Both,
    pub recipients: Both,
    /// A [`Level`].
    pub level: u8,
    /// An [`OnSoft`].
    pub on_soft: u8,
    /// Bits of [`purse_flag`].
    pub flags: u8,
    pub _pad: [u8; 5],
}

const _: () = assert!(size_of::<Purse>() == 56);
pod!(Purse);

impl Purse {
    /// One without limits.
    pub const fn new(level: Level, scope: Account) -> Self {
        Self {
            scope,
            hour: Limit::NONE,
            day: Limit::NONE,
            messages: Both::UNLIMITED,
            recipients: Both::UNLIMITED,
            level: level as u8,
            on_soft: OnSoft::Defer as u8,
            flags: 0,
            _pad: [0; 5],
        }
    }

    /// What it limits of a unit; `None` stands for connections.
    #[inline(always)]
    pub const fn of(&self, unit: Option<Unit>) -> Both {
        match unit {
            None => Both { hour: self.hour.limit, day: self.day.limit },
            Some(Unit::Message) => self.messages,
            Some(Unit::Recipient) => self.recipients,
        }
    }

    #[inline(always)]
    pub const fn bands(&self) -> Both {
        Both { hour: self.hour.band, day: self.day.band }
    }
}

/// Key of a purse or a chain in one generation. Numbers begin at 1: 0 is no purse and no chain.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Numbered {
    pub generation: u32,
    pub number: u32,
}

const _: () = assert!(size_of::<Numbered>() == 8);
pod!(Numbered);

/// Bits of [`Chain::flags`].
pub mod chain_flag {
    /// One of its purses limits connections.
    pub const CONNECTIONS: u32 = 1;
    /// One of its purses limits messages or recipients.
    pub const UNITS: u32 = 1 << 1;
    /// One of those does so for submissions to the local MTA, and for exempt accounts.
    pub const LOCAL_UNITS: u32 = 1 << 6;
    pub const STRICT_UNITS: u32 = 1 << 7;
    /// A rule for the cgroup says "deny".
    pub const CLOSED: u32 = 1 << 2;
    /// [`Chain::base`] holds for accounts without a rule of their own.
    pub const BASE: u32 = 1 << 3;
    /// The cgroup was allowed or blocked by hand, until [`Chain::until`].
    pub const ALLOWED: u32 = 1 << 4;
    pub const BLOCKED: u32 = 1 << 5;
}

/// Purses that are spent from together.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Chain {
    /// Numbers of purses; 0 for none.
    pub purses: [u32; LINKS],
    /// Of a cgroup: the patterns of exceptions that it matches, the outermost first, as [`ExceptionKey::cgroup`] has
    /// them; 0 for none.
    pub marks: [u32; LINKS],
    /// Bits of [`chain_flag`].
    pub flags: u32,
    pub _pad: u32,
    /// When what was said by hand lapses, in nanoseconds of the boot clock; 0 for never.
    pub until: u64,
    /// Of a cgroup: what holds for accounts without a rule of their own.
    pub base: Rule,
}

const _: () = assert!(size_of::<Chain>() == 72);
pod!(Chain);

impl Chain {
    pub const NONE: Self = Self {
        purses: [0; LINKS],
        marks: [0; LINKS],
        flags: 0,
        _pad: 0,
        until: 0,
        base: Rule::of(crate::rule::Action::Limited, crate::rule::Origin::RuleCgroup),
    };

    #[inline(always)]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// Whether something that was said until a time holds at another (nanoseconds of the boot clock; 0 for ever).
#[inline(always)]
pub const fn holds(until: u64, now: u64) -> bool {
    until == 0 || now < until
}

/// Key of a cgroup that a rule matches in one generation; the value is [`path_hash`] of its path.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CgroupKey {
    pub generation: u32,
    /// 1 for a directory of the v1 hierarchy `name=systemd`, whose ids are not those of v2.
    pub v1: u32,
    pub id: u64,
}

const _: () = assert!(size_of::<CgroupKey>() == 16);
pod!(CgroupKey);

/// Key of the chain that a cgroup of this path has, will have or had.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PathKey {
    pub generation: u32,
    pub _pad: u32,
    /// [`path_hash`].
    pub hash: u64,
}

const _: () = assert!(size_of::<PathKey>() == 16);
pod!(PathKey);

/// Longest path of a cgroup that the kernel program reads, in octets: longer ones are left to the agent.
pub const PATH_LEN: usize = 256;

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a of a path, 64 bits. Two paths with one hash would share a chain; with the 100,000 cgroups of a very large host
/// that has a probability of about one in four thousand million.
pub const fn path_hash(path: &[u8]) -> u64 {
    let mut hash = FNV_BASIS;
    let mut i = 0;
    while i < path.len() {
        hash = path_hash_step(hash, path[i]);
        i += 1;
    }
    hash
}

/// The hash of nothing.
pub const EMPTY_PATH_HASH: u64 = FNV_BASIS;

#[inline(always)]
pub const fn path_hash_step(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(FNV_PRIME)
}

/// What was said by hand of an account.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ByHand {
    /// When it lapses, in nanoseconds of the boot clock; 0 for never.
    pub until: u64,
    /// 1: blocked. 0: allowed.
    pub blocked: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<ByHand>() == 16);
pod!(ByHand);

/// Which parts of an exception are given. Bits of a shape; [`crate::rule::Policy::exceptions`] has one bit per shape.
pub mod shape {
    pub const PORT: u32 = 1;
    pub const CGROUP: u32 = 1 << 1;
    pub const ACCOUNT: u32 = 1 << 2;
    /// How many there are. The greater is the more specific.
    pub const COUNT: u32 = 8;
}

/// Data of an exception's key in the longest-prefix trie: what is not given is 0, and the address comes last, so that a
/// network is a prefix. All numbers are big-endian.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ExceptionKey {
    pub generation: u32,
    /// Number of a pattern, as [`Chain::marks`] has it.
    pub cgroup: u32,
    pub kind: u32,
    /// Bit 16 is set for IPv6: `::/0` is not every IPv4 address.
    pub port_and_family: u32,
    pub id: u64,
    pub address: Address,
}

const _: () = assert!(size_of::<ExceptionKey>() == 40);
pod!(ExceptionKey);

impl ExceptionKey {
    pub const BITS: u32 = 8 * size_of::<Self>() as u32;
    /// Bits before the address.
    pub const HEAD: u32 = Self::BITS - 128;

    #[inline(always)]
    pub fn new(generation: u32, cgroup: u32, account: Option<Account>, port: Port, address: Address) -> Self {
        let (kind, id) = match account {
            Some(account) => (account.kind, account.id),
            None => (0, 0),
        };
        let family = if address.is_v4() { 0 } else { 1 << 16 };
        Self {
            generation: generation.to_be(),
            cgroup: cgroup.to_be(),
            kind: kind.to_be(),
            port_and_family: (family | port as u32).to_be(),
            id: id.to_be(),
            address,
        }
    }
}

impl ExceptionKey {
    /// Whether another key begins with the same so many bits.
    pub fn shares(&self, other: &Self, bits: u32) -> bool {
        let words = |key: &Self| {
            let [a, b, c, d] = key.address.0;
            let id = key.id.to_ne_bytes();
            let half = |i: usize| u32::from_ne_bytes([id[i], id[i + 1], id[i + 2], id[i + 3]]);
            [key.generation, key.cgroup, key.kind, key.port_and_family, half(0), half(4), a, b, c, d].map(u32::from_be)
        };
        let (these, those) = (words(self), words(other));
        (0..these.len()).all(|i| {
            let left = bits.saturating_sub(32 * i as u32).min(32);
            left == 0 || (these[i] ^ those[i]) >> (32 - left) == 0
        })
    }
}

/// Exceptions of one generation.
pub trait Exceptions {
    /// An [`crate::rule::Action`], for the longest prefix that holds the key.
    fn exception(&self, key: &ExceptionKey) -> Option<u8>;
}

/// The most specific exception that a connection falls under, as an [`crate::rule::Action`]; 0 for none. Of nested cgroups
/// the inner one speaks.
///
/// `shapes` are the shapes there are, `marks` the patterns its cgroup matches, the outermost first.
#[inline(always)]
pub fn exception<E: Exceptions>(
    exceptions: &E,
    generation: u32,
    shapes: u32,
    marks: &[u32; LINKS],
    account: Account,
    port: Port,
    address: Address,
) -> u8 {
    let mut left = shape::COUNT;
    while left > 0 {
        left -= 1;
        if shapes >> left & 1 == 0 {
            continue;
        }
        let account = if left & shape::ACCOUNT != 0 { Some(account) } else { None };
        let port = if left & shape::PORT != 0 { port } else { 0 };
        let mut link = LINKS;
        while link > 0 {
            link -= 1;
            let mark = if left & shape::CGROUP != 0 { marks[link] } else { 0 };
            if mark != 0 || left & shape::CGROUP == 0 {
                let key = ExceptionKey::new(generation, mark, account, port, address);
                if let Some(action) = exceptions.exception(&key) {
                    return action;
                }
            }
            if left & shape::CGROUP == 0 {
                break;
            }
        }
    }
    0
}

/// Scope of what all accounts on a plan share; `id` is a hash of its name.
pub const fn plan_scope(name: &str) -> Account {
    Account::new(kind::PLAN, path_hash(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;
    use std::vec::Vec;

    /// The trie, as slowly as it is plain.
    struct List(Vec<(u32, ExceptionKey, u8)>);

    impl Exceptions for List {
        fn exception(&self, key: &ExceptionKey) -> Option<u8> {
            self.0.iter().filter(|(len, of, _)| of.shares(key, *len)).max_by_key(|(len, ..)| *len).map(|(.., a)| *a)
        }
    }

    fn address(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().unwrap())
    }

    const ANN: Account = Account::user(1);
    const BOB: Account = Account::user(2);

    #[test]
    fn the_most_specific_exception_speaks_and_a_longer_prefix_beats_a_shorter_one() {
        let entry = |cgroup, account, port, to: &str, bits: u32, action| {
            (ExceptionKey::HEAD + bits, ExceptionKey::new(1, cgroup, account, port, address(to)), action)
        };
        let list = List(std::vec![
            entry(0, None, 0, "192.0.2.0", 96 + 24, 1),
            entry(0, None, 0, "192.0.2.9", 128, 2),
            entry(0, Some(ANN), 0, "0.0.0.0", 0, 3),
            entry(0, Some(ANN), 587, "0.0.0.0", 0, 4),
            entry(7, None, 0, "0.0.0.0", 0, 5),
            entry(8, None, 0, "0.0.0.0", 0, 6),
        ]);
        let shapes = 1 | 1 << shape::ACCOUNT | 1 << (shape::ACCOUNT | shape::PORT) | 1 << shape::CGROUP;
        let ask = |marks, account, port, to| exception(&list, 1, shapes, &marks, account, port, address(to));
        assert_eq!(ask([0; 4], BOB, 25, "192.0.2.7"), 1);
        assert_eq!(ask([0; 4], BOB, 25, "192.0.2.9"), 2);
        assert_eq!(ask([0; 4], BOB, 25, "198.51.100.1"), 0);
        assert_eq!(ask([0; 4], ANN, 25, "192.0.2.9"), 3);
        assert_eq!(ask([0; 4], ANN, 587, "192.0.2.9"), 4);
        assert_eq!(ask([9, 7, 0, 0], BOB, 25, "192.0.2.9"), 5);
        assert_eq!(ask([7, 8, 0, 0], BOB, 25, "192.0.2.9"), 6, "the inner one");
        assert_eq!(exception(&list, 0, shapes, &[0; 4], ANN, 25, address("192.0.2.9")), 0, "another generation");
        assert_eq!(exception(&list, 1, 1, &[0; 4], ANN, 25, address("192.0.2.7")), 1, "shapes that are not there");
    }

    #[test]
    fn keys_are_compared_bit_by_bit_from_the_first() {
        let one = ExceptionKey::new(1, 2, Some(ANN), 25, address("192.0.2.1"));
        let bytes = |key: &ExceptionKey| {
            let head = [key.generation, key.cgroup, key.kind, key.port_and_family];
            let mut all: Vec<u8> = head.iter().flat_map(|word| word.to_ne_bytes()).collect();
            all.extend(key.id.to_ne_bytes());
            all.extend(key.address.octets());
            all
        };
        let others = [
            one,
            ExceptionKey::new(0, 2, Some(ANN), 25, address("192.0.2.1")),
            ExceptionKey::new(1, 3, Some(ANN), 25, address("192.0.2.1")),
            ExceptionKey::new(1, 2, Some(BOB), 25, address("192.0.2.1")),
            ExceptionKey::new(1, 2, None, 25, address("192.0.2.1")),
            ExceptionKey::new(1, 2, Some(ANN), 26, address("192.0.2.1")),
            ExceptionKey::new(1, 2, Some(ANN), 25, address("192.0.2.3")),
            ExceptionKey::new(1, 2, Some(ANN), 25, address("192.0.2.0")),
        ];
        for other in others {
            let (these, those) = (bytes(&one), bytes(&other));
            let bit = |bytes: &[u8], i: u32| bytes[i as usize / 8] >> (7 - i % 8) & 1;
            for bits in 0..=ExceptionKey::BITS {
                let expected = (0..bits).all(|i| bit(&these, i) == bit(&those, i));
                assert_eq!(one.shares(&other, bits), expected, "{bits} {other:?}");
            }
        }
    }

    #[test]
    fn every_ipv6_address_is_no_ipv4_address() {
        let list = List(std::vec![(ExceptionKey::HEAD, ExceptionKey::new(0, 0, None, 0, address("::")), 1)]);
        assert_eq!(exception(&list, 0, 1, &[0; 4], ANN, 25, address("2001:db8::1")), 1);
        assert_eq!(exception(&list, 0, 1, &[0; 4], ANN, 25, address("192.0.2.1")), 0);
    }

    #[test]
    fn a_hash_of_a_path_is_the_published_one() {
        // Test vectors of the FNV authors for FNV-1a, 64 bits.
        assert_eq!(path_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(path_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(path_hash(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn what_was_said_until_a_time_does_not_hold_then() {
        assert!(holds(0, u64::MAX) && holds(10, 9) && !holds(10, 10));
    }
}
