//! The real Prometheus.

use crate::agent::stand_in;
use smtp_tests::{
    eventually,
    prometheus::{Prometheus, promtool},
};
use std::{fs, time::Duration};

const SCRAPED: Duration = Duration::from_secs(15);

#[test]
fn prometheus_scrapes_an_agent_and_evaluates_rules() {
    let agent = stand_in().start();
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.yml");
    let text = "groups: [{name: g, rules: [{record: 'doubled', expr: 'smtp_connections_total * 2'}]}]\n";
    fs::write(&rules, text).unwrap();
    promtool(&["check", "rules", rules.to_str().unwrap()], "").expect_ok("promtool check rules");
    let prometheus = Prometheus::start(&[("smtp-agent", &agent.metrics_address())], &[&rules]);
    eventually(SCRAPED, "the agent is scraped", || prometheus.value("up{job='smtp-agent'}") == Some(1.0));
    eventually(SCRAPED, "the rule is evaluated", || prometheus.value("sum(doubled)") == Some(14.0));
    let found = prometheus.query("smtp_connections_total{port='587'}");
    assert_eq!((found.len(), found[0].0["user"].as_str(), found[0].1), (1, "shop", 4.0));
    assert_eq!(prometheus.value("absent_metric"), None);
    assert_eq!(prometheus.value("scalar(vector(3))"), Some(3.0));
}

#[test]
fn promtool_tells_good_metrics_from_bad_ones() {
    let good = "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n";
    assert_eq!(promtool(&["check", "metrics"], good).code, 0);
    assert_ne!(promtool(&["check", "metrics"], "a_total{ 1\n").code, 0);
}
