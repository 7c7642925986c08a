//! `[plan.NAME]` with its total and schedules, and `[group.NAME]`.

use std::collections::{HashMap, hash_map};

use toml::de::DeValue;

use super::super::{
    brake::BrakeDraft,
    limits::{Limits, set, value},
    place::{Place, Spot},
    plan::{MAX_SCHEDULES, OnSoft, STANDARD},
    problem::Problem,
    reader::{Entry, Reader, Section, describe},
    render::quoted,
    schedule::{Days, Schedule, WHOLE_DAY},
    schema::Name,
    values::parse_name,
};

pub(in crate::config) struct PlanDraft {
    pub(in crate::config) name: Spot<String>,
    pub(in crate::config) limits: Limits,
    pub(in crate::config) soft_percent: Option<u32>,
    pub(in crate::config) on_soft: Option<Spot<OnSoft>>,
    pub(in crate::config) brake: BrakeDraft,
    pub(in crate::config) local: Option<bool>,
    pub(in crate::config) total: Limits,
    pub(in crate::config) schedules: Vec<ScheduleDraft>,
    /// A schedule is written, though none could be read.
    pub(in crate::config) scheduled: bool,
}

pub(in crate::config) struct ScheduleDraft {
    pub(in crate::config) limits: Limits,
    pub(in crate::config) schedule: Schedule,
    pub(in crate::config) at: Place,
}

pub(in crate::config) struct GroupDraft {
    pub(in crate::config) name: Spot<Name>,
    pub(in crate::config) limits: Limits,
}

/// In the order in which they were first written.
#[derive(Default)]
pub(in crate::config) struct Plans {
    pub(in crate::config) list: Vec<PlanDraft>,
    numbers: HashMap<String, usize>,
}

impl Plans {
    pub(super) fn read<'t>(&mut self, reader: &mut Reader<'_>, entry: &Entry<'t>) {
        let Some(plans) = reader.table(entry, "plan") else { return };
        // The parser sorts by name; plans are numbered as they are written.
        let mut plans: Vec<_> = plans.iter().collect();
        plans.sort_by_key(|(name, _)| name.span().start);
        for (name, node) in plans {
            let at = reader.place(name.span());
            let name: &str = name.get_ref();
            let shown = quoted(name);
            let DeValue::Table(table) = node.get_ref() else {
                let what = describe(node.get_ref());
                let problem =
                    Problem::error(format!("`{shown}` in [plan] must be a plan, which is a table, not {what}"));
                let hint = match node.get_ref() {
                    DeValue::Array(_) => format!("write [plan.{shown}], in single brackets and once"),
                    _ => format!("name the plan, as in [plan.{STANDARD}]"),
                };
                reader.report(problem.at(at).hint(hint));
                continue;
            };
            if let Some((message, hint)) = plan_name_fault(name) {
                reader.report(Problem::error(message).at(at.clone()).hint(hint));
            }
            let section = reader.section("plan", &format!("in [plan.{shown}]"), table);
            let number = *self.numbers.entry(name.to_owned()).or_insert_with(|| {
                self.list.push(PlanDraft::new(Spot::new(name.to_owned(), at)));
                self.list.len() - 1
            });
            self.list[number].read(reader, &section, &shown);
        }
    }
}

impl PlanDraft {
    fn new(name: Spot<String>) -> Self {
        Self {
            name,
            limits: Limits::default(),
            soft_percent: None,
            on_soft: None,
            brake: BrakeDraft::default(),
            local: None,
            total: Limits::default(),
            schedules: Vec::new(),
            scheduled: false,
        }
    }

    fn read(&mut self, reader: &mut Reader<'_>, section: &Section<'_>, shown: &str) {
        self.limits.read(reader, section);
        set(&mut self.soft_percent, value(reader.number(section.get("soft_percent"), 100..=1000)));
        let words = [("defer", OnSoft::Defer), ("redirect", OnSoft::Redirect)];
        set(&mut self.on_soft, reader.word(section.get("on_soft"), &words));
        self.brake.read(reader, section);
        set(&mut self.local, value(reader.boolean(section.get("local"))));
        if let Some(entry) = section.get("total") {
            let title = format!("plan.{shown}.total");
            if let Some(table) = reader.table(&entry, &title) {
                let total = reader.section("plan.total", &format!("in [{title}]"), table);
                self.total.read(reader, &total);
            }
        }
        if let Some(entry) = section.get("schedule") {
            self.scheduled = true;
            self.schedules = read_schedules(reader, &entry, shown);
        }
    }

    /// Every limit of the plan, wherever it is written.
    pub(in crate::config) fn all_limits(&self) -> impl Iterator<Item = &Limits> {
        [&self.limits, &self.total].into_iter().chain(self.schedules.iter().map(|schedule| &schedule.limits))
    }
}

fn read_schedules(reader: &mut Reader<'_>, entry: &Entry<'_>, shown: &str) -> Vec<ScheduleDraft> {
    let title = format!("plan.{shown}.schedule");
    let tables = reader.tables(entry, &title, "a schedule");
    if let Some((node, _)) = tables.get(MAX_SCHEDULES) {
        let message = format!("a plan takes up to {MAX_SCHEDULES} schedules, not {}", tables.len());
        reader.wrong(node, message, None);
    }
    let mut schedules = Vec::new();
    for (node, table) in tables.into_iter().take(MAX_SCHEDULES) {
        let section = reader.section("plan.schedule", &format!("in [[{title}]]"), table);
        let limits = Limits::of(reader, &section);
        if !limits.written {
            let hint = Some("add per_hour or another limit".to_owned());
            reader.wrong(node, "this schedule has no limit".to_owned(), hint);
        }
        let (days, hours) = (section.get("days"), section.get("hours"));
        // What could not be read must not seem to be every day.
        let days = if days.is_some() { reader.days(days) } else { Some(Days::ALL) };
        let hours = if hours.is_some() { reader.hours(hours) } else { Some(WHOLE_DAY) };
        if let (Some(days), Some((from, to)), false) = (days, hours, section.has_unknown) {
            let schedule = Schedule { days, from, to, quotas: limits.quotas() };
            schedules.push(ScheduleDraft { limits, schedule, at: reader.place(node.span()) });
        }
    }
    schedules
}

/// Bytes of a plan's name.
pub(in crate::config) const LONGEST_NAME: usize = 64;

/// A plan's name goes into metrics, reports and command lines.
fn plan_name_fault(name: &str) -> Option<(String, &'static str)> {
    let shown = quoted(name);
    match name {
        "deny" | "allow" => {
            Some((format!("\"{shown}\" is a built-in plan and cannot be defined"), "give the plan another name"))
        }
        "" => Some(("the name of a plan is empty".to_owned(), "give the plan a name")),
        _ if name.len() > LONGEST_NAME => Some((
            format!("the name of plan `{shown}` is longer than {LONGEST_NAME} bytes"),
            "give the plan a shorter name",
        )),
        _ if name.chars().any(|c| c.is_control() || c.is_whitespace() || c == '"') => Some((
            format!("the name of plan `{shown}` contains a blank or a quote"),
            "use letters, digits, `-` and `_`",
        )),
        _ => None,
    }
}

/// In the order in which they were first written.
#[derive(Default)]
pub(in crate::config) struct Groups {
    pub(in crate::config) list: Vec<GroupDraft>,
    numbers: HashMap<Name, usize>,
}

impl Groups {
    pub(super) fn read<'t>(&mut self, reader: &mut Reader<'_>, entry: &Entry<'t>) {
        let Some(groups) = reader.table(entry, "group.NAME") else { return };
        let mut groups: Vec<_> = groups.iter().collect();
        groups.sort_by_key(|(name, _)| name.span().start);
        for (key, node) in groups {
            let at = reader.place(key.span());
            let shown = quoted(key.get_ref());
            let DeValue::Table(table) = node.get_ref() else {
                let what = describe(node.get_ref());
                let problem =
                    Problem::error(format!("`{shown}` in [group] must be a group, which is a table, not {what}"));
                let hint = match node.get_ref() {
                    DeValue::Array(_) => format!("write [group.{shown}], in single brackets and once"),
                    _ => "name the group, as in [group.staff]".to_owned(),
                };
                reader.report(problem.at(at).hint(hint));
                continue;
            };
            let section = reader.section("group", &format!("in [group.{shown}]"), table);
            let name = match parse_name(key.get_ref()) {
                Ok(name) => name,
                Err((message, hint)) => {
                    reader.report(Problem::error(message).at(at).hint_opt(hint));
                    continue;
                }
            };
            let number = match self.numbers.entry(name) {
                hash_map::Entry::Occupied(entry) => *entry.get(),
                hash_map::Entry::Vacant(entry) => {
                    let name = Spot::new(entry.key().clone(), at.clone());
                    self.list.push(GroupDraft { name, limits: Limits::default() });
                    *entry.insert(self.list.len() - 1)
                }
            };
            let group = &mut self.list[number];
            if group.name.at != at && group.name.at.is_in_the_file_of(&at) {
                // The parser has seen to those that are written alike.
                let message = format!("group `{shown}` already has limits {}", group.name.at.seen_from(&at));
                reader.report(Problem::error(message).at(at).hint("write them in one table"));
            }
            group.limits.read(reader, &section);
        }
    }
}
