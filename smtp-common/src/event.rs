//! What the ring buffer carries: one record per connect() the event budget had room for.

use crate::{
    connection::{Account, Address, Port},
    pod,
};

/// Values of [`ConnectEvent::flags`].
pub mod flag {
    /// The task is a kernel thread.
    pub const KERNEL_THREAD: u16 = 1;
    /// The socket lives in another network namespace than the host's.
    pub const FOREIGN_NETNS: u16 = 2;
    /// The process lives in the host's PID namespace (only told where [`FOREIGN_NETNS`] is set).
    pub const HOST_PIDNS: u16 = 4;
    /// The uid was a subordinate one and was folded to its owner.
    pub const SUBORDINATE: u16 = 8;
    /// It was to be redirected to the local MTA, and put off instead: it was no connection that can be, or
    /// [`NO_LOCAL_MTA`].
    pub const NOT_REDIRECTED: u16 = 16;
    /// Because nothing listens where its socket could reach it.
    pub const NO_LOCAL_MTA: u16 = 32;
    /// It is with the local MTA, whatever its client asked for.
    pub const REDIRECTED: u16 = 64;
}

/// One attempt and what became of it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectEvent {
    /// Nanoseconds of the boot clock (`CLOCK_BOOTTIME`).
    pub time: u64,
    /// Serial of the policy that decided.
    pub policy: u64,
    pub account: Account,
    /// cgroup v2 id of the task.
    pub cgroup: u64,
    /// Cookie of the socket's network namespace.
    pub netns: u64,
    pub destination: Address,
    /// Real uid and gid in the host's numbering.
    pub uid: u32,
    pub gid: u32,
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    pub port: Port,
    /// Bits of [`flag`].
    pub flags: u16,
    /// A [`crate::connection::Route`].
    pub route: u8,
    /// A [`crate::counter::Verdict`].
    pub verdict: u8,
    /// A [`crate::counter::Reason`].
    pub reason: u8,
    pub _pad: u8,
    /// Name of the thread as it stands in the kernel: any bytes, ended by the first NUL.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<ConnectEvent>() == 104);
pod!(ConnectEvent);
