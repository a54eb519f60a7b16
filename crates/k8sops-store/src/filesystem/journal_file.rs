//! A file of the journal, as it is known in memory.

use std::{collections::HashMap, path::PathBuf};

use super::{batch_writing::JournalHandle, unsynced_files::UnsyncedFile};
use k8sops_core::SessionId;

/// A file of the journal of this size is emptied.
pub(super) const FULL_BYTES: u64 = 4 * 1024 * 1024;
/// So are lines of so many sessions, whose files are kept open.
const FULL_SESSIONS: usize = 1024;

/// A file of the journal.
#[derive(Debug)]
pub(super) struct JournalFile {
    pub(super) path: PathBuf,
    pub(super) handle: Option<JournalHandle>,
    /// Where the next batch starts; 0 if it is empty.
    pub(super) end: u64,
    /// What a failed write may have left behind `end`.
    pub(super) failed_bytes: usize,
    /// The sessions of which it has lines, with their files unless they were synced since.
    pub(super) sessions: HashMap<SessionId, Option<UnsyncedFile>>,
    /// A sync of one of these files failed, so that its lines must be written again.
    pub(super) must_replay: bool,
    /// How many of these files are being synced by their writers.
    pub(super) guarded_syncs: usize,
}

impl JournalFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            handle: None,
            end: 0,
            failed_bytes: 0,
            sessions: HashMap::new(),
            must_replay: false,
            guarded_syncs: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// The sessions' files that may not be on the disk with the lines that it has of them.
    pub(super) fn unsynced(&self) -> Vec<UnsyncedFile> {
        self.sessions.values().flatten().cloned().collect()
    }

    /// Notes that the lines that it has are durable without it.
    pub(super) fn forget_lines(&mut self) {
        self.sessions.clear();
        self.must_replay = false;
    }

    pub(super) fn must_replay(&self) -> bool {
        self.must_replay || self.guarded_syncs > 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.end >= FULL_BYTES || self.sessions.len() >= FULL_SESSIONS
    }
}
