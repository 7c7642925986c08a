//! A real DNS server, which knows what a test tells it and nothing else.

use super::Web;
use crate::{Cgroup, poll, port, process::Running, scratch};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// dnsmasq on a port of 127.0.0.1. Dropping it ends it.
pub struct Dns {
    process: Running,
    port: u16,
    _dir: TempDir,
}

impl Dns {
    /// Knows these names, each with its address, and the way back; and these servers of domains.
    #[track_caller]
    pub fn start(web: &Web, cgroup: &Cgroup, names: &[(&str, IpAddr)], servers: &[(&str, &str)]) -> Self {
        let names = names.iter().map(|(name, address)| format!("--host-record={name},{address}"));
        let servers = servers.iter().map(|(domain, server)| format!("--mx-host={domain},{server},10"));
        Self::with(web, cgroup, &names.chain(servers).collect::<Vec<_>>())
    }

    /// Calls an address by a name that leads elsewhere.
    #[track_caller]
    pub fn claiming(web: &Web, cgroup: &Cgroup, reverse: &str, name: &str) -> Self {
        let elsewhere = format!("--address=/{name}/192.0.2.200");
        Self::with(web, cgroup, &[format!("--ptr-record={reverse},{name}"), elsewhere])
    }

    #[track_caller]
    fn with(web: &Web, cgroup: &Cgroup, records: &[String]) -> Self {
        let port = port::free();
        let mut command = web.command("/usr/sbin/dnsmasq", None, cgroup);
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--pid-file",
            "--log-facility=-",
        ]);
        command.args(["--log-queries", "--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=127.0.0.1"]);
        command.arg(format!("--port={port}")).args(records);
        let dir = scratch::dir();
        let mut process = Running::start_logged(&mut command, &dir.path().join("log"));
        // Its socket is taken when it answers.
        let taken = || UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_err();
        let ready = poll::holds_within(PATIENCE, || process.ended().is_some() || taken());
        let alive = process.ended().is_none();
        assert!(ready && alive, "dnsmasq is not ready:\n{}", process.log());
        Self { process, port, _dir: dir }
    }

    /// Whether it was asked about a name, as its log says.
    pub fn was_asked(&self, name: &str) -> bool {
        self.process.log().lines().any(|line| line.contains(" query[") && line.contains(name))
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}
