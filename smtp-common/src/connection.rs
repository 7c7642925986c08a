//! Who connects, and where to: the facts of one attempt.

use crate::pod;

/// TCP port in host byte order.
pub type Port = u16;

/// Who is charged.
///
/// `kind` is one of the constants in [`kind`]; `id` is read according to it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Account {
    pub kind: u32,
    pub _pad: u32,
    pub id: u64,
}

const _: () = assert!(size_of::<Account>() == 16);
pod!(Account);

/// Values of [`Account::kind`].
pub mod kind {
    /// A user of the host; `id` is the uid in the initial user namespace, subordinate uids folded to their owner.
    pub const USER: u32 = 1;
    /// All kernel threads together; `id` is 0.
    pub const KERNEL: u32 = 2;
    /// A container told by its cgroup; `id` is the cgroup v2 id (the inode number of its directory).
    pub const CGROUP: u32 = 3;
    /// A container whose cgroup tells nothing; `id` is the cookie of its network namespace.
    pub const NETNS: u32 = 4;
    /// Everyone for whom a map had no room left; `id` is 0.
    pub const OTHER: u32 = 5;
    /// Every network namespace that one user of the host made by himself (`unshare -Urn`, rootless containers);
    /// `id` is his uid. One purse for all of them: anybody can make as many as he likes.
    pub const ROOTLESS: u32 = 7;
    /// The whole machine. Only windows belong to it, as to the next three, and no connection does; `id` is 0.
    pub const HOST: u32 = 6;
    /// All accounts on a plan; `id` is a hash of its name.
    pub const PLAN: u32 = 8;
    /// All members of a group; `id` is the gid.
    pub const GROUP: u32 = 9;
    /// All that a rule for cgroups matches; `id` is a hash of its pattern, and of the cgroup's path where each has
    /// windows of its own.
    pub const RULE: u32 = 10;
}

impl Account {
    pub const KERNEL: Self = Self::new(kind::KERNEL, 0);
    pub const OTHER: Self = Self::new(kind::OTHER, 0);
    pub const HOST: Self = Self::new(kind::HOST, 0);

    #[inline(always)]
    pub const fn new(kind: u32, id: u64) -> Self {
        Self { kind, _pad: 0, id }
    }

    #[inline(always)]
    pub const fn user(uid: u32) -> Self {
        Self::new(kind::USER, uid as u64)
    }

    /// The uid, for an account that is a user of the host.
    pub const fn uid(self) -> Option<u32> {
        if self.kind == kind::USER { Some(self.id as u32) } else { None }
    }

    #[inline(always)]
    pub const fn is_container(self) -> bool {
        matches!(self.kind, kind::CGROUP | kind::NETNS | kind::ROOTLESS)
    }
}

/// Where a connection goes.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Route {
    /// Loopback or an address of this host: a submission to the local MTA.
    Local = 0,
    /// Any other address: mail that leaves the host.
    Remote = 1,
    /// No connection at all: an execution of a sendmail-compatible program.
    Pipe = 2,
}

impl Route {
    pub const ALL: [Self; 3] = [Self::Local, Self::Remote, Self::Pipe];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Pipe => "pipe",
        }
    }

    pub const fn from_u8(n: u8) -> Option<Self> {
        match n {
            0 => Some(Self::Local),
            1 => Some(Self::Remote),
            2 => Some(Self::Pipe),
            _ => None,
        }
    }
}

/// An IP address as the maps hold it: 16 bytes in network order, IPv4 as IPv4-mapped IPv6 (RFC 4291, 2.5.5.2).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address(pub [u32; 4]);

const _: () = assert!(size_of::<Address>() == 16);
pod!(Address);

/// `::ffff:0:0` word, big-endian in memory.
const MAPPED: u32 = 0xffff_u32.to_be();

impl Address {
    /// From the four network-order bytes of an IPv4 address, as the kernel holds them in one word.
    #[inline(always)]
    pub const fn v4(word: u32) -> Self {
        Self([0, 0, MAPPED, word])
    }

    /// From the words of an IPv6 address in network order.
    #[inline(always)]
    pub const fn v6(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// The IPv4 word (network order) of an IPv4 or IPv4-mapped address.
    #[inline(always)]
    pub const fn as_v4(&self) -> Option<u32> {
        if self.is_v4() { Some(self.0[3]) } else { None }
    }

    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED
    }

    /// True for 127.0.0.0/8 and ::1, and for the unspecified addresses, which Linux connects to loopback
    /// (`ip_route_output_key_hash` for 0.0.0.0, `tcp_v6_connect` for ::).
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        match self.as_v4() {
            Some(word) => {
                let host = u32::from_be(word);
                host >> 24 == 127 || host == 0
            }
            None => {
                self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && (self.0[3] == 0 || self.0[3] == 1_u32.to_be())
            }
        }
    }

    /// In two registers, and back.
    #[inline(always)]
    pub const fn halves(&self) -> (u64, u64) {
        let [a, b, c, d] = self.0;
        ((b as u64) << 32 | a as u64, (d as u64) << 32 | c as u64)
    }

    #[inline(always)]
    pub const fn from_halves(low: u64, high: u64) -> Self {
        Self([low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32])
    }

    pub const fn octets(&self) -> [u8; 16] {
        let mut out = [0; 16];
        let mut i = 0;
        while i < 4 {
            let word = self.0[i].to_ne_bytes();
            let mut j = 0;
            while j < 4 {
                out[i * 4 + j] = word[j];
                j += 1;
            }
            i += 1;
        }
        out
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(ip: core::net::IpAddr) -> Self {
        let octets = match ip {
            core::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            core::net::IpAddr::V6(v6) => v6.octets(),
        };
        let word = |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
        Self([word(0), word(4), word(8), word(12)])
    }
}

impl From<Address> for core::net::IpAddr {
    /// IPv4-mapped addresses come back as IPv4.
    fn from(a: Address) -> Self {
        core::net::Ipv6Addr::from(a.octets()).to_canonical()
    }
}

/// Which addresses may be the host's own: a bit for each of 4,096 hash values. A clear bit is a sure no and saves the
/// look-up, which is what nearly every remote connection meets; a set bit only asks for it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressHint(pub [u64; 64]);

const _: () = assert!(size_of::<AddressHint>() == 512);
pod!(AddressHint);

impl AddressHint {
    pub const EMPTY: Self = Self([0; 64]);

    /// Word and bit of an address.
    #[inline(always)]
    const fn at(address: &Address) -> (usize, u32) {
        let [a, b, c, d] = address.0;
        let hash = (a ^ b.rotate_left(7) ^ c.rotate_left(13) ^ d.rotate_left(19)).wrapping_mul(0x9e37_79b1) >> 20;
        // The mask says nothing new to Rust, and the bound to the verifier.
        ((hash >> 6) as usize & 63, hash & 63)
    }

    pub const fn insert(&mut self, address: &Address) {
        let (word, bit) = Self::at(address);
        self.0[word] |= 1 << bit;
    }

    #[inline(always)]
    pub const fn may_hold(&self, address: &Address) -> bool {
        let (word, bit) = Self::at(address);
        self.0[word] >> bit & 1 == 1
    }
}

/// One connect() as the decision sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    pub account: Account,
    pub route: Route,
    /// The host's own user behind a connection from another network namespace, when the process still
    /// lives in the host's PID namespace (`ip netns exec`, `unshare -n`): a denied user is denied there
    /// too. `None` in a real container, whose numeric uids mean nothing to the host.
    pub host_uid: Option<u32>,
    /// [`crate::level::path_hash`] of the innermost cgroup around the process that a rule matches; 0 for none. By its path,
    /// since a session may outlive its cgroup.
    pub cgroup: u64,
    /// What the exceptions say of it: a [`crate::rule::Action`], 0 where none does.
    pub exception: u8,
}

/// A cgroup's directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cgroup {
    pub id: u64,
    /// It is one of the v1 hierarchy `name=systemd`.
    pub v1: bool,
}

impl Cgroup {
    pub const fn v2(id: u64) -> Self {
        Self { id, v1: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;
    use std::string::ToString;

    #[test]
    fn addresses_survive_the_round_trip_and_mapped_ones_become_ipv4() {
        for text in ["192.0.2.7", "127.0.0.1", "2001:db8::1", "::1", "::"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Address::from(ip)).to_string(), text);
        }
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(IpAddr::from(Address::from(mapped)).to_string(), "192.0.2.7");
    }

    #[test]
    fn a_hint_never_denies_what_it_was_told_and_denies_most_of_the_rest() {
        let address = |n: u32| Address::v4((0x0a00_0000 + n * 77).to_be());
        let mut hint = AddressHint::EMPTY;
        (0..20).for_each(|n| hint.insert(&address(n)));
        assert!((0..20).all(|n| hint.may_hold(&address(n))));
        let asked = (20..10_000).filter(|&n| hint.may_hold(&address(n))).count();
        assert!(asked < 200, "{asked} of 9,980 would be looked up for nothing");
    }

    #[test]
    fn loopback_is_loopback_in_every_spelling() {
        for text in ["127.0.0.1", "127.255.1.2", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"] {
            assert!(Address::from(text.parse::<IpAddr>().unwrap()).is_loopback(), "{text}");
        }
        for text in ["128.0.0.1", "126.255.255.255", "2001:db8::1", "::2", "::ffff:10.0.0.1", "fe80::1"] {
            assert!(!Address::from(text.parse::<IpAddr>().unwrap()).is_loopback(), "{text}");
        }
    }
}
