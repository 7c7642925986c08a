//! The inside of `smtp-dial`: becomes who it shall be, then connects.

use super::{
    Told,
    plan::{Plan, Way},
    way::{Dialler, name},
};
use anyhow::{Context, Result, ensure};
use nix::{
    sched::{CloneFlags, unshare},
    sys::prctl,
    unistd::alarm,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    ffi::CString,
    fs,
    io::{self, Write},
    net::TcpStream,
    os::fd::OwnedFd,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

pub fn run(plan: &Plan) -> Result<()> {
    alarm::set(plan.deadline);
    ensure!(plan.way != Way::SocketBefore || plan.threads == 1, "socket-before makes its attempts on one thread");
    become_caller(plan)?;
    // Made now, so that a test can act between socket() and connect().
    let mut first = Dialler::new(plan)?;
    if plan.wait {
        println!("ready");
        wait_for_a_line()?;
    }
    let next = AtomicU64::new(0);
    let tally = Mutex::new(BTreeMap::<String, u64>::new());
    let work = |dialler: &mut Dialler| -> Vec<OwnedFd> {
        let mut kept = Vec::new();
        let mut own = BTreeMap::<String, u64>::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= plan.count {
                break;
            }
            let (socket, result) = dialler.attempt();
            let result = name(result);
            if plan.each {
                println!("{}", json!(told(plan, n, &result, socket.as_ref())));
            }
            *own.entry(result).or_default() += 1;
            kept.extend(socket.filter(|_| plan.hold));
        }
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        own.into_iter().for_each(|(result, count)| *tally.entry(result).or_default() += count);
        kept
    };
    let kept = thread::scope(|scope| -> Result<Vec<Vec<OwnedFd>>> {
        let others: Vec<_> = (1..plan.threads.max(1))
            .map(|_| scope.spawn(|| Dialler::new(plan).map(|mut dialler| work(&mut dialler))))
            .collect();
        let mut kept = vec![work(&mut first)];
        for other in others {
            kept.push(other.join().expect("a dialling thread does not panic")?);
        }
        Ok(kept)
    })?;
    println!("{}", json!(*tally.lock().unwrap_or_else(PoisonError::into_inner)));
    if plan.hold {
        wait_for_a_line()?;
    }
    drop(kept);
    Ok(())
}

/// What one attempt came to, and the same socket's next.
fn told(plan: &Plan, n: u64, result: &str, socket: Option<&OwnedFd>) -> Told {
    let stream = socket.and_then(|socket| socket.try_clone().ok()).map(TcpStream::from);
    let here = |result: &str| Told {
        n,
        result: result.into(),
        peer: stream.as_ref().and_then(|stream| stream.peer_addr().ok()),
        own: stream.as_ref().and_then(|stream| stream.local_addr().ok()),
        then: None,
    };
    let mut told = here(result);
    if let (Some(socket), Some(to)) = (socket, plan.then) {
        let result = name(Dialler::connect_again(socket, to));
        told.then = Some(Box::new(here(&result)));
    }
    told
}

fn wait_for_a_line() -> Result<()> {
    io::stdout().flush()?;
    io::stdin().read_line(&mut String::new()).context("cannot read standard input")?;
    Ok(())
}

fn become_caller(plan: &Plan) -> Result<()> {
    plan.who.become_it()?;
    if plan.way == Way::UserNamespace {
        become_root_of_a_user_namespace()?;
    }
    if let Some(name) = &plan.comm {
        prctl::set_name(&CString::new(name.0.clone())?).context("cannot set the name")?;
    }
    Ok(())
}

fn become_root_of_a_user_namespace() -> Result<()> {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    // After setuid() the files below belong to root until the process may be dumped again (proc(5)).
    prctl::set_dumpable(true)?;
    unshare(CloneFlags::CLONE_NEWUSER).context("cannot make a user namespace")?;
    fs::write("/proc/self/setgroups", "deny").context("cannot write setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("cannot write uid_map")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("cannot write gid_map")?;
    ensure!(nix::unistd::getuid().is_root(), "the user namespace has not made the caller root");
    Ok(())
}
