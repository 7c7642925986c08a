//! What the files say, key by key, before defaults and before names of plans are looked up.
//!
//! Files are read one after the other into the same [`Draft`]: a key that is set again replaces what was
//! there, tables of plans merge by their keys, rules add up. A wrong value is an error even where a later
//! file replaces it.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    limits::{BrakeDraft, Limits, set, value},
    place::{Source, Spot},
    problem::{Problem, Problems},
    reader::{Entry, Reader, Section, describe},
    render::quoted,
    schema::{CgroupChoice, Level, LogFormat, Mode, Name, OnSoft, STANDARD, Subject},
    syntax,
};

#[derive(Default)]
pub(super) struct Draft {
    pub(super) mode: Option<Mode>,
    pub(super) ports: Option<Vec<u16>>,
    pub(super) messages: Option<Spot<bool>>,
    pub(super) sendmail: Option<Vec<PathBuf>>,
    pub(super) allow_users: Option<Vec<Spot<Name>>>,
    pub(super) allow_groups: Option<Vec<Spot<Name>>>,
    pub(super) deny_users: Option<Vec<Spot<Name>>>,
    pub(super) default_plan: Option<Spot<String>>,
    pub(super) containers_plan: Option<Spot<String>>,
    pub(super) plans: Vec<PlanDraft>,
    plan_numbers: HashMap<String, usize>,
    pub(super) rules: Vec<RuleDraft>,
    pub(super) host_limits: Limits,
    pub(super) strict: Option<bool>,
    pub(super) count_lists: Option<Spot<bool>>,
    pub(super) list_users: Option<Spot<Vec<Spot<Name>>>>,
    pub(super) pins: Option<PathBuf>,
    pub(super) state: Option<PathBuf>,
    pub(super) run: Option<PathBuf>,
    pub(super) cgroup: Option<CgroupChoice>,
    pub(super) listen: Option<Option<SocketAddr>>,
    pub(super) max_users: Option<u32>,
    pub(super) per_second: Option<u32>,
    pub(super) level: Option<Level>,
    pub(super) format: Option<LogFormat>,
    pub(super) probe: Option<Option<Level>>,
}

pub(super) struct PlanDraft {
    pub(super) name: Spot<String>,
    pub(super) limits: Limits,
    pub(super) soft_percent: Option<u32>,
    pub(super) on_soft: Option<OnSoft>,
    pub(super) brake: BrakeDraft,
    pub(super) local: Option<bool>,
}

impl PlanDraft {
    fn new(name: Spot<String>) -> Self {
        let (limits, brake) = (Limits::default(), BrakeDraft::default());
        Self { name, limits, soft_percent: None, on_soft: None, brake, local: None }
    }
}

pub(super) struct RuleDraft {
    pub(super) subject: Subject,
    pub(super) plan: Spot<String>,
}

/// Reads a file into `draft`. False when its syntax is broken, so that parts of it may be missing.
pub(super) fn read_file(source: &Arc<Source>, draft: &mut Draft, problems: &mut Problems) -> bool {
    let parsed = syntax::parse(source, problems);
    let intact = parsed.guessed.is_empty();
    let mut reader = Reader::new(source, problems, parsed.guessed);
    draft.read(&mut reader, parsed.root.get_ref());
    intact
}

impl Draft {
    fn read<'t>(&mut self, reader: &mut Reader<'_>, table: &'t DeTable<'t>) {
        let root = reader.section("", "at the top level", table);
        let mode = reader.word(root.get("mode"), &[("enforce", Mode::Enforce), ("observe", Mode::Observe)]);
        set(&mut self.mode, value(mode));
        if let Some(smtp) = reader.open(&root, "smtp") {
            set(&mut self.ports, reader.ports(smtp.get("ports")));
            set(&mut self.messages, reader.boolean(smtp.get("messages")));
            set(&mut self.sendmail, reader.programs(smtp.get("sendmail")));
        }
        if let Some(allow) = reader.open(&root, "allow") {
            set(&mut self.allow_users, reader.names(allow.get("users")));
            set(&mut self.allow_groups, reader.names(allow.get("groups")));
        }
        if let Some(deny) = reader.open(&root, "deny") {
            set(&mut self.deny_users, reader.names(deny.get("users")));
        }
        if let Some(default) = reader.open(&root, "default") {
            set(&mut self.default_plan, reader.text(default.get("plan")));
        }
        if let Some(containers) = reader.open(&root, "containers") {
            set(&mut self.containers_plan, reader.text(containers.get("plan")));
        }
        if let Some(host) = reader.open(&root, "host") {
            self.host_limits.read(reader, &host);
            set(&mut self.strict, value(reader.boolean(host.get("strict"))));
            set(&mut self.count_lists, reader.boolean(host.get("count_lists")));
            let lists = host.get("list_users");
            let at = lists.as_ref().map(|entry| reader.place(entry.name.clone()));
            set(&mut self.list_users, reader.names(lists).zip(at).map(|(names, at)| Spot::new(names, at)));
        }
        self.read_system(reader, &root);
        if let Some(entry) = root.get("plan") {
            self.read_plans(reader, &entry);
        }
        if let Some(entry) = root.get("rule") {
            self.read_rules(reader, &entry);
        }
    }

    /// The tables about the agent itself rather than about who may send.
    fn read_system(&mut self, reader: &mut Reader<'_>, root: &Section<'_>) {
        if let Some(paths) = reader.open(root, "paths") {
            set(&mut self.pins, reader.path(paths.get("pins")));
            set(&mut self.state, reader.path(paths.get("state")));
            set(&mut self.run, reader.path(paths.get("run")));
        }
        if let Some(kernel) = reader.open(root, "kernel") {
            set(&mut self.cgroup, reader.cgroup(kernel.get("cgroup")));
        }
        if let Some(metrics) = reader.open(root, "metrics") {
            set(&mut self.listen, reader.listen(metrics.get("listen")));
            set(&mut self.max_users, value(reader.number(metrics.get("max_users"), 1..=100_000)));
        }
        if let Some(events) = reader.open(root, "events") {
            set(&mut self.per_second, value(reader.number(events.get("per_second"), 0..=10_000)));
        }
        if let Some(log) = reader.open(root, "log") {
            let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
            let words = levels.map(|level| (level.name(), level));
            set(&mut self.level, value(reader.word(log.get("level"), &words)));
            let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
            set(&mut self.format, value(reader.word(log.get("format"), &formats)));
            // The probe's log knows no finer level than debug.
            let [error, warn, info, debug, _] = words.map(|(name, level)| (name, Some(level)));
            set(&mut self.probe, value(reader.word(log.get("probe"), &[("off", None), error, warn, info, debug])));
        }
    }

    fn read_plans<'t>(&mut self, reader: &mut Reader<'_>, entry: &Entry<'t>) {
        let Some(plans) = reader.table(entry) else { return };
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
            let number = *self.plan_numbers.entry(name.to_owned()).or_insert_with(|| {
                self.plans.push(PlanDraft::new(Spot::new(name.to_owned(), at)));
                self.plans.len() - 1
            });
            let plan = &mut self.plans[number];
            plan.limits.read(reader, &section);
            set(&mut plan.soft_percent, value(reader.number(section.get("soft_percent"), 100..=1000)));
            let words = [("defer", OnSoft::Defer), ("redirect", OnSoft::Redirect)];
            let on_soft = reader.word(section.get("on_soft"), &words);
            if let Some(Spot { value: OnSoft::Redirect, at }) = &on_soft {
                let message = "`on_soft = \"redirect\"` comes in a later version";
                reader.report(Problem::error(message).at(at.clone()).hint("write \"defer\""));
            }
            set(&mut plan.on_soft, value(on_soft));
            plan.brake.read(reader, &section);
            set(&mut plan.local, value(reader.boolean(section.get("local"))));
        }
    }

    fn read_rules<'t>(&mut self, reader: &mut Reader<'_>, entry: &Entry<'t>) {
        let DeValue::Array(rules) = entry.value.get_ref() else {
            let found = match entry.value.get_ref() {
                DeValue::Table(_) => "a single one",
                other => describe(other),
            };
            let message = format!("`rule` must be a list of tables, not {found}");
            let at = reader.place(entry.name.clone());
            reader.report(Problem::error(message).at(at).hint("write [[rule]], in double brackets"));
            return;
        };
        for node in rules.iter() {
            match node.get_ref() {
                DeValue::Table(table) => self.rules.extend(read_rule(reader, node, table)),
                other => reader.wrong(node, format!("a rule must be a table, not {}", describe(other)), None),
            }
        }
    }
}

/// A plan's name goes into metrics, reports and command lines.
fn plan_name_fault(name: &str) -> Option<(String, &'static str)> {
    const LONGEST: usize = 64;
    let shown = quoted(name);
    match name {
        "deny" | "allow" => {
            Some((format!("\"{shown}\" is a built-in plan and cannot be defined"), "give the plan another name"))
        }
        "" => Some(("the name of a plan is empty".to_owned(), "give the plan a name")),
        _ if name.len() > LONGEST => {
            Some((format!("the name of plan `{shown}` is longer than {LONGEST} bytes"), "give the plan a shorter name"))
        }
        _ if name.chars().any(|c| c.is_control() || c.is_whitespace() || c == '"') => Some((
            format!("the name of plan `{shown}` contains a blank or a quote"),
            "use letters, digits, `-` and `_`",
        )),
        _ => None,
    }
}

fn read_rule<'t>(reader: &mut Reader<'_>, node: &Spanned<DeValue<'_>>, table: &'t DeTable<'t>) -> Option<RuleDraft> {
    let section = reader.section("rule", "in [[rule]]", table);
    let user = section.get("user");
    let group = section.get("group");
    let header = reader.place(node.span());
    if let Some(cgroup) = section.get("cgroup") {
        let at = reader.place(cgroup.name);
        let problem = Problem::error("rules for a cgroup come in a later version");
        reader.report(problem.at(at).hint("use `user` or `group`"));
    } else if let (Some(user), Some(group)) = (&user, &group) {
        let second = if user.name.start > group.name.start { user } else { group };
        let at = reader.place(second.name.clone());
        let problem = Problem::error("this rule names a user and a group");
        reader.report(problem.at(at).hint("write one [[rule]] for each"));
    } else if user.is_none() && group.is_none() {
        let problem = Problem::error("this rule names nobody");
        reader.report(problem.at(header.clone()).hint("add user = \"NAME\" or group = \"NAME\""));
    }
    let plan = section.get("plan");
    if plan.is_none() {
        let problem = Problem::error("this rule has no plan");
        reader.report(problem.at(header).hint("add plan = \"NAME\""));
    }
    let user = reader.name(user).map(Subject::User);
    let group = reader.name(group).map(Subject::Group);
    let plan = reader.text(plan);
    Some(RuleDraft { subject: user.or(group)?, plan: plan? })
}
