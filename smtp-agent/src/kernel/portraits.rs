//! The kernel's portraits of processes, and what it remembers of them.

use std::collections::HashMap;

use aya::{
    Pod,
    maps::{HashMap as BpfHashMap, Map, MapData, RingBuf},
};
use smtp_common::{
    event::ConnectEvent,
    names::map,
    portrait::{Execution, Lineage, Portrait, ProcessKey},
};

use super::{pins::Pins, ring::decode};
use crate::{
    attribution::Memory,
    exit::{Failure, Result},
};

/// Portraits that are kept for events that have not come yet: two and a half kilobytes each.
const WAITING: usize = 8192;

/// Portraits that are taken in at a time: more than the ring has room for, so that all that were there are among them. In a
/// flood there is always one more.
const AT_ONCE: usize = 4096;

/// How long one waits, in nanoseconds: its event was submitted right after it, or lost.
const PATIENCE: u64 = 10_000_000_000;

/// Reads the portraits beside the events, which name them by thread and time.
pub struct Portraits {
    ring: RingBuf<MapData>,
    waiting: HashMap<(u32, u64), Box<Portrait>>,
}

/// What the kernel remembers of processes.
pub struct Remembered {
    executions: BpfHashMap<MapData, ProcessKey, Execution>,
    lineage: BpfHashMap<MapData, ProcessKey, Lineage>,
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::unavailable(format!("the map {what} cannot be used: {error}"))
}

impl Portraits {
    pub fn open(pins: &Pins) -> Result<Self> {
        let open = || RingBuf::try_from(Map::RingBuf(MapData::from_pin(pins.map(map::PORTRAITS))?));
        Ok(Self { ring: open().map_err(|e| failed(map::PORTRAITS, &e))?, waiting: HashMap::new() })
    }

    /// Takes in what is there: afterwards the portrait of every event that was read before is.
    pub fn take_in(&mut self) {
        if self.waiting.len() > WAITING - AT_ONCE {
            let patience = self.waiting.keys().map(|(_, time)| *time).max().unwrap_or(0).saturating_sub(PATIENCE);
            self.waiting.retain(|(_, time), _| *time >= patience);
        }
        for _ in 0..AT_ONCE {
            let Some(record) = self.ring.next() else { return };
            let portrait = decode::<Portrait>(&record);
            drop(record);
            if let Some(portrait) = portrait.filter(|_| self.waiting.len() < WAITING) {
                self.waiting.insert((portrait.tid, portrait.time), Box::new(portrait));
            }
        }
    }

    /// The portrait of an event.
    pub fn of(&mut self, event: &ConnectEvent) -> Option<Box<Portrait>> {
        self.waiting.remove(&(event.tid, event.time))
    }
}

impl Remembered {
    pub fn open(pins: &Pins) -> Result<Self> {
        fn typed<V: Pod>(pins: &Pins, name: &str) -> Result<BpfHashMap<MapData, ProcessKey, V>> {
            let open = || BpfHashMap::try_from(Map::LruHashMap(MapData::from_pin(pins.map(name))?));
            open().map_err(|e| failed(name, &e))
        }
        Ok(Self { executions: typed(pins, map::EXECUTIONS)?, lineage: typed(pins, map::LINEAGE)? })
    }
}

impl Memory for Remembered {
    fn execution(&self, process: ProcessKey) -> Option<Box<Execution>> {
        self.executions.get(&process, 0).ok().map(Box::new)
    }

    fn lineage(&self, process: ProcessKey) -> Option<Lineage> {
        self.lineage.get(&process, 0).ok()
    }
}
