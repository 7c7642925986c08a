//! `[[rule]]`: who has which plan, and what is allowed or denied whatever the plan.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::super::{
    limits::Limits,
    nearest::nearest,
    network::Network,
    pattern::Pattern,
    place::{Place, Spot},
    problem::Problem,
    reader::{Entry, Reader, Section},
    schema::{Name, Subject},
    sections::LIMITS,
};

/// Who has which plan.
pub(in crate::config) struct RuleDraft {
    pub(in crate::config) subject: Subject,
    pub(in crate::config) plan: Option<Spot<String>>,
    pub(in crate::config) limits: Option<Box<Limits>>,
    pub(in crate::config) each: bool,
    pub(in crate::config) strict: bool,
    pub(in crate::config) at: Place,
}

/// What is allowed or denied.
pub(in crate::config) struct ExceptionDraft {
    pub(in crate::config) user: Option<Spot<Name>>,
    pub(in crate::config) group: Option<Spot<Name>>,
    pub(in crate::config) cgroup: Option<Spot<Pattern>>,
    pub(in crate::config) to: Vec<Network>,
    pub(in crate::config) ports: Vec<Spot<u16>>,
    pub(in crate::config) allow: bool,
    pub(in crate::config) at: Place,
}

#[derive(Default)]
pub(in crate::config) struct Rules {
    pub(in crate::config) plain: Vec<RuleDraft>,
    pub(in crate::config) exceptions: Vec<ExceptionDraft>,
}

impl Rules {
    pub(super) fn read<'t>(&mut self, reader: &mut Reader<'_>, entry: &Entry<'t>) {
        let DeValue::Array(nodes) = entry.value.get_ref() else {
            reader.tables(entry, "rule", "a rule");
            return;
        };
        self.plain.reserve(nodes.len());
        for (node, table) in reader.tables(entry, "rule", "a rule") {
            self.read_one(reader, node, table);
        }
    }

    fn read_one<'t>(&mut self, reader: &mut Reader<'_>, node: &Spanned<DeValue<'_>>, table: &'t DeTable<'t>) {
        let rule = Written { section: reader.section("rule", "in [[rule]]", table), header: reader.place(node.span()) };
        if rule.is_exception() {
            self.exceptions.extend(rule.exception(reader));
        } else {
            self.plain.extend(rule.plain(reader));
        }
    }
}

/// One rule as it stands in the file.
struct Written<'t> {
    section: Section<'t>,
    header: Place,
}

const SUBJECTS: [&str; 3] = ["user", "group", "cgroup"];

impl<'t> Written<'t> {
    fn get(&self, key: &'static str) -> Option<Entry<'t>> {
        self.section.get(key)
    }

    fn subjects(&self) -> impl Iterator<Item = &'static str> {
        SUBJECTS.into_iter().filter(|key| self.get(key).is_some())
    }

    fn is_exception(&self) -> bool {
        self.subjects().count() > 1 || self.get("to").is_some() || self.get("ports").is_some()
    }

    fn has_limits(&self) -> bool {
        LIMITS.into_iter().any(|key| self.get(key).is_some())
    }

    fn plain(&self, reader: &mut Reader<'_>) -> Option<RuleDraft> {
        let (plan, has_limits) = (self.get("plan"), self.has_limits());
        // An unknown key may be the one that is missing.
        let complete = !self.section.has_unknown;
        if self.subjects().next().is_none() && complete {
            let problem = Problem::error("this rule names nobody");
            let hint = "add user = \"NAME\", group = \"NAME\" or cgroup = \"/PATH\"";
            reader.report(problem.at(self.header.clone()).hint(hint));
        }
        if plan.is_none() && !has_limits && complete {
            let problem = Problem::error("this rule has no plan");
            let hint = "add plan = \"NAME\", or a limit such as per_hour";
            reader.report(problem.at(self.header.clone()).hint(hint));
        }
        let (each, strict) = self.switches(reader);
        let limits = has_limits.then(|| Box::new(Limits::of(reader, &self.section)));
        let plan_is_written = plan.is_some();
        let plan = reader.text(plan);
        if let Some(plan @ ("deny" | "allow")) = plan.as_ref().map(|plan| plan.value.as_str()) {
            self.check_without_windows(reader, plan);
        }
        let subject = self.subject(reader)?;
        // A plan that could not be read is not the default one.
        let readable = plan.is_some() == plan_is_written && (plan.is_some() || limits.is_some());
        readable.then(|| RuleDraft { subject, plan, limits, each, strict, at: self.header.clone() })
    }

    fn subject(&self, reader: &mut Reader<'_>) -> Option<Subject> {
        let user = reader.name(self.get("user")).map(Subject::User);
        let group = reader.name(self.get("group")).map(Subject::Group);
        let cgroup = reader.pattern(self.get("cgroup")).map(Subject::Cgroup);
        user.or(group).or(cgroup)
    }

    /// `each` and `strict`, which are for cgroups.
    fn switches(&self, reader: &mut Reader<'_>) -> (bool, bool) {
        let of_cgroup = self.get("cgroup").is_some() || self.section.has_unknown;
        let [each, strict] = ["each", "strict"].map(|key| {
            let entry = self.get(key)?;
            if !of_cgroup {
                let at = reader.place(entry.name.clone());
                let problem = Problem::error(format!("`{key}` is only for a rule with `cgroup`"));
                reader.report(problem.at(at).hint("remove it"));
            }
            Some(reader.boolean(Some(entry))?.value)
        });
        (each.unwrap_or(false), strict.unwrap_or(false))
    }

    /// The plans "deny" and "allow" count nothing.
    fn check_without_windows(&self, reader: &mut Reader<'_>, plan: &str) {
        if let Some((key, entry)) = LIMITS.into_iter().find_map(|key| Some((key, self.get(key)?))) {
            let at = reader.place(entry.name);
            let problem = Problem::error(format!("`{key}` does nothing beside plan = \"{plan}\""));
            reader.report(problem.at(at).hint("remove `plan`, or name one that has limits"));
        }
        let idle = if plan == "allow" { &["each", "strict"][..] } else { &["each"] };
        for key in idle {
            let Some(entry) = self.get(key) else { continue };
            if let (DeValue::Boolean(true), true) = (entry.value.get_ref(), self.get("cgroup").is_some()) {
                let at = reader.place(entry.name);
                let problem = Problem::warning(format!("`{key}` does nothing with plan = \"{plan}\": it has no limit"));
                reader.report(problem.at(at).hint("remove it"));
            }
        }
    }

    fn exception(&self, reader: &mut Reader<'_>) -> Option<ExceptionDraft> {
        let instead = match self.subjects().next() {
            Some(subject) => format!("limit the {subject} with a rule of its own"),
            None => "limit a user, group or cgroup with a rule of its own".to_owned(),
        };
        let mut foreign = false;
        for key in ["each", "strict"].into_iter().chain(LIMITS) {
            if let Some(entry) = self.get(key) {
                foreign = true;
                let at = reader.place(entry.name);
                let message = format!("`{key}` cannot stand in a rule with a destination, a port or two subjects");
                reader.report(Problem::error(message).at(at).hint(instead.clone()));
            }
        }
        let plan = self.get("plan");
        if plan.is_none() && !foreign && !self.section.has_unknown {
            let problem = Problem::error("this rule has no plan");
            reader.report(problem.at(self.header.clone()).hint("add plan = \"allow\" or plan = \"deny\""));
        }
        let allow = reader.text(plan).and_then(|plan| match plan.value.as_str() {
            "allow" => Some(true),
            "deny" => Some(false),
            other => {
                let message = "a rule with a destination, a port or two subjects can only allow or deny";
                let near = nearest(other, ["allow", "deny"]).map(|word| format!("did you mean \"{word}\"?"));
                reader.report(Problem::error(message).at(plan.at).hint(near.unwrap_or(instead)));
                None
            }
        });
        let user = self.get("user").map(|entry| reader.name(Some(entry)));
        let group = self.get("group").map(|entry| reader.name(Some(entry)));
        let cgroup = self.get("cgroup").map(|entry| reader.pattern(Some(entry)));
        let to = self.get("to").map(|entry| reader.networks(Some(entry)));
        let ports = self.get("ports").map(|entry| self.ports(reader, entry));
        // What is written and could not be read must not widen the exception.
        Some(ExceptionDraft {
            user: transposed(user)?,
            group: transposed(group)?,
            cgroup: transposed(cgroup)?,
            to: transposed(to)?.unwrap_or_default(),
            ports: transposed(ports)?.unwrap_or_default(),
            allow: allow?,
            at: self.header.clone(),
        })
    }

    fn ports(&self, reader: &mut Reader<'_>, entry: Entry<'t>) -> Option<Vec<Spot<u16>>> {
        let empty = ["no connection would match", "leave the key out for all in [smtp] ports"];
        let ports = reader.ports(Some(entry), empty)?;
        (!ports.is_empty()).then_some(ports)
    }
}

/// `None` for what is written and wrong, `Some(None)` for what is not written.
fn transposed<T>(written: Option<Option<T>>) -> Option<Option<T>> {
    match written {
        Some(read) => read.map(Some),
        None => Some(None),
    }
}
