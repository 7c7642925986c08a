//! Rules for cgroups while cgroups come and go.
//!
//! The probe gives a new cgroup its chain before mkdir(2) returns where its path is known: because a rule names it, or
//! because such a cgroup was there before. A path that only a pattern matches is looked at here, within milliseconds.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use smtp_common::{connection::Cgroup, names::CgroupEvent};

use super::{
    reload::{Cause, reload},
    shared::Shared,
};
use crate::{
    exit::{Failure, Result},
    kernel::{
        cgroup_tree::Tree,
        maps::{Maps, Places},
        ring::Events,
    },
    policy::{Compiled, cgroups::CgroupRules, ledger::Ledger},
};

/// How often the hierarchies are walked for what no event told of.
const ROUND: Duration = Duration::from_secs(60);

/// Paths that are kept for cgroups that may come again. Beyond, those that are not there are forgotten.
const MOST_PATHS: usize = 65_536;

/// Limits of cgroups that have gone are kept until a policy is installed anew, which happens by itself beyond so many.
const MOST_STALE: usize = 32_768;

/// What is in force for cgroups, and what of it is in the maps.
#[derive(Debug)]
pub struct Following {
    tree: Tree,
    rules: CgroupRules,
    ledger: Ledger,
    cgroups: HashSet<Cgroup>,
    paths: HashMap<String, u32>,
    /// Purses there were when the policy was installed.
    at_first: usize,
    /// A cgroup was in more rules than a chain has room for, and that was said.
    crowded: bool,
}

/// Puts a policy in force, with what it says of the cgroups there are.
pub fn install(maps: &mut Maps, tree: Tree, mut compiled: Compiled) -> Result<(u64, Following)> {
    let mut following = Following {
        tree,
        rules: std::mem::take(&mut compiled.cgroups),
        ledger: std::mem::take(&mut compiled.ledger),
        cgroups: HashSet::new(),
        paths: HashMap::new(),
        at_first: 0,
        crowded: false,
    };
    let mut places = Places { hierarchy: following.tree.hierarchy(), ..Places::default() };
    if !following.rules.is_empty() {
        for path in following.rules.exact_paths() {
            following.place(None, path, &mut places);
        }
        following.look(&mut places);
    }
    compiled.ledger = following.ledger.clone();
    let serial = maps.install(&compiled, &places)?;
    // Those that were made while the policy was written.
    following.round(maps)?;
    following.at_first = following.ledger.purses().len();
    Ok((serial, following))
}

impl Following {
    /// Finds the chain of one cgroup, or of a path alone.
    fn place(&mut self, cgroup: Option<Cgroup>, path: String, places: &mut Places) {
        if cgroup.is_some_and(|cgroup| self.cgroups.contains(&cgroup)) {
            return;
        }
        let Some((chain, left_out)) = self.rules.chain(&path, &mut self.ledger) else { return };
        if left_out > 0 && !self.crowded {
            self.crowded = true;
            tracing::warn!(
                cgroup = path,
                "more rules match this cgroup than it can be held to: the innermost are left out"
            );
        }
        if let Some(cgroup) = cgroup {
            self.cgroups.insert(cgroup);
            places.cgroups.push((cgroup, chain));
        }
        if self.paths.len() < MOST_PATHS && self.paths.insert(path.clone(), chain) != Some(chain) {
            places.paths.push((path, chain));
        }
    }

    /// Places every cgroup there is.
    fn look(&mut self, places: &mut Places) {
        let all = self.tree.all();
        let there: HashSet<Cgroup> = all.iter().map(|(cgroup, _)| *cgroup).collect();
        self.cgroups.retain(|cgroup| there.contains(cgroup));
        for (cgroup, path) in all {
            self.place(Some(cgroup), path, places);
        }
    }

    /// Walks the hierarchies for what is not in the maps yet.
    fn round(&mut self, maps: &mut Maps) -> Result<()> {
        if self.rules.is_empty() {
            return Ok(());
        }
        self.add(maps, |this, places| this.look(places))
    }

    /// Places what was made, or looks at everything where nothing is told.
    fn go_on(&mut self, made: &[CgroupEvent], maps: &mut Maps) -> Result<()> {
        if made.is_empty() {
            return self.round(maps);
        }
        self.add(maps, |this, places| {
            for event in made {
                if let Some((cgroup, path)) = this.tree.of_event(event) {
                    this.place(Some(cgroup), path, places);
                }
            }
        })
    }

    fn add(&mut self, maps: &mut Maps, find: impl FnOnce(&mut Self, &mut Places)) -> Result<()> {
        let (purses, chains) = (self.ledger.purses().len(), self.ledger.chains().len());
        let mut places = Places::default();
        find(self, &mut places);
        maps.extend(&self.ledger, purses, chains, &places)
    }
}

/// Looks at new cgroups as they are told of, and at all of them now and then.
pub async fn follow(shared: Arc<Shared>, mut events: Events<CgroupEvent>) -> Result<()> {
    let mut round = tokio::time::interval(ROUND);
    round.tick().await;
    loop {
        let mut made = Vec::new();
        tokio::select! {
            read = events.read(|event| made.push(event)) => {
                read.map_err(|e| Failure::from_io(&e, "the events of cgroups cannot be read"))?;
            }
            _ = round.tick() => {}
        }
        let is_bloated = {
            let mut following = shared.following.lock().await;
            let mut maps = shared.maps_mut();
            if let Err(e) = following.go_on(&made, &mut maps) {
                tracing::error!("a cgroup cannot be held to its rule: {e}");
            }
            following.ledger.purses().len() > following.at_first + MOST_STALE
        };
        if is_bloated {
            // What went wrong is logged and counted there.
            let _ = reload(&shared, Cause::Cgroups).await;
        }
    }
}
