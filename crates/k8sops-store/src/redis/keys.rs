//! The names of keys and channels.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `{prefix}:{session}:meta` | hash | user, summary, head of the log, epoch and lease, counters (inbox positions, queued messages) |
//! | `{prefix}:{session}:log` | stream | events; the id of the event `seq` is `seq-0` |
//! | `{prefix}:{session}:checkpoint` | string | the newest checkpoint |
//! | `{prefix}:{session}:inbox` | stream | queued commands; the id is their position |
//! | `{prefix}:{session}:preview` | stream | text of the open message; the id only grows |
//! | `{prefix}:{session}:watchers` | sorted set | processes with streams of the session, by when their announcement expires |
//! | `{prefix}:{session}:receipts`, `…:receipt_order` | hash, list | receipts of the newest thousand commands |
//! | `{prefix}:{session}:outputs` | hash | whole outputs of tool calls in compressed chunks, and their list |
//! | `{prefix}:user:USER` | sorted set | sessions of a user by their last activity |
//! | `{prefix}:{user:USER}:memories` | hash | memories of a user, and their version: `epoch` (changes when all were deleted) and `writes` |
//! | `{prefix}:{user:USER}:changes` | sorted set | ids of memories by the write that last changed or deleted them |
//! | `{prefix}:{user:USER}:vectors` | hash | vectors, if the server does not support vector sets |
//! | `{prefix}:{user:USER}:vectors:MODEL:DIMENSIONS` | vector set | vectors of a space, if the server supports vector sets |
//! | `{prefix}:{user:USER}:spaces` | set | the names of those vector sets |
//! | `{prefix}:{user:USER}:upkeep` | string | the process that computes the vectors of this user |
//! | `{prefix}:usage:USER:DAY` | hash | what each session of a user used on a day |
//! | `{prefix}:{KIND:OWNER}:records`, `…:expiries` | hash, sorted set | records that expire (tickets, shares, creations, push notifications), and when |
//! | `{prefix}:work` | sorted set | sessions that may have work, by when they are due |
//! | `{prefix}:approvals` | sorted set | sessions with pending approvals, by when these expire |
//! | `{prefix}:key` | string | 32 random bytes of the deployment |
//!
//! The braces of `{session}` and `{user:USER}` are part of the names: they are the hash tags that keep all keys of a session,
//! and all memories of a user, on one node of a cluster.

use std::borrow::Cow;

use redis::Cmd;

use super::{config::RedisDeployment, script::ScriptArgument};
use k8sops_core::{AccountTopic, EmbeddingSpace, NotificationTopic, RecordGroup, SessionId, UsageDay, UserId};

#[derive(Debug, Clone)]
pub(super) struct RedisKeys {
    prefix: String,
    publish_command: PublishCommand,
}

/// The command that publishes to the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublishCommand {
    Publish,
    /// In a cluster, where `PUBLISH` sends the message to every node. What is published reaches the subscribers of `SSUBSCRIBE`
    /// at the node that has the channel's slot, which is that of the keys with its hash tag.
    ShardPublish,
}

impl PublishCommand {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Publish => "PUBLISH",
            Self::ShardPublish => "SPUBLISH",
        }
    }
}

impl ScriptArgument for PublishCommand {
    fn encode(&self) -> Cow<'_, [u8]> {
        self.name().as_bytes().into()
    }
}

impl RedisKeys {
    pub(super) fn new(prefix: &str, topology: &RedisDeployment) -> Self {
        let publish_command = match topology {
            RedisDeployment::Cluster => PublishCommand::ShardPublish,
            RedisDeployment::Single | RedisDeployment::Sentinel(_) => PublishCommand::Publish,
        };
        Self { prefix: prefix.to_owned(), publish_command }
    }

    /// The command by which scripts publish.
    pub(super) fn publish_command(&self) -> PublishCommand {
        self.publish_command
    }

    /// Returns the command that publishes to a channel.
    pub(super) fn publish(&self, channel: String, payload: &str) -> Cmd {
        let mut publish = redis::cmd(self.publish_command.name());
        publish.arg(channel).arg(payload);
        publish
    }

    fn session_key(&self, session: SessionId, name: &str) -> String {
        format!("{}:{{{session}}}:{name}", self.prefix)
    }

    pub(super) fn meta(&self, session: SessionId) -> String {
        self.session_key(session, "meta")
    }

    pub(super) fn log(&self, session: SessionId) -> String {
        self.session_key(session, "log")
    }

    pub(super) fn checkpoint(&self, session: SessionId) -> String {
        self.session_key(session, "checkpoint")
    }

    pub(super) fn inbox(&self, session: SessionId) -> String {
        self.session_key(session, "inbox")
    }

    pub(super) fn preview(&self, session: SessionId) -> String {
        self.session_key(session, "preview")
    }

    pub(super) fn watchers(&self, session: SessionId) -> String {
        self.session_key(session, "watchers")
    }

    pub(super) fn receipts(&self, session: SessionId) -> String {
        self.session_key(session, "receipts")
    }

    pub(super) fn receipt_order(&self, session: SessionId) -> String {
        self.session_key(session, "receipt_order")
    }

    pub(super) fn outputs(&self, session: SessionId) -> String {
        self.session_key(session, "outputs")
    }

    fn memory_key(&self, user: &UserId, name: &str) -> String {
        format!("{}:{{user:{user}}}:{name}", self.prefix)
    }

    /// The pattern of all keys with memories of a user.
    pub(super) fn all_memory_keys(&self, user: &UserId) -> String {
        self.memory_key(user, "*")
    }

    pub(super) fn memories(&self, user: &UserId) -> String {
        self.memory_key(user, "memories")
    }

    pub(super) fn memory_changes(&self, user: &UserId) -> String {
        self.memory_key(user, "changes")
    }

    pub(super) fn memory_vectors(&self, user: &UserId) -> String {
        self.memory_key(user, "vectors")
    }

    pub(super) fn embedding_spaces(&self, user: &UserId) -> String {
        self.memory_key(user, "spaces")
    }

    pub(super) fn embedding_upkeep(&self, user: &UserId) -> String {
        self.memory_key(user, "upkeep")
    }

    /// The vector set of a space.
    pub(super) fn vector_set(&self, user: &UserId, space: &EmbeddingSpace) -> String {
        self.memory_key(user, &format!("vectors:{}:{}", space.model, space.dimensions))
    }

    pub(super) fn usage(&self, user: &UserId, day: UsageDay) -> String {
        format!("{}:usage:{user}:{day}", self.prefix)
    }

    pub(super) fn records(&self, group: &RecordGroup) -> String {
        format!("{}:{{{}:{}}}:records", self.prefix, group.kind(), group.owner())
    }

    /// When each record of a group expires.
    pub(super) fn record_expiries(&self, group: &RecordGroup) -> String {
        format!("{}:{{{}:{}}}:expiries", self.prefix, group.kind(), group.owner())
    }

    pub(super) fn deployment_key(&self) -> String {
        format!("{}:key", self.prefix)
    }

    pub(super) fn user_sessions(&self, user: &UserId) -> String {
        format!("{}:user:{user}", self.prefix)
    }

    pub(super) fn approvals(&self) -> String {
        format!("{}:approvals", self.prefix)
    }

    pub(super) fn work_schedule(&self) -> String {
        format!("{}:work", self.prefix)
    }

    /// The channel of a session's notifications.
    pub(super) fn session_channel(&self, session: SessionId, topic: NotificationTopic) -> String {
        self.session_key(
            session,
            match topic {
                NotificationTopic::Log => "log",
                NotificationTopic::Inbox => "inbox",
            },
        )
    }

    /// How the names of all keys and channels begin.
    pub(super) fn prefix(&self) -> String {
        format!("{}:", self.prefix)
    }

    /// The channel that announces sessions with work and no owner.
    pub(super) fn work_channel(&self) -> String {
        self.work_schedule()
    }

    /// The channel of changes of accounts.
    pub(super) fn account_channel(&self, topic: &AccountTopic) -> String {
        match topic {
            AccountTopic::User(user) => format!("{}user:{user}", self.account_channels()),
            AccountTopic::Approvers => format!("{}approvers", self.account_channels()),
        }
    }

    /// How the names of all channels of changes of accounts begin.
    pub(super) fn account_channels(&self) -> String {
        format!("{}:account:", self.prefix)
    }

    /// The session and topic of a channel.
    pub(super) fn parse_session_channel(&self, channel: &str) -> Option<(SessionId, NotificationTopic)> {
        let rest = channel.strip_prefix(&self.prefix)?.strip_prefix(":{")?;
        let (session, topic) = rest.split_once("}:")?;
        let topic = match topic {
            "log" => NotificationTopic::Log,
            "inbox" => NotificationTopic::Inbox,
            _ => return None,
        };
        Some((session.parse().ok()?, topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_channel_is_parsed() {
        let keys = RedisKeys::new("k8sops", &RedisDeployment::Single);
        let session = SessionId::new();
        for topic in [NotificationTopic::Log, NotificationTopic::Inbox] {
            let channel = keys.session_channel(session, topic);
            assert_eq!(keys.parse_session_channel(&channel), Some((session, topic)));
        }
        assert_eq!(keys.parse_session_channel(&keys.meta(session)), None);
        assert_eq!(keys.parse_session_channel(&keys.work_channel()), None);
    }
}
