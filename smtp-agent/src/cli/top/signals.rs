//! What would end the view, so that the terminal is given back first.
//!
//! The signals are blocked in every thread and waited for in one of their own. It asks the view to end; a view that
//! hangs in writing to a terminal that takes nothing is not waited for long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal, raise};
use ratatui::crossterm::terminal::disable_raw_mode;

const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// How long the view may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// The signal that has come, if one has.
pub(super) struct Ending(Arc<AtomicI32>);

impl Ending {
    /// Begins to wait for them. To be called before there are other threads, which inherit what is blocked.
    pub(super) fn watch() -> nix::Result<Self> {
        let set = ENDING.into_iter().collect::<SigSet>();
        set.thread_block()?;
        let come = Arc::new(AtomicI32::new(0));
        thread::spawn({
            let come = come.clone();
            move || {
                let Ok(signal) = set.wait() else { return };
                come.store(signal as i32, Ordering::Relaxed);
                thread::sleep(PATIENCE);
                // The modes of the line can be set while its output is stuck.
                let _ = disable_raw_mode();
                die_of(signal);
            }
        });
        Ok(Self(come))
    }

    pub(super) fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Ends the process by the signal that has come, so that whoever sent it sees that. To be called when the terminal
    /// is as it was.
    pub(super) fn follow(&self) {
        if let Ok(signal) = Signal::try_from(self.0.load(Ordering::Relaxed)) {
            die_of(signal);
        }
    }
}

/// Returns where the signal is ignored.
fn die_of(signal: Signal) {
    let _ = SigSet::from(signal).thread_unblock();
    let _ = raise(signal);
}
