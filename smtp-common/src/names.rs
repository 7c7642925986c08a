//! Names and numbers both sides must agree on.

/// Raised with every change of a map's key, value or meaning. An agent adopts pins of its own version only.
pub const LAYOUT_VERSION: u32 = 5;

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
    /// Limits of a plan besides connections.
    pub const PLANS: &str = "PLANS";
    /// When an account's failure brake was tripped.
    pub const BRAKES: &str = "BRAKES";
    /// What is known of open connections, beside their sockets.
    pub const SESSIONS: &str = "SESSIONS";
    pub const TALLIES: &str = "TALLIES";
    pub const SESSION_EVENTS: &str = "SESSION_EVENTS";
    /// Sendmail-compatible programs, by device and inode.
    pub const SENDMAIL: &str = "SENDMAIL";
    /// Which load of the probe counts executions: one `u64`.
    pub const TURN: &str = "TURN";

    /// What was said by hand of accounts.
    pub const BY_HAND: &str = "BY_HAND";
    /// Limits that several accounts share.
    pub const PURSES: &str = "PURSES";
    /// Which of them are spent from together.
    pub const CHAINS: &str = "CHAINS";
    /// The path of each cgroup that a rule matches.
    pub const CGROUPS: &str = "CGROUPS";
    /// The chain of each such path, whether a cgroup is there or not.
    pub const PATHS: &str = "PATHS";
    pub const EXCEPTIONS: &str = "EXCEPTIONS";
    /// Where a connection that was redirected was going, beside its socket.
    pub const REDIRECTS: &str = "REDIRECTS";
    /// Cgroups that were made, for the agent to look at.
    pub const CGROUP_EVENTS: &str = "CGROUP_EVENTS";
    /// The processes behind the events.
    pub const PORTRAITS: &str = "PORTRAITS";
    /// What processes executed, by process.
    pub const EXECUTIONS: &str = "EXECUTIONS";
    /// Who forked whom.
    pub const LINEAGE: &str = "LINEAGE";

    /// All that are pinned.
    pub const ALL: [&str; 33] = [
        META,
        ACTIVE,
        PORTS,
        POLICY,
        RULES,
        SUBUIDS,
        LOCAL,
        LOCAL_HINT,
        WINDOWS,
        COUNTERS,
        ACCOUNTS,
        NAMESPACES,
        NAMES,
        LOSSES,
        EVENTS,
        PLANS,
        BRAKES,
        SESSIONS,
        TALLIES,
        SESSION_EVENTS,
        SENDMAIL,
        TURN,
        BY_HAND,
        PURSES,
        CHAINS,
        CGROUPS,
        PATHS,
        EXCEPTIONS,
        REDIRECTS,
        CGROUP_EVENTS,
        PORTRAITS,
        EXECUTIONS,
        LINEAGE,
    ];
}

/// Programs, by their names in the object file.
pub mod program {
    pub const CONNECT4: &str = "connect4";
    pub const CONNECT6: &str = "connect6";
    pub const SESSION: &str = "session";
    pub const SENT: &str = "sent";
    pub const RECEIVED: &str = "received";
    pub const EXEC: &str = "exec";
    pub const FORK: &str = "fork";
    pub const PEER4: &str = "peer4";
    pub const PEER6: &str = "peer6";
    pub const CGROUP_MADE: &str = "cgroup_made";
    pub const CGROUP_GONE: &str = "cgroup_gone";
    pub const EXECUTED: &str = "executed";
    pub const FORKED: &str = "forked";
    pub const ALL: [&str; 13] = [
        CONNECT4,
        CONNECT6,
        SESSION,
        SENT,
        RECEIVED,
        EXEC,
        FORK,
        PEER4,
        PEER6,
        CGROUP_MADE,
        CGROUP_GONE,
        EXECUTED,
        FORKED,
    ];
    /// Without these nothing is limited.
    pub const GATE: [&str; 2] = [CONNECT4, CONNECT6];
    /// Those that follow sessions: attached only where messages are counted.
    pub const FOLLOWERS: [&str; 3] = [SESSION, SENT, RECEIVED];
    /// Those that count executions: tracepoints of the whole host.
    pub const TRACERS: [&str; 2] = [EXEC, FORK];
    /// Those that tell the client of a redirected connection whom it asked for.
    pub const REDIRECTORS: [&str; 2] = [PEER4, PEER6];
    /// Those that follow cgroups as they come and go: tracepoints of the whole host.
    pub const WATCHERS: [&str; 2] = [CGROUP_MADE, CGROUP_GONE];
    /// Those that remember who executed what and who forked whom: tracepoints of the whole host.
    pub const WITNESSES: [&str; 2] = [EXECUTED, FORKED];
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
    /// Offset of the byte in `struct sock` that holds `skc_ipv6only`.
    pub const SOCK_V6ONLY: &str = "SOCK_V6ONLY";
    /// Offset of `is_mptcp` in `struct tcp_sock`; 0 in a kernel without MPTCP.
    pub const TCP_IS_MPTCP: &str = "TCP_IS_MPTCP";
    /// Offset of `user_ns` in `struct net`.
    pub const NET_USER_NS: &str = "NET_USER_NS";
    /// Offset of `level` in `struct user_namespace`.
    pub const USER_NS_LEVEL: &str = "USER_NS_LEVEL";
    /// Offset of `owner` in `struct user_namespace`.
    pub const USER_NS_OWNER: &str = "USER_NS_OWNER";
    /// Offset of `net_cookie` in `struct net`.
    pub const NET_COOKIE: &str = "NET_COOKIE";
    /// Offset of `sk_err` in `struct sock`.
    pub const SOCK_ERR: &str = "SOCK_ERR";
    /// Offset of `sk` in `struct bpf_sock_ops_kern`, which is what a sock_ops program's context is.
    pub const SOCK_OPS_SK: &str = "SOCK_OPS_SK";
    /// Offset of `sk` in `struct sk_buff`.
    pub const SKB_SK: &str = "SKB_SK";
    /// Offset of `file` in `struct linux_binprm`.
    pub const BPRM_FILE: &str = "BPRM_FILE";
    /// Offset of `f_inode` in `struct file`.
    pub const FILE_INODE: &str = "FILE_INODE";
    /// Offset of `i_ino` in `struct inode`.
    pub const INODE_INO: &str = "INODE_INO";
    /// Offset of `i_sb` in `struct inode`.
    pub const INODE_SB: &str = "INODE_SB";
    /// Offset of `s_dev` in `struct super_block`.
    pub const SB_DEV: &str = "SB_DEV";
    /// Offset of `tgid` in `struct task_struct`.
    pub const TASK_TGID: &str = "TASK_TGID";
    /// Offset of `cred` in `struct task_struct`.
    pub const TASK_CRED: &str = "TASK_CRED";
    /// Offset of `euid` in `struct cred`.
    pub const CRED_EUID: &str = "CRED_EUID";
    /// Offset of `start_boottime` in `struct task_struct`.
    pub const TASK_START: &str = "TASK_START";
    /// Offset of `nsproxy` in `struct task_struct`.
    pub const TASK_NSPROXY: &str = "TASK_NSPROXY";
    /// Offset of `net_ns` in `struct nsproxy`.
    pub const NSPROXY_NET: &str = "NSPROXY_NET";
    /// Cookie of the network namespace of process 1, 0 where the agent cannot tell (before Linux 5.14): taken for the
    /// host's until the first connect() tells.
    pub const HOST_NETNS: &str = "HOST_NETNS";
    /// Number of this load of the probe, by which the programs that count executions know whether it is their turn.
    pub const INSTANCE: &str = "INSTANCE";
    /// Offsets of `kn` and `root` in `struct cgroup`.
    pub const CGROUP_KN: &str = "CGROUP_KN";
    pub const CGROUP_ROOT: &str = "CGROUP_ROOT";
    /// Offset of `hierarchy_id` in `struct cgroup_root`.
    pub const ROOT_HIERARCHY: &str = "ROOT_HIERARCHY";
    /// Offsets of `id` and of the pointer to the parent in `struct kernfs_node`.
    pub const KN_ID: &str = "KN_ID";
    pub const KN_PARENT: &str = "KN_PARENT";
    /// Offset of `cgroups` in `struct task_struct`.
    pub const TASK_CGROUPS: &str = "TASK_CGROUPS";
    /// Offset of `cgrp_links` in `struct css_set`.
    pub const CSS_SET_LINKS: &str = "CSS_SET_LINKS";
    /// Offsets of `cgrp` and `cgrp_link` in `struct cgrp_cset_link`.
    pub const LINK_CGROUP: &str = "LINK_CGROUP";
    pub const LINK_NEXT: &str = "LINK_NEXT";
    /// Offsets in `struct task_struct`; those of audit are 0 in a kernel without it (`CONFIG_AUDIT`).
    pub const TASK_PID: &str = "TASK_PID";
    pub const TASK_LEADER: &str = "TASK_LEADER";
    pub const TASK_PARENT: &str = "TASK_PARENT";
    pub const TASK_COMM: &str = "TASK_COMM";
    pub const TASK_MM: &str = "TASK_MM";
    pub const TASK_FS: &str = "TASK_FS";
    pub const TASK_LOGIN_UID: &str = "TASK_LOGIN_UID";
    pub const TASK_SESSION: &str = "TASK_SESSION";
    /// Offset of `uid` in `struct cred`.
    pub const CRED_UID: &str = "CRED_UID";
    /// Offsets in `struct mm_struct`.
    pub const MM_EXE_FILE: &str = "MM_EXE_FILE";
    pub const MM_ARG_START: &str = "MM_ARG_START";
    pub const MM_ARG_END: &str = "MM_ARG_END";
    /// Offset of `f_path` in `struct file`, of `pwd` in `struct fs_struct`, and offsets in such a `struct path`.
    pub const FILE_PATH: &str = "FILE_PATH";
    pub const FS_PWD: &str = "FS_PWD";
    pub const PATH_MNT: &str = "PATH_MNT";
    pub const PATH_DENTRY: &str = "PATH_DENTRY";
    /// Offsets in `struct dentry`: of the parent, of the pointer to the name, and of the pointer that is null for one that
    /// is not in its parent's directory any more.
    pub const DENTRY_PARENT: &str = "DENTRY_PARENT";
    pub const DENTRY_NAME: &str = "DENTRY_NAME";
    pub const DENTRY_HASHED: &str = "DENTRY_HASHED";
    /// Offset of `mnt_root` in `struct vfsmount`, and offsets in the `struct mount` around it.
    pub const MNT_ROOT: &str = "MNT_ROOT";
    pub const MOUNT_MNT: &str = "MOUNT_MNT";
    pub const MOUNT_PARENT: &str = "MOUNT_PARENT";
    pub const MOUNT_POINT: &str = "MOUNT_POINT";
    /// Offsets of `filename` and `interp` in `struct linux_binprm`.
    pub const BPRM_FILENAME: &str = "BPRM_FILENAME";
    pub const BPRM_INTERP: &str = "BPRM_INTERP";
    /// cgroup v2 id of the hierarchy's root: a task there is in no cgroup worth naming.
    pub const ROOT_CGROUP: &str = "ROOT_CGROUP";
    /// 1 where the kernel has `bpf_set_retval` (5.18).
    pub const HAS_SET_RETVAL: &str = "HAS_SET_RETVAL";
}

/// A file of the host, as the kernel tells it apart.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Binary {
    /// `s_dev` of its file system: major number in the upper 12 bits of 32, minor in the lower 20 (`MKDEV`,
    /// include/linux/kdev_t.h).
    pub device: u64,
    pub inode: u64,
}

const _: () = assert!(size_of::<Binary>() == 16);
crate::pod!(Binary);

/// When an account's failure brake was tripped, and by which plan.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tripped {
    /// Nanoseconds of the boot clock, modulo 2^64: one that was tripped before the boot lies as far below zero. Never 0.
    pub at: u64,
    /// As [`crate::rule::PlanLimits::plan`]: only who is on it lets the brake go, since another plan may be milder.
    pub plan: u32,
    pub _pad: u32,
}

impl Tripped {
    /// The time that lies so many nanoseconds before `now`.
    pub const fn at(now: u64, ago: u64) -> u64 {
        match now.wrapping_sub(ago) {
            0 => 1,
            at => at,
        }
    }

    /// Nanoseconds from `at` to `now`; none where it lies ahead, as that of another processor may by a little.
    #[inline(always)]
    pub const fn ago(at: u64, now: u64) -> u64 {
        let ago = now.wrapping_sub(at) as i64;
        if ago < 0 { 0 } else { ago as u64 }
    }
}

const _: () = assert!(size_of::<Tripped>() == 16);
crate::pod!(Tripped);

/// A cgroup that was made.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CgroupEvent {
    pub id: u64,
    /// Number of its hierarchy; 0 for v2.
    pub hierarchy: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<CgroupEvent>() == 16);
crate::pod!(CgroupEvent);

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
    pub const NAMES: usize = 262_144;
    pub const PLANS: usize = 65_536;
    pub const BY_HAND: usize = 65_536;
    pub const PURSES: usize = 262_144;
    pub const CHAINS: usize = 262_144;
    pub const CGROUPS: usize = 262_144;
    pub const PATHS: usize = 262_144;
    pub const EXCEPTIONS: usize = 262_144;
    /// Bytes; a power of two.
    pub const CGROUP_EVENTS: usize = 1 << 20;
    pub const SENDMAIL: usize = 256;
    /// Running images of such programs.
    pub const IMAGES: usize = 8_192;
    pub const BRAKES: usize = 65_536;
    pub const TALLIES: usize = 524_288;
    /// Bytes; a power of two.
    pub const EVENTS: usize = 1 << 20;
    pub const SESSION_EVENTS: usize = 1 << 20;
    /// Bytes; a power of two.
    pub const PORTRAITS: usize = 1 << 23;
    /// The last processes that executed a program: of a longer-lived one /proc tells, if it says the truth.
    pub const EXECUTIONS: usize = 4_096;
    pub const LINEAGE: usize = 32_768;
}
