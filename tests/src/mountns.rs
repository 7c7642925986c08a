//! Mount namespaces: a private view of the file system for the processes of one test.

use crate::Must;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};
use std::{
    fs::File,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::process::CommandExt,
    },
    panic::resume_unwind,
    path::Path,
    process::Command,
    sync::Arc,
    thread,
};

/// Lives as long as this handle and the processes in it; its mounts go with it.
#[derive(Clone)]
pub struct MountNs {
    file: Arc<File>,
}

impl MountNs {
    /// A copy of the host's mounts, changed by `set_up`, which the host does not see.
    #[track_caller]
    pub fn new(set_up: impl FnOnce() + Send) -> Self {
        let made = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNS).must("cannot make a mount namespace; tests need root");
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .must("cannot make the mounts private");
            set_up();
            File::open("/proc/thread-self/ns/mnt").must("cannot open the new mount namespace")
        });
        Self { file: Arc::new(made) }
    }

    /// Runs `f` on a thread that sees the files as the namespace has them.
    #[track_caller]
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            // setns(2): a thread that shares root and working directory with others may not change view.
            unshare(CloneFlags::CLONE_FS).must("cannot unshare the working directory");
            setns(&*self.file, CloneFlags::CLONE_NEWNS).must("cannot enter a mount namespace; tests need root");
            f()
        })
    }

    /// Has `command` run in this namespace. Its working directory becomes the root.
    pub fn enter(&self, command: &mut Command) {
        let file = Arc::clone(&self.file);
        let join = move || {
            // SAFETY: `file` lives as long as this closure.
            let fd = unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) };
            Ok(setns(fd, CloneFlags::CLONE_NEWNS)?)
        };
        // SAFETY: the closure makes one system call and allocates nothing.
        unsafe { command.pre_exec(join) };
    }
}

/// Shows `source` at `target` too; for [`MountNs::new`].
#[track_caller]
pub fn bind(source: &Path, target: &Path) {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).must(format_args!(
        "cannot bind {} to {}",
        source.display(),
        target.display()
    ));
}

fn on_a_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(f).join()).unwrap_or_else(|panic| resume_unwind(panic))
}
