//! Whether sessions can be followed: what is known of one lies beside its socket.

use std::{io, net::UdpSocket, os::fd::AsFd};

use smtp_common::{names::map, session::Session};

use super::{pins::Pins, sys};

/// Keeps an empty session beside a socket and takes it away again. Kernels from 6.18 on cannot on processors without a
/// compare and exchange of two words (`kmalloc_nolock`).
pub fn check(pins: &Pins) -> io::Result<()> {
    let map = sys::open_pin(&pins.map(map::SESSIONS))?;
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    // The lock lies before the session.
    sys::try_socket_storage(map.as_fd(), socket.as_fd(), 8 + size_of::<Session>())
}
