//! Lines that the journal makes durable together.

use std::io;

use super::{journal_format::JournalEntry, unsynced_files::UnsyncedFile};

/// Is told whether lines are durable.
pub(super) type LinesFinisher = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Lines that were written to a session's file.
pub(super) struct WrittenLines {
    pub(super) entry: JournalEntry,
    pub(super) bytes: Vec<u8>,
    pub(super) unsynced: UnsyncedFile,
    pub(super) finish: LinesFinisher,
}

/// The batch that is being gathered.
#[derive(Default)]
pub(super) struct GatheredBatch {
    pub(super) entries: Vec<JournalEntry>,
    pub(super) files: Vec<UnsyncedFile>,
    pub(super) lines: Vec<u8>,
    finishers: Vec<LinesFinisher>,
}

impl GatheredBatch {
    pub(super) fn push(&mut self, lines: WrittenLines) {
        let WrittenLines { entry, bytes, unsynced, finish } = lines;
        self.entries.push(entry);
        self.files.push(unsynced);
        self.lines.extend(bytes);
        self.finishers.push(finish);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The batch after it was written, or could not be.
    pub(super) fn into_finished(self, written: io::Result<()>) -> FinishedBatch {
        FinishedBatch { failure: written.err(), finishers: self.finishers }
    }
}

/// A batch that was written, or could not be, and whose writers are to be told.
#[must_use]
#[derive(Default)]
pub(super) struct FinishedBatch {
    failure: Option<io::Error>,
    finishers: Vec<LinesFinisher>,
}

impl FinishedBatch {
    /// Tells the writers of the lines. They use their files and the journal.
    pub(super) fn finish_lines(self) {
        let Self { failure, finishers } = self;
        for finish in finishers {
            finish(failure.as_ref().map_or(Ok(()), |error| Err(repeat_error(error))));
        }
    }
}

/// An error that several callers get.
fn repeat_error(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
