//! Writes of lines to sessions' files. A thread that has written some does not wait until they are durable.

use std::{io, sync::Arc};

use super::{
    commit_journal::{BatchWriter, CommitJournal},
    journal_batch::WrittenLines,
    line_writing::{AppliedChange, LineWrite, StagedLines},
    open_files::{FileHandle, LockedFile, OpenSlot},
    session_file::SessionFile,
    session_files::SessionFiles,
};
use crate::log_retention::LogRetention;
use k8sops_core::{SessionId, StoreError};

/// A session's file of which a write is in progress.
struct WritingFile {
    files: Arc<SessionFiles>,
    session: SessionId,
    slot: OpenSlot,
    handle: LockedFile,
}

/// Writes lines to a session's file with what `stage` returns. `done` gets the result once they are durable, on whichever
/// thread has made them so; by then nothing of the store is in use for this write. The caller runs the writer that it gets.
#[must_use]
pub(super) fn write_session<T: 'static>(
    files: Arc<SessionFiles>,
    session: SessionId,
    stage: impl FnOnce(&mut SessionFile, LogRetention, &CommitJournal) -> Result<LineWrite<T>, StoreError>,
    done: impl FnOnce(Result<T, StoreError>) + Send + 'static,
) -> Option<BatchWriter> {
    let (slot, path) = match files.find_file(session) {
        Ok(found) => found,
        Err(error) => {
            drop(files);
            done(Err(error));
            return None;
        }
    };
    let handle = match files.lock_open_file(&slot, &path, session) {
        Ok(handle) => handle,
        Err(error) => {
            files.close_if_idle(session, slot);
            drop(files);
            done(Err(error));
            return None;
        }
    };
    let mut writing = WritingFile { files, session, slot, handle };
    let staged = writing.stage(stage);
    match staged {
        Ok(LineWrite::Staged(StagedLines { entry, bytes, unsynced, change })) => {
            let length = bytes.len() as u64;
            let journal = writing.files.journal.appender();
            let finish = Box::new(move |written| done(writing.finish(length, change, written)));
            journal.append_lines(WrittenLines { entry, bytes, unsynced, finish })
        }
        Ok(LineWrite::Done(value)) => {
            writing.leave(None);
            done(Ok(value));
            None
        }
        Err(error) => {
            writing.leave(Some(&error));
            done(Err(error));
            None
        }
    }
}

impl WritingFile {
    fn stage<T>(
        &mut self,
        stage: impl FnOnce(&mut SessionFile, LogRetention, &CommitJournal) -> Result<LineWrite<T>, StoreError>,
    ) -> Result<LineWrite<T>, StoreError> {
        let FileHandle::Open(file) = &mut *self.handle else { return Err(StoreError::NotFound(self.session)) };
        stage(file, self.files.retention, &self.files.journal)
    }

    fn finish<T>(mut self, bytes: u64, change: AppliedChange<T>, written: io::Result<()>) -> Result<T, StoreError> {
        let result = match &mut *self.handle {
            FileHandle::Open(file) => file.finish_lines(bytes, change, written, &self.files.journal),
            _ => Err(StoreError::NotFound(self.session)),
        };
        self.leave(result.as_ref().err());
        result
    }

    fn leave(mut self, failure: Option<&StoreError>) {
        self.files.leave_file(&mut self.handle, self.session, failure);
        drop(self.handle);
        self.files.close_if_idle(self.session, self.slot);
    }
}
