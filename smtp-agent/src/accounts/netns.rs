//! Which named network namespace a cookie belongs to (`ip netns`, /run/netns).

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

const NAMED: &str = "/run/netns";

/// The name under /run/netns whose namespace has this cookie.
pub fn name_of(cookie: u64) -> Option<String> {
    let names = fs::read_dir(NAMED).ok()?;
    names.filter_map(Result::ok).find_map(|entry| {
        let found = cookie_of(&entry.path()).ok()?;
        (found == cookie).then(|| super::label::printable(entry.file_name().as_encoded_bytes()))
    })
}

/// Cookie of the namespace a file of nsfs stands for, asked from a socket made in it (`SO_NETNS_COOKIE`,
/// Linux 5.14). A thread of its own enters it, since a thread cannot be trusted to come back.
pub fn cookie_of(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let ask = move || -> io::Result<u64> {
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        cookie(&socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
    };
    std::thread::spawn(ask).join().unwrap_or_else(|_| Err(io::Error::other("the asking thread panicked")))
}

fn cookie(socket: &OwnedFd) -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut value = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the pointers are to a u64 and its length, which the kernel fills.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_namespace_has_the_same_cookie_however_it_is_reached() {
        let own = cookie(&socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None).unwrap()).unwrap();
        assert_ne!(own, 0);
        assert_eq!(cookie_of(Path::new("/proc/self/ns/net")).unwrap(), own);
    }
}
