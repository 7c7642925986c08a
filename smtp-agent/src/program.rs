//! Programs of others, run so that they can neither hold us up nor inherit anything of ours.

use std::{
    ffi::OsStr,
    io::{ErrorKind, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// Where programs are looked for.
pub(crate) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A program in a process group of its own, with hardly an environment.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs([("PATH", PATH), ("LC_ALL", "C")]).current_dir("/").process_group(0);
    command
}

/// Sends everything that comes, up to a bound, once there is no more.
pub(crate) fn reader(pipe: Option<impl Read + Send + 'static>, largest: u64) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    if let Some(pipe) = pipe {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is what there is.
            let _ = pipe.take(largest + 1).read_to_end(&mut bytes);
            let _ = send.send(bytes);
        });
    }
    receive
}

/// How it ended; `None` where it has not by then.
pub(crate) fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Err(e) if e.kind() != ErrorKind::Interrupted => return None,
            _ if Instant::now() >= deadline => return None,
            _ => thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Kills it, and what it has started.
pub(crate) fn end(child: &mut Child) {
    // Both fail only when it has ended. Its group is its own: whatever it has started goes with it.
    let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    let _ = child.kill();
    let _ = child.wait();
}
