//! Rules for cgroups while cgroups come and go.
//!
//! The probe gives a new cgroup its chain before mkdir(2) returns where its path is known: because a rule names it, or
//! because such a cgroup was there before. A path that only a pattern matches is looked at here, within milliseconds.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::Path,
    sync::Arc,
    time::Duration,
};

use smtp_common::{connection::Cgroup, level::path_hash, names::CgroupEvent};

use super::{
    reload::{Cause, reload},
    shared::Shared,
};
use crate::{
    config::Pattern,
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

/// Paths that a new policy takes over from the one before, for cgroups that may come again. Those of cgroups that are there
/// are always known.
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
    paths: BTreeMap<String, u32>,
    /// How many purses and chains of the ledger are in the maps.
    entered: (usize, usize),
    /// Purses there were when the policy was installed.
    at_first: usize,
    /// A cgroup was in more rules than a chain has room for, and that was said.
    crowded: bool,
}

/// Name of the file in `[paths] state` that has the paths of cgroups that rules matched, a line each: the name of a cgroup
/// has no line feed in it (`cgroup_mkdir`).
const KNOWN: &str = "cgroups";

/// What an agent before this one kept.
pub fn remembered(state: &Path) -> Vec<String> {
    let text = fs::read(state.join(KNOWN)).unwrap_or_default();
    let lines = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect::<Vec<_>>();
    lines.into_iter().filter(|line| line.starts_with('/')).collect()
}

fn remember<'a>(state: &Path, paths: impl Iterator<Item = &'a String>) -> io::Result<()> {
    let text: String = paths.flat_map(|path| [path.as_str(), "\n"]).collect();
    let (path, new) = (state.join(KNOWN), state.join(format!("{KNOWN}.new")));
    if fs::read_to_string(&path).is_ok_and(|old| old == text) || text.is_empty() && !path.exists() {
        return Ok(());
    }
    fs::write(&new, text)?;
    fs::rename(new, path)
}

/// Puts a policy in force, with what it says of the cgroups there are, and of those that were there `before`: their
/// sessions may still be open, and a service that is started again has its old path.
pub fn install(
    maps: &mut Maps,
    tree: Tree,
    mut compiled: Compiled,
    state: &Path,
    before: impl Iterator<Item = String>,
) -> Result<(u64, Following)> {
    let mut following = Following {
        tree,
        rules: std::mem::take(&mut compiled.cgroups),
        ledger: std::mem::take(&mut compiled.ledger),
        cgroups: HashSet::new(),
        paths: BTreeMap::new(),
        entered: (0, 0),
        at_first: 0,
        crowded: false,
    };
    let mut places = Places { hierarchy: following.tree.hierarchy(), ..Places::default() };
    if !following.rules.is_empty() {
        for path in following.rules.exact_paths() {
            following.know(path, &mut places);
        }
        following.look(&mut places);
        for path in before.take(MOST_PATHS) {
            following.know(path, &mut places);
        }
    }
    compiled.ledger = following.ledger.clone();
    following.entered = following.lengths();
    let watches = maps.policy().is_ok_and(|before| before.cgroups != 0);
    // Those that were made since the look above. From here on the probe enters whatever has a path that is known, into the
    // generation before and into the one that is about to be in force, and tells of the rest.
    let serial = maps.install(&compiled, &places, |maps, generation| following.look_again(maps, generation))?;
    if !watches {
        // It has only begun to.
        let generation = maps.active()?;
        following.look_again(maps, generation);
    }
    following.at_first = following.ledger.purses().len();
    following.remember(state);
    Ok((serial, following))
}

impl Following {
    /// Numbers of the purses that the rules with this pattern have.
    pub fn purses_of(&self, pattern: &Pattern) -> Vec<u32> {
        self.rules.purses_of(pattern)
    }

    /// Paths that were held to a rule, for the policy that comes after this one.
    pub fn paths(&self) -> Vec<String> {
        self.paths.keys().cloned().collect()
    }

    /// Keeps them for the agent that comes after this one.
    fn remember(&self, state: &Path) {
        if let Err(e) = remember(state, self.paths.keys()) {
            tracing::warn!("the cgroups that rules matched cannot be kept for the next start: {e}");
        }
    }

    /// Finds the chain of a path, for whatever is or will be there.
    fn know(&mut self, path: String, places: &mut Places) {
        if self.paths.contains_key(&path) {
            return;
        }
        let (chain, left_out) = self.rules.chain(&path, &mut self.ledger);
        if left_out > 0 && !self.crowded {
            self.crowded = true;
            tracing::warn!(
                cgroup = path,
                "more rules match this cgroup than it can be held to: the loosest are left out"
            );
        }
        if chain != 0 {
            self.paths.insert(path.clone(), chain);
            places.paths.push((path, chain));
        }
    }

    /// Holds a cgroup to its rules, if a pattern matches it.
    fn place(&mut self, cgroup: Cgroup, path: String, places: &mut Places) {
        if self.cgroups.contains(&cgroup) || !self.rules.matches(&path) {
            return;
        }
        self.cgroups.insert(cgroup);
        places.cgroups.push((cgroup, path_hash(path.as_bytes())));
        self.know(path, places);
    }

    /// Places every cgroup there is.
    fn look(&mut self, places: &mut Places) {
        if self.rules.is_empty() {
            return;
        }
        let all = self.tree.all();
        let there: HashSet<Cgroup> = all.iter().map(|(cgroup, _)| *cgroup).collect();
        self.cgroups.retain(|cgroup| there.contains(cgroup));
        for (cgroup, path) in all {
            self.place(cgroup, path, places);
        }
    }

    /// Walks the hierarchies for what is not in the maps yet, or not there any more.
    fn round(&mut self, maps: &mut Maps, generation: u32) -> Result<()> {
        if self.rules.is_empty() {
            return Ok(());
        }
        self.add(maps, generation, Self::look)?;
        let gone = |cgroup: &Cgroup| !self.cgroups.contains(cgroup) && !self.tree.is_there(*cgroup);
        let gone: Vec<Cgroup> = maps.matched_cgroups(generation)?.into_iter().filter(gone).collect();
        maps.forget_cgroups(generation, &gone)
    }

    /// Places what was made, or looks at everything where nothing is told.
    fn go_on(&mut self, made: &[CgroupEvent], maps: &mut Maps) -> Result<()> {
        let generation = maps.active()?;
        if made.is_empty() {
            return self.round(maps, generation);
        }
        self.add(maps, generation, |this, places| {
            for event in made {
                if let Some((cgroup, path)) = this.tree.of_event(event) {
                    this.place(cgroup, path, places);
                }
            }
        })
    }

    /// Enters what was made meanwhile. What went meanwhile waits for the next round.
    fn look_again(&mut self, maps: &mut Maps, generation: u32) {
        if let Err(e) = self.add(maps, generation, Self::look) {
            tracing::error!("cgroups cannot be held to their rules: {e}");
        }
    }

    /// Enters what `find` finds. What finds no room is tried again the next time.
    fn add(&mut self, maps: &mut Maps, generation: u32, find: impl FnOnce(&mut Self, &mut Places)) -> Result<()> {
        let mut places = Places::default();
        find(self, &mut places);
        if let Err(e) = maps.extend(generation, &self.ledger, self.entered, &places) {
            for (cgroup, _) in &places.cgroups {
                self.cgroups.remove(cgroup);
            }
            for (path, _) in &places.paths {
                self.paths.remove(path);
            }
            return Err(e);
        }
        self.entered = self.lengths();
        // One that went before it was entered has nobody else to take it out.
        let mut gone: Vec<Cgroup> = places.cgroups.into_iter().map(|(cgroup, _)| cgroup).collect();
        gone.retain(|cgroup| !self.tree.is_there(*cgroup));
        self.cgroups.retain(|cgroup| !gone.contains(cgroup));
        maps.forget_cgroups(generation, &gone)
    }

    fn lengths(&self) -> (usize, usize) {
        (self.ledger.purses().len(), self.ledger.chains().len())
    }

    /// Whether there is more of cgroups that have gone than is worth keeping.
    fn is_bloated(&self) -> bool {
        self.ledger.purses().len() > self.at_first + MOST_STALE
            || self.paths.len() > self.cgroups.len() + MOST_PATHS + MOST_STALE
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
        let state = shared.config.lock().await.paths.state.clone();
        let is_bloated = {
            let mut following = shared.following.lock().await;
            let mut maps = shared.maps_mut();
            if let Err(e) = following.go_on(&made, &mut maps) {
                tracing::error!("a cgroup cannot be held to its rule: {e}");
            }
            if made.is_empty() {
                following.remember(&state);
            }
            following.is_bloated()
        };
        if is_bloated {
            // What went wrong is logged and counted there.
            let _ = reload(&shared, Cause::Cgroups).await;
        }
    }
}
