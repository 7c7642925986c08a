//! One case a line: a text, and every finding in it as `severity line:column: message -> hint`.

use super::*;

mod files;
mod hostile;
mod keys;
mod policy;
mod rendering;
mod syntax;

/// Every finding in `text`, in the order in which it is shown.
fn findings(text: &str) -> Vec<String> {
    let problems = match parse_str("test.toml", text) {
        Ok(loaded) => {
            assert!(!loaded.warnings.has_errors(), "a configuration in spite of errors: {}", loaded.warnings);
            loaded.warnings
        }
        Err(problems) => {
            assert!(problems.has_errors(), "refused without an error: {problems}");
            problems
        }
    };
    let line = |problem: &Problem| {
        let at = problem.place.as_ref().map(|place| format!(" {}:{}", place.line(), place.column()));
        let hint = problem.hint.as_ref().map(|hint| format!(" -> {hint}"));
        let severity = problem.severity.name();
        format!("{severity}{}: {}{}", at.unwrap_or_default(), problem.message, hint.unwrap_or_default())
    };
    problems.iter().map(line).collect()
}

/// The configuration of a text without errors or warnings.
fn config(text: &str) -> Config {
    let loaded = parse_str("test.toml", text).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    loaded.config
}

fn texts(names: &[Spot<Name>]) -> Vec<String> {
    names.iter().map(|name| name.value.to_string()).collect()
}

/// `name: text => [findings];` No findings means that the text is a configuration.
macro_rules! cases {
    ($($name:ident: $text:expr => [$($finding:expr),* $(,)?];)+) => {
        $(
            #[test]
            fn $name() {
                let wanted: &[&str] = &[$($finding),*];
                assert_eq!(super::findings($text), wanted);
            }
        )+
    };
}
use cases;

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let config = config("");
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!(config.ports, [25, 465, 587]);
    assert_eq!(texts(&config.allow.users), ["root", "exim", "Debian-exim", "mailnull", "mailman", "list", "postfix"]);
    assert_eq!(config.allow.groups, []);
    assert_eq!(texts(&config.deny), ["nobody"]);
    assert_eq!((config.default_plan, config.containers_plan), (PlanRef::Plan(0), PlanRef::Plan(0)));
    let standard = Plan {
        name: "standard".to_owned(),
        per_hour: Some(100),
        per_day: Some(1000),
        soft_percent: 125,
        on_soft: OnSoft::Defer,
    };
    assert_eq!(config.plans, [standard]);
    assert_eq!(config.rules, []);
    assert_eq!(config.host, Host { per_hour: None, per_day: None, strict: false });
    assert_eq!(config.paths.pins, Path::new("/sys/fs/bpf/smtp-agent"));
    assert_eq!(config.paths.state, Path::new("/var/lib/smtp-agent"));
    assert_eq!(config.paths.run, Path::new("/run/smtp-agent"));
    assert_eq!(config.cgroup, CgroupChoice::Auto);
    assert_eq!(config.metrics, Metrics { listen: Some(([127, 0, 0, 1], 9725).into()), max_users: 1000 });
    assert_eq!(config.events, Events { per_second: 20 });
    assert_eq!(config.log, Log { level: Level::Info, format: LogFormat::Text, probe: None });
}

#[test]
fn the_packaged_file_says_what_the_defaults_are_and_sets_the_budget_of_the_host() {
    let packaged = config(include_str!("../../../../packaging/config.toml"));
    let mut wanted = config("[host]\nper_day = 1000");
    assert_eq!(texts(&packaged.allow.users), texts(&wanted.allow.users));
    assert_eq!(texts(&packaged.deny), texts(&wanted.deny));
    // The same names stand elsewhere: in the file instead of the built-in text.
    wanted.allow.users.clone_from(&packaged.allow.users);
    wanted.deny.clone_from(&packaged.deny);
    assert_eq!(packaged, wanted);
}

#[test]
fn the_example_in_the_packaged_file_is_right_once_it_is_uncommented() {
    let lines = include_str!("../../../../packaging/config.toml").lines();
    let example: Vec<_> =
        lines.skip_while(|line| *line != "# [plan.bulk]").map_while(|line| line.strip_prefix('#')).collect();
    let config = config(&example.join("\n"));
    assert_eq!((config.plans[0].name.as_str(), config.rules[0].plan), ("bulk", PlanRef::Plan(0)));
}

#[test]
fn every_key_is_read_into_its_field() {
    let config = config(include_str!("full.toml"));
    assert_eq!(config.mode, Mode::Observe);
    assert_eq!(config.ports, [25, 2525]);
    assert_eq!(texts(&config.allow.users), ["root", "1001", "1002"]);
    assert_eq!(config.allow.users[1].value, Name::Id(1001));
    assert_eq!(config.allow.users[2].value, Name::Id(1002));
    assert_eq!(texts(&config.allow.groups), ["mail"]);
    assert_eq!(texts(&config.deny), ["www-data"]);
    assert_eq!(config.plan_name(config.default_plan), "small");
    assert_eq!(config.plan_name(config.containers_plan), "deny");
    let names: Vec<_> = config.plans.iter().map(|plan| plan.name.as_str()).collect();
    assert_eq!(names, ["small", "bulk", "standard"], "numbered as written, the built-in one when first used");
    let limits: Vec<_> = config.plans.iter().map(|plan| (plan.per_hour, plan.per_day, plan.soft_percent)).collect();
    assert_eq!(limits, [(Some(5), None, 150), (Some(2000), Some(20000), 125), (Some(100), Some(1000), 125)]);
    let rules: Vec<_> = config.rules.iter().map(|rule| config.plan_name(rule.plan)).collect();
    assert_eq!(rules, ["bulk", "allow", "standard"]);
    assert!(matches!(&config.rules[0].subject, Subject::User(name) if name.value == Name::Text("shop".to_owned())));
    assert!(matches!(&config.rules[1].subject, Subject::Group(name) if name.value == Name::Id(50)));
    assert_eq!(config.host, Host { per_hour: Some(300), per_day: Some(1000), strict: true });
    let paths = ["/sys/fs/bpf/two", "/srv/state", "/run/two"].map(std::path::PathBuf::from);
    assert_eq!([config.paths.pins, config.paths.state, config.paths.run], paths);
    assert_eq!(config.cgroup, CgroupChoice::Path("/sys/fs/cgroup/unified".into()));
    assert_eq!(config.metrics, Metrics { listen: None, max_users: 50 });
    assert_eq!(config.events, Events { per_second: 0 });
    assert_eq!(config.log, Log { level: Level::Trace, format: LogFormat::Json, probe: Some(Level::Debug) });
}

#[test]
fn a_name_remembers_where_it_was_written() {
    let config = config("[allow]\nusers = [\"root\", \"exim\"]");
    let place = &config.allow.users[1].at;
    assert_eq!((place.to_string().as_str(), place.range()), ("test.toml:2:18", 25..31));
    assert_eq!(&place.source().text()[place.range()], "\"exim\"");
}
