//! A new policy in the place of the old one: whole, or not at all.

use std::{io::ErrorKind, sync::atomic::Ordering};

use smtp_common::names::program;

use super::{
    by_hand,
    following::{self, Following},
    shared::Shared,
};
use crate::{
    accounts::database::Database,
    attribution::mask::Mask,
    by_hand as said,
    config::{self, Config, Problem, Problems},
    control::rights,
    exit::{Failure, Result},
    kernel::{
        binaries::is_script,
        cgroup::Hierarchy,
        cgroup_tree::Tree,
        gate::{Gate, Needs, are_attached, stands},
    },
    notify,
    policy::{self, Circumstances, Compiled, limits::Moment},
};

/// Why the policy is loaded anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked: SIGHUP or `smtp-agent reload`.
    Asked,
    /// /etc/passwd, /etc/group or /etc/subuid changed: the configuration in force, with today's names.
    Names,
    /// A schedule begins or ends: the configuration in force, for this time of the week.
    Time,
    /// Many cgroups with limits of their own have come and gone: the configuration in force, without the latter.
    Cgroups,
    /// Files were changed, and the configuration says `watch = true`.
    Files,
    /// Something was said of cgroups: the configuration in force, with what is said now.
    ByHand,
}

/// Reads the host's databases and compiles `config` for them, with what is said by hand by the file. Containers are not
/// known here.
pub fn compile(config: &Config) -> Compiled {
    let entries = said::store::read(&config.paths.state).unwrap_or_default();
    let said = said::for_policy(&entries, by_hand::clock(), |_| Vec::new());
    let now = Circumstances { moment: Moment::now(), said };
    with_scripts(policy::compile(config, &Database::read(), &subuid().unwrap_or_default(), &now))
}

/// Adds what is to be said of the programs that are to be counted, as they are on this host.
fn with_scripts(mut compiled: Compiled) -> Compiled {
    for path in compiled.sendmail.iter().filter(|path| is_script(path)) {
        let message = format!(
            "[smtp] sendmail: {} is a script: the kernel executes its interpreter, so it is not counted",
            path.display()
        );
        compiled.warnings.push(Problem::warning(message).hint("name the program that it executes, too"));
    }
    compiled
}

/// The text of /etc/subuid. A host without the file has no subordinate uids.
pub fn subuid() -> Result<String> {
    match std::fs::read("/etc/subuid") {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(Failure::from_io(&e, "/etc/subuid cannot be read")),
    }
}

/// The users and groups of this host. Names that cannot be read (no descriptors left, a file being replaced) may not take
/// the rules of everybody away.
pub fn users() -> Result<Database> {
    let users = Database::read();
    if users.is_empty() {
        return Err(Failure::unavailable(
            "the users and groups of this host cannot be read; see /etc/passwd, /etc/group and /etc/nsswitch.conf",
        ));
    }
    Ok(users)
}

/// The policy for the kernel.
pub fn compile_for_kernel(config: &Config, now: &Circumstances) -> Result<Compiled> {
    Ok(with_scripts(policy::compile(config, &users()?, &subuid()?, now)))
}

/// A gate that somebody detached decides nothing, whatever it is told.
pub fn require_gate(shared: &Shared) -> Result<()> {
    if stands(&shared.pins) {
        return Ok(());
    }
    Err(Failure::unavailable("the gate was detached: start smtp-agent again to put it back in force"))
}

/// Loads and installs. On an error the old policy stays in force, the metric says so and so does the answer.
pub async fn reload(shared: &Shared, cause: Cause) -> Result<u64> {
    let mut current = shared.config.lock().await;
    let outcome = install(shared, &mut current, cause).await;
    if let Err(e) = &outcome {
        shared.status.reload_success.store(false, Ordering::Relaxed);
        tracing::error!(policy = "kept", "the policy was not reloaded, the one before stays in force: {e}");
    }
    outcome
}

/// The same for whoever holds the configuration in force.
pub async fn install(shared: &Shared, current: &mut Config, cause: Cause) -> Result<u64> {
    let mut gate = shared.gate.lock().await;
    // The name service may go over the network; the other tasks go on meanwhile.
    let mut following = shared.following.lock().await;
    tokio::task::block_in_place(|| try_reload(shared, current, &mut gate, &mut following, cause))
}

fn try_reload(
    shared: &Shared,
    current: &mut Config,
    (gate, hierarchy): &mut (Gate, Hierarchy),
    following: &mut Following,
    cause: Cause,
) -> Result<u64> {
    require_gate(shared)?;
    let config = match cause {
        Cause::Names | Cause::Time | Cause::Cgroups | Cause::ByHand => current.clone(),
        Cause::Asked | Cause::Files => {
            let loaded =
                config::load(&shared.config_path).map_err(|problems| Failure::config(problems.render(false)))?;
            log_warnings(&loaded.warnings);
            log_warnings(&notify::problems(&loaded.config.notify));
            tell_what_needs_a_restart(current, &loaded.config);
            loaded.config
        }
    };
    let members = match cause {
        Cause::Asked | Cause::Files => rights::require(&config)?,
        // A group that has gone keeps its members out and nothing else.
        Cause::Names | Cause::Time | Cause::Cgroups | Cause::ByHand => rights::members(&config).unwrap_or_default(),
    };
    let now = Circumstances { moment: Moment::now(), said: by_hand::said(shared)? };
    let moment = now.moment;
    let compiled = compile_for_kernel(&config, &now)?;
    log_warnings(&compiled.warnings);
    log_absent(&compiled);
    shared.naming.forget_users();
    let needs = Needs::of(&compiled.policy);
    let (unresolved, rules, traces) = (compiled.absent.warnings(), compiled.rules.len(), !compiled.sendmail.is_empty());
    let missing = needs.messages && !are_attached(&shared.pins, &program::FOLLOWERS)
        || needs.redirects && !are_attached(&shared.pins, &program::REDIRECTORS);
    if missing {
        // Before a connect() is told to begin a session, or is redirected.
        gate.attach(hierarchy, needs)?;
        tracing::info!(
            messages = needs.messages,
            redirects = needs.redirects,
            "more programs are attached from now on"
        );
    }
    if traces != are_attached(&shared.pins, &program::TRACERS) {
        let mut maps = shared.maps_mut();
        if traces { gate.attach_tracers(&mut maps)? } else { gate.detach_tracers(&mut maps)? }
    }
    let watches = !compiled.cgroups.is_empty();
    if watches && !are_attached(&shared.pins, &program::WATCHERS) {
        gate.attach_watchers()?;
    }
    let state = current.paths.state.clone();
    let (serial, now_following) = following::install(
        &mut shared.maps_mut(),
        Tree::of(hierarchy),
        compiled,
        &state,
        following.paths().into_iter(),
    )?;
    shared.replaced.notify_one();
    *following = now_following;
    if !watches {
        gate.detach_watchers()?;
    }
    if drop_what_is_not_needed(gate, needs)? {
        tracing::info!(
            messages = needs.messages,
            redirects = needs.redirects,
            "fewer programs are attached from now on"
        );
    }
    shared.status.reloaded(unresolved, config.metrics.max_users, moment);
    tracing::info!(generation = serial, rules, mode = config.mode.name(), cause = ?cause, "a new policy is in force");
    shared.attributor.set_mask(Mask::of(&config.attribution));
    shared.page.change(&config.page);
    if current.notify != config.notify {
        shared.notices.change(&config);
    }
    shared.history.reloaded(&config);
    *current = config;
    if let Err(e) = shared.rights.change(members) {
        tracing::error!("{e}");
    }
    Ok(serial)
}

/// Takes the programs away that a policy does without. Returns whether there were any.
pub fn drop_what_is_not_needed(gate: &mut Gate, needs: Needs) -> Result<bool> {
    let mut any = false;
    for (needed, programs) in [(needs.messages, &program::FOLLOWERS[..]), (needs.redirects, &program::REDIRECTORS[..])]
    {
        any |= !needed && !gate.detach(programs)?.is_empty();
    }
    Ok(any)
}

pub fn log_warnings(problems: &Problems) {
    for problem in problems.iter() {
        let place = problem.place.as_ref().map(|p| format!("{}:{}:{}: ", p.source().name(), p.line(), p.column()));
        tracing::warn!("{}{}", place.unwrap_or_default(), problem.message);
    }
}

/// One line for all of them: most hosts lack some of the names that a default configuration has.
pub fn log_absent(compiled: &Compiled) {
    if !compiled.absent_names.is_empty() {
        tracing::warn!("the policy names what this host does not have: {}", compiled.absent_names.join(", "));
    }
}

fn tell_what_needs_a_restart(old: &Config, new: &Config) {
    let changed = [
        ("[paths]", old.paths != new.paths),
        ("[kernel]", old.cgroup != new.cgroup),
        ("[metrics] listen", old.metrics.listen != new.metrics.listen),
        ("[history] enabled", old.history.enabled != new.history.enabled),
        ("[log]", old.log != new.log),
    ];
    for (what, _) in changed.iter().filter(|(_, changed)| *changed) {
        tracing::warn!("{what} has changed and takes effect when smtp-agent is started again");
    }
}
