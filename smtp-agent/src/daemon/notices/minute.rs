//! The look at counters, windows and brakes each minute.

use std::{collections::HashMap, sync::Arc, time::Duration};

use smtp_common::{
    connection::{Account, Route},
    counter::{CounterKey, Verdict},
    level::Level,
    rule::{Action, Origin, Policy},
    tally::{TallyKey, Unit, family},
    window::Span,
};

use super::{
    Notices, lock,
    spent::{Spent, spent},
};
use crate::{
    accounts::label::OTHER,
    config::Notify,
    daemon::shared::Shared,
    exit::Result,
    kernel::maps::Maps,
    metrics::budget,
    notify::{
        self, HOST, Kind, Kinds, Notice, Shares,
        baseline::{Found, Thresholds},
    },
};

const MINUTE: Duration = Duration::from_secs(60);
/// Minutes between two writings of what is usual.
const SAVE: u32 = 10;

/// Shares of the host's budget that are told, the greatest first.
const QUOTAS: [(u64, Kind); 3] = [(100, Kind::HostQuota100), (80, Kind::HostQuota80), (50, Kind::HostQuota50)];
/// So many percent points must the share fall below one before that is told anew.
const AGAIN: u64 = 5;

/// What an account has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    /// Connections to remote servers, whatever became of them.
    remote: u64,
    /// Everything that was tried, put off, refused.
    tried: u64,
    soft: u64,
    hard: u64,
}

/// What was there a minute ago.
#[derive(Default)]
struct Before {
    counts: Option<HashMap<Account, Count>>,
    brakes: HashMap<Account, u64>,
    /// What was told of the host's budgets, also by the agent before.
    shares: Shares,
}

/// Looks each minute until the task is dropped.
pub async fn watch(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(MINUTE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = Before { shares: shared.notices.desk.shares().clone(), ..Before::default() };
    let mut minutes: u32 = 0;
    loop {
        tick.tick().await;
        let (config, state) = {
            let config = shared.config.lock().await;
            (config.notify.clone(), config.paths.state.clone())
        };
        tokio::task::block_in_place(|| {
            if let Err(e) = look(&shared, &mut before, &config) {
                tracing::warn!("the counters cannot be read for notices: {e}");
            }
            minutes = minutes.wrapping_add(1);
            if minutes.is_multiple_of(SAVE) {
                shared.notices.keep(&state);
            }
        });
    }
}

fn look(shared: &Shared, before: &mut Before, config: &Notify) -> Result<()> {
    let notices = &shared.notices;
    let maps = shared.maps();
    let policy = maps.policy()?;
    let counts = counts(maps.counters()?, maps.tallies()?);
    let label = |account| shared.naming.label(account, &maps);
    habits(notices, &maps, &policy, &counts, config, label);
    brakes(notices, &maps, &policy, before, label)?;
    quotas(notices, &maps, &policy, &mut before.shares)?;
    // The first look only learns what there was.
    if let Some(old) = &before.counts {
        for (account, count) in &counts {
            let was = old.get(account).copied().unwrap_or_default();
            if let Some(notice) = stopped(notices, &maps, &policy, (*account, &label), was, *count) {
                notices.desk.tell(notice);
            }
        }
    }
    before.counts = Some(counts);
    Ok(())
}

fn counts(counters: Vec<(CounterKey, u64)>, tallies: Vec<(TallyKey, u64)>) -> HashMap<Account, Count> {
    let mut counts: HashMap<Account, Count> = HashMap::new();
    let mut stop = |account, verdict: Option<Verdict>, number: u64| {
        let count = counts.entry(account).or_default();
        count.tried += number;
        match verdict {
            Some(Verdict::Refused | Verdict::WouldRefuse) => count.hard += number,
            Some(verdict) if verdict.is_stop() => count.soft += number,
            _ => {}
        }
    };
    for (key, number) in &counters {
        stop(key.account, Verdict::from_u8(key.verdict), *number);
    }
    let verdicts = [family::MESSAGE_VERDICTS, family::RECIPIENT_VERDICTS];
    for (key, number) in tallies.iter().filter(|(key, _)| verdicts.contains(&key.family)) {
        stop(key.account, Verdict::from_u8(key.which), *number);
    }
    for (key, number) in counters.iter().filter(|(key, _)| key.route == Route::Remote as u8) {
        counts.entry(key.account).or_default().remote += number;
    }
    // What found no room in a map is of many accounts.
    counts.retain(|account, _| *account != Account::OTHER);
    counts
}

/// First times and unusual rates.
fn habits(
    notices: &Notices,
    maps: &Maps,
    policy: &Policy,
    counts: &HashMap<Account, Count>,
    config: &Notify,
    label: impl Fn(Account) -> String,
) {
    // Containers that were started anew have one name.
    let mut by_label: HashMap<String, (u64, Account)> = HashMap::new();
    for (account, count) in counts {
        let name = label(*account);
        if name != OTHER {
            by_label.entry(name).or_insert((0, *account)).0 += count.remote;
        }
    }
    let thresholds =
        Thresholds { factor: f64::from(config.unusual_factor), min: config.unusual_min.into(), learn: config.learn };
    let now = notify::now();
    let totals = by_label.iter().map(|(name, (total, _))| (name.as_str(), *total));
    let found = lock(&notices.baseline).look(now, totals, &thresholds);
    for (name, found) in found {
        let mut notice = match found {
            Found::FirstTime => Notice::new(Kind::FirstTime, name.as_str(), now),
            Found::Unusual { count, usual } => {
                let (used, usual) = (Some(count), Some((usual * 10.0).round() / 10.0));
                Notice { used, usual, ..Notice::new(Kind::Unusual, name.as_str(), now) }
            }
        };
        notice.unit = Some(budget::CONNECTION.to_owned());
        let action = by_label.get(&name).map(|(_, account)| maps.rule_for(policy, *account).action);
        // Whom the policy names is no stranger; who is denied is told of as that.
        let named = action.is_some_and(|action| action == Action::Exempt as u8 || action == Action::Deny as u8);
        if notices.desk.wants(notice.kind) && !(notice.kind == Kind::FirstTime && named) {
            notices.desk.tell(notice);
        }
    }
}

/// Brakes that were tripped since, and hold.
fn brakes(
    notices: &Notices,
    maps: &Maps,
    policy: &Policy,
    before: &mut Before,
    label: impl Fn(Account) -> String,
) -> Result<()> {
    let first = before.counts.is_none();
    let tripped: HashMap<Account, u64> = maps.brakes()?.into_iter().collect();
    for (account, at) in &tripped {
        if first || before.brakes.get(account) == Some(at) || !notices.desk.wants(Kind::Brake) {
            continue;
        }
        let rule = maps.rule_for(policy, *account);
        let holds = budget::brake(maps, *account, &rule, &budget::plan(maps, &rule))?.is_some_and(|brake| brake.holds);
        if holds && !notices.was_told(Kind::Brake, *account) {
            let reason = Some("failed_share".to_owned());
            let observed = policy.enforce == 0;
            notices.desk.tell(Notice { reason, observed, ..Notice::new(Kind::Brake, label(*account), notify::now()) });
        }
    }
    before.brakes = tripped;
    Ok(())
}

/// Budgets of the host that have passed a share. What was told of them outlives the agent, so that the first look tells what
/// was passed while none ran.
fn quotas(notices: &Notices, maps: &Maps, policy: &Policy, told: &mut Shares) -> Result<()> {
    let before = told.clone();
    for budget in budget::of_host(policy) {
        for span in Span::ALL {
            let key = format!("{} {}", budget.unit, span.name());
            let Some(limit) = budget.limit(span) else {
                told.remove(&key);
                continue;
            };
            let used = maps.used(Account::HOST, budget.lane)?.of(span).total;
            let mut unless = Kinds::NONE;
            for kind in passed(used, u64::from(limit), told.entry(key).or_default()) {
                if notices.desk.wants(kind) {
                    notices.desk.tell(Notice {
                        unit: Some(budget.unit.to_owned()),
                        window: Some(span.name().to_owned()),
                        limit: Some(limit.into()),
                        used: Some(used),
                        observed: policy.enforce == 0,
                        unless,
                        ..Notice::new(kind, HOST, notify::now())
                    });
                }
                unless = unless.with(kind);
            }
        }
    }
    if *told != before {
        notices.desk.keep_shares(told);
    }
    Ok(())
}

/// The shares that were passed since, the greatest first, and what was told from now on.
fn passed(used: u64, limit: u64, told: &mut u64) -> Vec<Kind> {
    // A budget of 0 is always spent.
    let percent = (used * 100).checked_div(limit).unwrap_or(100);
    let reached = |share: u64| QUOTAS.into_iter().filter(move |(quota, _)| percent + share >= *quota);
    let above: Vec<_> = reached(0).filter(|(quota, _)| quota > told).collect();
    *told = match above.first() {
        Some((quota, _)) => *quota,
        None => (*told).min(reached(AGAIN).next().map_or(0, |(quota, _)| quota)),
    };
    above.into_iter().map(|(_, kind)| kind).collect()
}

/// What was stopped in the last minute of which no event told: they are limited, and may be switched off.
fn stopped(
    notices: &Notices,
    maps: &Maps,
    policy: &Policy,
    (account, label): (Account, impl Fn(Account) -> String),
    was: Count,
    is: Count,
) -> Option<Notice> {
    let grown = |old: u64, new: u64| new.checked_sub(old).unwrap_or(new) > 0;
    if !grown(was.tried, is.tried) {
        return None;
    }
    let rule = maps.rule_for(policy, account);
    let denied = rule.action == Action::Deny as u8 && rule.origin == Origin::DenyUser as u8;
    let kind = match (grown(was.hard, is.hard), grown(was.soft, is.soft)) {
        (true, _) if denied => Kind::Nobody,
        (true, _) => Kind::HardLimit,
        (false, true) => Kind::SoftLimit,
        (false, false) => return None,
    };
    let mut notice = Notice { observed: policy.enforce == 0, ..Notice::new(kind, HOST, notify::now()) };
    if kind == Kind::Nobody {
        notice.reason = Some("deny_user".to_owned());
    } else {
        let Spent { reason, limit, used } = spent(maps, policy, &rule, account)?;
        if reason.level() == Some(Level::Host) && kind == Kind::HardLimit {
            notice.kind = Kind::HostQuota100;
        }
        notice.reason = Some(reason.name().to_owned());
        notice.unit = Some(reason.unit()?.map_or(budget::CONNECTION, Unit::name).to_owned());
        notice.window = Some(reason.span()?.name().to_owned());
        (notice.limit, notice.used) = (Some(limit), Some(used));
    }
    if notice.kind.is_of_host() {
        // Whoever is refused next says the same.
        return notices.news(notice.kind, account).map(|_| notice);
    }
    let is_news = notices.desk.wants(notice.kind) && !notices.was_told(notice.kind, account);
    is_news.then(|| Notice { account: label(account), ..notice })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_share_of_the_budget_is_told_when_it_is_passed_and_again_once_it_was_left() {
        let mut told = 0;
        let mut at = |used| passed(used, 1000, &mut told).into_iter().map(Kind::name).collect::<Vec<_>>();
        const NONE: [&str; 0] = [];
        assert_eq!(at(499), NONE);
        assert_eq!(at(500), ["host_quota_50"]);
        assert_eq!(at(700), NONE);
        assert_eq!(at(1000), ["host_quota_100", "host_quota_80"], "all that were passed, the greatest first");
        assert_eq!([990, 1000, 951, 1000].map(&mut at), [NONE; 4], "on the edge it is not told again and again");
        assert_eq!(at(949), NONE);
        assert_eq!(at(1000), ["host_quota_100"]);
        assert_eq!(at(0), NONE);
        assert_eq!(at(800), ["host_quota_80", "host_quota_50"]);
    }

    #[test]
    fn a_budget_of_nothing_is_spent() {
        assert_eq!(passed(0, 0, &mut 0).first(), Some(&Kind::HostQuota100));
    }

    #[test]
    fn counts_are_of_all_routes_but_what_is_usual_is_of_remote_ones() {
        let of = |uid, route, verdict| CounterKey::new(Account::user(uid), 25, route, verdict);
        let counters = vec![
            (of(1, Route::Remote, Verdict::Allowed), 5),
            (of(1, Route::Remote, Verdict::Deferred), 3),
            (of(1, Route::Local, Verdict::Allowed), 7),
            (of(1, Route::Remote, Verdict::WouldRefuse), 2),
            (CounterKey::new(Account::OTHER, 25, Route::Remote, Verdict::Refused), 9),
        ];
        let tally = |which: u8, verdict| TallyKey::new(Account::user(2), which, verdict as u8, Route::Remote);
        let tallies = vec![
            (tally(family::MESSAGE_VERDICTS, Verdict::Refused), 4),
            (TallyKey::new(Account::user(2), family::SESSIONS, 4, Route::Remote), 100),
        ];
        let counts = counts(counters, tallies);
        assert_eq!(counts[&Account::user(1)], Count { remote: 10, tried: 17, soft: 3, hard: 2 });
        assert_eq!(counts[&Account::user(2)], Count { remote: 0, tried: 4, soft: 0, hard: 4 });
        assert_eq!(counts.len(), 2);
    }

    proptest! {
        #[test]
        fn each_share_is_told_once_while_the_use_only_grows(steps in proptest::collection::vec(0..400_u64, 1..20)) {
            let (mut told, mut used, mut kinds) = (0, 0, Vec::new());
            for step in steps {
                used += step;
                kinds.extend(passed(used, 1000, &mut told).into_iter().rev());
            }
            let mut sorted = kinds.clone();
            sorted.sort();
            sorted.dedup();
            prop_assert_eq!(&kinds, &sorted, "in order, and none twice");
            let reached = QUOTAS.into_iter().filter(|(quota, _)| used * 100 / 1000 >= *quota);
            prop_assert_eq!(kinds.len(), reached.count(), "and every one that was passed");
        }
    }
}
