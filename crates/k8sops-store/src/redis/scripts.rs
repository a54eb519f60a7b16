//! The Lua scripts: each one atomic write, or one look at several keys as of the same instant.

use std::sync::LazyLock;

use redis::{ErrorKind, FromRedisValue, ParsingError, RedisResult, ServerErrorKind, Value};

use super::link::Connection;
use k8sops_core::{LeaseEpoch, SessionId, StoreError};

/// A script, known to the server by its digest.
pub(super) struct Script {
    code: &'static str,
    /// Knows the digest. Not used to run the script: it would load it on a node of its own choice.
    script: redis::Script,
}

/// All scripts. What each does, and what it is given, stands at its beginning.
pub(super) struct Scripts {
    pub(super) create: Script,
    pub(super) acquire: Script,
    pub(super) renew: Script,
    pub(super) release: Script,
    pub(super) commit: Script,
    pub(super) submit: Script,
    pub(super) delete: Script,
    pub(super) preview: Script,
    pub(super) outputs: Script,
    pub(super) schedule: Script,
    pub(super) claim: Script,
    pub(super) settle: Script,
    pub(super) memories: Script,
    pub(super) memories_at: Script,
    pub(super) forget: Script,
    pub(super) claim_upkeep: Script,
}

pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    create: Script::new(include_str!("lua/create.lua")),
    acquire: Script::new(include_str!("lua/acquire.lua")),
    renew: Script::new(include_str!("lua/renew.lua")),
    release: Script::new(include_str!("lua/release.lua")),
    commit: Script::new(include_str!("lua/commit.lua")),
    submit: Script::new(include_str!("lua/submit.lua")),
    delete: Script::new(include_str!("lua/delete.lua")),
    preview: Script::new(include_str!("lua/preview.lua")),
    outputs: Script::new(include_str!("lua/outputs.lua")),
    schedule: Script::new(include_str!("lua/schedule.lua")),
    claim: Script::new(include_str!("lua/claim.lua")),
    settle: Script::new(include_str!("lua/settle.lua")),
    memories: Script::new(include_str!("lua/memories.lua")),
    memories_at: Script::new(include_str!("lua/memories_at.lua")),
    forget: Script::new(include_str!("lua/forget.lua")),
    claim_upkeep: Script::new(include_str!("lua/claim_upkeep.lua")),
});

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, script: redis::Script::new(code) }
    }

    /// The script with what it is given.
    pub(super) fn with<'a>(&'a self, keys: &'a [String], args: &'a [&'a [u8]]) -> Call<'a> {
        Call { script: self, keys, args }
    }
}

/// A script with what it is given.
pub(super) struct Call<'a> {
    script: &'a Script,
    keys: &'a [String],
    args: &'a [&'a [u8]],
}

impl Call<'_> {
    /// Runs it on the node of its keys; sends its text when the node does not know it yet.
    ///
    /// # Errors
    /// Those of Redis.
    pub(super) async fn run<T: FromRedisValue>(&self, connection: &mut Connection) -> RedisResult<T> {
        let command = |name, code| {
            let mut command = redis::cmd(name);
            command.arg(code).arg(self.keys.len()).arg(self.keys).arg(self.args);
            command
        };
        match command("EVALSHA", self.script.script.get_hash()).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command("EVAL", self.script.code).query_async(connection).await
            }
            answer => answer,
        }
    }
}

/// What a script on a session's keys answers: a word, and perhaps a number or a text.
#[derive(Debug)]
pub(super) struct Answer {
    tag: String,
    value: Option<Value>,
}

impl FromRedisValue for Answer {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let mut parts = Vec::<Value>::from_redis_value(value)?.into_iter();
        let tag = String::from_redis_value(parts.next().unwrap_or(Value::Nil))?;
        Ok(Self { tag, value: parts.next() })
    }
}

impl Answer {
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    pub(super) fn number(&self) -> Option<u64> {
        match self.value {
            Some(Value::Int(number)) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Some(Value::BulkString(bytes)) => std::str::from_utf8(bytes).ok(),
            Some(Value::SimpleString(text)) => Some(text),
            _ => None,
        }
    }

    /// Nothing, when it was done; else why it was not.
    pub(super) fn expect_ok(&self, session: SessionId, epoch: Option<LeaseEpoch>) -> Result<(), StoreError> {
        match (self.tag(), self.number(), epoch) {
            ("ok", ..) => Ok(()),
            ("not_found", ..) => Err(StoreError::NotFound(session)),
            ("exists", ..) => Err(StoreError::Exists(session)),
            ("fenced", Some(current), Some(attempted)) => {
                Err(StoreError::Fenced { session, attempted, current: LeaseEpoch(current) })
            }
            ("conflict", Some(found), _) => Err(StoreError::SeqConflict { session, expected: found, found }),
            _ => Err(self.unexpected()),
        }
    }

    pub(super) fn unexpected(&self) -> StoreError {
        StoreError::Corrupt(format!("a script answered {self:?}").into())
    }
}
