//! The real Prometheus, to show that what the agent exports can be scraped, queried and alerted on.

use crate::{
    Must, http, poll, port,
    process::{self, Output, Running},
    scratch, tools,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// One element of an instant vector: labels (the name is `__name__`) and value.
pub type Sample = (BTreeMap<String, String>, f64);

/// A Prometheus that scrapes and evaluates every second. Dropping it ends it.
pub struct Prometheus {
    process: Running,
    port: u16,
    _dir: TempDir,
}

impl Prometheus {
    /// Scrapes these targets (job name, HOST:PORT) and loads these rule files.
    #[track_caller]
    pub fn start(targets: &[(&str, &str)], rules: &[&Path]) -> Self {
        let dir = scratch::dir();
        let port = port::free();
        let config = dir.path().join("prometheus.yml");
        let rules: Vec<PathBuf> = rules
            .iter()
            .map(|path| fs::canonicalize(path).must(format_args!("no rule file {}", path.display())))
            .collect();
        let jobs: Vec<Value> = targets
            .iter()
            .map(|(job, address)| json!({"job_name": job, "static_configs": [{"targets": [address]}]}))
            .collect();
        // JSON is YAML.
        let text = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": rules,
            "scrape_configs": jobs,
        });
        fs::write(&config, text.to_string()).must("cannot write Prometheus's configuration");
        let mut command = Command::new(tools::find("prometheus/usr/bin/prometheus"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn");
        let log = dir.path().join("prometheus.log");
        let mut prometheus = Self { process: Running::start_logged(&mut command, &log), port, _dir: dir };
        let ready = poll::holds_within(PATIENCE, || {
            prometheus.process.ended().is_some()
                || prometheus.get("/-/ready", &[]).is_ok_and(|(status, _)| status == 200)
        });
        let alive = prometheus.process.ended().is_none();
        assert!(ready && alive, "Prometheus is not ready:\n{}", prometheus.process.log());
        prometheus
    }

    /// The instant vector of a PromQL expression, now. A scalar comes as one sample without labels.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<Sample> {
        let (status, body) = self.get("/api/v1/query", &[("query", expression)]).must("Prometheus does not answer");
        assert_eq!(status, 200, "{expression}: {body}");
        samples(&body).must(format_args!("{expression}: not a vector or scalar: {body}"))
    }

    /// The value of an expression with exactly one result; `None` when it has none.
    #[track_caller]
    pub fn value(&self, expression: &str) -> Option<f64> {
        let found = self.query(expression);
        assert!(found.len() <= 1, "{expression} has more than one result: {found:?}");
        found.first().map(|(_, value)| *value)
    }

    /// HTTP GET from its API: status and body.
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<(u16, String), String> {
        http::get(&format!("http://127.0.0.1:{}{path}", self.port), query)
    }

    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Runs promtool: `check metrics` and the like read `input`.
#[track_caller]
pub fn promtool(arguments: &[&str], input: &str) -> Output {
    let dir = scratch::dir();
    let path = dir.path().join("input");
    fs::write(&path, input).must("cannot write promtool's input");
    let stdin = fs::File::open(&path).must("cannot open promtool's input");
    let mut command = Command::new(tools::find("prometheus/usr/bin/promtool"));
    process::output(command.args(arguments).stdin(stdin), PATIENCE)
}

fn samples(body: &str) -> Option<Vec<Sample>> {
    let answer: Value = serde_json::from_str(body).ok()?;
    let value = |pair: &Value| pair[1].as_str()?.parse::<f64>().ok();
    let result = &answer["data"]["result"];
    match answer["data"]["resultType"].as_str()? {
        "scalar" => Some(vec![(BTreeMap::new(), value(result)?)]),
        "vector" => {
            let sample = |sample: &Value| {
                let labels = serde_json::from_value(sample["metric"].clone()).ok()?;
                Some((labels, value(&sample["value"])?))
            };
            result.as_array()?.iter().map(sample).collect()
        }
        _ => None,
    }
}
