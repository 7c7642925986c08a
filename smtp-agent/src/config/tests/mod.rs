//! One case a line: a text, and every finding in it as `severity line:column: message -> hint`.

use std::time::Duration;

use super::*;

mod files;
mod full;
mod hostile;
mod keys;
mod limits;
mod notify;
mod plans;
mod policy;
mod rendering;
mod rules;
mod schedules;
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
    assert!(config.messages);
    let programs =
        ["/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/sendmail", "/usr/sbin/exim", "/usr/sbin/exim4"];
    assert_eq!(config.sendmail, programs.map(std::path::PathBuf::from));
    assert_eq!(texts(&config.allow.users), ["root", "exim", "Debian-exim", "mailnull", "mailman", "list", "postfix"]);
    assert_eq!(config.allow.groups, []);
    assert_eq!(texts(&config.deny), ["nobody"]);
    assert_eq!((config.default_plan, config.containers_plan), (PlanRef::Plan(0), PlanRef::Plan(0)));
    let standard = Plan {
        name: "standard".to_owned(),
        connections: Quota { per_hour: Some(100), per_day: Some(1000) },
        messages: Quota::default(),
        recipients: Quota::default(),
        soft_percent: 125,
        on_soft: OnSoft::Defer,
        brake: None,
        local: false,
        total: Quotas::default(),
        schedules: vec![],
        base: None,
    };
    assert_eq!(config.plans, [standard]);
    assert_eq!((config.watch, config.control_group), (false, None));
    assert_eq!((config.groups, config.rules, config.exceptions), (vec![], vec![], vec![]));
    let Host { connections, messages, recipients, strict, count_lists, list_users } = config.host;
    assert_eq!([connections, messages, recipients], [Quota::default(); 3]);
    assert_eq!((strict, count_lists, texts(&list_users)), (false, true, vec!["mailman".to_owned(), "list".to_owned()]));
    assert_eq!(config.paths.pins, Path::new("/sys/fs/bpf/smtp-agent"));
    assert_eq!(config.paths.state, Path::new("/var/lib/smtp-agent"));
    assert_eq!(config.paths.run, Path::new("/run/smtp-agent"));
    assert_eq!(config.cgroup, CgroupChoice::Auto);
    assert_eq!(config.metrics, Metrics { listen: Some(([127, 0, 0, 1], 9725).into()), max_users: 1000 });
    assert_eq!(config.page, Page { show: Show::Accounts, hosts: vec![] });
    assert_eq!(config.events, Events { per_second: 20 });
    assert_eq!(config.notify, Notify::default(), "nobody is told of anything");
    let History { enabled, keep, max_size, resolve, resolver, mx_domains } = config.history;
    assert_eq!((enabled, keep, max_size), (true, Duration::from_secs(31 * 86_400), 512 << 20));
    assert_eq!((resolve, resolver), (vec![], None), "no name is looked up");
    assert_eq!(mx_domains[..2], ["gmail.com", "outlook.com"]);
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
fn the_sinks_in_the_packaged_file_are_right_once_they_are_uncommented() {
    let lines = include_str!("../../../../packaging/config.toml").lines();
    let sinks: Vec<_> =
        lines.skip_while(|line| *line != "# [[notify.mail]]").map_while(|line| line.strip_prefix('#')).collect();
    let names: Vec<_> = config(&sinks.join("\n")).notify.sinks.into_iter().map(|sink| sink.name).collect();
    assert_eq!(names, ["mail", "webhook"]);
}

#[test]
fn what_the_packaged_file_leaves_commented_is_right_once_it_is_uncommented() {
    let packaged = include_str!("../../../../packaging/config.toml");
    let is_key = |text: &str| {
        let key = text.split_once('=').map(|(key, _)| key.trim());
        key.is_some_and(|key| SECTIONS.iter().any(|(_, keys)| keys.contains(&key)))
    };
    let own = |line: &str| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line).to_owned() + "\n";
    let text: String = packaged.lines().take_while(|line| !line.starts_with("# Another plan")).map(own).collect();
    let config = config(&text.replace("count_lists = true", "count_lists = false"));
    let plan = &config.plans[0];
    for quota in [plan.connections, plan.messages, plan.recipients] {
        assert!(quota.per_hour.is_some() && quota.per_day.is_some(), "{plan:?}");
    }
    assert!(plan.brake.is_some_and(|brake| matches!(brake.release, Release::After(_))), "{plan:?}");
    assert_eq!((config.host.messages.per_day, texts(&config.host.list_users).len()), (Some(1000), 2));
}

#[test]
fn a_name_remembers_where_it_was_written() {
    let config = config("[allow]\nusers = [\"root\", \"exim\"]");
    let place = &config.allow.users[1].at;
    assert_eq!((place.to_string().as_str(), place.range()), ("test.toml:2:18", 25..31));
    assert_eq!(&place.source().text()[place.range()], "\"exim\"");
}
