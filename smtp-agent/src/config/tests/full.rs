//! A file with every key, and where each value ends up.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use super::{config, texts};
use crate::config::*;

fn full() -> Config {
    config(include_str!("full.toml"))
}

fn quota(per_hour: u32, per_day: u32) -> Quota {
    Quota { per_hour: Some(per_hour), per_day: Some(per_day) }
}

fn quotas([a, b, c, d, e, f]: [u32; 6]) -> Quotas {
    Quotas { connections: quota(a, b), messages: quota(c, d), recipients: quota(e, f) }
}

#[test]
fn every_key_of_the_schema_is_in_the_file() {
    let text = include_str!("full.toml");
    let (table, errors) = toml::de::DeTable::parse_recoverable(text);
    assert!(errors.is_empty());
    let mut written = BTreeSet::new();
    collect(table.get_ref(), "", &mut written);
    let wanted = SECTIONS.iter().flat_map(|(name, keys)| keys.iter().map(move |key| format!("{name}.{key}")));
    let missing: Vec<_> = wanted.filter(|key| !written.contains(key)).collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// The keys of a table and of those in it, by the names of the schema.
fn collect(table: &toml::de::DeTable<'_>, section: &str, written: &mut BTreeSet<String>) {
    use toml::de::DeValue;
    for (key, value) in table {
        let key: &str = key.get_ref();
        // Below these any key is a name.
        let named = ["plan", "group"].contains(&section) && matches!(value.get_ref(), DeValue::Table(_));
        let is_part_of_a_plan = section == "plan" && ["total", "schedule"].contains(&key);
        if !named || is_part_of_a_plan {
            written.insert(format!("{section}.{key}"));
        }
        let below = match section {
            "" => key.to_owned(),
            "notify" => format!("notify.{key}"),
            "plan" if is_part_of_a_plan => format!("plan.{key}"),
            section => section.to_owned(),
        };
        match value.get_ref() {
            DeValue::Table(table) => collect(table, &below, written),
            DeValue::Array(list) => {
                for table in list.iter().filter_map(|node| node.get_ref().as_table()) {
                    collect(table, &below, written);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn keys_about_the_host_and_the_agent_are_read_into_their_fields() {
    let config = full();
    assert_eq!((config.mode, config.watch), (Mode::Observe, true));
    assert_eq!(config.control_group.map(|name| name.value), Some(Name::Text("smtpadm".to_owned())));
    assert_eq!(config.ports, [25, 2525]);
    assert!(config.messages);
    assert_eq!(config.sendmail, [PathBuf::from("/opt/mta/bin/sendmail")]);
    let Host { connections, messages, recipients, strict, count_lists, list_users } = config.host;
    assert_eq!([connections, messages, recipients], [quota(300, 1000), quota(301, 1001), quota(302, 1002)]);
    assert_eq!((strict, count_lists, texts(&list_users)), (true, false, vec!["sympa".to_owned()]));
    let paths = ["/sys/fs/bpf/two", "/srv/state", "/run/two"].map(PathBuf::from);
    assert_eq!([config.paths.pins, config.paths.state, config.paths.run], paths);
    assert_eq!(config.cgroup, CgroupChoice::Path("/sys/fs/cgroup/unified".into()));
    assert_eq!(config.metrics, Metrics { listen: None, max_users: 50 });
    assert_eq!(config.page, Page { show: Show::All, hosts: vec!["mail.example.org".to_owned()] });
    assert_eq!(config.events, Events { per_second: 0 });
    let patterns = vec![r"customer-(\d+)".to_owned()];
    assert_eq!(config.attribution, Attribution { mask: Masking::Arguments, mask_also: patterns });
    let Notify { repeat, group_wait, max_per_hour, unusual_factor, unusual_min, learn, sinks } = config.notify;
    assert_eq!([repeat, group_wait, learn].map(|time| time.as_secs()), [3600, 10, 172_800]);
    assert_eq!((max_per_hour, unusual_factor, unusual_min), (7, 3, 21));
    let names: Vec<_> = sinks.iter().map(|sink| (sink.name.as_str(), sink.way.name())).collect();
    let wanted = [("ops", "mail"), ("chat", "webhook"), ("am", "alertmanager"), ("script", "command")];
    assert_eq!((&names[..4], names[4]), (&wanted[..], ("journald", "journald")));
    let keep = Duration::from_secs(90 * 86_400);
    assert_eq!(
        config.history,
        History {
            enabled: false,
            keep,
            max_size: 1 << 30,
            resolve: vec![Resolve::Mx, Resolve::Ptr],
            resolver: Some(([192, 0, 2, 53], 53).into()),
            mx_domains: vec!["example.org".to_owned()],
        }
    );
    assert_eq!(config.log, Log { level: Level::Trace, format: LogFormat::Json, probe: Some(Level::Debug) });
}

#[test]
fn keys_about_who_may_send_are_read_into_their_fields() {
    let config = full();
    assert_eq!(texts(&config.allow.users), ["root", "1001", "1002"]);
    assert_eq!(config.allow.users[1].value, Name::Id(1001));
    assert_eq!(config.allow.users[2].value, Name::Id(1002));
    assert_eq!(texts(&config.allow.groups), ["mail"]);
    assert_eq!(texts(&config.deny), ["www-data"]);
    assert_eq!(config.plan_name(config.default_plan), "small");
    assert_eq!(config.plan_name(config.containers_plan), "deny");
    let [group] = &config.groups[..] else { panic!("{:?}", config.groups) };
    assert_eq!((&group.name.value, group.quotas), (&Name::Text("sales".to_owned()), quotas([31, 32, 33, 34, 35, 36])));

    let subjects: Vec<_> = config.rules.iter().map(|rule| (shown(&rule.subject), rule.each, rule.strict)).collect();
    assert_eq!(
        subjects,
        [
            ("user shop".to_owned(), false, false),
            ("group 50".to_owned(), false, false),
            ("user www-run".to_owned(), false, false),
            ("cgroup /system.slice/php*.service".to_owned(), true, true),
        ]
    );
    let [narrow, wide] = &config.exceptions[..] else { panic!("{:?}", config.exceptions) };
    assert_eq!(narrow.user.as_ref().map(|name| name.value.to_string()).as_deref(), Some("shop"));
    assert_eq!(narrow.group.as_ref().map(|name| name.value.to_string()).as_deref(), Some("staff"));
    assert_eq!(narrow.cgroup.as_ref().map(|pattern| pattern.value.as_str()), Some("/user.slice"));
    assert_eq!(
        narrow.to,
        [
            Network { address: "192.0.2.0".parse().unwrap(), prefix: 24 },
            Network { address: "2001:db8::25".parse().unwrap(), prefix: 128 },
        ]
    );
    assert_eq!((&narrow.ports[..], narrow.allow, narrow.at.line()), (&[25][..], false, 104));
    assert_eq!(wide.to, [Network { address: "198.51.100.7".parse().unwrap(), prefix: 32 }]);
    assert!(wide.user.is_none() && wide.group.is_none() && wide.cgroup.is_none() && wide.ports.is_empty());
    assert!(wide.allow);
}

fn shown(subject: &Subject) -> String {
    match subject {
        Subject::User(name) => format!("user {}", name.value),
        Subject::Group(name) => format!("group {}", name.value),
        Subject::Cgroup(pattern) => format!("cgroup {}", pattern.value.as_str()),
    }
}

#[test]
fn keys_of_plans_are_read_into_their_fields() {
    let config = full();
    let names: Vec<_> = config.plans.iter().map(|plan| plan.name.as_str()).collect();
    let own = "small, per_hour = 41, per_day = 42, messages_per_hour = 43, messages_per_day = 44, \
               recipients_per_hour = 45, recipients_per_day = 46";
    assert_eq!(names, ["small", "bulk", "standard", own], "numbered as written, the built-in one when first used");
    let plans: Vec<_> = config.rules.iter().map(|rule| config.plan_name(rule.plan)).collect();
    assert_eq!(plans, ["bulk", "allow", "standard", own]);

    let small = &config.plans[0];
    assert_eq!(small.connections, Quota { per_hour: Some(5), per_day: None });
    assert_eq!((small.soft_percent, small.on_soft), (150, OnSoft::Redirect));
    assert_eq!((small.local, small.brake, small.total, small.schedules.len()), (false, None, Quotas::default(), 0));

    let bulk = &config.plans[1];
    assert_eq!(bulk.quotas(), quotas([2000, 20_000, 500, 5000, 1500, 15_000]));
    assert_eq!((bulk.soft_percent, bulk.on_soft, bulk.local, bulk.base), (125, OnSoft::Defer, true, None));
    let release = Release::After(Duration::from_secs(5400));
    assert_eq!(bulk.brake, Some(Brake { max_failed_percent: 40, min_failed: 10, release }));
    assert_eq!(bulk.total, quotas([20_001, 20_002, 5001, 5002, 15_001, 15_002]));
    let night = Schedule { days: Days(0b101_1111), from: 1320, to: 360, quotas: quotas([11, 12, 13, 14, 15, 16]) };
    let seventeen = Quota { per_hour: None, per_day: Some(17) };
    let quotas_of_day = Quotas { connections: seventeen, ..Quotas::default() };
    let day = Schedule { days: Days::ALL, from: 480, to: 1440, quotas: quotas_of_day };
    assert_eq!(bulk.schedules, [night, day]);

    let own = &config.plans[3];
    assert_eq!(own.quotas(), quotas([41, 42, 43, 44, 45, 46]));
    assert_eq!((own.soft_percent, own.on_soft, own.base), (150, OnSoft::Redirect, Some(0)), "the rest is the plan's");
}
