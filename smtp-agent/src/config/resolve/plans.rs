//! Plans by number, and those that rules with limits of their own make.

use std::collections::HashMap;

use super::super::{
    draft::{LONGEST_NAME, PlanDraft},
    limits::Limits,
    nearest::nearest,
    place::Spot,
    plan::{DEFAULT_SOFT_PERCENT, OnSoft, Plan, PlanRef, Quotas, STANDARD},
    problem::{Problem, Problems},
    render::quoted,
    schedule::Schedule,
    sections::LIMITS,
};

/// The one port on which a connection can be given to another server unnoticed: on the others TLS would tell.
const REDIRECTED: u16 = 25;

/// The plans by number, and their numbers by name.
pub(super) struct Plans {
    pub(super) list: Vec<Plan>,
    numbers: HashMap<String, usize>,
    /// Plans made for limits of rules, by the plan they are based on and the limits.
    own: HashMap<(Option<usize>, Quotas), usize>,
    /// Plans that redirect, and where they say so.
    redirecting: Vec<Spot<usize>>,
    complete: bool,
}

impl Plans {
    pub(super) fn new(drafts: Vec<PlanDraft>, complete: bool, problems: &mut Problems) -> Self {
        let mut plans =
            Self { list: Vec::new(), numbers: HashMap::new(), own: HashMap::new(), redirecting: Vec::new(), complete };
        for draft in drafts {
            let local = draft.local.unwrap_or(false);
            let schedules = check(&draft, local, complete, problems);
            let Quotas { connections, messages, recipients } = draft.limits.quotas();
            if let Some(Spot { value: OnSoft::Redirect, at }) = &draft.on_soft {
                plans.redirecting.push(Spot::new(plans.list.len(), at.clone()));
            }
            plans.add(Plan {
                connections,
                messages,
                recipients,
                soft_percent: draft.soft_percent.unwrap_or(DEFAULT_SOFT_PERCENT),
                on_soft: draft.on_soft.map_or(OnSoft::Defer, |spot| spot.value),
                brake: draft.brake.brake(),
                local,
                total: draft.total.quotas(),
                schedules,
                base: None,
                name: draft.name.value,
            });
            // An error by now, and not to be copied for each rule of a hostile file.
            if let Some(Plan { name, .. }) = plans.list.last_mut().filter(|plan| plan.name.len() > LONGEST_NAME) {
                *name = quoted(name);
            }
        }
        plans
    }

    /// Redirection that never happens.
    pub(super) fn check_redirection(&self, ports: &[u16], problems: &mut Problems) {
        for Spot { value: number, at } in &self.redirecting {
            let (message, hint) = if !ports.contains(&REDIRECTED) {
                let message =
                    "`on_soft = \"redirect\"` never happens: only port 25 is redirected, and it is not in [smtp] ports";
                (message, "add 25 to [smtp] ports, or write \"defer\"")
            } else if self.list[*number].soft_percent == 100 {
                let message = "`on_soft = \"redirect\"` never happens: `soft_percent = 100` leaves no soft band";
                (message, "write a higher soft_percent, or remove it")
            } else {
                continue;
            };
            problems.push(Problem::warning(message).at(at.clone()).hint(hint));
        }
    }

    /// The plan of a rule with limits of its own, which stand in the place of those of `base`. Rules that come to the same
    /// share one.
    pub(super) fn own(&mut self, base: PlanRef, limits: &Limits, problems: &mut Problems) -> PlanRef {
        let base = match base {
            PlanRef::Plan(number) => Some(number),
            PlanRef::Deny | PlanRef::Allow => None,
        };
        let of_base = base.map(|number| &self.list[number]);
        limits.check(of_base.is_some_and(|plan| plan.local), problems);
        let own = limits.quotas();
        if let Some(plan) = of_base {
            limits.check_beside(&quoted(&plan.name), plan.quotas(), problems);
        }
        // Where the plan has schedules, a limit like the plan's own still stands in the place of theirs.
        let changed = match of_base {
            Some(plan) if plan.schedules.is_empty() => own.unlike(plan.quotas()),
            _ => own,
        };
        if let (Some(number), false) = (base, changed.is_set()) {
            return PlanRef::Plan(number);
        }
        if let Some(number) = self.own.get(&(base, changed)) {
            return PlanRef::Plan(*number);
        }
        let mut plan = of_base.cloned().unwrap_or_else(|| Plan::unlimited("own limits"));
        for (key, limit) in LIMITS.into_iter().zip(changed.in_order()) {
            plan.name += &limit.map(|limit| format!(", {key} = {limit}")).unwrap_or_default();
        }
        let Quotas { connections, messages, recipients } = changed.or(plan.quotas());
        plan = Plan { connections, messages, recipients, base, ..plan };
        plan.schedules.iter_mut().for_each(|schedule| schedule.quotas = changed.or(schedule.quotas));
        let number = self.list.len();
        self.list.push(plan);
        self.own.insert((base, changed), number);
        PlanRef::Plan(number)
    }

    fn add(&mut self, plan: Plan) -> PlanRef {
        let number = self.list.len();
        self.numbers.insert(plan.name.clone(), number);
        self.list.push(plan);
        PlanRef::Plan(number)
    }

    pub(super) fn standard(&mut self) -> PlanRef {
        match self.numbers.get(STANDARD) {
            Some(number) => PlanRef::Plan(*number),
            None => self.add(Plan::standard()),
        }
    }

    pub(super) fn find(&mut self, name: &Spot<String>, problems: &mut Problems) -> PlanRef {
        match name.value.as_str() {
            "deny" => return PlanRef::Deny,
            "allow" => return PlanRef::Allow,
            STANDARD => return self.standard(),
            other => {
                if let Some(number) = self.numbers.get(other) {
                    return PlanRef::Plan(*number);
                }
            }
        }
        if self.complete {
            let problem = Problem::error(format!("there is no plan `{}`", quoted(&name.value))).at(name.at.clone());
            problems.push(if problems.is_full() { problem } else { problem.hint(self.hint(&name.value)) });
        }
        PlanRef::Deny
    }

    fn hint(&self, missing: &str) -> String {
        let built_in = [STANDARD, "deny", "allow"];
        // Those made for limits of rules have no name that could be written.
        let defined = self.list.iter().map(|plan| plan.name.as_str()).filter(|name| self.numbers.contains_key(*name));
        if let Some(name) = nearest(missing, built_in.into_iter().chain(defined.clone())) {
            return format!("did you mean \"{}\"?", quoted(name));
        }
        let mut names: Vec<String> =
            defined.filter(|name| *name != STANDARD).take(8).map(|name| format!("\"{}\"", quoted(name))).collect();
        names.extend(built_in.map(|name| format!("\"{name}\"")));
        format!("define [plan.{}], or use one of {}", quoted(missing), names.join(", "))
    }
}

/// Whether a plan says what it seems to. Its schedules.
fn check(draft: &PlanDraft, local: bool, complete: bool, problems: &mut Problems) -> Vec<Schedule> {
    let PlanDraft { limits, brake, total, .. } = draft;
    let name = quoted(&draft.name.value);
    limits.check(local, problems);
    total.check(local, problems);
    total.check_total(limits, problems);
    brake.check(complete, problems);
    if !limits.written && !brake.written && !total.written && !draft.scheduled && complete {
        let message = format!("plan `{name}` has no limit");
        let hint = "add per_hour, messages_per_hour or another; for no limits use the built-in plan \"allow\"";
        problems.push(Problem::warning(message).at(draft.name.at.clone()).hint(hint));
    }
    let mut schedules: Vec<Schedule> = Vec::with_capacity(draft.schedules.len());
    for written in &draft.schedules {
        written.limits.check(local, problems);
        written.limits.check_beside(&name, limits.quotas(), problems);
        total.check_total(&written.limits, problems);
        if !written.schedule.can_hold(&schedules) {
            let problem = Problem::warning("this schedule never holds: the ones above it hold at all its times");
            problems.push(problem.at(written.at.clone()).hint("write it above them, or remove it"));
        } else if written.schedule.is_always() {
            let problem = Problem::warning("this schedule always holds, and the plan's own limits never do");
            problems.push(problem.at(written.at.clone()).hint("add days or hours, or write its limits in the plan"));
        }
        schedules.push(written.schedule);
    }
    schedules
}
