//! What stands at the path, what is in the file, and how large it may be.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    time::Instant,
};

use super::*;

/// Something that breaks the file at a path.
type Break<'a> = &'a dyn Fn(&Path);

fn names(state: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(state).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_history_is_its_owners_alone_and_whole_in_one_file_when_closed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), Gate::Fresh, &[one(TODAY)]);
    assert_eq!(names(dir.path()), [NAME]);
    let mode = || fs::metadata(dir.path().join(NAME)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(dir.path().join(NAME), fs::Permissions::from_mode(0o644)).unwrap();
    write(dir.path(), Gate::Adopted, &[one(TODAY)]);
    assert_eq!(mode(), 0o600, "put right");
    check_integrity(dir.path());
}

#[test]
fn links_directories_and_other_things_at_the_path_are_left_alone() {
    let refused = |make: &dyn Fn(&Path), word: &str| {
        let dir = tempfile::tempdir().unwrap();
        make(&dir.path().join(NAME));
        let before = names(dir.path());
        let Err(trouble) = Writing::open(dir.path(), Gate::Fresh) else { panic!("{word}") };
        assert!(trouble.to_string().contains(word), "{trouble}");
        assert_eq!(names(dir.path()), before);
        assert!(matches!(Reader::open(dir.path()), Err(Trouble::Refused(_))), "{word}");
    };
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("victim"), "mine").unwrap();
    refused(&|path| symlink(elsewhere.path().join("victim"), path).unwrap(), "a symbolic link");
    refused(&|path| symlink(elsewhere.path().join("nowhere"), path).unwrap(), "a symbolic link");
    refused(&|path| fs::create_dir(path).unwrap(), "a directory");
    refused(&|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(), "no regular file");
    assert_eq!(fs::read_to_string(elsewhere.path().join("victim")).unwrap(), "mine");
    assert_eq!(names(elsewhere.path()), ["victim"]);
}

#[test]
fn who_reads_beside_the_writer_takes_no_lock_of_its_process_away() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    writing.write(&[one(TODAY)]).unwrap();
    let inode = fs::metadata(dir.path().join(NAME)).unwrap().ino();
    let locks = || {
        let (pid, inode) = (format!(" {} ", std::process::id()), format!(":{inode} "));
        let all = fs::read_to_string("/proc/locks").unwrap();
        all.lines().filter(|line| line.contains(&pid) && line.contains(&inode)).count()
    };
    let before = locks();
    assert!(before > 0, "the writer holds none");
    drop(Reader::open(dir.path()).unwrap());
    assert_eq!(locks(), before, "whoever comes next would remove the journal that is still written");
    writing.write(&[one(TODAY)]).unwrap();
    assert_eq!(attempts(dir.path()).1, 2);
}

#[test]
fn a_state_directory_behind_a_link_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink(dir.path().join("real"), dir.path().join("link")).unwrap();
    write(&dir.path().join("link"), Gate::Fresh, &[one(TODAY)]);
    assert_eq!(attempts(&dir.path().join("link")).1, 1);
}

#[test]
fn without_a_history_there_is_none_to_read() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(dir.path()), Err(Trouble::Absent)));
    assert!(matches!(Reader::open(&dir.path().join("none")), Err(Trouble::Absent)));
    fs::write(dir.path().join(NAME), "").unwrap();
    assert!(matches!(Reader::open(dir.path()), Err(Trouble::Absent)), "one that is just being made");
}

#[test]
fn a_broken_or_foreign_file_is_moved_aside_with_its_journal_and_a_new_one_is_begun() {
    let breaks: [(&str, Break<'_>); 5] = [
        ("garbage", &|path| fs::write(path, [7; 10_000]).unwrap()),
        ("a cut-off header", &|path| fs::write(path, &fs::read(path).unwrap()[..50]).unwrap()),
        ("a schema overwritten", &|path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[100..4096].fill(0xff);
            fs::write(path, bytes).unwrap();
        }),
        ("another program's", &|path| {
            fs::remove_file(path).unwrap();
            Connection::open(path).unwrap().execute_batch("CREATE TABLE t (a); PRAGMA application_id = 77").unwrap();
        }),
        ("a table lost", &|path| Connection::open(path).unwrap().execute_batch("DROP TABLE rollup").unwrap()),
    ];
    for (what, make) in breaks {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), Gate::Fresh, &[one(TODAY)]);
        make(&dir.path().join(NAME));
        fs::write(dir.path().join(format!("{NAME}-wal")), "a journal").unwrap();
        let broken = fs::read(dir.path().join(NAME)).unwrap();
        let read = Reader::open(dir.path());
        assert!(matches!(read, Err(Trouble::Corrupt(_))), "{what}: {:?}", read.err());
        let (mut writing, aside) = Writing::open(dir.path(), Gate::Adopted).unwrap();
        let aside = aside.unwrap_or_else(|| panic!("{what} is taken for a history"));
        assert_eq!(fs::read(&aside.to).unwrap(), broken, "{what}");
        writing.write(&[one(TODAY), one(TODAY)]).unwrap();
        writing.close().unwrap();
        assert_eq!(attempts(dir.path()).1, 2, "{what}");
    }
}

#[test]
fn a_disk_that_breaks_every_file_is_not_filled_with_them() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..6 {
        fs::write(dir.path().join(NAME), [7; 5_000]).unwrap();
        assert!(Writing::open(dir.path(), Gate::Fresh).unwrap().1.is_some());
    }
    let aside = names(dir.path()).iter().filter(|name| name.contains(".corrupt-") && !name.ends_with("-wal")).count();
    assert_eq!(aside, 3);
}

#[test]
fn a_later_versions_history_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), Gate::Fresh, &[one(TODAY)]);
    let db = Connection::open(dir.path().join(NAME)).unwrap();
    db.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(db);
    let before = fs::read(dir.path().join(NAME)).unwrap();
    for _ in 0..2 {
        assert!(matches!(Writing::open(dir.path(), Gate::Fresh), Err(Trouble::Newer(_))));
        assert!(matches!(Reader::open(dir.path()), Err(Trouble::Newer(_))));
    }
    assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), before);
    assert!(names(dir.path()).iter().all(|name| !name.contains("corrupt")));
}

#[test]
fn rot_that_shows_while_it_is_written_costs_the_file_and_the_thread_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let records: Vec<_> =
        (0..5_000).map(|n| told(attempt(TODAY + n, who("shop", n as u32), Verdict::Allowed))).collect();
    write(dir.path(), Gate::Fresh, &records);
    let path = dir.path().join(NAME);
    let mut bytes = fs::read(&path).unwrap();
    // All but the page of the schema.
    let end = bytes.len();
    bytes[4096..end].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let history = History::start(dir.path(), ROOMY, Gate::Adopted).unwrap();
    for n in 0..10 {
        history.tell(one(TODAY + n));
        history.flush();
    }
    assert!(history.stop());
    assert!(names(dir.path()).iter().any(|name| name.contains(".corrupt-")));
    check_integrity(dir.path());
    let lost: u64 = Cause::ALL.into_iter().map(|cause| history.lost(cause)).sum();
    assert_eq!(attempts(dir.path()).1 as u64 + lost, 10);
}

#[test]
fn the_thread_never_holds_anybody_up_and_counts_what_it_has_no_room_for() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::start(dir.path(), ROOMY, Gate::Fresh).unwrap();
    const ALL: u64 = 100_000;
    let record = one(TODAY);
    let mut longest = Duration::ZERO;
    for _ in 0..ALL {
        let record = record.clone();
        let begin = Instant::now();
        history.tell(record);
        longest = longest.max(begin.elapsed());
    }
    assert!(longest < Duration::from_millis(500), "somebody waited {longest:?}");
    while !history.stop() {}
    let lost: u64 = Cause::ALL.into_iter().map(|cause| history.lost(cause)).sum();
    assert_eq!(attempts(dir.path()).1 as u64 + lost, ALL);
}

#[test]
fn where_the_file_cannot_be_opened_what_is_told_is_counted_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(NAME)).unwrap();
    let history = History::start(dir.path(), ROOMY, Gate::Fresh).unwrap();
    (0..100).for_each(|n| history.tell(one(TODAY + n)));
    history.flush();
    assert_eq!(Cause::ALL.map(|cause| history.lost(cause)), [0; 3], "it may still be opened");
    fs::remove_dir(dir.path().join(NAME)).unwrap();
    history.flush();
    assert!(history.stop());
    assert_eq!(attempts(dir.path()).1, 100, "it was");
}

/// Octets on the disk while it is written beyond its size.
#[test]
fn it_stays_below_its_size_and_keeps_the_latest() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { max_size: 16 << 20, ..ROOMY };
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    let (mut largest, mut time) = (0, TODAY);
    for round in 0..40 {
        let records: Vec<_> = (0..10_000)
            .map(|n| {
                time += 200;
                let account = ["shop", "bank", "news", "club"][n as usize % 4];
                told(Attempt {
                    target: target((n % 200) as u8),
                    ..attempt(time, who(account, n % 50), Verdict::Allowed)
                })
            })
            .collect();
        for batch in records.chunks(1_000) {
            writing.write(batch).unwrap_or_else(|e| panic!("round {round}: {e}"));
        }
        while writing.tend(&limits, time).unwrap() {}
        largest = largest.max(file::size(dir.path()));
    }
    writing.close().unwrap();
    assert!(largest <= limits.max_size, "{largest}");
    let db = Connection::open(dir.path().join(NAME)).unwrap();
    let (rows, last): (i64, i64) =
        db.query_row("SELECT count(*), max(id) FROM attempt", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(schema::event_time(last), time);
    assert!((100_000..400_000).contains(&rows), "{rows} are left");
    assert_eq!(attempts(dir.path()).1, 400_000, "the sums of days outlive the events");
    check_integrity(dir.path());
}

#[test]
fn a_smaller_size_takes_effect_and_gives_the_disk_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    let records: Vec<_> = (0..1_000_000).map(|n| one(TODAY + n)).collect();
    records.chunks(50_000).for_each(|batch| writing.write(batch).unwrap());
    let before = file::size(dir.path());
    assert!(before > 18 << 20, "{before}");
    while writing.tend(&Limits { max_size: 16 << 20, ..ROOMY }, TODAY + DAY).unwrap() {}
    writing.close().unwrap();
    let after = file::size(dir.path());
    assert!(after <= 16 << 20, "{after}");
    assert_eq!(attempts(dir.path()).1, 1_000_000);
}

#[test]
fn what_is_too_old_goes_and_its_names_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    let old: Vec<_> = (0..100).map(|n| told(attempt(TODAY + n, who("old", n as u32), Verdict::Allowed))).collect();
    writing.write(&old).unwrap();
    writing.write(&[Record::Counters(vec![counter("old", 7, Verdict::Allowed, 100)], TODAY)]).unwrap();
    let later = TODAY + 40 * DAY;
    writing.write(&[told(attempt(later, who("new", 1), Verdict::Allowed))]).unwrap();
    let limits = Limits { keep: Duration::from_secs(10 * 86_400), ..ROOMY };
    while writing.tend(&limits, later).unwrap() {}
    // Those who come back are known again.
    writing.write(&[told(attempt(later + 1, who("old", 1), Verdict::Allowed))]).unwrap();
    writing.close().unwrap();
    assert_eq!(attempts(dir.path()), (0, 2));
    let db = Connection::open(dir.path().join(NAME)).unwrap();
    let count =
        |what: &str| db.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(["attempt", "actor", "account", "note"].map(count), [2, 2, 2, 0]);
    assert!(count("text") <= 5, "{} texts", count("text"));
}

#[test]
fn minutes_are_kept_for_two_days_and_hours_as_long_as_days() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    writing.write(&[one(TODAY), one(TODAY + 4 * DAY)]).unwrap();
    while writing.tend(&ROOMY, TODAY + 4 * DAY + MINUTE).unwrap() {}
    // One that comes late has no minute any more.
    writing.write(&[one(TODAY + HOUR)]).unwrap();
    writing.close().unwrap();
    let db = Connection::open(dir.path().join(NAME)).unwrap();
    let at = |level: Level| {
        let sql = "SELECT count(*) FROM rollup WHERE dim = 0 AND level = ?1";
        db.query_row(sql, [level as u8], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(Level::ALL.map(at), [1, 3, 2]);
    assert_eq!(attempts(dir.path()).1, 3);
}

#[test]
fn readers_see_one_moment_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    writing.write(&[one(TODAY)]).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let count =
        || reader.events(Dimension::User, whole(&reader), None).unwrap().values().map(Counts::attempts).sum::<i64>();
    assert_eq!(count(), 1);
    writing.write(&[one(TODAY)]).unwrap();
    assert_eq!((count(), attempts(dir.path()).1), (1, 2));
    drop(reader);
    writing.close().unwrap();
}
