//! Which script a worker of PHP-FPM serves: it stands in the scoreboard, which all processes of a PHP-FPM share.

use std::{
    collections::HashMap,
    fs::{self, File},
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use smtp_common::portrait::ProcessKey;

use super::{
    living::Living,
    memory::{self, Mapping},
    path,
};

/// A scoreboard of a thousand workers is about a megabyte.
const LARGEST: u64 = 8 << 20;

/// What is read of one process's memory: everybody can have many mappings, and call his program `php-fpm`.
const MOST: u64 = 2 * LARGEST;
const MAPPINGS: usize = 16;

/// Places where the process's number stands that are looked at, and scripts that are compared.
const PLACES: usize = 1024;
const SCRIPTS: usize = 16;

/// How long a process in which nothing was found is left alone.
const REST: Duration = Duration::from_secs(1);

/// Processes that are left alone; then all are forgotten.
const MANY: usize = 1024;

/// `struct fpm_scoreboard_proc_s` (sapi/fpm/fpm/fpm_scoreboard.h, PHP 5.3 to 8.4), from its `request_uri`, which lies some
/// way behind its `pid`.
const URI_LEN: usize = 128;
const QUERY_LEN: usize = 512;
const METHOD: usize = URI_LEN + QUERY_LEN;
const METHOD_LEN: usize = 16;
/// Behind the method and the `size_t` of the content's length.
const SCRIPT: usize = METHOD + METHOD_LEN + 8;
const SCRIPT_LEN: usize = 256;
/// How far behind the `pid` the `request_uri` may begin: counters and times lie between, more in later versions.
const URI_AFTER_PID: Range<usize> = 16..192;

pub(super) const METHODS: [&[u8]; 8] = [b"GET", b"POST", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND"];

pub(super) fn is_fpm(exe: &[u8]) -> bool {
    path::file_name(exe).starts_with(b"php-fpm")
}

/// The pool that a worker calls itself of.
pub(super) fn pool(command_line: &[u8]) -> Option<&[u8]> {
    let title = command_line.split(|b| *b == 0).next()?;
    title.strip_prefix(b"php-fpm: pool ").map(<[u8]>::trim_ascii)
}

/// The scoreboards of a host's workers.
#[derive(Default)]
pub(super) struct Scoreboards {
    silent: Mutex<HashMap<ProcessKey, Instant>>,
}

impl Scoreboards {
    /// The script that `process` serves, if it lies in `directory`: PHP goes there before it runs it.
    pub(super) fn script(&self, living: &Living, process: ProcessKey, directory: &[u8]) -> Option<Vec<u8>> {
        if self.lock().get(&process).is_some_and(|since| since.elapsed() < REST) {
            return None;
        }
        let found = look(living, process, directory);
        if found.is_none() {
            let mut silent = self.lock();
            if silent.len() >= MANY {
                silent.clear();
            }
            silent.insert(process, Instant::now());
        }
        found
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ProcessKey, Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(living: &Living, process: ProcessKey, directory: &[u8]) -> Option<Vec<u8>> {
    let device = (*DEVICE)?;
    let maps = memory::maps(living)?;
    let memory = File::open(living.path("mem")).ok()?;
    let mut room = MOST;
    // The opcode cache is shared as well, and far larger.
    let candidates = mappings(&maps, device).filter(|at| at.end.saturating_sub(at.start) <= LARGEST);
    for Range { start, end } in candidates.take(MAPPINGS) {
        let len = end.saturating_sub(start);
        room = room.checked_sub(len)?;
        let mut bytes = vec![0; len as usize];
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue;
        }
        let found = scripts(&bytes, process.tgid).take(SCRIPTS).find(|script| is_in(living, script, directory));
        if let Some(script) = found {
            return Some(script.to_vec());
        }
    }
    None
}

/// The file system that shared memory without a file is of: the kernel's own (`shm_mnt`, mm/shmem.c), where a memfd lies too.
/// Nobody can have a file in it whose pages somebody else would have to hand out.
static DEVICE: LazyLock<Option<u64>> = LazyLock::new(|| {
    let probe = memfd_create("smtp-agent", MFdFlags::MFD_CLOEXEC).ok()?;
    Some(File::from(probe).metadata().ok()?.dev())
});

/// The mappings that processes share without a file.
fn mappings(maps: &str, device: u64) -> impl Iterator<Item = Range<u64>> {
    maps.lines().filter_map(move |line| shared(line, device))
}

/// Addresses of a mapping that processes share without a file: `fpm_shm_alloc` takes one with `MAP_ANONYMOUS | MAP_SHARED`.
fn shared(line: &str, device: u64) -> Option<Range<u64>> {
    let mapping = Mapping::parse(line)?;
    let is_it =
        mapping.permissions.starts_with("rw-s") && mapping.device == device && mapping.name == "/dev/zero (deleted)";
    is_it.then_some(mapping.addresses)
}

/// The script of each slot in which this process id stands.
fn scripts(board: &[u8], tgid: u32) -> impl Iterator<Item = &[u8]> {
    let pid = tgid.to_ne_bytes();
    let places = (0..board.len().saturating_sub(3)).step_by(4).filter(move |at| board[*at..*at + 4] == pid);
    places
        .take(PLACES)
        .flat_map(move |at| URI_AFTER_PID.step_by(4).filter_map(move |distance| slot(board.get(at + distance..)?)))
}

/// What `request_uri` and the fields behind it say, if they look like them.
fn slot(fields: &[u8]) -> Option<&[u8]> {
    let text = |at: usize, len: usize| {
        let field = fields.get(at..at + len)?;
        let end = field.iter().position(|b| *b == 0)?;
        Some(&field[..end])
    };
    let (uri, method, script) = (text(0, URI_LEN)?, text(METHOD, METHOD_LEN)?, text(SCRIPT, SCRIPT_LEN)?);
    (uri.starts_with(b"/") && METHODS.contains(&method) && script.starts_with(b"/")).then_some(script)
}

/// Whether a script lies in the directory that its process was seen in, links followed as the process would.
pub(super) fn is_in(living: &Living, script: &[u8], directory: &[u8]) -> bool {
    let parent = path::directory(script);
    if parent == directory {
        return true;
    }
    // By another name, which says something only while the process has not gone on to another request.
    if living.cwd().as_deref() != Some(directory) {
        return false;
    }
    let Ok(parent) = std::str::from_utf8(parent) else { return false };
    // Its own root: of a pool with `chroot`, or of a container.
    let as_seen = living.path("root").join(parent.trim_start_matches('/'));
    let there = living.path("cwd");
    let identity = |path| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    matches!((identity(as_seen), identity(there)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    use proptest::prelude::*;

    /// A slot of PHP 8.2, and one of another worker before it.
    fn board(pid: u32, script: &str) -> Vec<u8> {
        let mut board = vec![0; 4096];
        for (at, pid, script) in [(64, pid + 1, "/srv/other/index.php"), (1600, pid, script)] {
            board[at..at + 4].copy_from_slice(&u32::to_ne_bytes(pid));
            let uri = at + 88;
            for (field, text) in [(0, "/send.php?x"), (METHOD, "POST"), (SCRIPT, script)] {
                board[uri + field..uri + field + text.len()].copy_from_slice(text.as_bytes());
            }
        }
        board
    }

    #[test]
    fn the_slot_of_the_process_names_its_script() {
        let board = board(4711, "/srv/shop/send.php");
        assert_eq!(scripts(&board, 4711).collect::<Vec<_>>(), [b"/srv/shop/send.php"]);
        assert_eq!(scripts(&board, 4713).count(), 0);
    }

    #[test]
    fn pools_and_mappings_are_told() {
        assert_eq!(pool(b"php-fpm: pool shop\0\0\0"), Some(&b"shop"[..]));
        assert_eq!(pool(b"php-fpm: master process (/etc/php)\0"), None);
        assert!(is_fpm(b"/usr/sbin/php-fpm8.2") && !is_fpm(b"/usr/bin/php8.2"));
    }

    const OWN: u64 = 1;

    #[test]
    fn only_the_kernels_own_shared_memory_is_looked_at() {
        let is = |device: &str, name: &str, perms: &str| {
            let line = format!("7f2a1c000000-7f2a1c010000 {perms} 00000000 {device} 1034                     {name}");
            shared(&line, OWN)
        };
        let zero = "/dev/zero (deleted)";
        assert_eq!(is("00:01", zero, "rw-s"), Some(0x7f2a_1c00_0000..0x7f2a_1c01_0000));
        // A file of a user's own, or of a file system that he serves himself.
        assert_eq!(is("08:01", zero, "rw-s"), None);
        assert_eq!(is("00:2a", "/tmp/x/dev/zero (deleted)", "rw-s"), None);
        assert_eq!(is("00:01", "/tmp/x/dev/zero (deleted)", "rw-s"), None);
        assert_eq!(is("00:01", "/memfd:/dev/zero (deleted)", "rw-s"), None);
        assert_eq!(is("00:01", zero, "rw-p"), None);
        assert_eq!(shared("55d0-55d1 r--p 00000000 08:01 1 /usr/sbin/php-fpm8.2", OWN), None);
        assert_eq!(shared("55d0-55d1 rw-s 00000000 00:01 1", OWN), None);
    }

    #[test]
    fn the_list_of_mappings_is_read_to_a_bound_and_whatever_names_are_in_it() {
        let line = "7f2a1c000000-7f2a1c010000 rw-s 00000000 00:01 1034  /dev/zero (deleted)\n";
        let other = "7f2a1c000000-7f2a1c010000 rw-s 00000000 08:01 7  /home/\u{fc}\n".as_bytes();
        let many =
            [b"1-2 r--p 0 08:01 1 /\xff\n".as_slice(), &other.repeat(10), &line.repeat(100_000).into_bytes()].concat();
        let found = mappings(&memory::begin_of(&many[..]).unwrap(), OWN).count();
        assert!((10_000..memory::LARGEST as usize / line.len() + 1).contains(&found), "{found}");
    }

    #[test]
    fn memory_shared_without_a_file_is_known_by_its_device() {
        let len = std::num::NonZeroUsize::new(4096).unwrap();
        let (access, kind) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping of the kernel's choice, which nothing else uses.
        let at = unsafe { mmap_anonymous(None, len, access, kind) }.unwrap();
        let list = memory::begin_of(File::open("/proc/self/maps").unwrap()).unwrap();
        let here = at.as_ptr() as u64;
        let found = mappings(&list, DEVICE.unwrap()).any(|range| range.contains(&here));
        // SAFETY: the mapping made above; nothing points into it.
        unsafe { munmap(at, 4096) }.unwrap();
        assert!(found);
    }

    #[test]
    fn a_board_full_of_the_number_costs_no_more_than_a_real_one() {
        let board = 4711_u32.to_ne_bytes().repeat(LARGEST as usize / 4);
        let began = Instant::now();
        assert_eq!(scripts(&board, 4711).count(), 0);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[test]
    fn a_process_without_a_scoreboard_is_left_alone_for_a_while() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let ticks: u64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
        let process = ProcessKey { start: ticks * 10_000_000, tgid: std::process::id(), _pad: 0 };
        let living = Living::open(process).unwrap();
        let boards = Scoreboards::default();
        assert_eq!(boards.script(&living, process, b"/nonexistent"), None);
        assert!(boards.lock().contains_key(&process));
    }

    proptest! {
        #[test]
        fn no_memory_makes_it_panic(bytes: Vec<u8>, tgid: u32) {
            let _ = scripts(&bytes, tgid).count();
        }
    }
}
