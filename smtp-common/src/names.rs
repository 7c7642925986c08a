//! Names and numbers both sides must agree on.

/// Raised with every change of a map's key, value or meaning. An agent adopts pins of its own version only.
pub const LAYOUT_VERSION: u32 = 1;

/// First word of the pinned `META` map: "smtp" in ASCII.
pub const MAGIC: u32 = 0x736d_7470;

/// What the pinned `META` map says about the pins beside it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    pub magic: u32,
    pub layout: u32,
}

const _: () = assert!(size_of::<Meta>() == 8);
crate::pod!(Meta);

/// Maps, by their names in the object file and in the pin directory.
pub mod map {
    pub const META: &str = "META";
    /// Which generation is in force: one `u32`.
    pub const ACTIVE: &str = "ACTIVE";
    /// One bit per generation and port.
    pub const PORTS: &str = "PORTS";
    pub const POLICY: &str = "POLICY";
    pub const RULES: &str = "RULES";
    pub const SUBUIDS: &str = "SUBUIDS";
    pub const LOCAL: &str = "LOCAL";
    pub const LOCAL_HINT: &str = "LOCAL_HINT";
    pub const WINDOWS: &str = "WINDOWS";
    pub const COUNTERS: &str = "COUNTERS";
    pub const ACCOUNTS: &str = "ACCOUNTS";
    pub const NAMESPACES: &str = "NAMESPACES";
    pub const NAMES: &str = "NAMES";
    pub const LOSSES: &str = "LOSSES";
    pub const EVENTS: &str = "EVENTS";

    /// All that are pinned.
    pub const ALL: [&str; 15] = [
        META, ACTIVE, PORTS, POLICY, RULES, SUBUIDS, LOCAL, LOCAL_HINT, WINDOWS, COUNTERS, ACCOUNTS, NAMESPACES, NAMES,
        LOSSES, EVENTS,
    ];
}

/// Programs, by their names in the object file.
pub mod program {
    pub const CONNECT4: &str = "connect4";
    pub const CONNECT6: &str = "connect6";
    pub const ALL: [&str; 2] = [CONNECT4, CONNECT6];
}

/// Constants of the host that the agent writes into the probe before loading it.
pub mod global {
    /// Offset of `flags` in `struct task_struct`.
    pub const TASK_FLAGS: &str = "TASK_FLAGS";
    /// Offset of `thread_pid` in `struct task_struct`.
    pub const TASK_THREAD_PID: &str = "TASK_THREAD_PID";
    /// Offset of `level` in `struct pid`.
    pub const PID_LEVEL: &str = "PID_LEVEL";
    /// Offset of `sk` in `struct bpf_sock_addr_kern`, which is what a program's context is.
    pub const SOCK_ADDR_SK: &str = "SOCK_ADDR_SK";
    /// Offset of the network namespace's pointer in `struct sock`.
    pub const SOCK_NET: &str = "SOCK_NET";
    /// Offset of `user_ns` in `struct net`.
    pub const NET_USER_NS: &str = "NET_USER_NS";
    /// Offset of `level` in `struct user_namespace`.
    pub const USER_NS_LEVEL: &str = "USER_NS_LEVEL";
    /// Offset of `owner` in `struct user_namespace`.
    pub const USER_NS_OWNER: &str = "USER_NS_OWNER";
    /// cgroup v2 id of the hierarchy's root: a task there is in no cgroup worth naming.
    pub const ROOT_CGROUP: &str = "ROOT_CGROUP";
    /// 1 where the kernel has `bpf_set_retval` (5.18).
    pub const HAS_SET_RETVAL: &str = "HAS_SET_RETVAL";
}

/// Words of 32 ports each in a value of `PORTS`.
pub const PORT_WORDS: usize = 65_536 / 32;

/// A set of ports, one bit each.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PortSet(pub [u32; PORT_WORDS]);

const _: () = assert!(size_of::<PortSet>() == 8192);
crate::pod!(PortSet);

impl PortSet {
    pub const EMPTY: Self = Self([0; PORT_WORDS]);

    pub fn insert(&mut self, port: u16) {
        self.0[(port >> 5) as usize] |= 1 << (port & 31);
    }

    #[inline(always)]
    pub fn contains(&self, port: u16) -> bool {
        // The mask says nothing new to Rust, and the bound to the verifier.
        self.0[(port >> 5) as usize & (PORT_WORDS - 1)] >> (port & 31) & 1 == 1
    }

    /// Every port in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        (0..=u16::MAX).filter(|&port| self.contains(port))
    }
}

/// Longest name of a container account, in bytes.
pub const NAME_LEN: usize = 96;

/// What the agent has found out about a container account.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    /// Hash of the whole cgroup path, or of the namespace's name: the same after a restart of the container, and
    /// nobody else's, as a last path component may be. 0 for unknown.
    pub identity: u64,
    /// What it is called, padded with NUL.
    pub name: [u8; NAME_LEN],
}

const _: () = assert!(size_of::<Name>() == 104);
crate::pod!(Name);

/// Room in the maps, in entries. Entries take memory when they are made; the ring and the tables that lead to the
/// entries take theirs from the start.
pub mod capacity {
    pub const RULES: usize = 262_144;
    pub const SUBUIDS: usize = 131_072;
    pub const LOCAL: usize = 65_536;
    pub const WINDOWS: usize = 262_144;
    pub const COUNTERS: usize = 524_288;
    pub const ACCOUNTS: usize = 131_072;
    pub const NAMESPACES: usize = 32_768;
    pub const NAMES: usize = 32_768;
    /// Bytes; a power of two.
    pub const EVENTS: usize = 1 << 20;
}
