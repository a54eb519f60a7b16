//! A line of the index of sessions.

use serde::{Deserialize, Serialize};

use super::{known_log::KnownLog, session_file::SessionFile, session_work::SessionWork};
use k8sops_core::{SessionId, SessionOrigin, SessionSettings, SessionSummary, Timestamp, TokenUsage, UserId};

/// What a list of sessions shows in place of the newest message of a session that cannot be read.
const DAMAGED_PREVIEW: &str = "(damaged: the stored data of this session cannot be read)";

/// A line of `sessions.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct IndexLine {
    pub(super) summary: SessionSummary,
    /// The size of the session's file when the line was written. If the file has another size, the line is outdated.
    pub(super) bytes: u64,
    /// Where the newest checkpoint of these bytes starts; 0 if they have none. Not known of older lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checkpoint_start: Option<u64>,
    #[serde(flatten)]
    pub(super) work: SessionWork,
    /// The session's file cannot be read, and the summary is the last one that is known. Detected again at every start.
    #[serde(skip)]
    pub(super) is_damaged: bool,
}

impl IndexLine {
    /// The line of a session.
    pub(super) fn from_session(file: &SessionFile) -> Self {
        Self {
            summary: file.complete_summary(),
            bytes: file.size(),
            checkpoint_start: Some(file.checkpoint_start()),
            work: file.work(),
            is_damaged: false,
        }
    }

    /// The line of a session whose file cannot be read: its last known summary, or else one with the time at which the file
    /// was written. It has no work, because it cannot be worked on.
    pub(super) fn from_damaged_session(
        user: UserId,
        session: SessionId,
        modified: Timestamp,
        known: Option<SessionSummary>,
    ) -> Self {
        let known = known.unwrap_or_else(|| SessionSummary {
            session_id: session,
            user_id: user,
            title: String::new(),
            preview: String::new(),
            message_count: 0,
            created_at: modified,
            updated_at: modified,
            last_seq: 0,
            settings: SessionSettings::for_model("", ""),
            open_run: None,
            usage: TokenUsage::default(),
            to_learn: false,
            origin: SessionOrigin::User,
            waiting: false,
        });
        let preview = DAMAGED_PREVIEW.to_owned();
        let summary = SessionSummary { preview, open_run: None, to_learn: false, ..known };
        // No file has this size, so that the next start reads the session's file again.
        Self { summary, bytes: u64::MAX, checkpoint_start: None, work: SessionWork::default(), is_damaged: true }
    }

    /// What the line says of the session's file.
    pub(super) fn known_log(&self) -> KnownLog {
        KnownLog { bytes: self.bytes, checkpoint_start: self.checkpoint_start }
    }
}
