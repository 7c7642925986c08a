//! Names of destinations: what the history knows only by its address is asked for, where the configuration says so.

use std::{
    path::Path,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use super::{history, shared::Shared};
use crate::{
    destinations::Asker,
    store::{Reader, Trouble, now},
};

/// How often the history is looked at for addresses without a name.
const LOOK: Duration = Duration::from_secs(10);
/// Addresses of one round, and how long they may take together.
const MOST: usize = 100;
const ROUND: Duration = Duration::from_secs(30);

/// A thread of its own: a resolver may take its time, and the end of the agent does not wait for it.
pub fn start(shared: &Arc<Shared>, state: &Path) -> std::io::Result<()> {
    let (shared, state) = (Arc::downgrade(shared), state.to_owned());
    thread::Builder::new().name("destinations".to_owned()).spawn(move || ask(&shared, &state))?;
    Ok(())
}

fn ask(shared: &Weak<Shared>, state: &Path) {
    let mut asker: Option<Asker> = None;
    loop {
        thread::sleep(LOOK);
        let Some(shared) = shared.upgrade() else { return };
        let config = shared.config.blocking_lock().history.clone();
        if config.resolve.is_empty() {
            asker = None;
            continue;
        }
        if asker.as_ref().is_some_and(|asker| !asker.is_of(&config)) {
            asker = None;
        }
        let asker = asker.get_or_insert_with(|| Asker::new(&config, Path::new("/")));
        if asker.is_resting() {
            continue;
        }
        // The reader is closed before anybody is asked: it would hold up what is written.
        match Reader::open(state).and_then(|reader| Ok(reader.unnamed(MOST, now())?)) {
            Ok(addresses) => history::hosts(&shared, asker.ask(&addresses, ROUND)),
            Err(Trouble::Absent) => {}
            Err(e) => tracing::debug!("destinations are not named, the history cannot be read: {e}"),
        }
    }
}
