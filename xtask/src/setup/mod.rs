//! `cargo xtask setup`: looks at what building and testing need, and installs what is missing.
//!
//! Each item first looks (quick, changes nothing) and is installed only when it is missing, by one way after the
//! other, each with a time limit. It leaves no state of its own: what is there is what is looked for.

mod alertmanager;
mod apt;
mod attempts;
mod browser;
mod clippy;
mod debian_root;
mod linker;
mod mta;
mod placed;
mod probe_toolchain;
mod prometheus;
mod system;
mod web;

use std::fs::{self, File, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::interrupt;
use crate::progress::Line;
use crate::workspace::Workspace;

/// How long another set-up may keep us waiting: longer than the longest of its steps.
const OTHER_SETUP: Duration = Duration::from_secs(900);

/// What a set-up is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Build,
    Everything,
    Lint,
    Bench,
}

/// Something that building or testing needs.
trait Item {
    fn name(&self) -> &'static str;
    /// What is there, or why it will not do. Takes milliseconds and changes nothing.
    fn look(&self) -> Result<String, String>;
    /// Makes `look` succeed. The error says what was tried and what to do by hand.
    fn install(&self, line: &mut Line) -> Result<()>;
}

fn items(workspace: &Workspace, scope: Scope) -> Vec<Box<dyn Item>> {
    let mut items: Vec<Box<dyn Item>> = vec![
        Box::new(system::Program { name: "cc", package: "gcc" }),
        Box::new(probe_toolchain::ProbeToolchain),
        Box::new(linker::BpfLinker),
    ];
    match scope {
        Scope::Build => {}
        Scope::Lint => items.push(Box::new(clippy::ProbeClippy)),
        Scope::Bench => {
            items.push(Box::new(system::Program { name: "ip", package: "iproute2" }));
            items.push(Box::new(system::Program { name: "nft", package: "nftables" }));
        }
        Scope::Everything => {
            items.push(Box::new(system::Program { name: "ip", package: "iproute2" }));
            items.push(Box::new(system::Program { name: "nft", package: "nftables" }));
            items.push(Box::new(system::Program { name: "iptables", package: "iptables" }));
            items.push(Box::new(browser::Browser));
            items.push(Box::new(mta::Mta::new(workspace)));
            items.push(Box::new(web::Web::new(workspace)));
            items.push(Box::new(prometheus::Prometheus::new(workspace)));
            items.push(Box::new(alertmanager::Alertmanager::new(workspace)));
        }
    }
    items
}

pub(crate) fn run(workspace: &Workspace, scope: Scope) -> Result<()> {
    let mut lock = None;
    let mut failed = Vec::new();
    eprintln!("setup");
    for item in items(workspace, scope) {
        let mut line = Line::begin(item.name());
        match item.look() {
            Ok(found) => line.end("ready", found),
            Err(missing) => {
                line.doing(&missing);
                if lock.is_none() {
                    lock = Some(lock_out_others(workspace, &mut line)?);
                }
                match settle(item.as_ref(), &mut line) {
                    Ok(found) => line.end("installed", found),
                    Err(error) => {
                        line.end("MISSING", &missing);
                        failed.push(format!("{}: {error:#}", item.name()));
                    }
                }
                if let Some(signal) = interrupt::received() {
                    bail!("set-up was ended by {signal}; what was complete is kept");
                }
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("set-up is not complete\n\n{}", failed.join("\n\n"))
}

fn settle(item: &dyn Item, line: &mut Line) -> Result<String> {
    // While we waited for the lock, the other set-up may have done it.
    if let Ok(found) = item.look() {
        return Ok(found);
    }
    item.install(line)?;
    item.look().map_err(|why| anyhow::anyhow!("it was installed, and still will not do: {why}"))
}

/// Held until this process ends: two set-ups at once would build the same directories.
fn lock_out_others(workspace: &Workspace, line: &mut Line) -> Result<File> {
    let path = workspace.target.join("setup.lock");
    fs::create_dir_all(&workspace.target).with_context(|| format!("cannot create {}", workspace.target.display()))?;
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
            Err(TryLockError::WouldBlock) if began.elapsed() > OTHER_SETUP => bail!(
                "another set-up has held {} for {} s; end it, or see what it waits for",
                path.display(),
                OTHER_SETUP.as_secs()
            ),
            Err(TryLockError::WouldBlock) => line.tick("another set-up is at work, waiting for it"),
        }
        if let Some(signal) = interrupt::received() {
            bail!("ended by {signal}");
        }
        thread::sleep(Duration::from_millis(200));
    }
}
