//! What has the policy compiled anew without being asked: the clock, and files that were changed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    reload::{Cause, reload},
    shared::Shared,
    watch::{Seen, look},
};
use crate::{
    config::{Config, Quotas},
    control::{
        Request,
        audit::{Asker, Outcome},
    },
    policy::limits::Moment,
};

/// The limits of every plan that has a schedule, at a moment.
fn in_force(config: &Config, moment: Moment) -> Vec<Quotas> {
    config.plans.iter().filter(|plan| !plan.schedules.is_empty()).map(|plan| moment.quotas(plan)).collect()
}

/// Puts the limits in force that schedules say, within a second of the minute they begin or end with.
pub async fn schedules(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let is_due = {
            let config = shared.config.lock().await;
            in_force(&config, shared.status.compiled_for()) != in_force(&config, Moment::now())
        };
        if is_due {
            // What went wrong is logged and counted there. The next second tries again.
            let _ = reload(&shared, Cause::Time).await;
        }
    }
}

/// The files a configuration is read from, as they look. The directory tells of those that come and go.
fn files(path: &Path) -> (Vec<PathBuf>, Seen) {
    let directory = path.parent().unwrap_or(Path::new(".")).join("conf.d");
    let mut all = vec![path.to_owned(), directory.clone()];
    if let Ok(entries) = std::fs::read_dir(&directory) {
        let named = entries.flatten().map(|entry| entry.path());
        all.extend(named.filter(|path| path.extension().is_some_and(|extension| extension == "toml")));
    }
    all[2..].sort_unstable();
    let seen = look(&all);
    (all, seen)
}

/// Loads files that were changed, where the configuration says `watch = true`: once they have not changed for a second, so
/// that several that belong together are loaded together.
pub async fn changed_files(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut loaded = None;
    let mut before = None;
    loop {
        tick.tick().await;
        if !shared.config.lock().await.watch {
            (loaded, before) = (None, None);
            continue;
        }
        let path = shared.config_path.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || files(&path)).await else { continue };
        if loaded.is_none() {
            loaded = Some(now.clone());
        } else if loaded.as_ref() != Some(&now) && before.as_ref() == Some(&now) {
            loaded = Some(now.clone());
            // One that cannot be loaded is not tried again before it changes.
            let done = reload(&shared, Cause::Files).await;
            let outcome = done.as_ref().map(|_| Outcome::Done).map_err(|e| e.message.as_str());
            tokio::task::block_in_place(|| shared.audit.change(Asker::Files, &Request::Reload {}, outcome));
        }
        before = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn limits_change_with_the_clock_only_where_a_schedule_says_so() {
        let text = "[plan.office]\nper_hour = 5\n[[plan.office.schedule]]\ndays = [\"mon-fri\"]\n\
                    hours = \"08:00-18:00\"\nper_hour = 50\n[plan.other]\nper_hour = 1\n";
        let config = config::parse_str("test", text).unwrap_or_else(|p| panic!("{}", p.render(false))).config;
        let at = |weekday, hour: u16| in_force(&config, Moment { weekday, minute: hour * 60 });
        assert_eq!(at(0, 9).len(), 1, "plans without schedules do not matter");
        assert_ne!(at(0, 9), at(0, 18));
        assert_eq!(at(0, 8), at(4, 17));
        assert_eq!(at(5, 9), at(0, 7));
    }

    #[test]
    fn a_file_that_comes_goes_or_changes_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let looks = || files(&path);
        let absent = looks();
        std::fs::write(&path, "").unwrap();
        let empty = looks();
        assert_ne!(absent, empty);
        assert_eq!(empty, looks());
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        let with_directory = looks();
        assert_ne!(empty, with_directory);
        std::fs::write(dir.path().join("conf.d/shop.toml"), "").unwrap();
        let with_one = looks();
        assert_ne!(with_directory, with_one);
        std::fs::write(dir.path().join("conf.d/shop.toml"), "mode = \"observe\"").unwrap();
        assert_ne!(with_one, looks());
    }
}
