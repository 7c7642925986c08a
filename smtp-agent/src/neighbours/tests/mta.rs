//! Who listens on port 25, and whether what is redirected there would come back.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::symlink,
};

use super::*;
use crate::config;

const HEADER: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

/// Listening sockets in /proc/net/tcp: address and port as there, state, uid, inode.
fn sockets(rows: &[(&str, &str, u32, u64)]) -> String {
    let zero = |address: &str| format!("{}:0000", "0".repeat(address.split(':').next().map_or(8, str::len)));
    let row = |(at, state, uid, inode): &(&str, &str, u32, u64)| {
        format!(
            "   0: {at} {} {state} 00000000:00000000 00:00000000 00000000 {uid:5} 0 {inode} 1 0000 100 0 0 10 0\n",
            zero(at)
        )
    };
    HEADER.to_owned() + &rows.iter().map(row).collect::<String>()
}

impl Host {
    fn process(&self, pid: u32, parent: u32, name: &str, uid: u32, sockets: &[u64]) {
        let status = format!(
            "Name:\t{name}\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t{pid}\nNgid:\t0\nPid:\t{pid}\nPPid:\t{parent}\n\
             TracerPid:\t0\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t{uid}\t{uid}\nFDSize:\t64\nGroups:\t\n\
             Threads:\t1\nSigQ:\t0/1\nSigPnd:\t0\nShdPnd:\t0\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\nCapInh:\t0\nCapPrm:\t0\n\
             CapEff:\t0\n"
        );
        self.write(&format!("/proc/{pid}/status"), status.as_bytes());
        self.write(&format!("/proc/{pid}/stat"), b"");
        let fds = self.path().join(format!("proc/{pid}/fd"));
        fs::create_dir_all(&fds).expect("a directory");
        for (n, inode) in sockets.iter().enumerate() {
            symlink(format!("socket:[{inode}]"), fds.join(n.to_string())).expect("a link");
        }
    }
}

#[test]
fn the_mta_is_found_with_its_program_and_the_users_that_send_on() {
    let v4 = sockets(&[
        ("00000000:0019", "0A", 0, 71),
        ("0100007F:0277", "0A", 0, 72),
        ("0100007F:0019", "01", 5, 73),
        ("0A00000A:0019", "0A", 5, 74),
    ]);
    let v6 = sockets(&[("00000000000000000000000001000000:0019", "0A", 0, 81)]);
    let host = Host::with(&[("/proc/net/tcp", &v4), ("/proc/net/tcp6", &v6)]);
    host.process(1, 0, "systemd", 0, &[]);
    host.process(200, 1, "master", 0, &[71, 81, 99]);
    host.process(201, 200, "qmgr", 6089, &[]);
    host.process(202, 1, "php", 6033, &[99]);
    let found = local_mta(host.path());
    assert_eq!(found.len(), 2, "{found:#?}");
    for listener in &found {
        assert_eq!((listener.uid, listener.program.as_deref()), (0, Some("master")), "{listener:?}");
        assert_eq!(listener.runs_as, BTreeSet::from([0, 6089]), "{listener:?}");
    }
    assert_eq!(found[0].address, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    assert!(found[0].takes_v4());
    assert_eq!(found[1].address, IpAddr::V6(Ipv6Addr::LOCALHOST));
    assert!(!found[1].takes_v4());
    assert_eq!(local_mta(Host::with(&[]).path()), []);
}

#[test]
fn children_of_process_1_are_not_taken_for_the_mta() {
    let v4 = sockets(&[("0100007F:0019", "0A", 0, 71)]);
    let host = Host::with(&[("/proc/net/tcp", &v4)]);
    host.process(1, 0, "systemd", 0, &[71]);
    host.process(202, 1, "php", 6033, &[]);
    assert_eq!(local_mta(host.path())[0].runs_as, BTreeSet::from([0]));
}

fn redirecting() -> Config {
    let loaded = config::parse_str("test", "[plan.standard]\nper_hour = 5").expect("a configuration");
    let mut config = loaded.config;
    config.plans[0].on_soft = OnSoft::Redirect;
    config
}

fn listener(address: IpAddr, runs_as: &[u32]) -> Listener {
    Listener { address, uid: 0, program: Some("exim4".into()), runs_as: runs_as.iter().copied().collect() }
}

#[test]
fn a_redirect_without_an_mta_or_into_a_circle_is_warned_of() {
    let config = redirecting();
    let say = |mta: &[Listener], exempt: &[u32]| {
        redirect_warnings(&config, mta, 1024, |uid| exempt.contains(&uid))
            .iter()
            .map(|p| p.message.clone())
            .collect::<Vec<_>>()
    };
    let both = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    assert_eq!(say(&[], &[]).len(), 1);
    assert!(say(&[], &[])[0].contains("[plan.standard] on_soft = \"redirect\": no MTA listens"));
    assert_eq!(say(&[listener(both, &[0, 6101])], &[0, 6101]), [""; 0]);
    let circle = say(&[listener(both, &[0, 6101])], &[0]);
    assert_eq!(circle.len(), 1, "{circle:?}");
    assert!(circle[0].contains("(exim4) runs as `6101`") && circle[0].contains("in a circle"), "{circle:?}");
    assert_eq!(say(&[listener(Ipv4Addr::LOCALHOST.into(), &[0])], &[0]), [""; 0], "IPv6 is led there, too");
    let v6 = say(&[listener(Ipv6Addr::LOCALHOST.into(), &[0])], &[0]);
    assert!(v6.len() == 1 && v6[0].contains("IPv4 loopback"), "{v6:?}");
    let plain = config::parse_str("test", "").expect("a configuration").config;
    assert!(redirect_warnings(&plain, &[], 0, |_| false).is_empty());
}

#[test]
fn a_port_that_everybody_may_listen_on_is_warned_of() {
    let start = |text: &str| {
        let host = Host::with(&[("/proc/sys/net/ipv4/ip_unprivileged_port_start", text)]);
        first_unprivileged_port(host.path())
    };
    assert_eq!((start("0\n"), start("1024\n"), start("")), (0, 1024, 1024));
    let warned = |unprivileged| {
        let mta = [listener(Ipv4Addr::LOCALHOST.into(), &[0])];
        let warnings = redirect_warnings(&redirecting(), &mta, unprivileged, |_| true);
        warnings.iter().map(|problem| problem.message.clone()).collect::<String>()
    };
    assert!(warned(25).contains("ip_unprivileged_port_start is 25"), "{}", warned(25));
    assert_eq!(warned(26), "");
}
