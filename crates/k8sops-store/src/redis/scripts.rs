//! The Lua scripts: each is one atomic write, or one read of several keys at the same instant.

use std::{borrow::Cow, time::Duration};

use redis::{FromRedisValue, ParsingError, Value};

use super::{
    keys::PublishCommand,
    script::{ScriptArgument, ScriptReply, script, script_record, script_reply},
};

script! {
    CreateSession = "lua/create_session.lua" -> CreateReply {
        keys { meta_key, log_key }
        arguments {
            user: String,
            summary: Vec<u8>,
            first_event: Vec<u8>,
            lineage: String,
            session_ttl_ms: Option<Duration>,
        }
    }
}

script_reply! {
    CreateReply {
        "created" => Created,
        "exists" => Exists,
    }
}

script! {
    CommitEvents = "lua/commit_events.lua" -> CommitReply {
        keys {
            meta_key, log_key, checkpoint_key, inbox_key, preview_key, receipts_key, receipt_order_key, outputs_key,
        }
        arguments {
            epoch: u64,
            expected_seq: u64,
            expected_lineage: Option<String>,
            first_seq: u64,
            lineage: Option<String>,
            says_lost: bool,
            says_messages_lost: bool,
            commit_id: String,
            summary: Vec<u8>,
            open_work: OpenWork,
            checkpoint: Option<Vec<u8>>,
            trim_log: bool,
            closed_message: Option<String>,
            discard_preview: bool,
            session_ttl_ms: Option<Duration>,
            publish_command: PublishCommand,
            log_channel: String,
            // A command that is accepted with its events; the next three are of it.
            receipt_id: Option<String>,
            command_id: Option<String>,
            receipt: Option<Vec<u8>>,
            receipt_limit: usize,
        }
        lists { consumed: u64, events: ChainedEvent }
    }
}

script_record! {
    /// An event to append, and the chain value before it.
    ChainedEvent { json: Vec<u8>, previous: Option<String> }
}

/// The work that the log of a session leaves open, as the scripts read it.
#[derive(Debug, Clone, Copy)]
pub(super) enum OpenWork {
    None,
    Run,
    /// No run, but memories to extract.
    Memories,
}

impl ScriptArgument for OpenWork {
    fn encode(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(match self {
            Self::None => b"0",
            Self::Run => b"1",
            Self::Memories => b"2",
        })
    }
}

script_reply! {
    CommitReply {
        "committed" => Committed,
        "not_found" => NotFound,
        "fenced" => Fenced { current_epoch: u64 },
        "conflict" => SeqConflict { last_seq: u64 },
        "forked" => Forked { seq: u64 },
        "log_damaged" => LogDamaged { last_seq: u64 },
        "declined" => Declined,
    }
}

script! {
    ReportLostBranch = "lua/report_lost_branch.lua" -> ReportReply {
        keys { meta_key }
        arguments { known_seq: u64, calls: Option<String> }
    }
}

script_reply! {
    ReportReply {
        "recorded" => Recorded,
        "not_found" => NotFound,
    }
}

script! {
    SubmitCommand = "lua/submit_command.lua" -> SubmitReply {
        keys { meta_key, log_key, checkpoint_key, inbox_key, receipts_key, receipt_order_key, outputs_key }
        arguments {
            receipt_id: String,
            command_id: String,
            receipt: Vec<u8>,
            command: Vec<u8>,
            is_message: bool,
            only_if_idle: bool,
            message_limit: usize,
            command_limit: usize,
            receipt_limit: usize,
            session_ttl_ms: Option<Duration>,
            publish_command: PublishCommand,
            inbox_channel: String,
            log_channel: String,
        }
    }
}

script_reply! {
    SubmitReply {
        "accepted" => Accepted { seq: u64 },
        "known" => Known { receipt: String },
        "busy" => Busy,
        "full" => InboxFull { limit: usize },
        "not_found" => NotFound,
        "damaged" => Damaged { last_seq: u64 },
        "receipts_missing" => ReceiptsMissing,
    }
}

script! {
    /// A write to find again: a command, if it has a receipt id, and events, if there is a seq.
    MarkWrite = "lua/mark_write.lua" -> MarkReply {
        keys { meta_key, log_key, receipts_key }
        arguments {
            seq: Option<u64>,
            lineage: Option<String>,
            receipt_id: Option<String>,
            command_id: Option<String>,
        }
    }
}

script_reply! {
    MarkReply {
        "marked" => Marked,
        "lost" => Lost,
        "not_found" => NotFound,
    }
}

script! {
    RestoreReceipts = "lua/restore_receipts.lua" -> () {
        keys { meta_key, receipts_key, receipt_order_key }
        arguments { session_ttl_ms: Option<Duration> }
        lists { receipts: RestoredReceipt }
    }
}

script_record! {
    /// The field of a receipt, and what `submit_command.lua` writes there.
    RestoredReceipt { id: String, value: Vec<u8> }
}

script! {
    AcquireLease = "lua/acquire_lease.lua" -> AcquireReply {
        keys { meta_key }
        arguments { owner: String, holds_log: bool, ttl_ms: Duration }
    }
}

script_reply! {
    AcquireReply {
        "acquired" => Acquired { epoch: u64 },
        "held" => Held { remaining_ms: u64 },
        "not_found" => NotFound,
    }
}

script! {
    RenewLease = "lua/renew_lease.lua" -> RenewReply {
        keys { meta_key, watchers_key }
        arguments { epoch: u64, ttl_ms: Duration }
    }
}

script_reply! {
    RenewReply {
        "renewed" => Renewed { inbox_position: u64, is_watched: bool },
        "not_found" => NotFound,
        "fenced" => Fenced { current_epoch: u64 },
    }
}

script! {
    ReleaseLease = "lua/release_lease.lua" -> ReleaseReply {
        keys { meta_key, inbox_key }
        arguments { epoch: u64 }
    }
}

script_reply! {
    ReleaseReply {
        "idle" => Idle,
        "unfinished" => Unfinished,
        "superseded" => Superseded,
    }
}

script! {
    DeleteSession = "lua/delete_session.lua" -> DeleteReply {
        keys {
            meta_key, log_key, checkpoint_key, inbox_key, preview_key, receipts_key, receipt_order_key, outputs_key,
            watchers_key,
        }
        arguments { publish_command: PublishCommand, log_channel: String, inbox_channel: String, only_if_idle: bool }
    }
}

script_reply! {
    DeleteReply {
        "deleted" => Deleted,
        "busy" => Busy,
        "not_found" => NotFound,
        "log_missing" => LogMissing,
    }
}

script! {
    AppendPreview = "lua/append_preview.lua" -> PreviewReply {
        keys { meta_key, preview_key, watchers_key }
        arguments {
            epoch: u64,
            message: String,
            is_whole: bool,
            preview_ttl_ms: Duration,
            publish_command: PublishCommand,
            log_channel: String,
        }
        lists { chunks: Vec<u8> }
    }
}

script_reply! {
    PreviewReply {
        "watched" => Watched,
        "unwatched" => Unwatched,
        "rejected" => Rejected,
    }
}

script! {
    AnnounceWatcher = "lua/announce_watcher.lua" -> AnnounceReply {
        keys { meta_key, watchers_key }
        arguments { watcher: String, ttl_ms: Duration, publish_command: PublishCommand, inbox_channel: String }
    }
}

script_reply! {
    AnnounceReply {
        "announced" => Announced,
        "not_found" => NotFound,
    }
}

script! {
    WriteOutputs = "lua/write_outputs.lua" -> OutputsReply {
        keys { meta_key, outputs_key }
        arguments { session_ttl_ms: Option<Duration> }
        lists { dropped_fields: String, written_fields: OutputField }
    }
}

script_record! {
    OutputField { name: String, value: Vec<u8> }
}

script_reply! {
    OutputsReply {
        "written" => Written,
        "not_found" => NotFound,
    }
}

script! {
    ScheduleSession = "lua/schedule_session.lua" -> () {
        keys { work_key }
        arguments { session: String, delay_ms: Duration }
    }
}

script! {
    UnscheduleIfUnchanged = "lua/unschedule_if_unchanged.lua" -> () {
        keys { work_key }
        arguments { session: String, scheduled_at: String }
    }
}

script! {
    ClaimDueSessions = "lua/claim_due_sessions.lua" -> ClaimReply {
        keys { work_key }
        arguments { limit: usize, retry_after_ms: Duration, longest_delay_ms: Duration, keep_ms: Duration }
        lists { own_sessions: String }
    }
}

/// The sessions that are due, and when the next one is, if there is one.
pub(super) struct ClaimReply {
    pub(super) sessions: Vec<String>,
    pub(super) next_due_ms: Option<u64>,
}

impl ScriptReply for ClaimReply {}

impl FromRedisValue for ClaimReply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (sessions, next_due_ms) = redis::from_redis_value(value)?;
        Ok(Self { sessions, next_due_ms })
    }
}

script! {
    ReadMemoryVersion = "lua/read_memory_version.lua" -> MemoryVersionReply {
        keys { memories_key, spaces_key }
        arguments { probe_vector_sets: bool }
    }
}

/// The version of a user's memories.
pub(super) struct MemoryVersionReply {
    pub(super) epoch: u64,
    pub(super) writes: u64,
    /// Whether the server supports vector sets, if it was probed.
    pub(super) has_vector_sets: bool,
}

impl ScriptReply for MemoryVersionReply {}

impl FromRedisValue for MemoryVersionReply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (epoch, writes, has_vector_sets) = redis::from_redis_value(value)?;
        Ok(Self { epoch, writes, has_vector_sets })
    }
}

script! {
    WriteMemories = "lua/write_memories.lua" -> WriteMemoriesReply {
        keys { memories_key, changes_key, vectors_key, spaces_key, ..vector_set_keys }
        arguments { expected_epoch: u64, expected_writes: u64, new_epoch: u64 }
        lists { changes: MemoryFields }
    }
}

script_record! {
    /// A memory to write, and where its vector goes.
    MemoryFields {
        id: String,
        record: Vec<u8>,
        // A new vector; without one, the vector stays as it is.
        vector: Option<Vec<u8>>,
        // The number of the vector set that has the vector from now on, counted from 1 in `vector_set_keys`.
        vector_set: Option<usize>,
        // Whether the hash has the vector from now on.
        in_hash: bool,
        // The number of the vector set that had the vector until now, and does not have it from now on.
        previous_vector_set: Option<usize>,
        attributes: String,
    }
}

script_reply! {
    WriteMemoriesReply {
        "written" => Written,
        "conflict" => VersionConflict,
    }
}

script! {
    DeleteMemories = "lua/delete_memories.lua" -> DeleteMemoriesReply {
        keys { memories_key, changes_key, vectors_key, spaces_key, upkeep_key, ..vector_set_keys }
        arguments { memory_id: Option<String> }
    }
}

script_reply! {
    DeleteMemoriesReply {
        "deleted" => Deleted { count: u64 },
        "spaces_changed" => SpacesChanged,
    }
}

script! {
    ClaimEmbeddingUpkeep = "lua/claim_embedding_upkeep.lua" -> UpkeepReply {
        keys { upkeep_key }
        arguments { holder: String, ttl_ms: Option<Duration> }
    }
}

script_reply! {
    UpkeepReply {
        "granted" => Granted,
        "held" => HeldByAnother,
    }
}

script! {
    PutRecord = "lua/put_record.lua" -> PutRecordReply {
        keys { records_key, expiries_key }
        arguments { id: String, record: Vec<u8>, expires_at: String, now: String, replace: bool }
    }
}

script_reply! {
    PutRecordReply {
        "written" => Written,
        "exists" => Exists { record: String },
    }
}

script! {
    TakeRecord = "lua/take_record.lua" -> TakeRecordReply {
        keys { records_key, expiries_key }
        arguments { id: String }
    }
}

script_reply! {
    TakeRecordReply {
        "taken" => Taken { record: String },
        "not_found" => NotFound,
    }
}

script! {
    ListMissingRights = "lua/list_missing_rights.lua" -> Vec<String> {
        keys { any_key }
        lists { commands: String }
    }
}

/// The commands that scripts run. For a command that its user may not run, a script fails without naming it. Vector sets are
/// not among them, because they are used where the server has them.
pub(super) const SCRIPT_COMMANDS: [&str; 31] = [
    "DEL",
    "EXISTS",
    "GET",
    "HDEL",
    "HGET",
    "HINCRBY",
    "HLEN",
    "HMGET",
    "HSET",
    "LLEN",
    "LPOP",
    "PEXPIRE",
    "RPUSH",
    "SADD",
    "SCARD",
    "SET",
    "SISMEMBER",
    "SREM",
    "TIME",
    "UNLINK",
    "XADD",
    "XDEL",
    "XLEN",
    "XRANGE",
    "XTRIM",
    "ZADD",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZREM",
    "ZREMRANGEBYSCORE",
    "ZSCORE",
];

#[cfg(test)]
mod tests;
