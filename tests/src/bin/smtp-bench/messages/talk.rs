//! One thread is client and server at once: nobody is waited for, nobody is woken, and a packet's whole way lies in the
//! system call that sends it.

use nix::sys::socket::{setsockopt, sockopt};
use smtp_tests::Must;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

/// At most so much is written before the other end reads it, so that no buffer is ever full. A mail server writes as much
/// at a time, or less.
pub(crate) const PIECE: usize = 16 << 10;

/// Nothing takes as long that still works.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes the client has sent and received.
#[derive(Clone, Copy, Default)]
pub(crate) struct Said {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// A connection with both of its ends.
pub(crate) struct Talk {
    client: TcpStream,
    server: TcpStream,
    buffer: Vec<u8>,
    pub(crate) said: Said,
}

impl Talk {
    pub(crate) fn with(listener: &TcpListener) -> Self {
        let address = listener.local_addr().must("cannot tell where the server listens");
        let client = TcpStream::connect_timeout(&address, PATIENCE).must("cannot connect to the bench's own server");
        let (server, _) = listener.accept().must("cannot accept a connection of the bench's own");
        for end in [&client, &server] {
            end.set_nodelay(true)
                .and_then(|()| end.set_read_timeout(Some(PATIENCE)))
                .and_then(|()| end.set_write_timeout(Some(PATIENCE)))
                .must("cannot set up a connection");
        }
        Self { client, server, buffer: Vec::new(), said: Said::default() }
    }

    /// The client says something, so much at a time, and the server hears it.
    pub(crate) fn say(&mut self, words: &[u8], piece: usize) {
        for piece in words.chunks(piece) {
            carry(&mut self.client, &mut self.server, piece, &mut self.buffer);
        }
        self.said.sent += words.len() as u64;
    }

    /// The other way.
    pub(crate) fn answer(&mut self, words: &[u8]) {
        carry(&mut self.server, &mut self.client, words, &mut self.buffer);
        self.said.received += words.len() as u64;
    }

    /// Ends in the way SMTP does: the server first.
    pub(crate) fn end(self) {
        drop(self.server);
        drop(self.client);
    }

    /// Ends at once, and leaves nothing waiting.
    pub(crate) fn reset(self) {
        setsockopt(&self.client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })
            .must("cannot set SO_LINGER");
        drop(self.client);
    }
}

fn carry(from: &mut TcpStream, to: &mut TcpStream, words: &[u8], buffer: &mut Vec<u8>) {
    from.write_all(words).must("nothing can be sent on a connection of the bench's own");
    buffer.resize(words.len(), 0);
    to.read_exact(buffer).must("what was sent on a connection of the bench's own does not arrive");
}
