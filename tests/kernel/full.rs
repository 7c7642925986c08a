//! Maps that are full: limits still hold, counts are still right in sum, and the losses are counted.

use smtp_common::{
    connection::{Account, Route, kind},
    counter::{CounterKey, Verdict},
    names::{capacity, map},
    window::{Lane, LockedWindows, WindowKey},
};
use smtp_tests::{Tally, World, uid};

/// Fills a map of the agent's gate with entries nobody uses until the kernel has no room for one more.
fn fill<K: aya::Pod, V: aya::Pod>(world: &World, name: &str, key: impl Fn(u64) -> K, value: V, room: usize) {
    let mut full = world.agent.map::<K, V>(name);
    let made = (0..room as u64 + 1).take_while(|&n| full.insert(key(n), value, 0).is_ok()).count();
    assert!(made < room + 1, "{name} took more than it has room for");
}

fn ghost(n: u64) -> Account {
    Account::new(kind::USER, 1 << 40 | n)
}

#[test]
fn accounts_without_a_window_share_one_and_its_limit_holds() {
    let world = World::with("[plan.standard]\nper_hour = 10\nsoft_percent = 100");
    assert_eq!(world.dial().uid(uid::OTHER).run().ok(), 1, "this one has its window");
    let key = |n| WindowKey::new(ghost(n), Lane::Admitted);
    fill(&world, map::WINDOWS, key, LockedWindows::default(), capacity::WINDOWS);

    let together: Vec<_> = (0..4).map(|n| world.dial().uid(uid::SENDER + 100 + n).count(4).run()).collect();
    assert_eq!(together.iter().map(Tally::ok).sum::<u64>(), 10, "four accounts, one window: {together:?}");
    assert_eq!(together.iter().map(Tally::eperm).sum::<u64>(), 6);
    assert_eq!(world.dial().uid(uid::OTHER).count(10).run(), Tally::of(&[("ok", 9), ("EPERM", 1)]), "its own still");
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1);
    let lost = world.agent.metrics().value("smtp_agent_map_full_total", &[("map", "windows")]);
    assert!(lost >= 16.0, "each attempt without a window of its own is counted: {lost}");
}

#[test]
fn connections_without_a_counter_are_counted_as_other() {
    let world = World::with("");
    let key = |n| CounterKey::new(ghost(n), 25, Route::Remote, Verdict::Allowed);
    fill(&world, map::COUNTERS, key, 0u64, capacity::COUNTERS);
    assert_eq!(world.dial().uid(uid::SENDER).count(7).run().ok(), 7);
    assert_eq!(world.dial().uid(uid::DENIED).count(3).run().eperm(), 3);
    assert_eq!(world.counted("other", "allowed"), 7);
    assert_eq!(world.counted("other", "refused"), 3);
    assert_eq!(world.counted_in_all(), 10);
    assert_eq!(world.agent.metrics().value("smtp_agent_map_full_total", &[("map", "counters")]), 10.0);
}
