//! Who is charged: subordinate uids, groups, kernel threads.

use std::{io::Write, net::TcpListener};

use smtp_tests::{Etc, Tally, World, uid};

#[test]
fn subordinate_uids_share_their_owners_limit() {
    let etc = Etc::with_users(&[("shop", 5_001, 5_001), ("neighbour", 100_007, 100_007)]);
    etc.replace("subuid", "shop:100000:65536\n");
    let world = World::built("[plan.standard]\nper_hour = 5\nsoft_percent = 100", |b| b.etc(&etc));
    let dial = |uid: u32| world.dial().uid(uid);
    assert_eq!(dial(5_001).count(2).run().ok(), 2);
    assert_eq!(dial(100_000).count(2).run().ok(), 2);
    assert_eq!(dial(165_535).count(2).run(), Tally::of(&[("ok", 1), ("EPERM", 1)]), "the owner's fifth and sixth");
    assert_eq!(dial(130_000).run().eperm(), 1);
    assert_eq!(dial(165_536).run().ok(), 1, "one past the range is his own account");
    assert_eq!(dial(99_999).run().ok(), 1, "one before the range too");
    assert_eq!(dial(100_007).run().ok(), 1, "a user of the host inside the range stays himself");
    assert_eq!(world.counted("shop", "allowed"), 5);
    assert_eq!(world.counted("shop", "refused"), 2);
    assert_eq!(world.counted("neighbour", "allowed"), 1);
}

#[test]
fn members_of_a_group_are_meant_whether_primary_or_supplementary() {
    let etc = Etc::with_users(&[("prim", 5_001, 7_000), ("supp", 5_002, 5_002), ("none", 5_003, 5_003)]);
    etc.replace("group", "mailers:x:7000:supp\nrated:x:7001:none\n");
    let world = World::built(
        "[allow]\ngroups = [\"mailers\"]\n[plan.standard]\nper_hour = 0\nsoft_percent = 100\n[plan.bulk]\nper_hour = 2\nsoft_percent = 100\n[[rule]]\ngroup = \"rated\"\nplan = \"bulk\"",
        |b| b.etc(&etc),
    );
    assert_eq!(world.dial().uid(5_001).count(3).run().ok(), 3, "primary group");
    assert_eq!(world.dial().uid(5_002).count(3).run().ok(), 3, "supplementary group");
    assert_eq!(world.dial().uid(5_003).count(3).run(), Tally::of(&[("ok", 2), ("EPERM", 1)]), "a rule for a group");
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1, "nobody else");
}

/// With an `ip mptcp` endpoint the kernel itself opens a second subflow (MP_JOIN), from a worker thread that
/// carries root's uid (`mptcp_worker`, `__mptcp_subflow_connect`).
#[test]
fn a_kernel_thread_is_never_roots_exemption() {
    let world = World::with("[allow]\nusers = [\"root\"]\n[containers]\nplan = \"standard\"");
    let ip = |arguments: &str| {
        let status = std::process::Command::new("ip").args(arguments.split(' ')).status().expect("ip runs");
        assert!(status.success(), "ip {arguments}");
    };
    // A second address on the near end, and leave to the kernel to use it for a subflow.
    let near = world.veth.near.v4;
    let name = world.veth.name();
    let second = second_address(&world);
    ip(&format!("addr add {second}/32 dev {name}"));
    world.ns.ip(&format!("route add {second}/32 via {near}"));
    ip(&format!("mptcp endpoint add {second} dev {name} subflow"));
    let endpoint = Endpoint(endpoint_id(&second.to_string()));
    // The server speaks first, as SMTP servers do; only then is the connection established in MPTCP's sense.
    let listener = TcpListener::from(mptcp_listener(&world));
    let server =
        std::thread::spawn(move || listener.accept().map(|(mut peer, _)| (peer.write_all(b"220 x\r\n"), peer)));
    let (held, tally) =
        world.dial_to(world.veth.far.v4.into(), 587).way(smtp_tests::Way::Mptcp).uid(uid::SENDER).hold();
    assert_eq!(tally.ok(), 1, "{tally:?}");
    smtp_tests::eventually(std::time::Duration::from_secs(10), "the kernel's own connection is counted", || {
        world.counted("kernel", "allowed") >= 1
    });
    held.release();
    drop(endpoint);
    server.join().expect("the server's thread").expect("a connection").0.expect("a greeting");
    assert_eq!(world.counted("root", "exempt"), 0, "it is not root");
    assert_eq!(world.counted_uid(uid::SENDER, "allowed"), 1);
}

/// An MPTCP endpoint of the host, deleted when dropped.
struct Endpoint(String);

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["mptcp", "endpoint", "delete", "id", &self.0]).status();
    }
}

/// 198.18.0.0/15 is used for the wires in /30s; the address the near end's own would have in 203.0.113.0/24
/// (RFC 5737, documentation) is nobody's.
fn second_address(world: &World) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::new(203, 0, 113, world.veth.near.v4.octets()[3])
}

/// An MPTCP listener on port 587 of the namespace, answered by its kernel alone.
fn mptcp_listener(world: &World) -> std::os::fd::OwnedFd {
    use nix::sys::socket::{Backlog, SockaddrIn, bind, listen};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    let far = world.veth.far.v4;
    world.ns.run(move || {
        // nix names no protocol for MPTCP (IPPROTO_MPTCP, Linux 5.6).
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_MPTCP) };
        assert!(fd >= 0, "no MPTCP socket: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor was made just now.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let octets = far.octets();
        bind(fd.as_raw_fd(), &SockaddrIn::new(octets[0], octets[1], octets[2], octets[3], 587)).expect("bind");
        listen(&fd, Backlog::new(16).expect("a backlog")).expect("listen");
        fd
    })
}

fn endpoint_id(address: &str) -> String {
    let output = std::process::Command::new("ip").args(["mptcp", "endpoint", "show"]).output().expect("ip runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with(address)).expect("the endpoint is listed");
    line.split_whitespace().skip_while(|word| *word != "id").nth(1).expect("an id").to_owned()
}
