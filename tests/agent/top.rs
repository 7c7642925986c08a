//! `top` in a terminal of its own: whatever ends it, the terminal is as it was before.

use crate::scene::SOON;
use nix::sys::signal::Signal;
use smtp_tests::{Agent, Must, eventually, process::Running};
use std::{
    fs::File,
    io::{self, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    ptr,
    sync::{Arc, Mutex},
    thread,
};

/// Two ends of a terminal of 80 by 24.
#[track_caller]
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both descriptors and the size outlive the call; null pointers ask for no name and the usual modes.
    let done = unsafe { libc::openpty(&mut ours, &mut theirs, ptr::null_mut(), ptr::null(), &size) };
    assert_eq!(done, 0, "no terminal: {}", io::Error::last_os_error());
    // SAFETY: the call has just opened them, and nobody else has them.
    unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

/// Whether it echoes and takes whole lines, as it does for a shell.
#[track_caller]
fn is_cooked(terminal: &OwnedFd) -> bool {
    let mut modes = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the call fills the modes where it returns 0, which is looked at before they are read.
    let modes = unsafe {
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), modes.as_mut_ptr()), 0, "{}", io::Error::last_os_error());
        modes.assume_init()
    };
    let cooked = libc::ICANON | libc::ECHO;
    modes.c_lflag & cooked == cooked
}

#[track_caller]
fn top(agent: &Agent, terminal: &OwnedFd) -> Running {
    let end = || terminal.try_clone().must("another descriptor");
    let mut command = agent.command(&["top"]);
    let top = Running::start(command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()));
    eventually(SOON, "the view has the terminal", || !is_cooked(terminal));
    top
}

#[test]
fn a_signal_ends_the_view_and_the_terminal_is_as_it_was() {
    let agent = Agent::builder().start();
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let (mut ours, theirs) = terminal();
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut top = top(&agent, &theirs);
        thread::spawn({
            let written = written.clone();
            move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = ours.read(&mut buffer) {
                    written.lock().must("no panic in another thread").extend_from_slice(&buffer[..read]);
                }
            }
        });
        let has = |part: &str| String::from_utf8_lossy(&written.lock().must("no panic")).contains(part);
        eventually(SOON, "the view is drawn", || has("smtp-agent"));
        top.signal(signal);
        let status = top.wait(SOON).must("it has not ended");
        assert_eq!(status.signal(), Some(signal as i32), "whoever sent it sees that");
        assert!(is_cooked(&theirs), "the terminal is left raw by {signal}");
        eventually(SOON, "what was on the screen before is back", || has("\x1b[?1049l"));
    }
}

#[test]
fn a_signal_ends_a_view_whose_terminal_takes_nothing() {
    let agent = Agent::builder().start();
    let (_unread, theirs) = terminal();
    let mut top = top(&agent, &theirs);
    // Fills what the terminal keeps, so that the view hangs in writing.
    let mut fill = File::from(theirs.try_clone().must("another descriptor"));
    thread::spawn(move || while io::Write::write(&mut fill, &[b'x'; 4096]).is_ok() {});
    thread::sleep(std::time::Duration::from_millis(500));
    top.signal(Signal::SIGTERM);
    let status = top.wait(SOON).must("it has not ended");
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    assert!(is_cooked(&theirs));
}
