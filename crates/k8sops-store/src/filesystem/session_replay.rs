//! Replays the lines of a session's file from the newest checkpoint on.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use super::{
    files::unavailable,
    line_damage::damaged_line,
    line_format::{FormatRecord, LineError, has_unwritten_sectors},
    line_search::newest_checkpoint_start,
    log_line::LogLine,
};
use crate::inbox_state::InboxState;
use k8sops_core::{SessionState, StoreError};

/// What the lines from the newest checkpoint on say.
pub(super) struct SessionReplay {
    /// `None` if the file has no complete `session_created`.
    pub(super) state: Option<SessionState>,
    pub(super) checkpoint_start: Option<u64>,
    pub(super) epoch: u64,
    pub(super) inbox: InboxState,
    /// The newest format that a line names.
    pub(super) format: Option<FormatRecord>,
}

/// How a replay ended.
pub(super) enum ReplayOutcome {
    /// All lines were replayed.
    Complete(Box<SessionReplay>),
    /// The last line, which starts at this offset, was not on the disk yet when the machine failed.
    TornLastLine(u64),
}

impl SessionReplay {
    /// Replays the lines up to the offset `end`. What is before the offset `acknowledged` was on the disk once.
    pub(super) fn replay_file(
        mut file: &File,
        path: &Path,
        end: u64,
        acknowledged: u64,
    ) -> Result<ReplayOutcome, StoreError> {
        let failed = |error: io::Error| unavailable(path, error);
        let mut at = newest_checkpoint_start(file, end).map_err(failed)?;
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        let mut reader = BufReader::new(file.take(end - at));
        let mut replay =
            Self { state: None, checkpoint_start: None, epoch: 0, inbox: InboxState::default(), format: None };
        let mut bytes = Vec::new();
        while at < end {
            bytes.clear();
            let length = reader.read_until(b'\n', &mut bytes).map_err(failed)? as u64;
            match LogLine::from_bytes(&bytes).and_then(|line| replay.apply_line(line, at)) {
                Ok(()) => at += length,
                // A whole line that is not understood may be one of a later version, or was changed on the disk.
                Err(error) => {
                    let is_last = at + length >= end && at > 0;
                    if is_last && end > acknowledged && has_unwritten_sectors(&bytes, at) {
                        return Ok(ReplayOutcome::TornLastLine(at));
                    }
                    return Err(damaged_line(file, path, at, error));
                }
            }
            if length == 0 {
                break;
            }
        }
        Ok(ReplayOutcome::Complete(Box::new(replay)))
    }

    fn apply_line(&mut self, line: LogLine, start: u64) -> Result<(), LineError> {
        self.format = line.format.or(self.format.take());
        if let Some(checkpoint) = line.checkpoint {
            self.checkpoint_start = Some(start);
            self.epoch = self.epoch.max(checkpoint.epoch);
            self.inbox = checkpoint.inbox;
            self.state = Some(checkpoint.state);
        }
        if let Some(entry) = line.inbox {
            self.inbox.append_entry(entry);
        }
        if let Some(commit) = line.commit {
            self.epoch = self.epoch.max(commit.epoch);
            self.inbox.remove_entries(&commit.consumed);
            for event in &commit.events {
                let last_seq = self.state.as_ref().map_or(0, SessionState::last_seq);
                if !event.body.may_follow(last_seq, event.seq) {
                    return Err(LineError::Gap { seq: event.seq, last_seq });
                }
                match &mut self.state {
                    Some(state) => state.apply_event(event),
                    None => self.state = SessionState::from_first_event(event),
                }
            }
        }
        let last_seq = self.state.as_ref().map_or(0, SessionState::last_seq);
        if line.seq != last_seq {
            return Err(LineError::Gap { seq: line.seq, last_seq });
        }
        Ok(())
    }
}
