//! Reading the ring buffer of events.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use aya::maps::{Map, MapData, RingBuf};
use smtp_common::{event::ConnectEvent, names::map};
use tokio::io::{Interest, unix::AsyncFd};

use super::pins::Pins;
use crate::exit::{Failure, Result};

/// Events handed over at a time.
const BATCH: usize = 1024;

/// The one reader of a gate's events.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Events {
    /// Must be called inside the runtime.
    pub fn open(pins: &Pins) -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| Failure::unavailable(format!("the events cannot be read: {e}"));
        let data = MapData::from_pin(pins.map(map::EVENTS)).map_err(|e| failed(&e))?;
        let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(|e| failed(&e))?;
        let ring = readable(ring).map_err(|e| Failure::from_io(&e, "the events cannot be polled"))?;
        Ok(Self { ring })
    }

    /// Waits for events and hands over those there are, so many at most that a flood cannot keep the caller here.
    pub async fn read(&mut self, mut each: impl FnMut(ConnectEvent)) -> io::Result<()> {
        let mut guard = self.ring.readable_mut().await?;
        for _ in 0..BATCH {
            let Some(event) = guard.get_inner_mut().next().map(|record| decode(&record)) else {
                guard.clear_ready();
                return Ok(());
            };
            event.into_iter().for_each(&mut each);
        }
        Ok(())
    }
}

/// Lets the runtime say when a ring has something to read.
pub fn readable<T: AsFd + AsRawFd>(ring: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: aya's types own their descriptor and hand out the same one until they are dropped, which the
    // returned value does after deregistering it.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(Into::into)
}

/// A record of another length is from a probe of another layout, which pins of our layout cannot hold.
fn decode(record: &[u8]) -> Option<ConnectEvent> {
    if record.len() != size_of::<ConnectEvent>() {
        return None;
    }
    // SAFETY: the length is right and the type is valid for every bit pattern (`Pod`); the record may be
    // unaligned, which `read_unaligned` allows.
    Some(unsafe { record.as_ptr().cast::<ConnectEvent>().read_unaligned() })
}
