//! The sink's counts beside ours.

use smtp_tests::{World, poll, sink::Tally};
use std::time::Duration;

/// One client's.
#[derive(Debug)]
pub(crate) struct Row {
    client: String,
    pub(crate) sink: Tally,
    pub(crate) ours: Tally,
}

impl Row {
    /// After the last connection has ended. Printed too, for the record.
    #[track_caller]
    pub(crate) fn of(client: &str, world: &World, user: &str) -> Self {
        let sink = world.sink.settled_tally();
        let ours = || world.metrics().tally_of(user);
        poll::holds_within(Duration::from_secs(5), || ours().sessions >= sink.sessions);
        let row = Self { client: client.into(), sink, ours: ours() };
        println!("{}", row.text());
        row
    }

    #[track_caller]
    pub(crate) fn assert_equal(&self) {
        assert_eq!(self.ours, self.sink, "{}", self.client);
    }

    fn text(&self) -> String {
        let part = |tally: &Tally| {
            let (m, r) = (tally.messages, tally.recipients);
            format!(
                "{}/{}/{} of {} sessions, recipients {}/{}/{}, unknown {}, encrypted {}",
                m.accepted,
                m.deferred,
                m.rejected,
                tally.sessions,
                r.accepted,
                r.deferred,
                r.rejected,
                tally.unknown,
                tally.encrypted
            )
        };
        format!("| {} | {} | {} |", self.client, part(&self.sink), part(&self.ours))
    }
}
