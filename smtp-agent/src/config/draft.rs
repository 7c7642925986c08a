//! What the files say, key by key, before defaults and before names of plans are looked up.
//!
//! Files are read one after the other into the same [`Draft`]: a key that is set again replaces what was
//! there, tables of plans and groups merge by their keys, rules add up. A wrong value is an error even where a
//! later file replaces it.

mod notify;
mod plans;
mod rules;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use toml::de::DeTable;

pub(super) use notify::NotifyDraft;
pub(super) use plans::{GroupDraft, LONGEST_NAME, PlanDraft};
pub(super) use rules::{ExceptionDraft, RuleDraft};

use super::{
    limits::{Limits, set, value},
    place::{Source, Spot},
    problem::Problems,
    reader::{Reader, Section},
    schema::{CgroupChoice, Level, LogFormat, Masking, Mode, Name, Resolve, Show},
    syntax,
};

#[derive(Default)]
pub(super) struct Draft {
    pub(super) mode: Option<Mode>,
    pub(super) watch: Option<bool>,
    pub(super) control_group: Option<Spot<Name>>,
    pub(super) ports: Option<Vec<u16>>,
    pub(super) messages: Option<Spot<bool>>,
    pub(super) sendmail: Option<Vec<PathBuf>>,
    pub(super) allow_users: Option<Vec<Spot<Name>>>,
    pub(super) allow_groups: Option<Vec<Spot<Name>>>,
    pub(super) deny_users: Option<Vec<Spot<Name>>>,
    pub(super) default_plan: Option<Spot<String>>,
    pub(super) containers_plan: Option<Spot<String>>,
    pub(super) plans: plans::Plans,
    pub(super) groups: plans::Groups,
    pub(super) rules: rules::Rules,
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
    pub(super) show: Option<Show>,
    pub(super) hosts: Option<Vec<String>>,
    pub(super) per_second: Option<u32>,
    pub(super) mask: Option<Masking>,
    pub(super) mask_also: Option<Vec<String>>,
    pub(super) notify: NotifyDraft,
    pub(super) history: Option<bool>,
    pub(super) keep: Option<Duration>,
    pub(super) max_size: Option<u64>,
    pub(super) resolve: Option<Vec<Resolve>>,
    pub(super) resolver: Option<SocketAddr>,
    pub(super) mx_domains: Option<Vec<String>>,
    pub(super) level: Option<Level>,
    pub(super) format: Option<LogFormat>,
    pub(super) probe: Option<Option<Level>>,
}

/// What no ports at all would mean, and what to do instead.
const NO_PORTS: [&str; 2] = ["nothing would be counted or limited", "leave the key out for 25, 465 and 587"];

fn values<T>(spots: Vec<Spot<T>>) -> Vec<T> {
    spots.into_iter().map(|spot| spot.value).collect()
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
        set(&mut self.watch, value(reader.boolean(root.get("watch"))));
        if let Some(smtp) = reader.open(&root, "smtp") {
            set(&mut self.ports, reader.ports(smtp.get("ports"), NO_PORTS).map(values));
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
            self.plans.read(reader, &entry);
        }
        if let Some(entry) = root.get("group") {
            self.groups.read(reader, &entry);
        }
        if let Some(entry) = root.get("rule") {
            self.rules.read(reader, &entry);
        }
    }

    /// The tables about the agent itself rather than about who may send.
    fn read_system(&mut self, reader: &mut Reader<'_>, root: &Section<'_>) {
        if let Some(control) = reader.open(root, "control") {
            set(&mut self.control_group, reader.name(control.get("group")));
        }
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
        if let Some(page) = reader.open(root, "page") {
            let words = [Show::Off, Show::Accounts, Show::All].map(|show| (show.name(), show));
            set(&mut self.show, value(reader.word(page.get("show"), &words)));
            set(&mut self.hosts, reader.hosts(page.get("hosts")));
        }
        if let Some(events) = reader.open(root, "events") {
            set(&mut self.per_second, value(reader.number(events.get("per_second"), 0..=10_000)));
        }
        if let Some(attribution) = reader.open(root, "attribution") {
            let words =
                [("secrets", Masking::Secrets), ("arguments", Masking::Arguments), ("nothing", Masking::Nothing)];
            set(&mut self.mask, value(reader.word(attribution.get("mask"), &words)));
            set(&mut self.mask_also, reader.regexes(attribution.get("mask_also")));
        }
        self.notify.read(reader, root);
        if let Some(history) = reader.open(root, "history") {
            set(&mut self.history, value(reader.boolean(history.get("enabled"))));
            set(&mut self.keep, reader.keep(history.get("keep")));
            set(&mut self.max_size, reader.size(history.get("max_size")));
            set(&mut self.resolve, reader.resolve(history.get("resolve")));
            set(&mut self.resolver, reader.resolver(history.get("resolver")));
            set(&mut self.mx_domains, reader.domains(history.get("mx_domains")));
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
}
