//! Who connects: the account and what the event says of the task.

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock_addr,
    helpers::{bpf_get_current_task, bpf_get_netns_cookie, bpf_probe_read_kernel},
    maps::lpm_trie::Key,
    programs::SockAddrContext,
};
use smtp_common::{
    connection::{Account, kind},
    counter::Loss,
    event::flag,
    rule::{Policy, SubuidKey},
    session::NO_UID,
};

use crate::{
    emit::lost,
    maps::{
        BPF_NOEXIST, HOST_NETNS, INITIAL_NETNS, NAMESPACES, NET_COOKIE, NET_USER_NS, NSPROXY_NET, PID_LEVEL,
        ROOT_CGROUP, SOCK_ADDR_SK, SOCK_NET, SUBUIDS, TASK_FLAGS, TASK_NSPROXY, TASK_THREAD_PID, USER_NS_LEVEL,
        USER_NS_OWNER,
    },
    policy::in_force,
};

/// `PF_KTHREAD` of include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;

/// The task that connects, in the host's numbering.
pub(crate) struct Task {
    pub(crate) account: Account,
    pub(crate) host_uid: Option<u32>,
    pub(crate) netns: u64,
    pub(crate) flags: u16,
}

/// What else is told of the current task. Asked for where it is told: kept, it would lie on the stack all the while.
pub(crate) mod current {
    use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_uid_gid};

    #[inline(always)]
    pub(crate) fn uid() -> u32 {
        bpf_get_current_uid_gid() as u32
    }

    #[inline(always)]
    pub(crate) fn gid() -> u32 {
        (bpf_get_current_uid_gid() >> 32) as u32
    }

    #[inline(always)]
    pub(crate) fn tgid() -> u32 {
        (bpf_get_current_pid_tgid() >> 32) as u32
    }

    #[inline(always)]
    pub(crate) fn tid() -> u32 {
        bpf_get_current_pid_tgid() as u32
    }

    #[inline(always)]
    pub(crate) fn cgroup() -> u64 {
        // SAFETY: plain helper call on the current task.
        unsafe { bpf_get_current_cgroup_id() }
    }
}

impl Task {
    /// The current one, charged to its user until more is known.
    #[inline(always)]
    fn current(netns: u64) -> Self {
        Self { account: Account::user(current::uid()), host_uid: None, netns, flags: 0 }
    }

    /// Charges it to the owner of a subordinate uid, and in another network namespace (`foreign`) to who made that, or to
    /// the container it is.
    #[inline(always)]
    fn settle(
        &mut self,
        policy: &Policy,
        generation: u32,
        foreign: bool,
        maker: impl FnOnce() -> Option<u32>,
        container: impl FnOnce(u64, u64) -> Account,
    ) {
        if foreign {
            self.flags |= flag::FOREIGN_NETNS;
            if in_host_pid_namespace() {
                self.flags |= flag::HOST_PIDNS;
                self.host_uid = Some(owner(policy, generation, current::uid()).unwrap_or(current::uid()));
            }
            let maker = maker().map(|uid| owner(policy, generation, uid).unwrap_or(uid));
            self.account = match maker {
                Some(maker) if maker != 0 => {
                    self.host_uid = Some(maker);
                    Account::new(kind::ROOTLESS, maker as u64)
                }
                _ => container(self.netns, current::cgroup()),
            };
        } else if let Some(owner) = owner(policy, generation, current::uid()) {
            self.flags |= flag::SUBORDINATE;
            self.account = Account::user(owner);
        }
    }
}

/// Who connects, as far as one register holds: kind of account, flags and a uid. A container's account, whose number is
/// longer, is left to [`identify`].
#[derive(Clone, Copy)]
struct Packed(u64);

impl Packed {
    #[inline(always)]
    fn of(task: &Task) -> Self {
        let uid = match task.account.kind {
            kind::USER => task.account.id as u32,
            _ => match task.host_uid {
                Some(uid) => uid,
                None => NO_UID,
            },
        };
        Self((uid as u64) << 32 | (task.flags as u64) << 8 | task.account.kind as u64)
    }

    #[inline(always)]
    fn task(self, netns: u64) -> Task {
        let (kind, uid) = (self.0 as u32 & 0xff, (self.0 >> 32) as u32);
        let host_uid = if kind == kind::USER || uid == NO_UID { None } else { Some(uid) };
        let id = if kind == kind::KERNEL { 0 } else { uid as u64 };
        Task { account: Account::new(kind, id), host_uid, netns, flags: (self.0 >> 8) as u16 }
    }
}

/// A global function, so that what it looks up is not on the stack when others need theirs.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn who_connects(ctx: *mut bpf_sock_addr) -> u64 {
    let ctx = SockAddrContext::new(ctx);
    // SAFETY: the context is the program's own.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    let mut task = Task::current(netns);
    // Kernel threads carry the initial credentials, so nobody else needs the two reads.
    if current::uid() == 0 && is_kernel_thread() {
        task.flags |= flag::KERNEL_THREAD;
        task.account = Account::KERNEL;
    }
    if let Some((generation, policy)) = in_force() {
        let maker = || maker_of(netns_of_socket(&ctx)?);
        task.settle(policy, generation, netns != initial_netns(), maker, |_, _| Account::new(kind::NETNS, 0));
    }
    Packed::of(&task).0
}

#[inline(always)]
pub(crate) fn identify(ctx: &SockAddrContext) -> Task {
    let packed = Packed(who_connects(ctx.sock_addr));
    // SAFETY: the context is the program's own.
    let mut task = packed.task(unsafe { bpf_get_netns_cookie(ctx.as_ptr()) });
    if task.account.kind == kind::NETNS {
        task.account = container(task.netns, current::cgroup());
    }
    task
}

/// The current task, `task`, where there is no socket to ask: by the network namespace it lives in.
#[inline(always)]
pub(crate) fn identify_task(policy: &Policy, generation: u32, task: u64) -> Task {
    let net = || read::<u64>(read::<u64>(task, TASK_NSPROXY.load())?, NSPROXY_NET.load());
    let net = net();
    let netns = net.and_then(|net| read::<u64>(net, NET_COOKIE.load())).unwrap_or(0);
    let mut found = Task::current(netns);
    found.settle(policy, generation, is_foreign(netns), || maker_of(net?), container);
    found
}

/// Whether a namespace's cookie is another one's than the host's, as far as that is known.
#[inline(always)]
pub(crate) fn is_foreign(netns: u64) -> bool {
    // Only connect() can ask for it; before the first one there is what the agent takes for it.
    let initial = match INITIAL_NETNS.get(0) {
        Some(&asked) if asked != 0 => asked,
        _ => HOST_NETNS.load(),
    };
    initial != 0 && netns != 0 && netns != initial
}

/// Cookie of the initial network namespace. It never changes, so one processor asks once and the others read.
#[inline(always)]
fn initial_netns() -> u64 {
    // SAFETY: a null context asks for the initial namespace (`bpf_get_netns_cookie_sock_addr`, net/core/filter.c).
    let ask = || unsafe { bpf_get_netns_cookie(core::ptr::null_mut()) };
    let Some(known) = INITIAL_NETNS.get_ptr_mut(0) else { return ask() };
    // SAFETY: a live map value; whoever writes it writes the same.
    unsafe {
        if *known == 0 {
            *known = ask();
        }
        *known
    }
}

/// The user a subordinate uid belongs to (/etc/subuid), if it is one.
#[inline(always)]
fn owner(policy: &Policy, generation: u32, uid: u32) -> Option<u32> {
    if uid < policy.subuid_first || uid > policy.subuid_last {
        return None;
    }
    SUBUIDS.get(&Key::new(SubuidKey::BITS, SubuidKey::new(generation, uid))).copied()
}

/// The user a uid is charged to now.
#[inline(always)]
pub(crate) fn owner_now(uid: u32) -> u32 {
    let found = || {
        let (generation, policy) = in_force()?;
        owner(policy, generation, uid)
    };
    found().unwrap_or(uid)
}

/// The account of a foreign network namespace, by itself and its cookie alone.
#[inline(always)]
pub(crate) fn foreign_account(net: u64, netns: u64) -> Account {
    if let Some(maker) = maker_of(net)
        && maker != 0
    {
        return Account::new(kind::ROOTLESS, owner_now(maker) as u64);
    }
    // SAFETY: as in `container`.
    match unsafe { NAMESPACES.get(netns) } {
        Some(account) => *account,
        None => Account::new(kind::NETNS, netns),
    }
}

/// The account a foreign network namespace is charged to: settled by its first connection, so that
/// cgroups made inside the container later are no second purse.
#[inline(always)]
fn container(netns: u64, cgroup: u64) -> Account {
    // SAFETY: entries are never removed. The agent may put another account in the place of one, which leaves the old
    // value whole until every running program has ended (`htab_map_update_elem`, freed after a grace period).
    if let Some(account) = unsafe { NAMESPACES.get(netns) } {
        return *account;
    }
    settle_namespace(netns, cgroup);
    // Whoever was first has settled it; nobody there means the map is full.
    // SAFETY: as above.
    match unsafe { NAMESPACES.get(netns) } {
        Some(account) => *account,
        None => {
            lost(Loss::NamespacesFull);
            Account::OTHER
        }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn settle_namespace(netns: u64, cgroup: u64) -> u32 {
    let account = if cgroup == ROOT_CGROUP.load() {
        Account::new(kind::NETNS, netns)
    } else {
        Account::new(kind::CGROUP, cgroup)
    };
    NAMESPACES.insert(netns, account, BPF_NOEXIST).is_ok() as u32
}

/// Reads a value of the kernel's at `base + offset`.
#[inline(always)]
pub(crate) fn read<T>(base: u64, offset: u32) -> Option<T> {
    // SAFETY: `bpf_probe_read_kernel` checks the address and fails rather than faulting.
    unsafe { bpf_probe_read_kernel((base + offset as u64) as *const T) }.ok()
}

#[inline(always)]
fn is_kernel_thread() -> bool {
    // SAFETY: plain helper call.
    let task = unsafe { bpf_get_current_task() };
    matches!(read::<u32>(task, TASK_FLAGS.load()), Some(flags) if flags & PF_KTHREAD != 0)
}

/// The address of the kernel's `struct sock`.
#[inline(always)]
pub(crate) fn kernel_socket(ctx: &SockAddrContext) -> Option<u64> {
    // From the kernel's own context behind ours, `struct bpf_sock_addr_kern`: the verifier allows no arithmetic on the
    // socket's pointer that our context has.
    read::<u64>(ctx.as_ptr() as u64, SOCK_ADDR_SK.load())
}

/// The socket's network namespace.
#[inline(always)]
fn netns_of_socket(ctx: &SockAddrContext) -> Option<u64> {
    read::<u64>(kernel_socket(ctx)?, SOCK_NET.load())
}

/// The user who made a network namespace by himself, in a user namespace of his own. `None` for one that the host's root
/// made (containers of a runtime, `ip netns`).
#[inline(always)]
fn maker_of(net: u64) -> Option<u32> {
    let user_ns = read::<u64>(net, NET_USER_NS.load())?;
    if read::<u32>(user_ns, USER_NS_LEVEL.load())? == 0 {
        return None;
    }
    read::<u32>(user_ns, USER_NS_OWNER.load())
}

/// True when the task's own PID namespace is the initial one (`struct pid.level` is 0).
#[inline(always)]
fn in_host_pid_namespace() -> bool {
    // SAFETY: plain helper call.
    let task = unsafe { bpf_get_current_task() };
    let Some(pid) = read::<u64>(task, TASK_THREAD_PID.load()) else { return false };
    matches!(read::<u32>(pid, PID_LEVEL.load()), Some(0))
}
