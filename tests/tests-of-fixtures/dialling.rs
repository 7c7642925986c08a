//! smtp-dial: each way really is that way, and the tally is the truth.

use smtp_tests::{
    Cgroup, Dial, Netns, Sink, Tally, Veth, Way, eventually, netstat,
    poll::{eventually_some, holds_within},
};
use std::{fs, net::SocketAddr, time::Duration};

const SOON: Duration = Duration::from_secs(5);

/// A sink behind a wire, in one family.
fn far_sink(ns: &Netns, veth: &Veth, family: usize) -> Sink {
    Sink::at((veth.far.both()[family], 25)).netns(ns).start()
}

#[test]
fn every_way_connects_in_both_families_as_the_user() {
    let ns = Netns::new();
    let veth = Veth::between_host_and(&ns);
    for family in [0, 1] {
        for way in Way::TCP {
            let sink = far_sink(&ns, &veth, family);
            if !way.reaches(&sink.address()) {
                continue;
            }
            let tally = Dial::to(sink.address()).way(way).uid(5001).count(5).run();
            assert_eq!(tally, Tally::of(&[("ok", 5)]), "{way} to {}", sink.address());
            eventually(SOON, "the sink counts five", || sink.connections() >= 5);
            assert_eq!(sink.connections_when_quiet(Duration::from_millis(20)), 5, "{way}");
        }
    }
}

#[test]
fn every_way_names_a_refusal() {
    let ns = Netns::new();
    let veth = Veth::between_host_and(&ns);
    for ip in veth.far.both() {
        let nobody = SocketAddr::new(ip, 25);
        for way in Way::TCP.into_iter().filter(|way| way.reaches(&nobody)) {
            let tally = Dial::to(nobody).way(way).uid(5001).count(3).run();
            assert_eq!(tally, Tally::of(&[("ECONNREFUSED", 3)]), "{way} to {nobody}");
        }
    }
}

#[test]
fn every_way_gives_up_when_nothing_answers() {
    let (a, b) = (Netns::new(), Netns::new());
    let veth = Veth::between(&a, &b);
    // A neighbour that does not exist: packets leave and nobody takes them.
    a.ip(&format!("neigh replace {} lladdr 02:00:00:00:00:01 dev {} nud permanent", veth.far.v4, veth.name()));
    for way in Way::TCP {
        let patience = Duration::from_millis(50);
        let tally = Dial::to((veth.far.v4, 25)).netns(&a).way(way).count(2).timeout(patience).run();
        assert_eq!(tally, Tally::of(&[("timeout", 2)]), "{way}");
    }
}

#[test]
fn a_udp_socket_connects_and_nobody_sees_it() {
    let ns = Netns::new();
    let veth = Veth::between_host_and(&ns);
    let sink = far_sink(&ns, &veth, 0);
    assert_eq!(Dial::to(sink.address()).way(Way::Udp).count(9).run(), Tally::of(&[("ok", 9)]));
    assert_eq!(sink.connections_when_quiet(Duration::from_millis(50)), 0);
}

#[test]
fn fast_open_opens_fast() {
    for way in [Way::FastopenSendto, Way::FastopenConnect] {
        for family in [0, 1] {
            let ns = Netns::new();
            let veth = Veth::between_host_and(&ns);
            let sink = far_sink(&ns, &veth, family);
            let passive = || netstat::counter(Some(&ns), "TcpExt", "TCPFastOpenPassive");
            assert_eq!(Dial::to(sink.address()).way(Way::Plain).count(2).run().ok(), 2);
            assert_eq!(passive(), 0);
            // The first one fetches the cookie.
            assert_eq!(Dial::to(sink.address()).way(way).count(4).run().ok(), 4);
            assert_eq!(passive(), 3, "{way}");
        }
    }
}

#[test]
fn multipath_is_multipath() {
    let (client, ns) = (Netns::new(), Netns::new());
    let veth = Veth::between(&client, &ns);
    let sink = far_sink(&ns, &veth, 0);
    let asked = || netstat::counter(Some(&client), "MPTcpExt", "MPCapableSYNTX");
    assert_eq!(Dial::to(sink.address()).netns(&client).run().ok(), 1);
    assert_eq!(asked(), 0);
    assert_eq!(Dial::to(sink.address()).netns(&client).way(Way::Mptcp).run().ok(), 1);
    assert_eq!(asked(), 1);
}

/// The numbers after a name in /proc/PID/status.
fn status(pid: i32, name: &str) -> Vec<u32> {
    let text = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/status")).unwrap()).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().to_string();
    line.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn the_caller_is_who_it_shall_be() {
    let (cgroup, ns) = (Cgroup::new("dial"), Netns::new());
    let veth = Veth::between(&Netns::new(), &ns);
    let name = b"\x01\"\xff) x\\";
    let to = (veth.far.v4, 25);
    let held = Dial::to(to).uid(5001).gid(5002).group(5003).cgroup(&cgroup).netns(&ns).comm(name).spawn();
    let pid = held.pid();
    assert_eq!(status(pid, "Uid"), [5001; 4]);
    assert_eq!(status(pid, "Gid"), [5002; 4]);
    assert_eq!(status(pid, "Groups"), [5003]);
    assert_eq!(status(pid, "Threads"), [1]);
    assert_eq!(cgroup.pids(), [pid]);
    assert_eq!(fs::read(format!("/proc/{pid}/comm")).unwrap(), [name.as_slice(), b"\n"].concat());
    let namespace = |path: String| fs::metadata(path).map(|file| std::os::unix::fs::MetadataExt::ino(&file)).unwrap();
    assert_eq!(namespace(format!("/proc/{pid}/ns/net")), namespace(ns.path().display().to_string()));
    drop(held);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "a dropped caller has ended");
}

#[test]
fn the_root_of_a_user_namespace_is_still_the_user_outside() {
    let held = Dial::to(([127, 0, 0, 1], 9)).way(Way::UserNamespace).uid(5001).spawn();
    assert_eq!(status(held.pid(), "Uid"), [5001; 4]);
    let map = fs::read_to_string(format!("/proc/{}/uid_map", held.pid())).unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "5001", "1"]);
}

#[test]
fn nothing_is_connected_before_the_word_and_all_is_kept_after_it() {
    let sink = Sink::at(([127, 0, 0, 1], 0)).start();
    for way in [Way::SocketBefore, Way::Plain, Way::IoUringSqpoll] {
        let before = sink.connections();
        let mut held = Dial::to(sink.address()).way(way).count(3).spawn();
        let sockets = || {
            let fds = fs::read_dir(format!("/proc/{}/fd", held.pid())).unwrap();
            fds.flatten()
                .filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:")))
                .count()
        };
        let made = if way == Way::SocketBefore { 3 } else { 0 };
        assert_eq!((sockets(), sink.connections()), (made, before), "{way}");
        held.go();
        assert_eq!(held.tally(), Tally::of(&[("ok", 3)]));
        eventually(SOON, "the sink counts three", || sink.connections() == before + 3);
        assert_eq!(established(sink.address().port()), 3, "{way}: kept open");
        held.release();
        eventually(SOON, "they are closed", || established(sink.address().port()) == 0);
    }
}

/// Connections of the host that a client has open to a port, from /proc/net/tcp.
fn established(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let to = format!(":{port:04X}");
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|fields| fields[2].ends_with(&to) && fields[3] == "01").count()
}

#[test]
fn each_attempt_can_be_told() {
    let ns = Netns::new();
    let veth = Veth::between_host_and(&ns);
    let sink = far_sink(&ns, &veth, 0);
    assert_eq!(Dial::to(sink.address()).count(40).threads(4).run_each(), vec!["ok"; 40]);
    let (held, tally) = Dial::to(sink.address()).count(4).threads(2).hold();
    assert_eq!(tally.ok(), 4);
    let log = eventually_some(SOON, "all are counted", || Some(sink.connection_log()).filter(|log| log.len() == 44));
    assert!(log.iter().all(|connection| connection.peer.ip() == veth.near.v4));
    held.release();
    assert!(!holds_within(Duration::from_millis(20), || sink.connections() != 44));
}
