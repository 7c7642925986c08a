//! The real Alertmanager, to show that what is posted to it becomes alerts.

use crate::{
    Must, http,
    mountns::{MountNs, bind},
    poll, port,
    process::Running,
    scratch, tools,
};
use serde_json::Value;
use std::{fs, path::Path, process::Command, time::Duration};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// An Alertmanager that tells nobody. Dropping it ends it.
pub struct Alertmanager {
    _process: Running,
    port: u16,
    _dir: TempDir,
}

impl Alertmanager {
    #[track_caller]
    pub fn start() -> Self {
        let dir = scratch::dir();
        let port = port::free();
        let config = dir.path().join("alertmanager.yml");
        fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").must("cannot write a file");
        let share = tools::find("alertmanager/usr/share");
        // Debian's looks for its templates there, and for nothing else.
        let view = MountNs::new(|| bind(&share, Path::new("/usr/share")));
        let mut command = Command::new(tools::find("alertmanager/usr/bin/prometheus-alertmanager"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .arg("--log.level=warn");
        view.enter(&mut command);
        let mut process = Running::start_logged(&mut command, &dir.path().join("log"));
        let url = format!("http://127.0.0.1:{port}");
        let ready = poll::holds_within(PATIENCE, || {
            process.ended().is_some()
                || http::get(&format!("{url}/-/ready"), &[]).is_ok_and(|(status, _)| status == 200)
        });
        let alive = process.ended().is_none();
        assert!(ready && alive, "Alertmanager is not ready:\n{}", process.log());
        Self { _process: process, port, _dir: dir }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The alerts that it has, as its API shows them.
    #[track_caller]
    pub fn alerts(&self) -> Vec<Value> {
        let (status, body) = http::get(&format!("{}/api/v2/alerts", self.url()), &[]).must("Alertmanager answers");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).must(format_args!("not JSON: {body}"))
    }
}
