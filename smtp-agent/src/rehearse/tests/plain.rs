//! The plain replay: every attempt is walked, one after the other. What the fast one must come to.

use std::collections::{HashMap, HashSet};

use smtp_common::{
    connection::Route,
    counter::{Reason, Verdict},
    tally::Unit,
};

use super::super::{
    Flow,
    gate::{Gate, attempt},
    series::{Series, share},
    stage::{Stage, nanos},
};

pub(super) fn play(stage: &mut Stage<'_>, stretch: &[Flow], gate: &mut Gate) {
    let mut acts = Vec::new();
    for (at, flow) in stretch.iter().enumerate() {
        let count = flow.attempts.max(u64::from(flow.messages + flow.recipients > 0));
        let series = Series { from: flow.from, length: flow.length, count };
        acts.extend((0..count).map(|number| (series.time(number), at, number)));
    }
    acts.sort_unstable();
    let mut brought: HashMap<usize, u64> = HashMap::new();
    let mut stopped = HashSet::new();
    for (time, at, number) in acts {
        let flow = &stretch[at];
        let Some(route) = flow.route else { continue };
        let who = attempt(stage.accounts[flow.account].0, route, flow.exception);
        let mut passes = true;
        if number < flow.attempts {
            let decision = gate.decide(&who, None, nanos(time));
            passes = matches!(decision.verdict, Verdict::Allowed | Verdict::Exempt);
            stage.note(flow, number..number + 1, time, decision.verdict);
            if !passes && stopped.insert(flow.account) {
                stage.first_stop(flow.account, time, decision.reason());
            }
        }
        stage.say(flow, number..number + 1);
        if !passes {
            continue;
        }
        let before = brought.entry(at).or_default();
        let number = *before;
        *before += 1;
        if let Some(reason) = bring(stage, flow, number, gate, nanos(time))
            && stopped.insert(flow.account)
        {
            stage.first_stop(flow.account, time, reason);
        }
    }
    stage.sum_up(stretch, stopped);
}

fn bring(stage: &mut Stage<'_>, flow: &Flow, number: u64, gate: &mut Gate, now: u64) -> Option<Reason> {
    let route = flow.route?;
    let who = attempt(stage.accounts[flow.account].0, route, flow.exception);
    let share = |whole| share(whole, number..number + 1, flow.admitted.max(1));
    let mut refused = None;
    for _ in 0..share(flow.recipients) {
        let decision = gate.decide(&who, Some(Unit::Recipient), now);
        if decision.verdict == Verdict::Refused {
            stage.told[flow.account].recipients_refused += 1;
            refused.get_or_insert(decision.reason());
        }
    }
    let failed = share(flow.failed);
    for message in 0..share(flow.messages) {
        let decision = gate.decide(&who, Some(Unit::Message), now);
        if decision.verdict == Verdict::Refused {
            stage.told[flow.account].messages_refused += 1;
            refused.get_or_insert(decision.reason());
            continue;
        }
        if route == Route::Remote {
            stage.messages.would += 1;
        }
        gate.outcome(&who, message < failed, now);
    }
    refused
}
