//! Writes lines to a session's file, and applies what they say once they are durable.

use std::io;

use super::{
    commit_journal::CommitJournal,
    disk_io,
    files::unavailable,
    journal_format::{FOLLOWED_BYTES, JournalEntry},
    journal_replay::checksum_before,
    line_format::{FormatRecord, checksum},
    log_line::{CheckpointRecord, CommitRecord, LogLine},
    session_file::{SessionFile, WriteState},
    unsynced_files::UnsyncedFile,
};
use crate::{inbox_state::CommandAdmission, log_retention::LogRetention};
use k8sops_core::{CommandReceipt, LogCommit, NewCommandCommit, SessionCommand, StoreError};

/// A write to a session's file.
pub(super) enum LineWrite<T> {
    /// There is nothing to wait for.
    Done(T),
    /// The lines are in the file, and not durable yet.
    Staged(StagedLines<T>),
}

/// Lines in a session's file that are not durable yet. Nothing else may use the file until they are finished.
pub(super) struct StagedLines<T> {
    pub(super) entry: JournalEntry,
    pub(super) bytes: Vec<u8>,
    /// The file.
    pub(super) unsynced: UnsyncedFile,
    pub(super) change: AppliedChange<T>,
}

/// What lines change once they are durable.
pub(super) type AppliedChange<T> = Box<dyn FnOnce(&mut SessionFile) -> T + Send>;

impl SessionFile {
    /// See [`SessionLog::commit_events`](k8sops_core::SessionLog::commit_events).
    pub(super) fn stage_commit(
        &mut self,
        commit: &LogCommit<'_>,
        retention: LogRetention,
        journal: &CommitJournal,
    ) -> Result<LineWrite<()>, StoreError> {
        self.lease.check_commit(commit, self.summary.last_seq)?;
        let mut bytes = Vec::new();
        if let Some(state) = commit.checkpoint {
            let record = CheckpointRecord { state: state.clone(), epoch: commit.epoch.0, inbox: self.inbox.clone() };
            let line = LogLine {
                seq: self.summary.last_seq,
                checkpoint: Some(Box::new(record)),
                format: Some(FormatRecord::current()),
                ..LogLine::default()
            };
            bytes = line.to_bytes();
        }
        if !commit.events.is_empty() || !commit.consumed.is_empty() {
            let record = CommitRecord {
                epoch: commit.epoch.0,
                events: commit.events.to_vec(),
                consumed: commit.consumed.to_vec(),
            };
            let format = if commit.checkpoint.is_some() { None } else { self.format_to_name() };
            let line = LogLine { seq: commit.last_seq(), commit: Some(record), format, ..LogLine::default() };
            bytes.extend(line.to_bytes());
        }
        let is_replaced = commit.checkpoint.is_some() && retention == LogRetention::SinceCheckpoint;
        let checkpoint_start = match commit.checkpoint {
            Some(_) if is_replaced => Some(0),
            Some(_) => Some(self.log.committed_bytes),
            None => None,
        };
        let event_bytes = commit.events.iter().map(|event| event.estimated_bytes()).sum::<u64>();
        let (consumed, summary) = (commit.consumed.to_vec(), commit.summary.clone());
        let apply = move |file: &mut Self| {
            file.state = None;
            file.has_changed = true;
            if checkpoint_start.is_some() {
                file.checkpoint_start = checkpoint_start;
                file.damaged_checkpoint = None;
                file.bytes_since_checkpoint = 0;
            }
            file.bytes_since_checkpoint += event_bytes;
            file.inbox.remove_entries(&consumed);
            file.summary = summary;
        };
        if is_replaced {
            self.replace_bytes(&bytes)?;
            self.log.oldest_seq = commit.expected_seq + 1;
            apply(self);
            return self.sync_replacement(journal).map(LineWrite::Done);
        }
        if bytes.is_empty() {
            apply(self);
            return Ok(LineWrite::Done(()));
        }
        self.stage_lines(bytes, journal, Box::new(apply))
    }

    /// See [`Inbox::submit_command`](k8sops_core::Inbox::submit_command).
    pub(super) fn stage_command(
        &mut self,
        command: SessionCommand,
        journal: &CommitJournal,
    ) -> Result<LineWrite<CommandReceipt>, StoreError> {
        let has_open_run = self.summary.open_run.is_some();
        let last_seq = self.summary.last_seq;
        match self.inbox.check_command(self.summary.session_id, command, last_seq, has_open_run)? {
            CommandAdmission::Known(receipt) => Ok(LineWrite::Done(receipt)),
            CommandAdmission::Accepted(entry) => {
                let inbox = Some((*entry).clone());
                let line = LogLine { seq: last_seq, inbox, format: self.format_to_name(), ..LogLine::default() };
                let apply = move |file: &mut Self| {
                    file.has_changed = true;
                    file.inbox.append_entry(*entry)
                };
                self.stage_lines(line.to_bytes(), journal, Box::new(apply))
            }
        }
    }

    /// See [`SessionLog::commit_new_command`](k8sops_core::SessionLog::commit_new_command). The command and the commit are one
    /// line, so that a power failure leaves both or none: sectors that were not written are only expected in the last line.
    pub(super) fn stage_new_command(
        &mut self,
        commit: &LogCommit<'_>,
        command: &SessionCommand,
        journal: &CommitJournal,
    ) -> Result<LineWrite<NewCommandCommit>, StoreError> {
        self.lease.check_commit(commit, self.summary.last_seq)?;
        let Some(entry) = self.inbox.check_new_command(commit, command) else {
            return Ok(LineWrite::Done(NewCommandCommit::Declined));
        };
        let position = entry.position;
        let record = CommitRecord { epoch: commit.epoch.0, events: commit.events.to_vec(), consumed: vec![position] };
        let line = LogLine {
            seq: commit.last_seq(),
            commit: Some(record),
            inbox: Some(entry.clone()),
            format: self.format_to_name(),
            ..LogLine::default()
        };
        let bytes = line.to_bytes();
        let event_bytes = commit.events.iter().map(|event| event.estimated_bytes()).sum::<u64>();
        let summary = commit.summary.clone();
        let apply = move |file: &mut Self| {
            file.state = None;
            file.has_changed = true;
            file.bytes_since_checkpoint += event_bytes;
            let receipt = file.inbox.append_entry(entry);
            file.inbox.remove_entries(&[position]);
            file.summary = summary;
            NewCommandCommit::Committed { receipt, lineage: None }
        };
        self.stage_lines(bytes, journal, Box::new(apply))
    }

    /// Writes lines behind those that are committed.
    fn stage_lines<T>(
        &mut self,
        bytes: Vec<u8>,
        journal: &CommitJournal,
        change: AppliedChange<T>,
    ) -> Result<LineWrite<T>, StoreError> {
        self.recover_from_failed_write(journal)?;
        self.change_times = None;
        match self.write_lines(&bytes) {
            Ok(entry) => {
                let unsynced = UnsyncedFile { path: self.log.path.clone(), file: self.log.file.clone() };
                Ok(LineWrite::Staged(StagedLines { entry, bytes, unsynced, change }))
            }
            Err(error) => Err(self.undo_lines(error, journal)),
        }
    }

    fn write_lines(&mut self, bytes: &[u8]) -> io::Result<JournalEntry> {
        let (file, path, offset) = (&self.log.file, &self.log.path, self.log.committed_bytes);
        let follows = match self.follows.take() {
            Some(follows) => follows,
            None => checksum_before(file, offset)?,
        };
        disk_io::write_at(file, path, bytes, offset)?;
        self.follows = bytes.last_chunk::<FOLLOWED_BYTES>().map(|tail| checksum(tail));
        let (user, session) = (self.summary.user_id.clone(), self.summary.session_id);
        Ok(JournalEntry { user, session, offset, bytes: bytes.len(), follows })
    }

    /// Finishes staged lines: all of them are durable, or none remains.
    pub(super) fn finish_lines<T>(
        &mut self,
        bytes: u64,
        change: AppliedChange<T>,
        written: io::Result<()>,
        journal: &CommitJournal,
    ) -> Result<T, StoreError> {
        if let Err(error) = written {
            return Err(self.undo_lines(error, journal));
        }
        self.log.committed_bytes += bytes;
        self.must_name_format = false;
        self.record_change_times();
        Ok(change(self))
    }

    /// Removes lines that could not be written: a part of them must not become the beginning of the next line.
    fn undo_lines(&mut self, error: io::Error, journal: &CommitJournal) -> StoreError {
        self.follows = None;
        if self.truncate_to_committed(journal).is_err() {
            self.write_state = WriteState::MustUndo;
        }
        unavailable(&self.log.path, error)
    }
}
