//! The maps. Names, keys, values and sizes are those of `smtp_common::names`; all but the last four are pinned.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, bpf_spin_lock},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, RingBuf, SkStorage},
    macros::btf_map,
};
use smtp_common::{
    connection::{Account, Address, AddressHint},
    counter::{AccountState, CounterKey},
    event::ConnectEvent,
    level::{ByHand, CgroupKey, Chain, ExceptionKey, Numbered, PathKey, Purse},
    names::{Binary, CgroupEvent, Meta, Name, PortSet, Tripped, capacity},
    portrait::{Execution, Lineage, Portrait, ProcessKey},
    rule::{GENERATIONS, PlanKey, PlanLimits, Policy, Rule, RuleKey, SubuidKey},
    session::SessionEvent,
    tally::TallyKey,
    window::{LockedWindows, WindowKey, Windows},
};

/// Insert, unless somebody was first.
pub(crate) const BPF_NOEXIST: u64 = aya_ebpf::bindings::BPF_NOEXIST as u64;

/// Entries take memory when they are made, not when the map is: a day's windows of a busy host are few.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

/// [`LockedWindows`] with the lock typed as the kernel wants to see it in BTF.
#[repr(C)]
pub(crate) struct WindowValue {
    pub(crate) lock: bpf_spin_lock,
    _pad: u32,
    pub(crate) windows: Windows,
}

const _: () = assert!(size_of::<WindowValue>() == size_of::<LockedWindows>());

use crate::{follow::SessionValue, pipe::Image, redirect::Asked};

#[btf_map]
pub(crate) static META: Array<Meta, 1> = Array::new();

#[btf_map]
pub(crate) static ACTIVE: Array<u32, 1> = Array::new();

#[btf_map]
pub(crate) static PORTS: Array<PortSet, { GENERATIONS as usize }> = Array::new();

#[btf_map]
pub(crate) static POLICY: Array<Policy, { GENERATIONS as usize }> = Array::new();

#[btf_map]
pub(crate) static RULES: HashMap<RuleKey, Rule, { capacity::RULES }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub(crate) static SUBUIDS: LpmTrie<SubuidKey, u32, { capacity::SUBUIDS }> = LpmTrie::new();

/// Addresses of this host besides loopback, kept by the agent.
#[btf_map]
pub(crate) static LOCAL: HashMap<Address, u32, { capacity::LOCAL }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub(crate) static LOCAL_HINT: Array<AddressHint, 1> = Array::new();

#[btf_map]
pub(crate) static WINDOWS: HashMap<WindowKey, WindowValue, { capacity::WINDOWS }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub(crate) static COUNTERS: HashMap<CounterKey, u64, { capacity::COUNTERS }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub(crate) static ACCOUNTS: HashMap<Account, AccountState, { capacity::ACCOUNTS }, ON_DEMAND> = HashMap::new();

/// Which account a foreign network namespace is charged to, by its cookie: settled at its first connection.
#[btf_map]
pub(crate) static NAMESPACES: HashMap<u64, Account, { capacity::NAMESPACES }, ON_DEMAND> = HashMap::new();

/// Names of container accounts, for whoever reads the pins. The agent writes it, the probe does not read it.
#[btf_map]
pub(crate) static NAMES: HashMap<Account, Name, { capacity::NAMES }, ON_DEMAND> = HashMap::new();

/// Counters of [`smtp_common::counter::Loss`], by number.
#[btf_map]
pub(crate) static LOSSES: Array<u64, 16> = Array::new();

#[btf_map]
pub(crate) static EVENTS: RingBuf<ConnectEvent, { capacity::EVENTS }> = RingBuf::new();

#[btf_map]
pub(crate) static PLANS: HashMap<PlanKey, PlanLimits, { capacity::PLANS }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub(crate) static BRAKES: HashMap<Account, Tripped, { capacity::BRAKES }, ON_DEMAND> = HashMap::new();

/// What is known of a connection, kept by its socket and gone with it.
#[btf_map]
pub(crate) static SESSIONS: SkStorage<SessionValue> = SkStorage::new();

#[btf_map]
pub(crate) static TALLIES: HashMap<TallyKey, u64, { capacity::TALLIES }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub(crate) static SESSION_EVENTS: RingBuf<SessionEvent, { capacity::SESSION_EVENTS }> = RingBuf::new();

#[btf_map]
pub(crate) static SENDMAIL: HashMap<Binary, u32, { capacity::SENDMAIL }> = HashMap::new();

#[btf_map]
pub(crate) static TURN: Array<u64, 1> = Array::new();

#[btf_map]
pub(crate) static BY_HAND: HashMap<Account, ByHand, { capacity::BY_HAND }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub(crate) static PURSES: HashMap<Numbered, Purse, { capacity::PURSES }, ON_DEMAND> = HashMap::new();

#[btf_map]
pub(crate) static CHAINS: HashMap<Numbered, Chain, { capacity::CHAINS }, ON_DEMAND> = HashMap::new();

/// Hash of the path of a cgroup that a rule matches.
#[btf_map]
pub(crate) static CGROUPS: HashMap<CgroupKey, u64, { capacity::CGROUPS }, ON_DEMAND> = HashMap::new();

/// Number of the chain of such a path: of cgroups that are there, that are still to be made, and that have gone while
/// sessions are still open.
#[btf_map]
pub(crate) static PATHS: HashMap<PathKey, u32, { capacity::PATHS }, ON_DEMAND> = HashMap::new();

/// An [`smtp_common::rule::Action`] for each.
#[btf_map]
pub(crate) static EXCEPTIONS: LpmTrie<ExceptionKey, u32, { capacity::EXCEPTIONS }> = LpmTrie::new();

/// Where a connection that was redirected was going, kept by its socket.
#[btf_map]
pub(crate) static REDIRECTS: SkStorage<Asked> = SkStorage::new();

#[btf_map]
pub(crate) static CGROUP_EVENTS: RingBuf<CgroupEvent, { capacity::CGROUP_EVENTS }> = RingBuf::new();

#[btf_map]
pub(crate) static PORTRAITS: RingBuf<Portrait, { capacity::PORTRAITS }> = RingBuf::new();

#[btf_map]
pub(crate) static EXECUTIONS: LruHashMap<ProcessKey, Execution, { capacity::EXECUTIONS }> = LruHashMap::new();

#[btf_map]
pub(crate) static LINEAGE: LruHashMap<ProcessKey, Lineage, { capacity::LINEAGE }> = LruHashMap::new();

/// Processes that run such a program, which its user's code is not part of, by id.
#[btf_map]
pub(crate) static IMAGES: LruHashMap<u32, Image, { capacity::IMAGES }> = LruHashMap::new();

/// Empty windows to copy from: 568 bytes are more than the stack has. Typed without the lock, which a
/// helper may not read.
#[btf_map]
pub(crate) static ZERO: Array<[u64; size_of::<LockedWindows>() / 8], 1> = Array::new();

/// An empty execution to copy from: it is more than the stack has.
#[btf_map]
pub(crate) static NOTHING: Array<Execution, 1> = Array::new();

/// The initial network namespace's cookie, once somebody has asked for it; 0 before.
#[btf_map]
pub(crate) static INITIAL_NETNS: Array<u64, 1> = Array::new();

#[unsafe(no_mangle)]
pub(crate) static TASK_FLAGS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_THREAD_PID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static PID_LEVEL: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static SOCK_ADDR_SK: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static SOCK_NET: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static SOCK_V6ONLY: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TCP_IS_MPTCP: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static NET_USER_NS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static USER_NS_LEVEL: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static USER_NS_OWNER: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static NET_COOKIE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static SOCK_ERR: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static SOCK_OPS_SK: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static SKB_SK: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static BPRM_FILE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static FILE_INODE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static INODE_INO: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static INODE_SB: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static SB_DEV: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_TGID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_CRED: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static CRED_EUID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_START: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_NSPROXY: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static NSPROXY_NET: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static CGROUP_KN: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static CGROUP_ROOT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static ROOT_HIERARCHY: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static KN_ID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static KN_PARENT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_CGROUPS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static CSS_SET_LINKS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static LINK_CGROUP: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static LINK_NEXT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_PID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_LEADER: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_PARENT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_COMM: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_MM: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_FS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_LOGIN_UID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static TASK_SESSION: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static CRED_UID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static MM_EXE_FILE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static MM_ARG_START: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static MM_ARG_END: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static FILE_PATH: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static FS_PWD: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static PATH_MNT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static PATH_DENTRY: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static DENTRY_PARENT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static DENTRY_NAME: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static DENTRY_HASHED: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static MNT_ROOT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static MOUNT_MNT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static MOUNT_PARENT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static MOUNT_POINT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static BPRM_FILENAME: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static BPRM_INTERP: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static HOST_NETNS: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static INSTANCE: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static ROOT_CGROUP: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static HAS_SET_RETVAL: Global<u8> = Global::new(0);
