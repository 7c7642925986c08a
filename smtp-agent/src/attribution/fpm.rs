//! Which script a worker of PHP-FPM serves: it stands in the scoreboard, which all processes of a PHP-FPM share.

use std::{fs, os::unix::fs::FileExt};

use smtp_common::portrait::ProcessKey;

use super::{living::Living, path};

/// A scoreboard of a thousand workers is about a megabyte.
const LARGEST: u64 = 8 << 20;

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
const URI_AFTER_PID: std::ops::Range<usize> = 16..192;

pub(super) const METHODS: [&[u8]; 8] = [b"GET", b"POST", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND"];

pub(super) fn is_fpm(exe: &[u8]) -> bool {
    path::file_name(exe).starts_with(b"php-fpm")
}

/// The pool that a worker calls itself of.
pub(super) fn pool(command_line: &[u8]) -> Option<&[u8]> {
    let title = command_line.split(|b| *b == 0).next()?;
    title.strip_prefix(b"php-fpm: pool ").map(<[u8]>::trim_ascii)
}

/// The script that `process` serves, if it lies in `directory`: PHP goes there before it runs it.
pub(super) fn script(living: &Living, process: ProcessKey, directory: &[u8]) -> Option<Vec<u8>> {
    // A name that is no UTF-8 must not hide the rest.
    let maps = fs::read(living.path("maps")).ok()?;
    let maps = String::from_utf8_lossy(&maps);
    let memory = fs::File::open(living.path("mem")).ok()?;
    // The opcode cache is shared as well, and far larger.
    for (start, end) in maps.lines().filter_map(shared).filter(|(start, end)| end.saturating_sub(*start) <= LARGEST) {
        let mut bytes = vec![0; end.saturating_sub(start) as usize];
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue;
        }
        let found = scripts(&bytes, process.tgid).find(|script| is_in(living, script, directory));
        if let Some(script) = found {
            return Some(script.to_vec());
        }
    }
    None
}

/// Addresses of a mapping that processes share without a file: `fpm_shm_alloc` takes one with `MAP_ANONYMOUS | MAP_SHARED`.
fn shared(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_shared = fields.next()?.starts_with("rw-s");
    let is_anonymous = line.ends_with("/dev/zero (deleted)");
    let address = |text| u64::from_str_radix(text, 16).ok();
    if is_shared && is_anonymous { Some((address(start)?, address(end)?)) } else { None }
}

/// The script of each slot in which this process id stands.
fn scripts(board: &[u8], tgid: u32) -> impl Iterator<Item = &[u8]> {
    let pid = tgid.to_ne_bytes();
    let places = (0..board.len().saturating_sub(3)).step_by(4).filter(move |at| board[*at..*at + 4] == pid);
    places.flat_map(move |at| URI_AFTER_PID.step_by(4).filter_map(move |distance| slot(board.get(at + distance..)?)))
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
    let identity = |path| fs::metadata(path).ok().map(|m| (std::os::unix::fs::MetadataExt::dev(&m), m.ino()));
    use std::os::unix::fs::MetadataExt as _;
    matches!((identity(as_seen), identity(there)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let line = "7f2a1c000000-7f2a1c010000 rw-s 00000000 00:01 1034  /dev/zero (deleted)";
        assert_eq!(shared(line), Some((0x7f2a_1c00_0000, 0x7f2a_1c01_0000)));
        assert_eq!(shared("55d0-55d1 r--p 00000000 08:01 1 /usr/sbin/php-fpm8.2"), None);
    }

    proptest! {
        #[test]
        fn no_memory_makes_it_panic(bytes: Vec<u8>, tgid: u32) {
            let _ = scripts(&bytes, tgid).count();
        }
    }
}
