//! The bench's own book, and the agents': they must say the same.

use super::{
    cases::{Case, Transport},
    places::{Place, World},
    talk::Said,
};
use smtp_tests::Agent;

/// What came to the port of one agent, in the bench's own book.
#[derive(Clone, Copy, Default)]
pub(crate) struct Made {
    pub(crate) sessions: u64,
    /// Of these, the client has ended so many with a reset.
    pub(crate) resets: u64,
    pub(crate) messages: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
}

impl Made {
    /// A session has been, or is about to end.
    pub(crate) fn note(&mut self, said: Said) {
        self.sessions += 1;
        self.bytes_sent += said.sent;
        self.bytes_received += said.received;
    }
}

/// The books of both agents.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) gate: Made,
    connections: Made,
}

impl Books {
    /// The book in which a conversation in this place belongs; `None` where no agent sees it.
    pub(crate) fn of(&mut self, place: Place, case: Case) -> Option<&mut Made> {
        match (place, case.transport()) {
            (Place::Gate, Transport::Smtp) => Some(&mut self.gate),
            (Place::Connections, Transport::Smtp) => Some(&mut self.connections),
            _ => None,
        }
    }
}

/// The agents must have counted exactly what was made, or something else was measured.
pub(crate) fn check(world: &World, books: &Books) {
    let book = &books.gate;
    let accepted = [("outcome", "accepted")];
    let counts = [
        ("smtp_connections_total", &[][..], book.sessions),
        ("smtp_sessions_total", &[("outcome", "established")], book.sessions),
        ("smtp_sessions_total", &[("outcome", "closed")], book.sessions - book.resets),
        ("smtp_sessions_total", &[("outcome", "reset")], book.resets),
        ("smtp_sessions_unseen_total", &[], 0),
        ("smtp_messages_total", &[], book.messages),
        ("smtp_messages_total", &accepted, book.messages),
        ("smtp_recipients_total", &accepted, book.messages),
        ("smtp_session_bytes_total", &[("direction", "sent")], book.bytes_sent),
        ("smtp_session_bytes_total", &[("direction", "received")], book.bytes_received),
    ];
    for (name, labels, made) in counts {
        expect(world.gate(), name, labels, made);
    }
    expect(world.connections(), "smtp_connections_total", &[], books.connections.sessions);
}

fn expect(agent: &Agent, name: &str, labels: &[(&str, &str)], made: u64) {
    // Executions of sendmail are the host's, not the bench's.
    let metrics = agent.metrics();
    let of_host = if name == "smtp_connections_total" { metrics.value(name, &[("route", "pipe")]) } else { 0.0 };
    let counted = (metrics.value(name, labels) - of_host) as u64;
    assert!(
        counted == made,
        "the gate says {counted} in {name}{labels:?} of {made} that were made: something else was measured"
    );
}
