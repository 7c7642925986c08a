use super::*;
use proptest::prelude::*;
use smtp_common::{
    connection::Route,
    counter::Verdict,
    rule::PlanLimits,
    window::{Both, Lane, spans},
};

const MINUTE: u64 = 60_000_000_000;
const WALL: Millis = 1_795_000_000_000;
/// Five minutes after the boot.
const UP: u64 = 5 * MINUTE;
const MINUTES: Millis = 60_000;

fn here(wall_now: Millis) -> Here {
    Here { wall_now, boot_now: UP, cgroups: HashMap::new(), braking: HashSet::new() }
}

fn window(kind: u32, id: u64, lane: Lane, charges: &[(Millis, u32)]) -> record::Window {
    record::Window { kind, id, lane: lane as u32, span: Span::Hour as u32, charges: charges.to_vec() }
}

fn container(kind: u32, id: u64, identity: u64, name: &str) -> record::Container {
    record::Container { kind, id, identity, name: name.into() }
}

fn counter(kind: u32, id: u64, count: u64) -> (CounterId, u64) {
    let (route, which) = (Route::Remote as u8, Verdict::Allowed as u8);
    (CounterId { kind, id, what: what::CONNECTIONS, route, port: 25, which }, count)
}

fn brake(kind: u32, id: u64, at: Millis, plan: &str) -> record::Brake {
    record::Brake { kind, id, at, plan: plan_hash(plan) }
}

fn used(left: &Left, account: Account) -> Option<u64> {
    let found = left.begin.windows.iter().find(|(key, _)| *key == WindowKey::new(account, Lane::Admitted));
    found.map(|(_, both)| both.hour.total)
}

fn count(left: &Left, account: Account) -> Option<u64> {
    left.begin.counters.iter().find(|(key, _)| key.account == account).map(|(_, count)| *count)
}

#[test]
fn a_saved_window_holds_the_same_after_a_reboot() {
    let boot = 500 * MINUTE;
    let mut charged = Windows::default();
    for ago in [70, 50, 10, 0] {
        charged.charge(Both::slots(boot - ago * MINUTE), Both::UNLIMITED, spans::BOTH, 1);
    }
    let window = |kind, id, span: Span| {
        let mut charges = Vec::new();
        charged.of(span).charges(span, boot, |last, count| charges.push((wall(last, boot, WALL), count)));
        record::Window { kind, id, lane: Lane::Messages as u32, span: span as u32, charges }
    };
    let windows = Span::ALL.map(|span| window(kind::USER, 7, span)).into_iter();
    // One of which nobody knows what it is called.
    let windows = windows.chain([window(kind::CGROUP, 9, Span::Hour)]).collect();
    let saved = Saved { windows: record::Windows { windows, ..Default::default() }, ..Saved::default() };
    // Twenty minutes later, five of them up.
    let restored = here(WALL + 20 * MINUTES).begin(&saved).begin;
    let [(key, both)] = &restored.windows[..] else { panic!("{} windows", restored.windows.len()) };
    assert_eq!(*key, WindowKey::new(Account::user(7), Lane::Messages));
    let used = |after: u64| Span::ALL.map(|span| both.of(span).used(span.slot((5 + after) * MINUTE)));
    assert_eq!(used(0), [2, 4], "those of half an hour ago and of twenty minutes ago");
    assert_eq!(used(45), [0, 4]);
    assert_eq!(used(24 * 60), [0, 0]);
    let back = here(WALL - 3_600_000).begin(&saved).begin;
    assert_eq!(back.windows[0].1.hour.total, 3, "a clock that was set back frees nothing that was in force");
}

#[test]
fn a_container_goes_on_under_its_new_number_or_waits_under_one_that_nobody_gets() {
    let now = WALL + 10 * MINUTES;
    let (shop, box_, gone, netns) = (0x51, 0x52, 0x53, 0x54);
    let charged = |kind, id, n| window(kind, id, Lane::Admitted, &[(WALL, n)]);
    let windows = record::Windows {
        windows: vec![
            charged(kind::CGROUP, 11, 3),
            // Started anew before the agent had named it.
            charged(kind::CGROUP, 12, 2),
            charged(kind::CGROUP, 13, 5),
            window(kind::CGROUP, 14, Lane::Admitted, &[(WALL - 25 * 60 * MINUTES, 7)]),
            charged(kind::NETNS, 15, 4),
            charged(kind::NETNS, 16, 4),
        ],
        accounts: vec![(kind::CGROUP, 13), (kind::USER, 7), (kind::CGROUP, 11), (kind::CGROUP, 12), (kind::CGROUP, 14)],
        containers: vec![
            container(kind::CGROUP, 13, box_, "box"),
            container(kind::CGROUP, 11, shop, "shop"),
            container(kind::CGROUP, 12, shop, "shop"),
            container(kind::CGROUP, 14, gone, "gone"),
            container(kind::NETNS, 15, netns, "vpn"),
        ],
        ..Default::default()
    };
    let of = |id, n| counter(kind::CGROUP, id, n);
    let counters = vec![of(11, 30), of(12, 20), of(13, 50), of(14, 70), counter(kind::USER, 7, 9), of(99, 1)];
    let saved = Saved { windows, counters };
    let mut here = here(now);
    // A number that another had.
    here.cgroups.insert(shop, 13);
    let left = here.begin(&saved);
    let (shop_now, box_now) = (Account::new(kind::CGROUP, 13), Account::new(kind::CGROUP, AWAITED | box_));
    let vpn = Account::new(kind::NETNS, AWAITED | netns);
    assert_eq!([used(&left, shop_now), used(&left, box_now), used(&left, vpn)], [Some(5), Some(5), Some(4)]);
    assert_eq!(left.begin.windows.len(), 3, "nobody else has anything in force");
    assert_eq!([count(&left, shop_now), count(&left, box_now)], [Some(50), Some(50)]);
    assert_eq!((count(&left, Account::user(7)), left.begin.counters.len()), (Some(9), 3), "gone is gone");
    let mut containers = left.counters.clone();
    containers.sort_unstable();
    assert_eq!(containers, [counter(kind::CGROUP, 13, 50), counter(kind::CGROUP, AWAITED | box_, 50)]);
    assert_eq!(left.begin.accounts, [box_now, Account::user(7), shop_now, vpn], "as first seen, each once");
    let names: Vec<_> =
        left.begin.names.iter().map(|(account, name, identity)| (*account, &**name, *identity)).collect();
    assert_eq!(names, [(box_now, "box", box_), (shop_now, "shop", shop), (vpn, "vpn", netns)]);
}

#[test]
fn who_waits_goes_on_waiting_over_another_reboot_until_his_day_is_over() {
    let id = AWAITED | 0x52;
    let saved = |n| Saved {
        windows: record::Windows {
            windows: vec![
                window(kind::CGROUP, id, Lane::Admitted, &[(WALL, n)]),
                record::Window { span: Span::Day as u32, ..window(kind::CGROUP, id, Lane::Admitted, &[(WALL, n)]) },
            ],
            containers: vec![container(kind::CGROUP, id, 0x52, "box")],
            ..Default::default()
        },
        counters: vec![counter(kind::CGROUP, id, 40)],
    };
    let account = Account::new(kind::CGROUP, id);
    let left = here(WALL + 20 * 60 * MINUTES).begin(&saved(3));
    assert_eq!((used(&left, account), count(&left, account)), (Some(0), Some(40)), "the day still counts");
    assert_eq!(left.begin.accounts, [account]);
    let left = here(WALL + 25 * 60 * MINUTES).begin(&saved(3));
    assert!(left.begin.windows.is_empty() && left.begin.names.is_empty() && left.counters.is_empty());
    let mut here = here(WALL + 20 * 60 * MINUTES);
    here.cgroups.insert(0x52, 77);
    assert_eq!(count(&here.begin(&saved(3)), Account::new(kind::CGROUP, 77)), Some(40), "it has come");
}

#[test]
fn a_tripped_brake_holds_on_if_its_plan_still_has_one() {
    let at = WALL - 30 * MINUTES;
    let windows = record::Windows {
        brakes: vec![
            brake(kind::USER, 7, at, "never"),
            brake(kind::USER, 8, at, "gone"),
            brake(kind::CGROUP, 11, at, "never"),
            brake(kind::CGROUP, 12, at + MINUTES, "never"),
            brake(kind::CGROUP, 99, at, "never"),
            brake(kind::USER, 9, WALL + MINUTES, "never"),
        ],
        containers: vec![container(kind::CGROUP, 11, 0x51, "shop"), container(kind::CGROUP, 12, 0x51, "shop")],
        ..Default::default()
    };
    let mut here = here(WALL);
    here.braking.insert(plan_hash("never"));
    let Begin { brakes, names, .. } = here.begin(&Saved { windows, counters: Vec::new() }).begin;
    let of = |account| brakes.iter().find(|(whose, _)| *whose == account).map(|(_, tripped)| *tripped);
    let shop = Account::new(kind::CGROUP, AWAITED | 0x51);
    let user = of(Account::user(7)).expect("a brake");
    assert_eq!((Tripped::ago(user.at, UP), user.plan), (30 * MINUTE, plan_hash("never")), "before the boot");
    assert_eq!(of(shop).map(|tripped| Tripped::ago(tripped.at, UP)), Some(29 * MINUTE), "the later of two");
    let ahead = of(Account::user(9)).map(|tripped| Tripped::ago(tripped.at, UP));
    assert_eq!(ahead, Some(0), "by a clock that was set back, just now");
    assert_eq!(brakes.len(), 3);
    assert_eq!(names, [(shop, "shop".to_owned(), 0x51)], "whoever is held is known, too");
}

proptest! {
    #[test]
    fn over_reboots_no_brake_lets_go_early_and_each_lets_go_on_time(
        begin in 1..1u64 << 50, seconds in 1..2_592_000u32,
        boots in prop::collection::vec((0..200_000_000_000_000u64, 0..400_000_000_000_000u64, 0..MINUTE), 1..5),
        after in 0..1u64 << 52,
    ) {
        let plan = PlanLimits { max_failed_percent: 50, min_failed: 5, brake_seconds: seconds, ..PlanLimits::NONE };
        // Nanoseconds of the wall clock, and of it at the boot.
        let (mut real, mut boot) = (WALL as u64 * 1_000_000 + begin, WALL as u64 * 1_000_000);
        let tripped = real;
        let mut at = real - boot;
        for (up, down, starting) in &boots {
            real += up;
            let saved = wall(at as i64, real - boot, (real / 1_000_000) as i64) + 1;
            boot = real + down;
            real = boot + starting;
            let wall_now = (real / 1_000_000) as i64;
            let here = Here { wall_now, boot_now: real - boot, ..here(0) };
            at = Tripped::at(here.boot_now, here.ago(saved));
        }
        let length = seconds as u64 * 1_000_000_000;
        let slack = 3_000_000 * boots.len() as u64;
        for time in [real, real + after, (tripped + length - 1).max(real), (tripped + length + slack).max(real)] {
            let holds = plan.holds(at, time - boot, 6, 11);
            prop_assert!(holds || time >= tripped + length, "{} ns early", tripped + length - time);
            prop_assert!(!holds || time < tripped + length + slack, "{} ns late", time - tripped - length);
        }
    }
}
