//! Replays the lines of a session's file from the newest checkpoint on.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use super::{
    files::unavailable,
    known_log::KnownLog,
    line_damage::{damaged_line, describe_damage},
    line_format::{FormatRecord, LineError, has_unwritten_sectors},
    line_search::{newest_checkpoint_start, read_line_head},
    log_line::{LogLine, is_checkpoint, is_only_checkpoint, parse_seq},
};
use crate::inbox_state::InboxState;
use k8sops_core::{BackendError, SessionState, StoreError};

/// What the lines from the newest checkpoint on say.
#[derive(Default)]
pub(super) struct SessionReplay {
    /// `None` if the file has no complete `session_created`.
    pub(super) state: Option<SessionState>,
    pub(super) checkpoint_start: Option<u64>,
    pub(super) epoch: u64,
    pub(super) inbox: InboxState,
    /// The newest format that a line names.
    pub(super) format: Option<FormatRecord>,
    /// The size of the events after the newest checkpoint.
    pub(super) replayed_bytes: u64,
    /// Why the newest checkpoint cannot be used. All that it said is in the lines before it.
    pub(super) damaged_checkpoint: Option<BackendError>,
}

/// How a replay ended.
pub(super) enum ReplayOutcome {
    /// All lines were replayed.
    Complete(Box<SessionReplay>),
    /// The last line, which starts at this offset, was not on the disk yet when the machine failed.
    TornLastLine(u64),
}

/// How the replay of lines from a start on ended.
enum LinesOutcome {
    Complete,
    TornLastLine(u64),
    /// The checkpoint at the start is damaged, and there are lines before it.
    DamagedStart(BackendError),
}

impl SessionReplay {
    /// Replays the lines up to the offset `end`.
    pub(super) fn replay_file(
        file: &File,
        path: &Path,
        end: u64,
        known: KnownLog,
    ) -> Result<ReplayOutcome, StoreError> {
        let failed = |error: io::Error| unavailable(path, error);
        let mut start = find_start(file, end, known).map_err(failed)?;
        let mut damaged_checkpoint = None;
        loop {
            let mut replay = Self::default();
            match replay.replay_lines(file, path, start, end, known.bytes)? {
                LinesOutcome::Complete => {
                    replay.damaged_checkpoint = damaged_checkpoint.or(replay.damaged_checkpoint);
                    return Ok(ReplayOutcome::Complete(Box::new(replay)));
                }
                LinesOutcome::TornLastLine(at) => return Ok(ReplayOutcome::TornLastLine(at)),
                LinesOutcome::DamagedStart(error) => {
                    damaged_checkpoint.get_or_insert(error);
                    start = newest_checkpoint_start(file, 0, start).map_err(failed)?.unwrap_or(0);
                }
            }
        }
    }

    fn replay_lines(
        &mut self,
        mut file: &File,
        path: &Path,
        start: u64,
        end: u64,
        acknowledged: u64,
    ) -> Result<LinesOutcome, StoreError> {
        let failed = |error: io::Error| unavailable(path, error);
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut reader = BufReader::new(file.take(end - start));
        let mut at = start;
        let mut bytes = Vec::new();
        while at < end {
            bytes.clear();
            let length = reader.read_until(b'\n', &mut bytes).map_err(failed)? as u64;
            let Err(error) = LogLine::from_bytes(&bytes).and_then(|line| self.apply_line(line, at)) else {
                at += length;
                continue;
            };
            // A whole line that is not understood may be one of a later version, or was changed on the disk.
            let is_last = at + length >= end && at > 0;
            if is_last && end > acknowledged && has_unwritten_sectors(&bytes, at) {
                return Ok(LinesOutcome::TornLastLine(at));
            }
            if !error.is_of_line() || !is_only_checkpoint(&bytes) {
                return Err(damaged_line(file, path, at, error));
            }
            if at == 0 {
                return Err(damaged_line(file, path, at, LineError::NotReplaceable(Box::new(error))));
            }
            let damage = describe_damage(file, path, at, error);
            if at == start {
                return Ok(LinesOutcome::DamagedStart(damage));
            }
            if parse_seq(&bytes) != Some(self.last_seq()) {
                return Err(StoreError::Corrupt(damage));
            }
            self.damaged_checkpoint = Some(damage);
            at += length;
        }
        Ok(LinesOutcome::Complete)
    }

    fn last_seq(&self) -> u64 {
        self.state.as_ref().map_or(0, SessionState::last_seq)
    }

    fn apply_line(&mut self, line: LogLine, start: u64) -> Result<(), LineError> {
        self.format = line.format.or(self.format.take());
        if let Some(checkpoint) = line.checkpoint {
            self.checkpoint_start = Some(start);
            self.epoch = self.epoch.max(checkpoint.epoch);
            self.inbox = checkpoint.inbox;
            self.state = Some(checkpoint.state);
            self.replayed_bytes = 0;
            self.damaged_checkpoint = None;
        }
        if let Some(entry) = line.inbox {
            self.inbox.append_entry(entry);
        }
        if let Some(commit) = line.commit {
            self.epoch = self.epoch.max(commit.epoch);
            self.inbox.remove_entries(&commit.consumed);
            for event in &commit.events {
                let last_seq = self.last_seq();
                if !event.body.may_follow(last_seq, event.seq) {
                    return Err(LineError::Gap { seq: event.seq, last_seq });
                }
                self.replayed_bytes += event.estimated_bytes();
                match &mut self.state {
                    Some(state) => state.apply_event(event),
                    None => self.state = SessionState::from_first_event(event),
                }
            }
        }
        let last_seq = self.last_seq();
        if line.seq != last_seq {
            return Err(LineError::Gap { seq: line.seq, last_seq });
        }
        Ok(())
    }
}

/// The offset of the newest checkpoint; 0 if there is none. Lines that the index knows are not read.
fn find_start(file: &File, end: u64, known: KnownLog) -> io::Result<u64> {
    let known_start = match known.checkpoint_start {
        Some(start) if known.bytes <= end && (start == 0 || is_checkpoint(&read_line_head(file, start, end)?)) => start,
        _ => return Ok(newest_checkpoint_start(file, 0, end)?.unwrap_or(0)),
    };
    Ok(newest_checkpoint_start(file, known.bytes, end)?.unwrap_or(known_start))
}
