//! Programs of others, run so that they can neither hold us up nor inherit anything of ours.

use std::{
    ffi::OsStr,
    io::{ErrorKind, Read},
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// Where programs are looked for.
pub(crate) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How long after its deadline a program is still read.
const GRACE: Duration = Duration::from_millis(500);

/// A program in a process group of its own, with hardly an environment.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs([("PATH", PATH), ("LC_ALL", "C")]).current_dir("/").process_group(0);
    command
}

/// Sends everything that comes once there is no more, or more than a bound, of which it sends one byte as a sign. What comes
/// after that is read and thrown away: whoever still writes must not be killed by SIGPIPE. Somebody who was left behind may
/// hold the pipe open for ever, so all this ends at the deadline, and then nothing is sent.
pub(crate) fn reader(
    pipe: Option<impl Read + AsFd + Send + 'static>,
    largest: u64,
    deadline: Instant,
) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    if let Some(pipe) = pipe {
        // Without a thread nothing is read, and the channel says so.
        let _ = thread::Builder::new().name("reader".to_owned()).spawn(move || read_on(pipe, largest, deadline, send));
    }
    receive
}

fn read_on(mut pipe: impl Read + AsFd, largest: u64, deadline: Instant, send: mpsc::Sender<Vec<u8>>) {
    let mut to = Some((send, Vec::new()));
    let mut chunk = [0; 8192];
    // Whoever still writes at the deadline is to be ended by us, and not by a pipe that we have closed.
    while is_readable(&pipe, deadline + GRACE) {
        let read = match pipe.read(&mut chunk) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            // What was read before an error is what there is.
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let Some((_, bytes)) = &mut to else { continue };
        let room = (largest + 1).saturating_sub(bytes.len() as u64);
        bytes.extend_from_slice(&chunk[..read.min(usize::try_from(room).unwrap_or(usize::MAX))]);
        if bytes.len() as u64 > largest {
            deliver(&mut to);
        }
    }
    if Instant::now() < deadline {
        deliver(&mut to);
    }
}

fn deliver(to: &mut Option<(mpsc::Sender<Vec<u8>>, Vec<u8>)>) {
    if let Some((send, bytes)) = to.take() {
        // Nobody may want to know any more.
        let _ = send.send(bytes);
    }
}

/// Waits until there is something to read, or an end. `false` at the deadline.
fn is_readable(pipe: &impl AsFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        // Rounded up, so that the last wait is not many short ones.
        let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn start(script: &str) -> Child {
        let mut sh = command("/bin/sh");
        sh.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn whoever_writes_more_than_is_wanted_is_not_killed_for_it() {
        let mut child = start("head -c 3000000 /dev/zero >&2 && exit 7");
        let deadline = Instant::now() + Duration::from_secs(10);
        let words = reader(child.stderr.take(), 4096, deadline);
        let status = wait_until(&mut child, deadline).expect("it ends");
        assert_eq!(status.code(), Some(7), "{status}");
        assert_eq!(words.recv_timeout(Duration::from_secs(5)).unwrap().len(), 4097);
    }

    #[test]
    fn nobody_is_listened_to_beyond_the_deadline() {
        let mut child = start("sleep 60 & echo words >&2");
        let deadline = Instant::now() + Duration::from_millis(300);
        let words = reader(child.stderr.take(), 4096, deadline);
        // The thread has ended when it holds the channel no more.
        let end = words.recv_timeout(Duration::from_secs(5));
        assert_eq!(end, Err(mpsc::RecvTimeoutError::Disconnected));
        assert!(deadline.elapsed() < Duration::from_secs(2));
        super::end(&mut child);
    }
}
