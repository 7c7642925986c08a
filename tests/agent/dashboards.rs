//! The shipped rules, alerts and dashboard against a real Prometheus that scrapes a real agent.

use crate::scene::SOON;
use serde_json::Value;
use smtp_tests::{
    Must, World, eventually,
    hostile::Hostile,
    prometheus::{Prometheus, promtool},
    sink::Sink,
    uid,
};
use std::{
    fs,
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// Long enough for scrapes, rules on them and a rate over several of them, one second each.
const SCRAPED: Duration = Duration::from_secs(40);

fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards").canonicalize().must("no dashboards")
}

#[track_caller]
fn yml_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).must(format_args!("cannot list {}", dir.display()));
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .map(|path| path.display().to_string())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no rules in {}", dir.display());
    files
}

/// Runs `promtool WHAT rules FILES`.
#[track_caller]
fn rules(what: &str, files: &[String]) {
    let arguments: Vec<&str> = [what, "rules"].into_iter().chain(files.iter().map(String::as_str)).collect();
    promtool(&arguments, "").expect_ok("promtool");
}

#[test]
fn rules_and_alerts_are_valid_and_pass_their_own_tests() {
    let prometheus = dashboards().join("prometheus");
    rules("check", &yml_in(&prometheus));
    rules("test", &yml_in(&prometheus.join("tests")));
}

/// Every query of every panel, with where it stands.
fn queries(panels: &Value, found: &mut Vec<(String, String)>) {
    for panel in panels.as_array().into_iter().flatten() {
        let title = panel["title"].as_str().unwrap_or_default();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().must(format_args!("a query without an expression in {title}"));
            found.push((format!("{title} {}", target["refId"]), expression.to_owned()));
        }
        queries(&panel["panels"], found);
    }
}

/// As Grafana fills it in, with everything selected.
#[track_caller]
fn filled_in(expression: &str) -> String {
    let mut text = expression.to_owned();
    for (variable, value) in [
        ("$__rate_interval", "1m"),
        ("$__interval", "15s"),
        ("$__range", "1h"),
        ("$instance", ".*"),
        ("${instance}", ".*"),
        ("$user", ".*"),
        ("${user}", ".*"),
    ] {
        text = text.replace(variable, value);
    }
    assert!(!text.contains('$'), "a variable this test does not know in {expression}");
    text
}

/// What the selection lists of the dashboard ask for.
fn variables(dashboard: &Value) -> Vec<(String, String)> {
    let list = dashboard["templating"]["list"].as_array().must("variables");
    let query = |v: &Value| v["query"]["query"].as_str().map(str::to_owned);
    list.iter()
        .filter(|v| v["type"] == "query")
        .map(|v| {
            let query = query(v).must(format_args!("no query in {v}"));
            let inside = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')'));
            let (expression, label) = inside.and_then(|q| q.rsplit_once(", ")).must(format_args!("{query}"));
            (v["name"].to_string(), format!("count by ({label}) ({expression})"))
        })
        .collect()
}

#[test]
fn every_query_of_the_dashboard_finds_data_of_a_real_agent_and_no_rule_fails() {
    let world = World::with(
        "[plan.standard]\nper_hour = 20\nper_day = 100\nsoft_percent = 150\n[plan.standard.total]\nper_day = 900\n[host]\nper_hour = 1000\nper_day = 1000\n",
    );
    // One that can be talked to.
    let _sink =
        Hostile::opponent(Sink::at(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 587)).netns(&world.ns)).start();
    let traffic = |round: u64| {
        let of = |user| world.dial().uid(user);
        of(uid::SENDER).count(20 + round).run();
        of(uid::OTHER).count(2).run();
        of(uid::DENIED).count(2).run();
        of(uid::EXEMPT).count(3).run();
        let client = Hostile::new((world.veth.far.v4, 587)).seed(round).sessions(6);
        client.uid(uid::EXEMPT).cgroup(world.cgroup()).run();
    };
    // All verdicts are there before the first scrape and go on after it.
    traffic(15);
    let rules = dashboards().join("prometheus");
    let prometheus = Prometheus::start(
        &[("smtp-agent", &world.agent.metrics_address())],
        &[&rules.join("rules.yml"), &rules.join("alerts.yml")],
    );
    eventually(SCRAPED, "the agent is scraped", || prometheus.value("up{job='smtp-agent'}") == Some(1.0));
    traffic(1);

    let text = fs::read_to_string(dashboards().join("grafana/smtp-agent.json")).must("no dashboard");
    let dashboard: Value = serde_json::from_str(&text).must("the dashboard is not JSON");
    let mut all = variables(&dashboard);
    assert_eq!(all.len(), 2, "{all:?}");
    queries(&dashboard["panels"], &mut all);
    assert!(all.len() > 20, "only {} queries", all.len());
    let mut silent: Vec<(String, String)> =
        all.into_iter().map(|(place, expression)| (place, filled_in(&expression))).collect();
    eventually(SCRAPED, "two scrapes lie between", || {
        prometheus.value("count_over_time(up{job='smtp-agent'}[1m])").is_some_and(|n| n >= 3.0)
    });
    // A rate needs scrapes, so a query may find nothing at first; a wrong one never finds anything.
    let found = smtp_tests::poll::holds_within(SOON, || {
        silent.retain(|(_, expression)| prometheus.query(expression).iter().all(|(_, value)| value.is_nan()));
        silent.is_empty()
    });
    assert!(found, "these queries find nothing: {silent:#?}");

    assert_eq!(prometheus.value("sum(smtp_connections_total{verdict='deferred'})"), Some(10.0));
    assert_eq!(prometheus.value("sum(smtp_connections_total{verdict='refused', user='61003'})"), Some(4.0));
    eventually(SCRAPED, "every rule was evaluated without an error", || rules_are_well(&prometheus));
    assert!(!prometheus.log().contains("level=error"), "{}", prometheus.log());
}

/// Whether every loaded rule has been evaluated and is well; one that is not ends the test.
fn rules_are_well(prometheus: &Prometheus) -> bool {
    let (status, body) = prometheus.get("/api/v1/rules", &[]).must("Prometheus answers");
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).must("JSON");
    let groups = answer["data"]["groups"].as_array().must("groups");
    let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
    assert!(rules.len() > 15, "{} rules are loaded", rules.len());
    for rule in &rules {
        assert_eq!(rule["lastError"].as_str().unwrap_or_default(), "", "{rule}");
    }
    rules.iter().all(|rule| rule["health"] == "ok")
}
