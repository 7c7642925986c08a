//! A socket without room for anything beside it.
//!
//! What the kernel keeps for a socket's options is bounded by net.core.optmem_max (`sk_omem_alloc`), and keys for TCP-MD5
//! (RFC 2385) are among what it is charged with: anybody may have one for each address there is, whether he ever talks to
//! it or not.

use nix::{
    errno::Errno,
    libc,
    sys::socket::{SockaddrIn, SockaddrLike},
};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
};

/// More than fit in any sensible net.core.optmem_max.
const MOST: u32 = 100_000;

/// `struct tcp_md5sig` of include/uapi/linux/tcp.h.
#[repr(C)]
struct Key {
    address: [u8; size_of::<libc::sockaddr_storage>()],
    flags: u8,
    prefix: u8,
    len: u16,
    interface: i32,
    key: [u8; 80],
}

/// Makes keys until there is no room for another.
pub(super) fn stuff(socket: &OwnedFd) -> nix::Result<()> {
    for n in 0..MOST {
        match add_key(socket, Ipv4Addr::from(0x0a00_0000 + n)) {
            Ok(()) => {}
            Err(Errno::ENOMEM) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Err(Errno::E2BIG)
}

fn add_key(socket: &OwnedFd, peer: Ipv4Addr) -> nix::Result<()> {
    let peer = SockaddrIn::from(SocketAddrV4::new(peer, 0));
    let mut key = Key { address: [0; _], flags: 0, prefix: 0, len: 1, interface: 0, key: [1; 80] };
    // SAFETY: an address is as long as it says, and shorter than the room for any.
    let bytes = unsafe { std::slice::from_raw_parts(peer.as_ptr().cast::<u8>(), peer.len() as usize) };
    key.address[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: the value is as long as is said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MD5SIG,
            (&raw const key).cast(),
            size_of::<Key>() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}
