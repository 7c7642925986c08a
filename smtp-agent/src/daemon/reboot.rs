//! Over a reboot: windows and counters go on by the wall clock where the boot before left them.
//!
//! They are saved each minute and at the end. Only a fresh gate of another boot gets them back: `detach` forgets on purpose.
//! Containers have other numbers after a boot, and begin anew.

use std::{collections::HashMap, fs, path::Path};

use smtp_common::{
    connection::{Account, kind},
    counter::CounterKey,
    tally::{TallyKey, family},
    window::{Span, WindowKey, Windows},
};

use crate::{
    exit::Result,
    kernel::{
        maps::{Begin, Maps},
        sys::boot_nanos,
    },
    store::{
        Millis, now,
        record::{self, what},
        saved::{self, Saved},
    },
};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const NANOS: i64 = 1_000_000;

/// What tells one boot from another.
fn boot_id() -> Option<String> {
    Some(fs::read_to_string(BOOT_ID).ok()?.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Whether an account is the same after a reboot.
fn lasts(of: u32) -> bool {
    !matches!(of, kind::CGROUP | kind::NETNS)
}

/// The windows as they stand, by the wall clock.
pub fn windows(maps: &Maps) -> Result<Option<record::Windows>> {
    let Some(boot) = boot_id() else { return Ok(None) };
    let (wall_now, boot_now) = (now(), boot_nanos());
    let mut windows = Vec::new();
    for (key, both) in maps.all_windows()?.into_iter().filter(|(key, _)| lasts(key.scope.kind)) {
        for span in Span::ALL {
            let mut charges = Vec::new();
            both.of(span).charges(span, boot_now, |last, count| {
                charges.push((wall(last, boot_now, wall_now), count));
            });
            let (kind, id) = (key.scope.kind, key.scope.id);
            windows.push(record::Window { kind, id, lane: key.lane, span: span as u32, charges });
        }
    }
    let seen = maps.accounts()?.into_iter().map(|(account, _)| account);
    let accounts = seen.filter(|account| lasts(account.kind)).map(|account| (account.kind, account.id)).collect();
    Ok(Some(record::Windows { time: wall_now, boot, windows, accounts }))
}

/// The millisecond of the wall clock that an instant of the boot clock lies in or before.
fn wall(last: i64, boot_now: u64, wall_now: Millis) -> Millis {
    wall_now - (boot_now as i64 - last) / NANOS
}

/// What a fresh gate is to begin with, if another boot left anything. What cannot be read is left out, and said.
pub fn left(state: &Path) -> Option<Begin> {
    let saved = match saved::read(state) {
        Ok(saved) => saved?,
        Err(e) => {
            tracing::warn!("windows and counters begin anew, those of before cannot be read: {e}");
            return None;
        }
    };
    if boot_id().is_none_or(|boot| boot == saved.windows.boot) {
        return None;
    }
    Some(begin(&saved, now(), boot_nanos()))
}

fn begin(saved: &Saved, wall_now: Millis, boot_now: u64) -> Begin {
    let mut windows: HashMap<WindowKey, Windows> = HashMap::new();
    for window in saved.windows.windows.iter().filter(|window| lasts(window.kind)) {
        let Some(span) = Span::ALL.into_iter().find(|span| *span as u32 == window.span) else { continue };
        // A clock that was set back makes nothing free: it was charged just now.
        let ago = |time: Millis| wall_now.saturating_sub(time).max(0).saturating_mul(NANOS) as u64;
        let charges = window.charges.iter().map(|(time, count)| (ago(*time), *count));
        let scope = Account::new(window.kind, window.id);
        let both = windows.entry(WindowKey { scope, lane: window.lane, _pad: 0 }).or_default();
        let restored = smtp_common::window::Window::charged(span, boot_now, charges);
        match span {
            Span::Hour => both.hour = restored,
            Span::Day => both.day = restored,
        }
    }
    windows.retain(|_, both| Span::ALL.iter().any(|span| both.of(*span).total > 0));
    let mut begin = Begin { windows: windows.into_iter().collect(), ..Begin::default() };
    for (id, count) in saved.counters.iter().filter(|(id, _)| lasts(id.kind)) {
        let account = Account::new(id.kind, id.id);
        let tally = |family| {
            let key = TallyKey { account, family, which: id.which, route: id.route, _pad: [0; 5] };
            (key, *count)
        };
        match id.what {
            what::CONNECTIONS => begin
                .counters
                .push((CounterKey { account, port: id.port, route: id.route, verdict: id.which, _pad: 0 }, *count)),
            what::SESSIONS => begin.tallies.push(tally(family::SESSIONS)),
            what::MESSAGES => begin.tallies.push(tally(family::MESSAGES)),
            what::RECIPIENTS => begin.tallies.push(tally(family::RECIPIENTS)),
            other => begin.tallies.extend(other.checked_sub(what::KEPT).map(tally)),
        }
    }
    begin.accounts = saved.windows.accounts.iter().map(|(kind, id)| Account::new(*kind, *id)).collect();
    begin
}

#[cfg(test)]
mod tests {
    use super::*;
    use smtp_common::window::{Both, Lane, spans};

    #[test]
    fn a_saved_window_holds_the_same_after_a_reboot() {
        let minute = 60_000_000_000_u64;
        let boot = 500 * minute;
        let mut charged = Windows::default();
        for ago in [70, 50, 10, 0] {
            charged.charge(Both::slots(boot - ago * minute), Both::UNLIMITED, spans::BOTH, 1);
        }
        let wall_now = 1_795_000_000_000;
        let window = |kind, id, span: Span| {
            let mut charges = Vec::new();
            charged.of(span).charges(span, boot, |last, count| charges.push((wall(last, boot, wall_now), count)));
            record::Window { kind, id, lane: Lane::Messages as u32, span: span as u32, charges }
        };
        let windows = Span::ALL.map(|span| window(kind::USER, 7, span)).into_iter();
        let windows = windows.chain([window(kind::CGROUP, 9, Span::Hour)]).collect();
        let saved = Saved { windows: record::Windows { windows, ..Default::default() }, ..Saved::default() };
        // Twenty minutes later, five of them up.
        let restored = begin(&saved, wall_now + 20 * 60_000, 5 * minute);
        let [(key, both)] = &restored.windows[..] else { panic!("{} windows", restored.windows.len()) };
        assert_eq!(*key, WindowKey::new(Account::user(7), Lane::Messages));
        let used = |after: u64| Span::ALL.map(|span| both.of(span).used(span.slot((5 + after) * minute)));
        assert_eq!(used(0), [2, 4], "those of half an hour ago and of twenty minutes ago");
        assert_eq!(used(45), [0, 4]);
        assert_eq!(used(24 * 60), [0, 0]);
        let back = begin(&saved, wall_now - 3_600_000, 5 * minute);
        assert_eq!(back.windows[0].1.hour.total, 3, "a clock that was set back frees nothing that was in force");
    }
}
