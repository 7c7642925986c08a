//! What the answers mean: of one reply, and of all of them together.

use std::net::SocketAddr;

use serde::Serialize;

use super::{
    evidence::{is_about_relaying, is_judged},
    probe::Kind,
    reply::Reply,
    target::Vantage,
    visit::{Outcome, Tried, Visit},
};

/// The conclusion. In the order of gravity, so that the gravest of several addresses holds for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It relays for nobody we tried to be.
    Closed,
    /// Not known; the reason says why.
    Unclear,
    /// It relays for strangers.
    Open,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Unclear => "unclear",
            Self::Open => "open",
        }
    }

    /// The gravest; what this host has no way to counts only where that is true of every address. Of addresses that
    /// were not looked at nobody knows that they are closed.
    pub(super) fn of_all(visits: &[Visit], left_out: &[SocketAddr]) -> Self {
        let reached = visits.iter().filter(|visit| !visit.no_route).map(|visit| visit.verdict);
        reached.chain((!left_out.is_empty()).then_some(Self::Unclear)).max().unwrap_or(Self::Unclear)
    }
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Relaying, by name.
    Relaying,
    /// None is told, and it is for good: mostly relaying, which is to be seen from what others are answered.
    Unnamed,
    /// The server wants a password first.
    Authentication,
    /// The server wants TLS first, and then may think otherwise.
    Encryption,
    /// The addresses themselves: their domain does not exist or takes no mail, or they are not written well.
    Addresses,
    /// This client: it is on a list, or has no proper name.
    Client,
    /// None is told, and it is for now only: greylisting, or something that does not work.
    Later,
}

impl Reason {
    /// Whether strangers are refused for the same reason whatever addresses they use.
    pub(super) fn is_decisive(self) -> bool {
        matches!(self, Self::Relaying | Self::Unnamed | Self::Authentication)
    }

    /// Whether it has nothing to do with the addresses, so that nobody has thought about these yet.
    pub(super) fn is_about_client(self) -> bool {
        matches!(self, Self::Client | Self::Encryption)
    }

    /// Of a reply that is not positive. Enhanced status codes (RFC 3463) where there are some, else the words of the
    /// common servers.
    pub(super) fn of(reply: &Reply) -> Self {
        let text = reply.lines.join("\n").to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(&["starttls", "encryption required", "must use tls", "encryption needed"]) {
            return Self::Encryption;
        }
        if reply.code == 530 || says(&["authentication required", "authentication is required", "auth required"]) {
            return Self::Authentication;
        }
        // Before the codes: Postfix gives these 5.7.1, as it does to relaying.
        if says(&CLIENT) {
            return Self::Client;
        }
        match enhanced(&reply.lines[0]) {
            // Syntax and sequence: nobody has thought about relaying yet.
            _ if (500..=504).contains(&reply.code) => Self::Addresses,
            // X.7.25: the client's address has no name. X.7.27: the sender's domain takes no mail (RFC 7372, 7505).
            Some((7, 25)) => Self::Client,
            Some((1, 2 | 3 | 7 | 8 | 10) | (4, 4) | (7, 27)) => Self::Addresses,
            _ if says(&ADDRESSES) => Self::Addresses,
            // Postfix's `defer_unauth_destination`, its default, says this with a 454.
            _ if says(&RELAYING) => Self::Relaying,
            _ if reply.is_transient() => Self::Later,
            _ if says(&NOT_HERE) => Self::Relaying,
            _ => Self::Unnamed,
        }
    }
}

const RELAYING: [&str; 6] = [
    "relay access denied",
    "relaying denied",
    "relay not permitted",
    "not permitted to relay",
    "unable to relay",
    "relaying not allowed",
];
/// The same in other words, of refusals for good. Those of qmail, OpenSMTPD, Haraka and hMailServer stand last.
const NOT_HERE: [&str; 11] = [
    "relaying",
    "relay denied",
    "relay is not",
    "no relay",
    "not relay",
    "'t relay",
    "cannot relay",
    "rcpthosts",
    "550 invalid recipient",
    "i cannot deliver mail for",
    "delivery is not allowed to this address",
];
const CLIENT: [&str; 24] = [
    "client host rejected",
    "client host blocked",
    "; client host [",
    "blocked using",
    "blacklist",
    "black list",
    "blocklist",
    "block list",
    "dnsbl",
    " rbl",
    "spamhaus",
    "spamcop",
    "barracuda",
    "sorbs",
    "uceprotect",
    "junkmail rejected",
    "ip listed",
    "poor reputation",
    "bad reputation",
    "too many",
    "cannot find your",
    "reverse dns",
    "ptr record",
    "helo command rejected",
];
const ADDRESSES: [&str; 9] = [
    "unrouteable address",
    "unroutable address",
    "domain not found",
    "domain does not exist",
    "does not resolve",
    "does not accept mail",
    "nullmx",
    "sender verify failed",
    "verification failed",
];

/// Subject and detail of an enhanced status code.
fn enhanced(line: &str) -> Option<(u16, u16)> {
    let mut parts = line.get(4..)?.split_whitespace().next()?.split('.');
    let class = parts.next()?;
    let (subject, detail) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (matches!(class, "2" | "4" | "5") && parts.next().is_none()).then_some((subject, detail))
}

/// What is known of one address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conclusion {
    pub(super) verdict: Verdict,
    /// Why, in a sentence.
    pub(super) because: String,
    /// The probe that shows it, where one does.
    pub(super) by: Option<usize>,
}

/// What is known after everything was tried.
pub(super) fn conclude(tried: &[Tried], vantage: Vantage) -> Conclusion {
    let (verdict, because, by) = concluded(tried, vantage);
    let by = by.and_then(|by| tried.iter().position(|one| std::ptr::eq(one, by)));
    Conclusion { verdict, because, by }
}

fn concluded(tried: &[Tried], vantage: Vantage) -> (Verdict, String, Option<&Tried>) {
    let taken = || tried.iter().filter(|one| one.outcome == Outcome::Accepted && !one.is_control());
    let relayed: Vec<_> = taken().filter(|one| proves(one, tried)).collect();
    if let Some(first) = relayed.first() {
        let what = format!("it took {}{}", described(first), and_more(relayed.len()));
        return if vantage.is_trusted() {
            let what = format!("{what}, but maybe only because of where it was asked from");
            (Verdict::Unclear, what, Some(first))
        } else {
            (Verdict::Open, what, Some(first))
        };
    }
    if let Some(first) = taken().next() {
        let because = format!(
            "it took {}{}, but was not seen to refuse anybody in that domain of its own, so these may be local names to \
             it; look in its log where such a message would go",
            described(first),
            and_more(taken().count())
        );
        return (Verdict::Unclear, because, Some(first));
    }
    let undecided: Vec<_> = tried.iter().filter(|one| is_undecided(one)).collect();
    if let Some(first) = undecided.first() {
        let deferred = undecided.iter().all(|one| one.outcome == Outcome::Deferred);
        let advice =
            if deferred { "greylisting, perhaps: ask again in a quarter of an hour" } else { "ask again later" };
        let what =
            format!("{} of {} probes were not decided, such as {}", undecided.len(), tried.len(), described(first));
        return (Verdict::Unclear, format!("{what}: {}; {advice}", first.answer), Some(first));
    }
    let decisive = |one: &&Tried| one.kind == Kind::Relay && one.reason.is_some_and(Reason::is_decisive);
    if let Some(first) = tried.iter().find(decisive) {
        if !is_about_relaying(tried) {
            let because = format!(
                "it refused every recipient, those at home too, and said nothing of relaying ({}): it may refuse this \
                 client, whatever it wants; ask from another host",
                first.answer
            );
            return (Verdict::Unclear, because, Some(first));
        }
        if let Err(other) = is_judged(tried) {
            let because = format!(
                "half of the probes or more were refused for the sake of this client, such as {}: {}; ask from \
                 another host",
                described(other),
                other.answer
            );
            return (Verdict::Unclear, because, Some(other));
        }
        return (Verdict::Closed, "it refused whatever was to be relayed".to_owned(), Some(first));
    }
    let first = tried.first();
    let answer = first.map_or("nothing was tried", |one| one.answer.as_str());
    let advice = match first.and_then(|one| one.reason) {
        Some(Reason::Encryption) => "it wants TLS first, which these probes do not speak; ask at another port",
        Some(Reason::Client) => "it refuses this client, whatever it wants; ask from another host",
        _ => "it refused the addresses themselves; name real ones with --from and --to",
    };
    (Verdict::Unclear, format!("no probe got as far as relaying ({answer}); {advice}"), first)
}

/// Whether taking this recipient can only mean relaying.
fn proves(one: &Tried, tried: &[Tried]) -> bool {
    match &one.kind {
        Kind::Relay => true,
        Kind::Control { .. } => false,
        Kind::Trick { domain } => tried.iter().any(|control| {
            matches!(&control.kind, Kind::Control { domain: of } if of == domain) && control.outcome == Outcome::Refused
        }),
    }
}

/// Whether it may end otherwise another time. A temporary code alone does not say so: some servers give one to domains
/// they do not find, and to relaying.
fn is_undecided(one: &Tried) -> bool {
    let open = match one.outcome {
        Outcome::Deferred => !matches!(one.reason, Some(Reason::Addresses | Reason::Relaying | Reason::Authentication)),
        Outcome::Unanswered => true,
        Outcome::Accepted | Outcome::Refused => false,
    };
    open && !one.is_control()
}

fn described(one: &Tried) -> String {
    format!("mail from <{}> for <{}> ({})", one.from, one.to, one.name)
}

fn and_more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        n => format!(" and {} more", n - 1),
    }
}
