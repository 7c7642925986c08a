//! Records that wait to be written, and what becomes of those that cannot be.

use std::collections::VecDeque;

use rusqlite::{Error, ErrorCode, Result};

use super::record::Record;

/// A transaction is written when so many are there.
pub(super) const BATCH: usize = 1_000;
/// Records that wait for a disk that takes none.
pub(super) const MOST: usize = 20_000;

#[derive(Default)]
pub(super) struct Backlog(VecDeque<Record>);

/// What came of writing.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Events that nobody could write, whatever the disk.
    pub(super) lost: u64,
    pub(super) wrote: bool,
    /// Why some of them cannot be written.
    pub(super) refused: Option<Error>,
    /// What the disk, or another program, has against it.
    pub(super) error: Option<Error>,
}

/// Whether no other time would fare better: it is about what was to be written, not about the file.
fn is_of_the_record(error: &Error) -> bool {
    use ErrorCode::{ConstraintViolation, ParameterOutOfRange, TooBig, TypeMismatch};
    let code = error.sqlite_error_code();
    code.is_none_or(|code| [ConstraintViolation, ParameterOutOfRange, TooBig, TypeMismatch].contains(&code))
}

/// There is no room, perhaps for this one alone.
fn is_full(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::OutOfMemory))
}

fn is_event(record: &Record) -> bool {
    matches!(record, Record::Attempt(..) | Record::Session(..))
}

impl Backlog {
    pub(super) fn push(&mut self, record: Record) {
        self.0.push_back(record);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of them are events: counters and windows are told again.
    pub(super) fn events(&self) -> u64 {
        self.0.iter().filter(|record| is_event(record)).count() as u64
    }

    /// Lets go of the oldest that are too many. Returns how many events those were.
    pub(super) fn shed(&mut self) -> u64 {
        let surplus = self.0.len().saturating_sub(MOST);
        self.0.drain(..surplus).filter(is_event).count() as u64
    }

    /// Writes all, until the disk takes no more. A batch that fails is written one by one, so that a record that cannot be
    /// written, or for which alone there is no room, holds up no other.
    pub(super) fn write(&mut self, mut write: impl FnMut(&[Record]) -> Result<()>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut one_by_one = 0;
        while !self.0.is_empty() {
            let many = if one_by_one > 0 { 1 } else { self.0.len().min(BATCH) };
            one_by_one -= one_by_one.min(1);
            let batch: Vec<Record> = self.0.drain(..many).collect();
            let Err(error) = write(&batch) else {
                outcome.wrote = true;
                continue;
            };
            let (of_the_record, is_full) = (is_of_the_record(&error), is_full(&error));
            if many > 1 {
                self.put_back(batch);
                one_by_one = many;
                if of_the_record || is_full {
                    continue;
                }
            } else if of_the_record || is_full && outcome.wrote {
                // Where there was room for others, there is none for it alone.
                outcome.lost += batch.iter().filter(|record| is_event(record)).count() as u64;
                if of_the_record {
                    outcome.refused = Some(error);
                    continue;
                }
            } else if is_full {
                // The others first. Of counters and windows the next ones tell, and these may not come after them.
                self.0.extend(batch.into_iter().filter(is_event));
            } else {
                self.put_back(batch);
            }
            outcome.error = Some(error);
            break;
        }
        outcome
    }

    fn put_back(&mut self, batch: Vec<Record>) {
        batch.into_iter().rev().for_each(|record| self.0.push_front(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{TODAY, one};
    use rusqlite::ffi;

    fn failure(code: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(code), None)
    }

    /// Offers so many records of which one fails with this code. Returns the times that were written, and what came of it.
    fn offer(backlog: &mut Backlog, fails_at: i64, code: i32) -> (Vec<i64>, Outcome) {
        let mut written = Vec::new();
        let outcome = backlog.write(|batch| {
            if batch.iter().any(|record| record.time() == TODAY + fails_at) {
                return Err(failure(code));
            }
            written.extend(batch.iter().map(|record| record.time() - TODAY));
            Ok(())
        });
        (written, outcome)
    }

    fn of(many: i64) -> Backlog {
        let mut backlog = Backlog::default();
        (0..many).for_each(|n| backlog.push(one(TODAY + n)));
        backlog
    }

    #[test]
    fn a_record_that_cannot_be_written_holds_up_no_other() {
        for code in [ffi::SQLITE_TOOBIG, ffi::SQLITE_CONSTRAINT, ffi::SQLITE_MISMATCH] {
            let mut backlog = of(2_500);
            let (written, outcome) = offer(&mut backlog, 700, code);
            assert_eq!((written.len(), outcome.lost, backlog.len()), (2_499, 1, 0));
            assert!(outcome.error.is_none() && outcome.refused.is_some());
            assert!(written.is_sorted());
        }
    }

    #[test]
    fn a_record_for_which_alone_there_is_no_room_holds_up_no_other() {
        let mut backlog = of(2_500);
        let (written, outcome) = offer(&mut backlog, 700, ffi::SQLITE_FULL);
        assert_eq!((written.len(), outcome.lost), (700, 1));
        assert!(outcome.error.is_some(), "it is tidied up before it goes on");
        assert_eq!(offer(&mut backlog, -1, 0).0, (701..2_500).collect::<Vec<_>>());
        // The first of all: the next time others are tried.
        let mut backlog = of(3);
        assert_eq!(offer(&mut backlog, 0, ffi::SQLITE_FULL).0, [0; 0]);
        assert_eq!(offer(&mut backlog, 0, ffi::SQLITE_FULL).0, [1, 2]);
        assert_eq!(backlog.len(), 0);
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_nothing_until_too_much_waits() {
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR, ffi::SQLITE_BUSY, ffi::SQLITE_ERROR] {
            let mut backlog = of(MOST as i64 + 5);
            let outcome = backlog.write(|_| Err(failure(code)));
            assert_eq!((outcome.lost, outcome.error.is_some(), backlog.len()), (0, true, MOST + 5));
            assert_eq!((backlog.shed(), backlog.events()), (5, MOST as u64));
        }
    }

    #[test]
    fn counters_never_come_after_later_ones() {
        let mut backlog = Backlog::default();
        backlog.push(Record::Counters(Vec::new(), TODAY));
        backlog.push(one(TODAY + 1));
        assert!(backlog.write(|_| Err(failure(ffi::SQLITE_FULL))).error.is_some());
        assert_eq!((backlog.len(), backlog.events()), (1, 1));
    }
}
