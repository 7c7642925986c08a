//! `cargo xtask run`: the agent on this host, in observe mode, until Ctrl-C; nothing stays behind.

mod agent;
mod config;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::unistd::geteuid;

use crate::interrupt;
use crate::process::foreground;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;
use agent::Agent;
use config::PrivateConfig;

/// The first port tried is the packaged default; an installed agent may hold it.
const PORTS: std::ops::RangeInclusive<u16> = 9725..=9824;
/// Apart from an installed agent's pins.
const PINS: &str = "/sys/fs/bpf/smtp-agent-run";

pub(crate) fn run(workspace: &Workspace, agent_arguments: &[OsString]) -> Result<()> {
    if !geteuid().is_root() {
        bail!("the agent loads programs into the kernel, which needs root: sudo -E env \"PATH=$PATH\" cargo xtask run");
    }
    setup::run(workspace, Scope::Build)?;
    foreground(workspace.cargo().args(["build", "--release", "--package", "smtp-agent"]))?;

    let port = free_port(PORTS)?;
    if port != *PORTS.start() {
        eprintln!("port {} is taken, using {port}", PORTS.start());
    }
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let packaged = workspace.root.join("packaging/config.toml");
    let config = PrivateConfig::write(&packaged, &workspace.target.join("run"), Path::new(PINS), listen)?;
    let agent = Agent::new(workspace.target.join("release/smtp-agent"), config);
    agent.clear_leftovers()?;
    let outcome = agent.watch(agent_arguments);
    // Whatever happened, the kernel must not keep what we put there; Ctrl-C was the way to ask for this.
    interrupt::answered();
    let cleared = agent.detach();
    outcome.and(cleared)
}

fn free_port(mut ports: std::ops::RangeInclusive<u16>) -> Result<u16> {
    let (first, last) = (*ports.start(), *ports.end());
    ports
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .with_context(|| format!("no port from {first} to {last} is free on 127.0.0.1 for the metrics"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over_and_none_free_is_an_error() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(free_port(port..=port).unwrap_err().to_string().contains(&port.to_string()));
        let next = free_port(port..=u16::MAX).unwrap();
        assert!(next > port);
    }
}
