//! Reading the ring buffers of events.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd},
};

use aya::{
    Pod,
    maps::{Map, MapData, RingBuf},
};
use smtp_common::{
    event::ConnectEvent,
    names::{CgroupEvent, capacity, map},
    session::SessionEvent,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::pins::Pins;
use crate::exit::{Failure, Result};

/// Events handed over at a time.
const BATCH: usize = 1024;

/// What a ring of its own carries.
pub trait Event: Pod {
    const RING: &str;
    /// Octets that it has room for.
    const ROOM: usize;
}

impl Event for ConnectEvent {
    const RING: &str = map::EVENTS;
    const ROOM: usize = capacity::EVENTS;
}

impl Event for SessionEvent {
    const RING: &str = map::SESSION_EVENTS;
    const ROOM: usize = capacity::SESSION_EVENTS;
}

impl Event for CgroupEvent {
    const RING: &str = map::CGROUP_EVENTS;
    const ROOM: usize = capacity::CGROUP_EVENTS;
}

/// The one reader of a gate's events of one kind.
pub struct Events<E> {
    ring: AsyncFd<RingBuf<MapData>>,
    of: PhantomData<E>,
}

impl<E: Event> Events<E> {
    /// Must be called inside the runtime.
    pub fn open(pins: &Pins) -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| Failure::unavailable(format!("the events cannot be read: {e}"));
        let data = MapData::from_pin(pins.map(E::RING)).map_err(|e| failed(&e))?;
        let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(|e| failed(&e))?;
        let ring = readable(ring).map_err(|e| Failure::from_io(&e, "the events cannot be polled"))?;
        Ok(Self { ring, of: PhantomData })
    }

    /// Waits for events and hands over those there are, so many at most that a flood cannot keep the caller here.
    pub async fn read(&mut self, mut each: impl FnMut(E)) -> io::Result<()> {
        let mut guard = self.ring.readable_mut().await?;
        if hand_over(guard.get_inner_mut(), BATCH, &mut each) {
            guard.clear_ready();
        }
        Ok(())
    }

    /// Hands over those there are, without waiting, and at most what the ring can hold.
    pub fn drain(&mut self, mut each: impl FnMut(E)) {
        hand_over(self.ring.get_mut(), E::ROOM / size_of::<E>(), &mut each);
    }
}

/// So many events at most; whether there are no more.
fn hand_over<E: Event>(ring: &mut RingBuf<MapData>, most: usize, each: &mut impl FnMut(E)) -> bool {
    for _ in 0..most {
        let Some(event) = ring.next().map(|record| decode(&record)) else { return true };
        event.into_iter().for_each(&mut *each);
    }
    false
}

/// Lets the runtime say when a ring has something to read.
pub fn readable<T: AsFd + AsRawFd>(ring: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: aya's types own their descriptor and hand out the same one until they are dropped, which the
    // returned value does after deregistering it.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(Into::into)
}

/// A record of another length is from a probe of another layout, which pins of our layout cannot hold.
pub(super) fn decode<E: Pod>(record: &[u8]) -> Option<E> {
    if record.len() != size_of::<E>() {
        return None;
    }
    // SAFETY: the length is right and the type is valid for every bit pattern (`Pod`); the record may be
    // unaligned, which `read_unaligned` allows.
    Some(unsafe { record.as_ptr().cast::<E>().read_unaligned() })
}
