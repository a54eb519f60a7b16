//! The names of keys and channels.
//!
//! | key | kind | holds |
//! |---|---|---|
//! | `{prefix}:{session}:meta` | hash | user, summary, head of the log, epoch and lease, counters (places of the inbox, messages that wait) |
//! | `{prefix}:{session}:log` | stream | events; the id of the event `seq` is `seq-0` |
//! | `{prefix}:{session}:checkpoint` | string | the projection as of some seq |
//! | `{prefix}:{session}:inbox` | stream | commands that wait; the id is their place |
//! | `{prefix}:{session}:preview` | stream | text of the open message; the id only grows |
//! | `{prefix}:{session}:receipts`, `…:receipt_order` | hash, list | commands that were taken, the newest thousand |
//! | `{prefix}:{session}:outputs` | hash | whole outputs of tool calls in compressed pieces, and their list |
//! | `{prefix}:user:USER` | sorted set | a user's sessions by their last activity |
//! | `{prefix}:{user:USER}:memories` | hash | what is remembered of a user, which life of it this is, and how often it was written |
//! | `{prefix}:{user:USER}:changes` | sorted set | ids of memories by the write that last changed or removed them |
//! | `{prefix}:{user:USER}:vectors` | hash | vectors, where the server has no vector sets |
//! | `{prefix}:{user:USER}:vectors:MODEL:DIMENSIONS` | vector set | vectors of a space, where it has |
//! | `{prefix}:{user:USER}:spaces` | set | the names of those vector sets |
//! | `{prefix}:{user:USER}:upkeep` | string | who makes the vectors of this user |
//! | `{prefix}:usage:USER:DAY` | hash | what each of a user's sessions used on a day |
//! | `{prefix}:work` | sorted set | sessions that may have work, by when to look at them next |
//! | `{prefix}:approvals` | sorted set | sessions that wait for an approval, by when it runs out |
//! | `{prefix}:key` | string | 32 random bytes of the deployment |
//!
//! `{session}` and `{user:USER}` stand with their braces: they are the hash tags that keep all keys of a session, and all
//! memories of a user, on one node of a cluster.

use k8sops_core::{EmbeddingSpace, NotificationTopic, SessionId, UsageDay, UserId};

#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    fn of(&self, session: SessionId, name: &str) -> String {
        format!("{}:{{{session}}}:{name}", self.prefix)
    }

    pub(super) fn meta(&self, session: SessionId) -> String {
        self.of(session, "meta")
    }

    pub(super) fn log(&self, session: SessionId) -> String {
        self.of(session, "log")
    }

    pub(super) fn checkpoint(&self, session: SessionId) -> String {
        self.of(session, "checkpoint")
    }

    pub(super) fn inbox(&self, session: SessionId) -> String {
        self.of(session, "inbox")
    }

    pub(super) fn preview(&self, session: SessionId) -> String {
        self.of(session, "preview")
    }

    pub(super) fn receipts(&self, session: SessionId) -> String {
        self.of(session, "receipts")
    }

    pub(super) fn receipt_order(&self, session: SessionId) -> String {
        self.of(session, "receipt_order")
    }

    pub(super) fn outputs(&self, session: SessionId) -> String {
        self.of(session, "outputs")
    }

    /// Every key of a session, the meta first.
    pub(super) fn all(&self, session: SessionId) -> [String; 8] {
        [
            self.meta(session),
            self.log(session),
            self.checkpoint(session),
            self.inbox(session),
            self.preview(session),
            self.receipts(session),
            self.receipt_order(session),
            self.outputs(session),
        ]
    }

    /// A key of a user's memories: `memories`, `changes`, `vectors`, `spaces`, `upkeep`.
    pub(super) fn of_memories(&self, user: &UserId, name: &str) -> String {
        format!("{}:{{user:{user}}}:{name}", self.prefix)
    }

    /// The vector set of a space.
    pub(super) fn vector_set(&self, user: &UserId, space: &EmbeddingSpace) -> String {
        self.of_memories(user, &format!("vectors:{}:{}", space.model, space.dimensions))
    }

    pub(super) fn usage(&self, user: &UserId, day: UsageDay) -> String {
        format!("{}:usage:{user}:{day}", self.prefix)
    }

    pub(super) fn deployment_key(&self) -> String {
        format!("{}:key", self.prefix)
    }

    pub(super) fn user(&self, user: &UserId) -> String {
        format!("{}:user:{user}", self.prefix)
    }

    pub(super) fn approvals(&self) -> String {
        format!("{}:approvals", self.prefix)
    }

    pub(super) fn work(&self) -> String {
        format!("{}:work", self.prefix)
    }

    /// Where it is said that something happened to a session.
    pub(super) fn channel(&self, session: SessionId, topic: NotificationTopic) -> String {
        self.of(
            session,
            match topic {
                NotificationTopic::Log => "log",
                NotificationTopic::Inbox => "inbox",
            },
        )
    }

    /// Where it is said that a session is left with work to do.
    pub(super) fn work_channel(&self) -> String {
        self.work()
    }

    /// The session and topic of a channel.
    pub(super) fn parse_channel(&self, channel: &str) -> Option<(SessionId, NotificationTopic)> {
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
