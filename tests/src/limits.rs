//! What `smtp-agent explain` says of an account: the verdict, and how far each limit that it meets is used up.

use crate::{Agent, Cgroup, Must};
use serde_json::Value;

/// One answer of `explain --json`.
#[derive(Clone, Debug)]
pub struct Explained(pub Value);

impl Explained {
    /// Reason of what would become of the next one.
    #[track_caller]
    pub fn reason(&self) -> &str {
        self.0["reason"].as_str().must("explain names a reason")
    }

    /// The only limit of a scope ("account", "plan", "group", "cgroup", "host") on a unit in a window: how much of it is
    /// used.
    #[track_caller]
    pub fn used(&self, scope: &str, unit: &str, window: &str) -> u64 {
        let is_it = |limit: &&Value| limit["scope"] == scope && limit["unit"] == unit && limit["window"] == window;
        let found: Vec<&Value> =
            self.0["limits"].as_array().must("explain lists limits").iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "limits of the {scope} on {unit}s of the {window}: {}", self.0);
        found[0]["used"].as_u64().must("a limit has a usage")
    }
}

impl Agent {
    /// Asks about a user, in a cgroup or none, with further arguments.
    #[track_caller]
    pub fn explained(&self, user: &str, cgroup: Option<&Cgroup>, more: &[&str]) -> Explained {
        let path = cgroup.map(Cgroup::name);
        let mut arguments = vec!["explain", "--json", "--user", user];
        if let Some(path) = &path {
            arguments.extend(["--cgroup", path]);
        }
        arguments.extend(more);
        let output = self.cli(&arguments);
        assert!([0, 1].contains(&output.code), "{output:?}");
        Explained(serde_json::from_str(&output.stdout).must(format_args!("not JSON: {output:?}")))
    }
}
