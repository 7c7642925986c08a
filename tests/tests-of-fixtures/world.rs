//! Cgroups, network namespaces, wires and users.

use smtp_tests::{Cgroup, Etc, Must, Netns, Sink, Veth, cgroup, eventually, process};
use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
    time::Duration,
};

const SOON: Duration = Duration::from_secs(5);

fn sleeper_in(cgroup: &Cgroup) -> process::Running {
    let mut command = Command::new("sleep");
    cgroup.enter(command.arg("1000"));
    process::Running::start(&mut command)
}

#[test]
fn a_process_enters_a_cgroup_before_its_program_starts_and_dies_with_it() {
    let outer = Cgroup::new("world");
    let inner = outer.child("inner");
    let mut sleeper = sleeper_in(&inner);
    assert_eq!(inner.pids(), [sleeper.pid().as_raw()]);
    assert_eq!(outer.pids(), [0; 0]);
    assert_ne!(inner.id(), outer.id());
    let seen = std::fs::read_to_string(format!("/proc/{}/cgroup", sleeper.pid())).unwrap();
    assert!(seen.lines().any(|line| line == format!("0::{}", inner.name())), "{} in {seen}", inner.name());
    let path = outer.path().to_path_buf();
    drop(outer);
    assert!(!path.exists(), "{} is left", path.display());
    assert_eq!(sleeper.wait(SOON).map(process::code), Some(128 + 9));
}

#[test]
fn a_test_that_panics_leaves_no_cgroup_process_or_wire() {
    let mut left = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let (cgroup, ns) = (Cgroup::new("panic"), Netns::new());
        let veth = Veth::between_host_and(&ns);
        let sleeper = sleeper_in(&cgroup);
        left = Some((cgroup.path().to_path_buf(), veth.name().to_string(), sleeper.pid()));
        panic!("as a failing test does");
    }));
    assert!(panicked.is_err());
    let (cgroup, wire, pid) = left.expect("everything was made");
    assert!(!cgroup.exists());
    assert!(!Path::new("/sys/class/net").join(wire).exists());
    assert!(!Path::new("/proc").join(pid.to_string()).exists());
}

#[test]
fn the_cgroup_of_a_killed_test_is_swept_away() {
    // Larger than any pid (PID_MAX_LIMIT is 2^22).
    let orphan = cgroup::root().join(format!("smtp-test-x-4194305-{}", std::process::id()));
    std::fs::create_dir_all(orphan.join("below")).must("cannot make a cgroup");
    let _cgroup = Cgroup::new("sweeper");
    // Other tests sweep too.
    eventually(SOON, "the orphan is gone", || !orphan.exists());
}

#[test]
fn a_namespace_has_a_loopback_of_its_own() {
    let ns = Netns::new();
    let sink = Sink::at(([127, 0, 0, 1], 25)).netns(&ns).start();
    let other = Netns::new();
    assert!(ns.run(|| TcpStream::connect(sink.address())).is_ok());
    assert!(other.run(|| TcpStream::connect(sink.address())).is_err());
    let ipv6 = Sink::at("[::1]:25".parse::<SocketAddr>().unwrap()).netns(&ns).start();
    assert!(ns.run(|| TcpStream::connect(ipv6.address())).is_ok());
    eventually(SOON, "each sink counts one", || (sink.connections(), ipv6.connections()) == (1, 1));
    assert!(ns.path().exists());
}

/// Connects both ways over a wire, in both families.
fn try_wire(veth: &Veth, near: Option<&Netns>, far: &Netns) {
    for (here, there) in veth.near.both().into_iter().zip(veth.far.both()) {
        let sink = Sink::at((there, 25)).netns(far).start();
        let connect = || TcpStream::connect(sink.address());
        let stream = near.map_or_else(connect, |ns| ns.run(connect)).must("no way along a fresh wire");
        assert_eq!(stream.local_addr().unwrap().ip(), here);
        eventually(SOON, "the sink counts one", || sink.connections() == 1);
        assert_eq!(sink.connection_log()[0].peer.ip(), here);
    }
}

#[test]
fn wires_lead_from_the_host_and_between_namespaces_at_once() {
    let (a, b) = (Netns::new(), Netns::new());
    let from_host = Veth::between_host_and(&a);
    try_wire(&from_host, None, &a);
    let between = Veth::between(&a, &b);
    try_wire(&between, Some(&a), &b);
    for ip in [from_host.near.v4, from_host.far.v4, between.near.v4, between.far.v4] {
        assert!(ip.octets()[0] == 198 && ip.octets()[1] & 0xfe == 18, "{ip}");
    }
    let name = Path::new("/sys/class/net").join(from_host.name());
    assert!(name.exists());
    drop(from_host);
    assert!(!name.exists());
}

#[test]
fn many_threads_make_wires_at_the_same_time() {
    let addresses: Vec<IpAddr> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..4).map(|_| scope.spawn(several_wires)).collect();
        makers.into_iter().flat_map(|maker| maker.join().expect("a maker of wires failed")).collect()
    });
    let mut unique = addresses.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), addresses.len(), "addresses were given out twice: {addresses:?}");
}

fn several_wires() -> Vec<IpAddr> {
    let wires = (0..4).map(|_| {
        let ns = Netns::new();
        let veth = Veth::between_host_and(&ns);
        try_wire(&veth, None, &ns);
        (veth, ns)
    });
    // Kept until all are made.
    let wires: Vec<_> = wires.collect();
    wires.iter().flat_map(|(veth, _)| veth.near.both().into_iter().chain(veth.far.both())).collect()
}

#[test]
fn several_processes_make_wires_at_the_same_time() {
    let exe = std::env::current_exe().unwrap();
    let start = |_| {
        let mut command = Command::new(&exe);
        let name = "world::many_threads_make_wires_at_the_same_time";
        process::Running::start(command.args(["--exact", name]).stdout(std::process::Stdio::null()))
    };
    for mut running in (0..3).map(start).collect::<Vec<_>>() {
        assert_eq!(running.wait(Duration::from_secs(120)).map(process::code), Some(0));
    }
}

fn users_seen(etc: &Etc) -> String {
    let mut command = Command::new("getent");
    etc.enter(command.arg("passwd"));
    let text = process::output(&mut command, SOON).expect_ok("getent passwd").stdout;
    text.lines().map(|line| line.split(':').take(4).collect::<Vec<_>>().join(":") + "\n").collect()
}

#[test]
fn a_private_etc_shows_its_users_and_every_later_change() {
    let host = std::fs::read("/etc/passwd").unwrap();
    let etc = Etc::with_users(&[("shop", 5001, 5001)]);
    assert_eq!(users_seen(&etc), "root:x:0:0\nshop:x:5001:5001\n");
    etc.add_user("blog", 5002, 5002);
    etc.append("subuid", "shop:100000:65536");
    assert_eq!(users_seen(&etc), "root:x:0:0\nshop:x:5001:5001\nblog:x:5002:5002\n");
    etc.remove_user("shop");
    etc.append("passwd", "cron:x:5003:5003::/:/bin/sh");
    assert_eq!(users_seen(&etc), "root:x:0:0\nblog:x:5002:5002\ncron:x:5003:5003\n");
    let mut command = Command::new("cat");
    etc.enter(command.args(["/etc/subuid", "/etc/group"]));
    let seen = process::output(&mut command, SOON).expect_ok("cat").stdout;
    assert_eq!(seen, "shop:100000:65536\nroot:x:0:\nblog:x:5002:\n");
    assert_eq!(std::fs::read("/etc/passwd").unwrap(), host, "the host's own users");
}

#[test]
fn what_does_not_happen_is_named() {
    let panic = catch_unwind(|| eventually(Duration::from_millis(30), "the moon falls", || false)).unwrap_err();
    let said = panic.downcast_ref::<String>().expect("a sentence");
    assert_eq!(said, "did not happen within 30ms: the moon falls");
}
