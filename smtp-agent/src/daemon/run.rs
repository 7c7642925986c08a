//! Starting, in the order that leaves nothing half-done, and stopping in the reverse one.
//!
//! Whatever can fail without the kernel fails first: configuration, sockets. Then the pins are locked, the probe
//! is loaded, the policy and the local addresses are in the maps, and only then is anything attached.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use nix::sys::stat::{Mode, umask};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use super::{
    by_hand, destinations,
    events::{self, Untold},
    following::{self, Following, remembered},
    history::{self, Keeper},
    logging,
    notices::{self, Notices},
    quotas, reboot,
    reload::{Cause, compile_for_kernel, drop_what_is_not_needed, log_absent, log_warnings, reload},
    schedule,
    shared::{Parts, Shared},
    sweep,
    watch::{self, NamesSeen},
};
use crate::{
    accounts::naming::Naming,
    config::{Config, Loaded},
    control::{
        self, Request,
        audit::{Asker, Outcome},
        rights::{self, Rights},
    },
    exit::{Failure, Result},
    kernel::{
        addresses,
        binaries::binaries,
        cgroup::{Hierarchy, private_mount},
        cgroup_tree::Tree,
        destroy,
        gate::{Attached, Gate, Needs},
        host::Host,
        maps::{Begin, Maps},
        pins::{Pins, State},
        ring::{Events, readable},
        storage,
    },
    metrics, neighbours, notify,
    policy::{Circumstances, Compiled, limits::Moment},
    store,
};

/// How often the supervisor is told of progress at least, whatever it asks for.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Runs the agent until it is told to stop.
pub fn run(config_path: &Path, loaded: Loaded) -> Result<()> {
    logging::init(&loaded.config.log);
    log_warnings(&loaded.warnings);
    umask(Mode::from_bits_truncate(0o027));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::from_io(&e, "the agent's threads cannot be started"))?;
    let outcome = runtime.block_on(start_and_serve(config_path, loaded.config));
    // What is left (a scrape under way) may not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

async fn start_and_serve(config_path: &Path, config: Config) -> Result<()> {
    // Before anything else: a signal that comes during the start must not kill half-way.
    let mut signals = Signals::new()?;
    let listener = config.metrics.listen.map(metrics::server::bind).transpose()?;
    let members = rights::require(&config)?;
    let socket = control::bind(&config.paths.run, members.as_ref())?;
    std::fs::create_dir_all(&config.paths.state)
        .map_err(|e| Failure::from_io(&e, format!("[paths] state = {:?} cannot be made", config.paths.state)))?;

    let pins = Pins::new(&config.paths.pins);
    let said = by_hand::Kept::open(&config, &pins);
    let names_seen = NamesSeen::now();
    let now = Circumstances { moment: Moment::now(), said: said.at_start(&config, &pins)? };
    let moment = now.moment;
    let compiled = compile_for_kernel(&config, &now)?;
    let unresolved = compiled.absent.warnings();
    let rules = compiled.rules.len();
    log_warnings(&compiled.warnings);
    log_absent(&compiled);
    log_warnings(&neighbours::redirect_problems(&config, &compiled));
    let host = Host::probe()?;
    let hierarchy = Hierarchy::find_or_mount(&config.cgroup, &private_mount(&config.paths.run))?;
    let _lock = pins.prepare()?;
    let fresh = pins.state()? != State::Ours;
    let mut gate = Gate::load(&pins, &host, &hierarchy, config.log.probe)?;
    let left = if fresh && config.history.enabled { reboot::left(&config, &hierarchy) } else { None };
    let (history_begins, left) = match (left, fresh) {
        (Some(left), _) => (store::Gate::Restored(left.counters), Some(left.begin)),
        (None, true) => (store::Gate::Fresh, None),
        (None, false) => (store::Gate::Adopted, None),
    };
    let knows_containers = left.as_ref().is_some_and(|left| !left.names.is_empty());
    let outcome = arm(&mut gate, &pins, &hierarchy, compiled, &config.paths.state, left).await;
    let (maps, following, watch) = outcome.inspect_err(|_| {
        if fresh {
            // Best effort: the error that led here is the one to tell.
            let _ = pins.remove();
        }
    })?;
    let policy = maps.policy()?;
    tracing::info!(
        cgroup = %hierarchy.attach.display(),
        generation = policy.serial,
        mode = config.mode.name(),
        rules,
        "the gate is in force"
    );

    let max_users = config.metrics.max_users;
    let probe_log = config.log.probe.is_some();
    let logger = probe_log.then(|| gate.logger()).transpose()?;
    let naming = Naming::new(Some(hierarchy.clone()));
    let as_started = config.clone();
    let state = config.paths.state.clone();
    let rights = Rights::new(&config.paths.run, members);
    log_warnings(&notify::problems(&config.notify));
    let notices = Notices::open(&config)?;
    let history = tokio::task::block_in_place(|| Keeper::start(&config, history_begins));
    let shared = Arc::new(Shared::new(
        config_path.to_owned(),
        Parts { gate, hierarchy, naming, config, maps, following, rights, said, history, notices },
    ));
    if shared.history.is_on() {
        if let Err(e) = destinations::start(&shared, &state) {
            tracing::warn!("destinations get no names, there is no thread for it: {e}");
        }
        let (state, weak) = (state.clone(), Arc::downgrade(&shared));
        let gone = || Failure::unavailable("the agent ends");
        shared.page.offer_reports(Box::new(move |_| quotas::page(&*weak.upgrade().ok_or_else(gone)?, &state)));
    }
    shared.status.reloaded(unresolved, max_users, moment);
    shared.status.ready.store(true, Ordering::Relaxed);
    shared.replaced.notify_one();
    if knows_containers {
        // Of which something may have been said by hand.
        shared.named.notify_one();
    }

    let mut tasks = JoinSet::new();
    let witness = events::Witness::open(&shared.pins)?;
    let connections = Events::open(&shared.pins)?;
    let (awaits, awaited) = mpsc::channel(1);
    tasks.spawn(named("events", events::connections(shared.clone(), connections, witness, awaited)));
    if policy.sessions != 0
        && let Err(e) = storage::check(&shared.pins)
    {
        tracing::error!(
            "this kernel can keep nothing beside sockets ({e}): sessions are not followed, and whoever's messages are \
             limited is refused every connection. Take the limits out, or set [smtp] messages = false"
        );
    }
    if let Err(e) = destroy::check() {
        tracing::warn!(
            "connections cannot be ended at a limit, only held until the client gives up: this kernel has no tcp_diag ({e})"
        );
    }
    let sessions = Events::open(&shared.pins)?;
    let (to_tell, untold) = Untold::new();
    let untold = Arc::new(Mutex::new(untold));
    tasks.spawn(named("sessions", events::sessions(shared.clone(), sessions, to_tell)));
    tasks.spawn(named("stories", events::stories(shared.clone(), untold.clone(), awaits)));
    let cgroups = Events::open(&shared.pins)?;
    tasks.spawn(named("cgroups", following::follow(shared.clone(), cgroups)));
    tasks.spawn(named("addresses", watch::addresses(shared.clone(), watch)));
    tasks.spawn(endless("names", watch::names(shared.clone(), names_seen)));
    tasks.spawn(endless("schedules", schedule::schedules(shared.clone())));
    tasks.spawn(endless("changed files", schedule::changed_files(shared.clone())));
    tasks.spawn(named("programs", watch::programs(shared.clone())));
    tasks.spawn(endless("by hand", by_hand::keep(shared.clone())));
    tasks.spawn(endless("history", history::keep(shared.clone())));
    tasks.spawn(endless("sweeper", sweep::sweep(shared.clone())));
    tasks.spawn(endless("gate", watch::gate(shared.clone())));
    tasks.spawn(endless("notices", notices::watch(shared.clone())));
    tasks.spawn(endless("control", control::server::serve(shared.clone(), socket)));
    if let Some(listener) = listener {
        tracing::info!(
            "metrics are served on http://{}/metrics",
            listener.local_addr().map_or("?".into(), |a| a.to_string())
        );
        let serve = metrics::server::serve(shared.clone(), listener);
        tasks.spawn(named("metrics", async {
            serve.await.map_err(|e| Failure::from_io(&e, "the metrics server ended"))
        }));
    }
    if let Some(logger) = logger {
        tasks.spawn(named("probe log", probe_messages(logger)));
    }

    supervisor(&[NotifyState::Ready, NotifyState::Status("the gate is in force")]);
    // Nobody waits for it: other programs are asked, and may take their time.
    tokio::task::spawn_blocking(move || neighbours::log(&neighbours::of_this_host(&as_started)));
    let ended = signals.serve(&shared, &mut tasks).await;
    supervisor(&[NotifyState::Stopping]);
    shared.status.ready.store(false, Ordering::Relaxed);
    tasks.shutdown().await;
    let mut untold = untold.lock().await;
    tokio::task::block_in_place(|| untold.tell_all(&shared));
    tokio::task::block_in_place(|| shared.notices.stop(&state));
    tokio::task::block_in_place(|| {
        history::look(&shared);
        history::save(&shared);
        shared.history.stop();
    });
    tracing::info!("the agent has ended; the gate stays in force without it (smtp-agent detach removes it)");
    ended
}

/// Policy and addresses into the maps, then the programs into the cgroup.
async fn arm(
    gate: &mut Gate,
    pins: &Pins,
    hierarchy: &Hierarchy,
    compiled: Compiled,
    state: &Path,
    left: Option<Begin>,
) -> Result<(Maps, Following, addresses::Watch)> {
    let watch = addresses::Watch::new()?;
    let local = watch.current().await?;
    let mut maps = gate.maps()?;
    if let Some(left) = left {
        maps.begin_with(&left)?;
        tracing::info!(
            windows = left.windows.len(),
            brakes = left.brakes.len(),
            containers = left.names.len(),
            "limits and counts go on where the boot before left them"
        );
    }
    maps.make_overflow_windows()?;
    maps.make_overflow_tallies()?;
    watch::tell_left_out(maps.set_local(&local)?);
    let sendmail = compiled.sendmail.clone();
    if !compiled.cgroups.is_empty() {
        // Before the policy: cgroups that are made while it is written are not missed.
        gate.attach_watchers()?;
    }
    let (_, following) =
        following::install(&mut maps, Tree::of(hierarchy), compiled, state, remembered(state).into_iter())?;
    let policy = maps.policy()?;
    if policy.cgroups == 0 {
        gate.detach_watchers()?;
    }
    maps.set_sendmail(&binaries(&sendmail))?;
    maps.sign()?;
    let needs = Needs::of(&policy);
    // Before the gate: what it tells of processes from its first connection on.
    gate.attach_witnesses()?;
    // Those of an agent before this one, whose policy said otherwise.
    drop_what_is_not_needed(gate, needs)?;
    for (program, how) in gate.attach(hierarchy, needs)? {
        match how {
            Attached::Newly => tracing::info!(program, "attached"),
            Attached::Replaced => tracing::info!(program, "took over from the agent before"),
            Attached::Moved => tracing::warn!(program, "moved to another cgroup"),
        }
    }
    if sendmail.is_empty() {
        gate.detach_tracers(&mut maps)?;
    } else {
        gate.attach_tracers(&mut maps)?;
    }
    tracing::debug!(pins = %pins.dir().display(), addresses = local.len(), "armed");
    Ok((maps, following, watch))
}

type Ended = (&'static str, Result<()>);

async fn named(name: &'static str, task: impl Future<Output = Result<()>>) -> Ended {
    (name, task.await)
}

async fn endless(name: &'static str, task: impl Future<Output = ()>) -> Ended {
    task.await;
    (name, Ok(()))
}

/// The probe's own log messages, read as they come.
async fn probe_messages(logger: aya_log::EbpfLogger<&'static dyn log::Log>) -> Result<()> {
    let failed = |e: std::io::Error| Failure::from_io(&e, "the probe's log messages cannot be read");
    let mut logger = readable(logger).map_err(failed)?;
    loop {
        let mut guard = logger.readable_mut().await.map_err(failed)?;
        guard.get_inner_mut().flush();
        guard.clear_ready();
    }
}

fn supervisor(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::warn!("the supervisor cannot be notified: {e}");
    }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|e| Failure::from_io(&e, "signals cannot be received"));
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Until a signal says stop, or a task that should not end does.
    async fn serve(&mut self, shared: &Shared, tasks: &mut JoinSet<Ended>) -> Result<()> {
        let watchdog = sd_notify::watchdog_enabled();
        // Half the supervisor's limit, as sd_watchdog_enabled(3) advises.
        let mut beat = tokio::time::interval(watchdog.map_or(HEARTBEAT, |limit| (limit / 2).min(HEARTBEAT)));
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
                _ = self.hangup.recv() => {
                    // systemd wants the time with it (sd_notify(3), RELOADING=1); without one, the state alone.
                    match NotifyState::monotonic_usec_now() {
                        Ok(now) => supervisor(&[NotifyState::Reloading, now]),
                        Err(_) => supervisor(&[NotifyState::Reloading]),
                    }
                    // What went wrong is logged and counted there.
                    let done = reload(shared, Cause::Asked).await;
                    let outcome = done.as_ref().map(|_| Outcome::Done).map_err(|e| e.message.as_str());
                    tokio::task::block_in_place(|| shared.audit.change(Asker::Signal, &Request::Reload {}, outcome));
                    supervisor(&[NotifyState::Ready]);
                }
                _ = beat.tick() => if watchdog.is_some() {
                    supervisor(&[NotifyState::Watchdog]);
                },
                Some(ended) = tasks.join_next() => return Err(match ended {
                    Ok((name, Err(e))) => Failure::new(e.code, format!("the task {name} ended: {e}")),
                    Ok((name, Ok(()))) => Failure::unavailable(format!("the task {name} ended")),
                    Err(e) => Failure::unavailable(format!("a task of the agent failed: {e}")),
                }),
            }
        }
    }
}
