//! Kernel memory of a session that is open.

use super::{
    books::Books,
    cases::Case,
    places::{Place, World},
    talk::Talk,
};
use crate::stats::median;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use smtp_common::session::Session;
use smtp_tests::Must;
use std::{collections::BTreeMap, fs, thread, time::Duration};

/// Open at once: what else the kernel does meanwhile is small beside them.
const SESSIONS: usize = 5_000;
const ROUNDS: usize = 5;

/// The lock beside the session in its map (`SessionValue` of the probe), padded to eight octets.
const LOCK: usize = 8;

/// Octets.
pub(crate) struct Memory {
    /// What the probe keeps beside a socket.
    pub(crate) value: usize,
    /// What an open session takes more than a connection without a program, by round.
    pub(crate) taken: Vec<f64>,
    /// The same by the kernel's cache it lies in, the median of the rounds: those that tell.
    pub(crate) by_cache: Vec<(String, f64)>,
}

pub(crate) fn measure(world: &World, books: &mut Books) -> Memory {
    let wanted = SESSIONS as u64 * 2 + 1_000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).must("cannot tell how many files may be open");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard.max(wanted)).must("cannot have enough files open");
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        // Neither place is always the first.
        let order = if round % 2 == 0 { [Place::Gate, Place::Nothing] } else { [Place::Nothing, Place::Gate] };
        let taken = order.map(|place| open(world, place, books));
        rounds.push(taken[round % 2].less(&taken[1 - round % 2]));
    }
    let of = |cache: &String| median(&rounds.iter().map(|round| round.of(cache)).collect::<Vec<_>>());
    let by_cache = rounds[0].0.keys().map(|cache| (cache.clone(), of(cache))).filter(|(_, octets)| *octets >= 16.0);
    Memory {
        value: LOCK + size_of::<Session>(),
        by_cache: by_cache.collect(),
        taken: rounds.iter().map(|round| round.0.values().sum()).collect(),
    }
}

/// Octets, for each session, by which the kernel's caches grow.
fn open(world: &World, place: Place, books: &mut Books) -> Caches {
    let before = settled();
    let talks: Vec<Talk> = world.visit(place, || {
        let listener = world.listener(Case::Session);
        (0..SESSIONS).map(|_| Talk::with(&listener)).collect()
    });
    let after = Caches::now();
    if let Some(book) = books.of(place, Case::Session) {
        book.resets += SESSIONS as u64;
        talks.iter().for_each(|talk| book.note(talk.said));
    }
    talks.into_iter().for_each(Talk::reset);
    let mut grown = after.less(&before);
    grown.0.values_mut().for_each(|octets| *octets /= SESSIONS as f64);
    grown
}

/// Memory is given back after a grace period, and by and by.
fn settled() -> Caches {
    thread::sleep(Duration::from_millis(400));
    let mut last = Caches::now();
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(150));
        let now = Caches::now();
        if last.less(&now).0.values().sum::<f64>().abs() < 64e3 {
            return now;
        }
        last = now;
    }
    last
}

/// Octets in use in the caches that kmalloc() takes from, by name, but for those of names of files, which come and go with
/// everything that happens on a host. Storage beside sockets lies there (`bpf_selem_alloc`).
struct Caches(BTreeMap<String, f64>);

impl Caches {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/slabinfo").must("cannot read /proc/slabinfo; it needs root");
        let caches = Self::parse(&text);
        assert!(!caches.0.is_empty(), "/proc/slabinfo lists no kmalloc caches, or in another format");
        caches
    }

    /// slabinfo(5): name, objects in use, objects, octets of an object.
    fn parse(slabinfo: &str) -> Self {
        let lines = slabinfo.lines().filter(|line| line.starts_with("kmalloc-") && !line.starts_with("kmalloc-rcl-"));
        let cache = |line: &str| {
            let mut fields = line.split_ascii_whitespace();
            let name = fields.next()?.to_string();
            let used: f64 = fields.next()?.parse().ok()?;
            let octets: f64 = fields.nth(1)?.parse().ok()?;
            Some((name, used * octets))
        };
        Self(lines.filter_map(cache).collect())
    }

    fn of(&self, cache: &str) -> f64 {
        self.0.get(cache).copied().unwrap_or(0.0)
    }

    fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().map(|(cache, octets)| (cache.clone(), octets - other.of(cache))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Caches;

    #[test]
    fn caches_are_read_and_compared_by_name() {
        let line = |name: &str, used: u32| format!("{name} {used} 999 2048 16 8 : tunables 0 0 0 : slabdata 1 1 0\n");
        let before = line("kmalloc-2k", 3) + &line("kmalloc-rcl-2k", 5) + &line("TCP", 1);
        let after = line("kmalloc-2k", 10) + &line("kmalloc-cg-2k", 1);
        let grown = Caches::parse(&after).less(&Caches::parse(&before));
        assert_eq!(
            grown.0.into_iter().collect::<Vec<_>>(),
            [("kmalloc-2k".to_string(), 7.0 * 2048.0), ("kmalloc-cg-2k".to_string(), 2048.0)]
        );
    }
}
