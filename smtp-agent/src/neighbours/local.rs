//! The MTA of this host: who listens on port 25, and whether what is redirected to it would come back.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use procfs::{
    FromBufReadSI, current_system_info,
    net::{TcpNetEntries, TcpState},
    process::{FDTarget, Process, all_processes_with_root},
};

use crate::{
    accounts::{database::user_name, label::printable},
    config::{Config, OnSoft, Problem, Problems},
};

/// A port 25 that local programs can reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// As bound: of `0.0.0.0` and `::` the loopback addresses are part.
    pub address: IpAddr,
    /// The socket's owner.
    pub uid: u32,
    /// Name of the program, where a process that holds the socket could be seen.
    pub program: Option<String>,
    /// Real uids of the processes that hold the socket and of their children: those that send on.
    pub runs_as: BTreeSet<u32>,
}

impl Listener {
    /// Whether a connection to 127.0.0.1 reaches it. `::` takes IPv4 too, unless `IPV6_V6ONLY` was set, which /proc does
    /// not tell.
    pub fn takes_v4(&self) -> bool {
        match self.address {
            IpAddr::V4(v4) => v4.is_unspecified() || v4 == Ipv4Addr::LOCALHOST,
            IpAddr::V6(v6) => v6.is_unspecified(),
        }
    }
}

/// Who listens on port 25 of loopback, in this process's network namespace. `root` is `/`, but for tests.
pub fn local_mta(root: &Path) -> Vec<Listener> {
    listeners(root, is_loopback_smtp).into_iter().map(|(_, listener)| listener).collect()
}

/// Who listens on a port for mail at any address, each with the port.
pub fn smtp_listeners(root: &Path) -> Vec<(u16, Listener)> {
    listeners(root, |address| [25, 465, 587].contains(&address.port()))
}

fn listeners(root: &Path, wanted: impl Fn(SocketAddr) -> bool) -> Vec<(u16, Listener)> {
    let proc = root.join("proc");
    let mut sockets = HashMap::new();
    let mut ports = HashMap::new();
    for file in ["net/tcp", "net/tcp6"] {
        // Without IPv6 there is no second file.
        let Ok(file) = File::open(proc.join(file)) else { continue };
        let entries = TcpNetEntries::from_buf_read(std::io::BufReader::new(file), current_system_info());
        for entry in entries.map(|entries| entries.0).unwrap_or_default() {
            if entry.state == TcpState::Listen && wanted(entry.local_address) {
                let address = entry.local_address.ip();
                let listener =
                    Listener { address, uid: entry.uid, program: None, runs_as: BTreeSet::from([entry.uid]) };
                sockets.insert(entry.inode, listener);
                ports.insert(entry.inode, entry.local_address.port());
            }
        }
    }
    if !sockets.is_empty() {
        name_holders(&proc, &mut sockets);
    }
    let mut listeners: Vec<_> = sockets.into_iter().map(|(inode, listener)| (ports[&inode], listener)).collect();
    listeners.sort_by_key(|(port, listener)| (*port, listener.address));
    listeners
}

fn is_loopback_smtp(address: SocketAddr) -> bool {
    address.port() == 25 && (address.ip().is_unspecified() || address.ip().is_loopback())
}

/// Adds the programs and users behind listening sockets. Processes end while they are looked at: what is gone is left out.
fn name_holders(proc: &Path, sockets: &mut HashMap<u64, Listener>) {
    let Ok(processes) = all_processes_with_root(proc) else { return };
    let processes: Vec<Process> = processes.flatten().collect();
    let mut holders: HashMap<i32, HashSet<u64>> = HashMap::new();
    for process in &processes {
        let Ok(open) = process.fd() else { continue };
        for target in open.flatten().map(|fd| fd.target) {
            if let FDTarget::Socket(inode) = target
                && sockets.contains_key(&inode)
            {
                holders.entry(process.pid()).or_default().insert(inode);
            }
        }
    }
    for process in &processes {
        let Ok(status) = process.status() else { continue };
        let own = holders.get(&process.pid());
        // Socket activation: everybody is a child of process 1.
        let parents = || holders.get(&status.ppid).filter(|_| status.ppid != 1);
        for inode in own.or_else(parents).into_iter().flatten() {
            let Some(listener) = sockets.get_mut(inode) else { continue };
            listener.runs_as.insert(status.ruid);
            if own.is_some() {
                listener.program.get_or_insert_with(|| printable(status.name.as_bytes()));
            }
        }
    }
}

/// The first port that everybody may listen on (ip-sysctl, Linux 4.11).
pub fn first_unprivileged_port(root: &Path) -> u16 {
    /// `PROT_SOCK`, which it is where nothing was said.
    const USUAL: u16 = 1024;
    let text = fs::read_to_string(root.join("proc/sys/net/ipv4/ip_unprivileged_port_start"));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL)
}

/// What stands in the way of `on_soft = "redirect"` on this host. `unprivileged` is [`first_unprivileged_port`];
/// `is_exempt` tells of a uid whether the policy never redirects it.
pub fn redirect_warnings(
    config: &Config,
    mta: &[Listener],
    unprivileged: u16,
    is_exempt: impl Fn(u32) -> bool,
) -> Problems {
    let mut warnings = Problems::default();
    let Some(plan) = config.plans.iter().find(|plan| plan.on_soft == OnSoft::Redirect) else { return warnings };
    let what = format!("[plan.{}] on_soft = \"redirect\"", printable(plan.name.as_bytes()));
    if mta.is_empty() {
        let message = format!("{what}: no MTA listens on port 25 of loopback, so the overflow is deferred instead");
        warnings.push(Problem::warning(message).hint("start the local MTA, or write on_soft = \"defer\""));
        return warnings;
    }
    // IPv6 connections are led to 127.0.0.1 where nobody listens on ::1.
    if !mta.iter().any(Listener::takes_v4) {
        let message = format!(
            "{what}: no MTA listens on port 25 of the IPv4 loopback address, so the overflow of IPv4 connections is deferred instead"
        );
        warnings.push(Problem::warning(message).hint("have the MTA listen there too"));
    }
    if unprivileged <= 25 {
        let message = format!(
            "{what}: net.ipv4.ip_unprivileged_port_start is {unprivileged}, so any user can listen on port 25 while the MTA does not, and is then handed the mail of others"
        );
        warnings.push(Problem::warning(message).hint("set it to 26 or more, or write on_soft = \"defer\""));
    }
    let limited: BTreeSet<u32> =
        mta.iter().flat_map(|one| &one.runs_as).copied().filter(|uid| !is_exempt(*uid)).collect();
    for uid in limited {
        let program = mta.iter().find(|one| one.runs_as.contains(&uid)).and_then(|one| one.program.as_deref());
        let name = user_name(uid).map_or_else(|| uid.to_string(), |name| printable(name.as_bytes()));
        let message = format!(
            "{what}: the local MTA ({}) runs as `{name}`, who is limited too: what it sends on would be redirected to itself, in a circle",
            program.unwrap_or("its program is unknown")
        );
        warnings.push(Problem::warning(message).hint(format!("add `{name}` to [allow] users")));
    }
    warnings
}
