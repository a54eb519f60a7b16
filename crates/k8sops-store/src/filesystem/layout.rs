//! The paths of all files of a store.

use std::path::{Path, PathBuf};

use k8sops_core::{MemoryId, RecordGroup, SessionId, ToolCallId, UsageDay, UserId};

/// How the names of outputs end from format 2 on. The id of a call has no dot.
pub(super) const OUTPUT_EXTENSION: &str = ".output";

/// The paths of all files below a root folder.
#[derive(Debug, Clone)]
pub(super) struct StoreLayout {
    root: PathBuf,
}

impl StoreLayout {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn index_file(&self) -> PathBuf {
        self.root.join("sessions.jsonl")
    }

    /// The journal, see `commit_journal`.
    pub(super) fn journal_files(&self) -> [PathBuf; 2] {
        ["journal-0", "journal-1"].map(|name| self.root.join(name))
    }

    pub(super) fn key_file(&self) -> PathBuf {
        self.root.join("key")
    }

    pub(super) fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    pub(super) fn session_file(&self, user: &UserId, session: SessionId) -> PathBuf {
        self.user_sessions(user).join(format!("{session}.jsonl"))
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(super) fn user_sessions(&self, user: &UserId) -> PathBuf {
        self.sessions().join(user.as_str())
    }

    pub(super) fn outputs(&self) -> PathBuf {
        self.root.join("outputs")
    }

    pub(super) fn session_outputs(&self, session: SessionId) -> PathBuf {
        self.outputs().join(session.to_string())
    }

    pub(super) fn output_file(&self, session: SessionId, call: &ToolCallId) -> PathBuf {
        self.session_outputs(session).join(format!("{call}{OUTPUT_EXTENSION}"))
    }

    /// Where an output is in format 1.
    pub(super) fn old_output_file(&self, session: SessionId, call: &ToolCallId) -> PathBuf {
        self.session_outputs(session).join(call.as_str())
    }

    pub(super) fn memories(&self) -> PathBuf {
        self.root.join("memories")
    }

    pub(super) fn user_memories(&self, user: &UserId) -> PathBuf {
        self.memories().join(user.as_str())
    }

    pub(super) fn memory_file(&self, user: &UserId, memory: MemoryId) -> PathBuf {
        self.user_memories(user).join(format!("{memory}.json"))
    }

    /// The folder of a group of records.
    pub(super) fn records(&self, group: &RecordGroup) -> PathBuf {
        self.root.join("records").join(group.kind()).join(group.owner())
    }

    pub(super) fn usage(&self) -> PathBuf {
        self.root.join("usage")
    }

    pub(super) fn usage_file(&self, user: &UserId, day: UsageDay) -> PathBuf {
        self.usage().join(user.as_str()).join(format!("{day}.json"))
    }

    /// Where records of a day's usage are until they are folded into its file.
    pub(super) fn usage_notes_file(&self, user: &UserId, day: UsageDay) -> PathBuf {
        self.usage().join(user.as_str()).join(format!("{day}.jsonl"))
    }
}
