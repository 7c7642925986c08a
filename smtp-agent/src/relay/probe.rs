//! What is tried: mail from somebody outside for somebody outside, and the addresses that have fooled servers.
//!
//! The tricks are those of the classic relay testers (abuse.net, Nmap's smtp-open-relay): addresses whose last domain
//! is the server's own, or none, and whose local part names somebody elsewhere.

use std::net::IpAddr;

use serde::Serialize;

use super::{
    command::{Mailbox, is_domain, literal},
    reply::Reply,
};

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) name: &'static str,
    /// `None` where the sender is chosen among those the server did not mind.
    pub(super) from: Option<String>,
    pub(super) to: String,
    pub(super) kind: Kind,
}

/// What taking the recipient would mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// The recipient is elsewhere: taking it is relaying.
    Relay,
    /// The recipient is in this domain of the server's own (empty: none at all): taking it is relaying where the
    /// control of the same domain is refused.
    Trick { domain: String },
    /// A recipient in this domain that is surely not there.
    Control { domain: String },
}

/// What the server may be called in an address: names, then its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    names: Vec<String>,
    literal: String,
}

impl Names {
    /// The name it was asked for by, and the one it greets with.
    pub(super) fn of(asked: Option<&str>, greeting: &Reply, server: IpAddr) -> Self {
        let mut names: Vec<String> = asked.map(str::to_ascii_lowercase).into_iter().collect();
        let greeted = greeting.first_word().map(str::to_ascii_lowercase);
        if let Some(name) =
            greeted.filter(|name| is_domain(name) && name.contains('.') && name.parse::<IpAddr>().is_err())
            && !names.contains(&name)
        {
            names.push(name);
        }
        Self { names, literal: literal(server.to_canonical()) }
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).chain([self.literal.as_str()])
    }
}

/// All of them in their order. `absent` is a local part that nobody has.
pub(super) fn probes(names: &Names, from: &Mailbox, to: &Mailbox, absent: &str) -> Vec<Probe> {
    let mut all = senders(names, from, to);
    for own in names.all() {
        all.push(relay("source route", None, format!("@{own}:{to}")));
    }
    for own in names.all().chain([""]) {
        let at = if own.is_empty() { String::new() } else { format!("@{own}") };
        let domain = || own.to_owned();
        all.push(Probe {
            name: "control: nobody here",
            from: None,
            to: format!("{absent}{at}"),
            kind: Kind::Control { domain: domain() },
        });
        let (user, elsewhere) = (to.user(), to.domain());
        let mut trick = |name, to| all.push(Probe { name, from: None, to, kind: Kind::Trick { domain: domain() } });
        trick("percent hack", format!("{user}%{elsewhere}{at}"));
        trick("bang path", format!("{elsewhere}!{user}{at}"));
        trick("quoted address", format!("\"{to}\"{at}"));
        trick("quoted percent hack", format!("\"{user}%{elsewhere}\"{at}"));
        if !own.is_empty() {
            trick("two at signs", format!("{to}{at}"));
        }
    }
    all
}

/// From outside to outside, under every sender that servers make exceptions for.
fn senders(names: &Names, from: &Mailbox, to: &Mailbox) -> Vec<Probe> {
    let mut all = vec![
        relay("outside to outside", Some(from.to_string()), to.to_string()),
        relay("null sender", Some(String::new()), to.to_string()),
    ];
    for own in &names.names {
        all.push(relay("sender in its own name", Some(format!("{}@{own}", from.user())), to.to_string()));
        all.push(relay("postmaster of its own name", Some(format!("postmaster@{own}")), to.to_string()));
    }
    all.push(relay("sender at its address", Some(format!("{}@{}", from.user(), names.literal)), to.to_string()));
    all.push(relay("sender without a domain", Some(from.user().to_owned()), to.to_string()));
    all.push(relay("sender and recipient the same", Some(to.to_string()), to.to_string()));
    all
}

fn relay(name: &'static str, from: Option<String>, to: String) -> Probe {
    Probe { name, from, to, kind: Kind::Relay }
}
