//! For any small history and policy the fast replay tells exactly what the plain one tells.

use std::{cell::RefCell, collections::HashMap};

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select,
    test_runner::{Config as Runs, TestRunner},
};
use smtp_common::rule::{Action, Limit};

use super::{super::stage::Stage, *};
use crate::policy::ledger::Ledger;

/// Users of the host; the last two names of the history stand for one of them.
const NAMES: [(&str, u32); 6] =
    [("root", 0), ("shop", 1000), ("blog", 1001), ("mail", 1002), ("bad", 1003), ("1000", 1000)];

fn names() -> Vec<(Account, String)> {
    NAMES.iter().map(|(name, uid)| (Account::user(*uid), (*name).to_owned())).collect()
}

fn host() -> Database {
    let users: Vec<_> = NAMES[..5].iter().map(|(name, uid)| (*name, *uid, *uid)).collect();
    Database::of(&users, &[("web", 2000, &["shop", "blog"]), ("root", 0, &[])])
}

/// `key = n` or nothing.
fn key(key: &'static str, values: impl Strategy<Value = u32>) -> impl Strategy<Value = String> {
    option::of(values).prop_map(move |n| n.map_or_else(String::new, |n| format!("{key} = {n}\n")))
}

fn limits(most: u32) -> impl Strategy<Value = String> {
    let day = 1..most * 4;
    (
        key("per_hour", 0..most),
        key("per_day", day.clone()),
        key("messages_per_hour", 0..most),
        key("messages_per_day", day.clone()),
        key("recipients_per_hour", 0..most),
    )
        .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].concat())
}

fn brake() -> impl Strategy<Value = String> {
    let release = select(&["", "release_after = \"7s\"\n", "release_after = \"2m\"\n", "release_after = \"never\"\n"]);
    let some = (1_u32..90, 1_u32..10, release).prop_map(|(percent, least, release)| {
        format!("max_failed_percent = {percent}\nmin_failed = {least}\n{release}")
    });
    prop_oneof![Just(String::new()), some]
}

fn plan() -> impl Strategy<Value = String> {
    let soft = key("soft_percent", select(&[100_u32, 120, 200, 500]));
    let rest = select(&["", "local = true\n", "on_soft = \"redirect\"\n", "local = true\non_soft = \"redirect\"\n"]);
    (limits(60), soft, rest, brake()).prop_map(|(limits, soft, rest, brake)| [&limits, &soft, rest, &brake].concat())
}

prop_compose! {
    fn policy()(
        plan in plan(), other in plan(), total in option::of(limits(90)), group in option::of(limits(70)),
        schedule in option::of(limits(20)), host in option::of(limits(120)), strict: bool, denied: bool,
        default in select(&["standard", "standard", "allow", "deny"]),
        allowed in select(&["\"root\"", "\"root\", \"mail\"", ""]),
    ) -> String {
        let mut toml = format!("[default]\nplan = \"{default}\"\n[allow]\nusers = [{allowed}]\n[host]\nstrict = {strict}\n");
        toml += &host.unwrap_or_default();
        toml += if denied { "[deny]\nusers = [\"bad\"]\n" } else { "[deny]\nusers = []\n" };
        toml += &format!("[plan.standard]\n{plan}[plan.other]\n{other}");
        // A table needs at least one limit.
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        toml += &some(total).map_or_else(String::new, |limits| format!("[plan.standard.total]\n{limits}"));
        let schedule = some(schedule);
        toml += &schedule.map_or_else(String::new, |limits| {
            format!("[[plan.standard.schedule]]\nhours = \"01:00-02:00\"\n{limits}")
        });
        toml += &some(group).map_or_else(String::new, |limits| format!("[group.web]\n{limits}"));
        toml + "[[rule]]\nuser = \"blog\"\nplan = \"other\"\n"
    }
}

fn flows() -> impl Strategy<Value = Vec<Flow>> {
    let few = prop_oneof![Just(0_u64), 0_u64..8, 0_u64..60];
    let attempts = prop_oneof![0_u64..8, 0_u64..150, 0_u64..800];
    let route = select(&[Some(Route::Remote), Some(Route::Remote), Some(Route::Local), Some(Route::Pipe), None]);
    let says = select(&[None, None, None, Some(Action::Exempt), Some(Action::Deny), Some(Action::Closed)]);
    let says = says.prop_map(|action| action.map_or(0, |action| action as u8));
    let flow = (0..NAMES.len(), (route, says), attempts, 0_u64..200, few.clone(), 0_u64..60, few);
    // Of long ago hours, then minutes.
    let hours = vec((0_i64..3, flow.clone()), 0..4);
    let minutes = vec((180_i64..186, flow), 0..10);
    (hours, minutes).prop_map(|(hours, minutes)| {
        let hours = hours.into_iter().map(|(hour, flow)| (hour * HOUR, HOUR, flow));
        let minutes = minutes.into_iter().map(|(minute, flow)| (minute * MINUTE, MINUTE, flow));
        let of = |(from, length, flow)| {
            let (account, (route, exception), attempts, admitted, messages, failed, recipients) = flow;
            Flow { from, length, account, route, exception, attempts, admitted, messages, failed, recipients }
        };
        hours.chain(minutes).map(of).collect()
    })
}

/// Gives limits that are shared soft bands, as no configuration does for now.
fn soften(compiled: &mut Compiled) {
    let mut ledger = Ledger::default();
    for (number, purse) in compiled.ledger.purses().iter().enumerate() {
        let soft = |limit: Limit| if limit.is_set() { Limit { band: 3 + limit.limit / 2, ..limit } } else { limit };
        ledger.purse(
            smtp_common::level::Purse { hour: soft(purse.hour), day: soft(purse.day), ..*purse },
            number.to_string(),
        );
    }
    compiled.ledger.chains().iter().for_each(|chain| {
        ledger.chain(*chain);
    });
    compiled.ledger = ledger;
}

fn compiled(toml: &str, is_soft: bool, moment: Moment) -> Compiled {
    let config = config::parse_str("test", toml).unwrap_or_else(|problems| panic!("{problems:?}\n{toml}")).config;
    let mut compiled = compile(&config, &host(), "", &Circumstances { moment, said: Vec::new() });
    if is_soft {
        soften(&mut compiled);
    }
    compiled
}

/// As [`rehearse`], with either replay.
fn told(toml: &str, is_soft: bool, flows: &[Flow], is_plain: bool) -> Rehearsal {
    let names = names();
    let (mut stage, mut gate) = (Stage::new(&names), None);
    let mut flows = flows.to_vec();
    flows.sort_by_key(|flow| (flow.from, flow.account, flow.route, flow.exception));
    for stretch in flows.chunk_by(|a, b| a.from == b.from) {
        let compiled = compiled(toml, is_soft, moment(stretch[0].from));
        let gate = gate.get_or_insert_with(|| Gate::new(&compiled));
        gate.install(&compiled);
        if is_plain { plain::play(&mut stage, stretch, gate) } else { stage.play(stretch, gate) }
    }
    stage.end()
}

#[test]
fn the_fast_replay_tells_what_the_plain_one_tells() {
    let met: RefCell<HashMap<&str, u64>> = RefCell::default();
    let runs = Runs { cases: 300, failure_persistence: None, ..Runs::default() };
    let any = (policy(), any::<bool>(), flows());
    TestRunner::new(runs)
        .run(&any, |(toml, is_soft, flows)| {
            let plain = told(&toml, is_soft, &flows, true);
            prop_assert_eq!(&told(&toml, is_soft, &flows, false), &plain, "{}", toml);
            let mut met = met.borrow_mut();
            for account in &plain.accounts {
                let reason = account.reason.unwrap_or("none");
                *met.entry(reason).or_default() += 1;
                *met.entry("deferred").or_default() += account.deferred;
                *met.entry("redirected").or_default() += account.redirected;
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let met = met.into_inner();
    for what in ["account_hour", "group_hour", "plan_hour", "host_hour", "failed_share", "deferred", "redirected"] {
        assert!(met.get(what).is_some_and(|n| *n > 0), "{what} was never met: {met:?}");
    }
}
