//! The sessions' files that are open: those of sessions with an owner, and a few that were used last.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::{ArcMutexGuard, Mutex, RawMutex};

use super::{log_reader::LogReader, session_file::SessionFile};
use k8sops_core::SessionId;

/// How many files of sessions without an owner stay open, so that reading a log page by page opens its file once.
const IDLE_FILES: usize = 64;
/// How much their states may take ([`SessionState::estimated_bytes`](k8sops_core::SessionState::estimated_bytes)). That of
/// the session that became idle last is kept, however large it is.
const IDLE_STATE_BYTES: u64 = 32 * 1024 * 1024;

/// The files that are open, or about to be.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    slots: HashMap<SessionId, OpenSlot>,
    /// Sessions whose files had neither owner nor caller at some time, the last one most recently.
    idle: VecDeque<SessionId>,
}

/// A session's file that is open, or about to be.
#[derive(Debug, Default, Clone)]
pub(super) struct OpenSlot {
    pub(super) file: Arc<Mutex<FileHandle>>,
    /// The session has an owner, and its file stays open.
    is_owned: bool,
}

/// A session's file that nothing else uses until this is dropped.
pub(super) type LockedFile = ArcMutexGuard<RawMutex, FileHandle>;

#[derive(Debug, Default)]
pub(super) enum FileHandle {
    #[default]
    Closed,
    /// Open for reading its events, up to the seq of the newest one. Its lines were not replayed.
    Readable(LogReader, u64),
    Open(Box<SessionFile>),
    Deleted,
}

impl OpenFiles {
    /// The slot of a session's file, for a caller that is about to work on it.
    pub(super) fn slot(&mut self, session: SessionId) -> OpenSlot {
        self.slots.entry(session).or_default().clone()
    }

    /// The slot of a session's file, if there is one.
    pub(super) fn find_slot(&self, session: SessionId) -> Option<OpenSlot> {
        self.slots.get(&session).cloned()
    }

    pub(super) fn set_owned(&mut self, session: SessionId, is_owned: bool) {
        if let Some(slot) = self.slots.get_mut(&session) {
            slot.is_owned = is_owned;
        }
    }

    /// The file of a session that has neither owner nor caller.
    pub(super) fn idle_handle(&self, session: SessionId) -> Option<Arc<Mutex<FileHandle>>> {
        let slot = self.slots.get(&session)?;
        (!slot.is_owned && Arc::strong_count(&slot.file) == 1).then(|| slot.file.clone())
    }

    /// Keeps an idle file open, and closes those that had neither owner nor caller for the longest time. Returns the sessions
    /// whose files were closed.
    pub(super) fn keep_idle(&mut self, session: SessionId) -> Vec<SessionId> {
        self.idle.retain(|idle| *idle != session);
        self.idle.push_back(session);
        self.forget_old_states();
        let mut closed = Vec::new();
        while self.idle.len() > IDLE_FILES {
            let Some(oldest) = self.idle.pop_front() else { break };
            if self.idle_handle(oldest).is_some() {
                self.slots.remove(&oldest);
                closed.push(oldest);
            }
        }
        closed
    }

    /// Closes a file that has neither owner nor caller.
    pub(super) fn close(&mut self, session: SessionId) {
        self.idle.retain(|idle| *idle != session);
        self.slots.remove(&session);
    }

    /// Forgets the states of idle sessions beyond their limit, those that became idle first.
    fn forget_old_states(&mut self) {
        let mut kept = 0;
        for (age, session) in self.idle.iter().rev().enumerate() {
            let Some(handle) = self.idle_handle(*session) else { continue };
            if let FileHandle::Open(file) = &mut *handle.lock() {
                kept += file.kept_state_bytes();
                if age > 0 && kept > IDLE_STATE_BYTES {
                    file.forget_state();
                }
            }
        }
    }
}

#[cfg(test)]
impl OpenFiles {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}
