//! Ending a connection from outside: `SOCK_DESTROY` of sock_diag(7), Linux 4.5 with `CONFIG_INET_DIAG_DESTROY`.
//!
//! The client's next or blocked call fails with ECONNABORTED and the server gets a reset (`tcp_abort`,
//! net/ipv4/tcp.c).

use std::{
    fs::File,
    io,
    mem::size_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};
use smtp_common::{event::flag, session::SessionEvent};

/// include/uapi/linux/sock_diag.h and netlink.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
/// Every state of include/net/tcp_states.h.
const ANY_STATE: u32 = u32::MAX;

const HEADER: usize = 16;
/// `struct inet_diag_req_v2` of include/uapi/linux/inet_diag.h.
const REQUEST: usize = 56;

/// Whether connections can be ended at all. A kernel without the module `tcp_diag` answers ENOENT, as one that has it does
/// for a connection that is gone, so it is asked for something else first: the sockets in no state.
pub fn check() -> io::Result<()> {
    let mut message = [0; HEADER + REQUEST];
    message[..4].copy_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    message[HEADER] = libc::AF_INET as u8;
    message[HEADER + 1] = libc::IPPROTO_TCP as u8;
    match exchange(&message)? {
        (NLMSG_ERROR, errno) if errno != 0 => Err(io::Error::from_raw_os_error(-errno)),
        _ => Ok(()),
    }
}

/// Ends the connection an event tells of. It is found by its cookie, so that no other can be hit: not even one that has
/// the same addresses and ports by now.
pub fn destroy(event: &SessionEvent) -> io::Result<()> {
    let message = message(event);
    if event.flags & flag::FOREIGN_NETNS == 0 {
        return ask(&message);
    }
    // Sockets are looked up in the namespace of whoever asks. A thread of its own goes there and ends there.
    let netns = File::open(format!("/proc/{}/ns/net", event.tgid))?;
    let there = move || setns(netns, CloneFlags::CLONE_NEWNET).map_err(io::Error::from).and_then(|()| ask(&message));
    thread::spawn(there).join().unwrap_or_else(|_| Err(io::Error::other("the thread failed")))
}

/// The other end as the socket has it: that of a redirected connection is the local MTA, whomever its client asked for.
fn peer(event: &SessionEvent) -> IpAddr {
    if event.flags & flag::REDIRECTED == 0 {
        return event.destination.into();
    }
    match IpAddr::from(event.source) {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

fn message(event: &SessionEvent) -> [u8; HEADER + REQUEST] {
    let destination = peer(event);
    let family = if destination.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut out = Vec::with_capacity(HEADER + REQUEST);
    out.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    out.extend(SOCK_DESTROY.to_ne_bytes());
    out.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    out.extend([0; 8]);
    out.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    out.extend(ANY_STATE.to_ne_bytes());
    // `struct inet_diag_sockid`: ports and addresses in network order, interface, cookie. With the addresses left out the
    // kernel would look for a listener, so they are those of the packet.
    out.extend(event.source_port.to_be_bytes());
    out.extend(event.port.to_be_bytes());
    for address in [IpAddr::from(event.source), destination] {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes.copy_from_slice(&v6.octets()),
        }
        out.extend(bytes);
    }
    out.extend(0u32.to_ne_bytes());
    out.extend((event.cookie as u32).to_ne_bytes());
    out.extend(((event.cookie >> 32) as u32).to_ne_bytes());
    out.try_into().expect("as long as its fields")
}

fn ask(message: &[u8]) -> io::Result<()> {
    match exchange(message)? {
        (NLMSG_ERROR, 0) => Ok(()),
        (NLMSG_ERROR, errno) => Err(io::Error::from_raw_os_error(-errno)),
        _ => Err(io::Error::other("the kernel has answered something else")),
    }
}

/// Sends a message and returns the type of the answer, and the number it begins with.
fn exchange(message: &[u8]) -> io::Result<(u16, i32)> {
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    use std::os::fd::AsRawFd as _;
    send(netlink.as_raw_fd(), message, MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let len = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let word = |at: usize| i32::from_ne_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
    if len < HEADER + size_of::<i32>() {
        return Err(io::Error::other("the kernel's answer is cut short"));
    }
    Ok((u16::from_ne_bytes([answer[4], answer[5]]), word(HEADER)))
}
