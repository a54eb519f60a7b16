//! What is sent to Redis, and what its errors say about the connection.

use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

use super::{outage::classify_error, script::ScriptCall, target::TargetConnection};
use k8sops_core::{StoreError, StoreOutage};

/// What can be sent to Redis.
pub(super) enum RedisQuery<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
    Script(&'a ScriptCall<'a>),
}

impl<'a> From<&'a Cmd> for RedisQuery<'a> {
    fn from(command: &'a Cmd) -> Self {
        Self::Command(command)
    }
}

/// For commands that are built where they are sent.
impl<'a> From<&'a mut Cmd> for RedisQuery<'a> {
    fn from(command: &'a mut Cmd) -> Self {
        Self::Command(command)
    }
}

impl<'a> From<&'a Pipeline> for RedisQuery<'a> {
    fn from(pipeline: &'a Pipeline) -> Self {
        Self::Pipeline(pipeline)
    }
}

impl<'a> From<&'a ScriptCall<'a>> for RedisQuery<'a> {
    fn from(call: &'a ScriptCall<'a>) -> Self {
        Self::Script(call)
    }
}

impl RedisQuery<'_> {
    pub(super) async fn send(&self, connection: &mut TargetConnection) -> RedisResult<Value> {
        match self {
            Self::Command(command) => command.query_async(connection).await,
            Self::Pipeline(pipeline) => pipeline.query_async(connection).await,
            Self::Script(call) => call.execute(connection).await,
        }
    }
}

/// Reads a whole reply. Only here is a value not what was stored: a reply that did not arrive whole is an outage.
pub(super) fn read_reply<T: FromRedisValue>(reply: Value) -> Result<T, StoreError> {
    T::from_redis_value(reply).map_err(|error| StoreError::corrupt("Redis", RedisError::from(error)))
}

/// Whether a query that failed can be sent again at once, if it can safely be repeated. A connection that the server closed
/// while it was idle reports that at its next use. A timeout is not retried: the server is likely to time out again.
pub(super) fn is_worth_retry(error: &RedisError) -> bool {
    is_connection_broken(error) && !error.is_timeout()
}

/// Whether no further query is to be sent on the connection of a query that failed: it is broken, or leads to a server that is
/// no master, or to a user that lacks a right.
pub(super) fn ends_connection(error: &RedisError) -> bool {
    let master_moved = matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
            | ErrorKind::ClusterConnectionNotFound
    );
    let lacks_right = classify_error(error).0 == StoreOutage::AccessDenied;
    master_moved || lacks_right || is_connection_broken(error) || error.is_unrecoverable_error()
}

/// Whether an error leaves nothing that the connection could be used for: it is closed, or its bytes are no replies.
fn is_connection_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.kind() == ErrorKind::Parse
}
