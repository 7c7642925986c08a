//! Whether a mail server relays for strangers: the open-relay diagnosis.
//!
//! `target` says which addresses are meant and what an answer from here is worth, `probe` lists what is tried,
//! `command` is everything that may be said, `reply` reads what comes back, `wire` carries both within bounds of time
//! and size, `visit` goes through the probes of one address, `verdict` draws the conclusion, `evidence` sees what
//! refusals are about. No message can be sent: among the commands there is none that begins a body.
#![forbid(unsafe_code)]

mod command;
mod evidence;
mod probe;
mod reply;
mod target;
#[cfg(test)]
mod tests;
mod verdict;
mod visit;
mod wire;

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;

pub(crate) use command::is_domain;
pub use command::{HelloName, Mailbox};
pub use target::{Target, Vantage};
pub use verdict::Verdict;
pub use visit::{Outcome, Tried, Visit};

use crate::exit::{Failure, Result};

/// More addresses than a mail server has; the others are named and left out.
const MOST_ADDRESSES: usize = 8;
/// A visit may take as long as this many slow answers.
const PATIENCE: u32 = 24;

/// What is asked for on the command line.
#[derive(Debug, Clone)]
pub struct Options {
    pub target: Target,
    /// Somebody outside in whose name mail is offered.
    pub from: Mailbox,
    /// Somebody outside for whom it is offered.
    pub to: Mailbox,
    /// What we call ourselves; without it this host's name, else its address.
    pub hello: Option<HelloName>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// The user answers for a server that is not this host.
    pub operated: bool,
}

/// What was found at every address of the server.
#[derive(Debug, Serialize)]
pub struct Report {
    pub host: String,
    pub port: u16,
    pub verdict: Verdict,
    pub visits: Vec<Visit>,
    /// Addresses that were not looked at.
    pub left_out: Vec<SocketAddr>,
}

/// Tries it. Fails before anything is sent where the server is somebody else's, or its name leads nowhere.
pub fn check(options: &Options) -> Result<Report> {
    let own = target::own_networks()?;
    let mut addresses = options.target.addresses(options.timeout)?;
    if !options.operated
        && let Some(other) = addresses.iter().find(|address| !target::is_own(address.ip(), &own))
    {
        return Err(refusal(&options.target, *other));
    }
    let left_out = addresses.split_off(addresses.len().min(MOST_ADDRESSES));
    let visits: Vec<_> = addresses
        .into_iter()
        .map(|address| visit::visit(address, &own, options, options.timeout.saturating_mul(PATIENCE)))
        .collect();
    let verdict = Verdict::of_all(&visits, &left_out);
    Ok(Report { host: options.target.host().to_owned(), port: options.target.port(), verdict, visits, left_out })
}

fn refusal(target: &Target, other: SocketAddr) -> Failure {
    let (host, ip) = (target.host(), other.ip());
    let which = if host == ip.to_string() { host.to_owned() } else { format!("{host} is {ip}, which") };
    Failure::config(format!(
        "{which} is no address of this host, and to whoever runs that server these probes look like an attack; add \
         --i-operate-this-host if it is yours"
    ))
}
