//! What a server does to confirm writes. The server is asked, because a version number says nothing about its configuration,
//! its rights, or its forks.

use std::{collections::HashMap, time::Duration};

use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Value};

use crate::redis::{config::ConfirmationPolicy, outage::to_store_error, pool::ConnectionPool};
use k8sops_core::{BackendError, StoreError, StoreOutage};

/// What makes the append-only file confirm writes.
const AOF_ADVICE: &str =
    "use Redis 7.2 or Valkey with appendonly yes, or set REDIS_CONFIRM to a number of replicas or to none";
/// What may happen without confirmations.
const UNCONFIRMED_RISK: &str =
    "acknowledged messages may be lost and a tool call may be sent twice when Redis crashes or fails over";

/// What a server does to confirm writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::redis) enum ConfirmationMode {
    /// Nothing; holds the reason, unless that is what is configured.
    Off { reason: Option<String> },
    /// It waits until writes are on its own disk, in the append-only file.
    AppendOnlyFile {
        /// `appendfsync`, if it may be read.
        fsync: Option<String>,
    },
    /// It waits for this many replicas.
    Replicas(u32),
}

/// What a reply to `WAIT` or `WAITAOF` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WaitOutcome {
    Confirmed,
    /// Not in time; with the reason.
    TimedOut(String),
}

impl ConfirmationMode {
    /// Finds what the server that has `key` does.
    ///
    /// # Errors
    /// `Unavailable`; with the outage `Misconfigured`, the server cannot do what is configured.
    pub(super) async fn find(
        policy: ConfirmationPolicy,
        connections: &ConnectionPool,
        key: &str,
    ) -> Result<Self, StoreError> {
        match policy {
            ConfirmationPolicy::None => return Ok(Self::Off { reason: None }),
            ConfirmationPolicy::Replicas(count) => return Ok(Self::Replicas(count)),
            ConfirmationPolicy::Auto | ConfirmationPolicy::AppendOnlyFile => {}
        }
        let mut probe = redis::pipe();
        // Returns at once: this connection may have written nothing, and the time limit is 1 ms.
        probe.cmd("WAITAOF").arg(1).arg(0).arg(1);
        probe.cmd("CONFIG").arg("GET").arg("appendfsync");
        probe.cmd("INFO").arg("server");
        let replies = connections.send_to_node_of(key, &probe).await?.map_err(to_store_error)?;
        let [wait, config, info]: [Value; 3] = replies
            .try_into()
            .map_err(|_| StoreError::Unavailable("Redis sent another number of replies than commands".into()))?;
        let fsync = read_fsync_policy(config);
        match aof_problem(wait, fsync.as_deref(), info)? {
            None => Ok(Self::AppendOnlyFile { fsync }),
            Some(problem) if policy == ConfirmationPolicy::Auto => Ok(Self::Off { reason: Some(problem) }),
            Some(problem) => {
                let problem = format!("REDIS_CONFIRM=aof cannot be met: {problem}; {AOF_ADVICE}");
                Err(StoreError::Unavailable(BackendError::new(problem).with_outage(StoreOutage::Misconfigured)))
            }
        }
    }

    /// Returns the command that waits for `limit` at most; `None` if nothing is waited for.
    pub(super) fn wait_command(&self, limit: Duration) -> Option<Cmd> {
        let limit_ms = limit.as_millis().max(1).to_string();
        match self {
            Self::Off { .. } => None,
            Self::AppendOnlyFile { .. } => {
                let mut wait = redis::cmd("WAITAOF");
                wait.arg(1).arg(0).arg(limit_ms);
                Some(wait)
            }
            Self::Replicas(count) => {
                let mut wait = redis::cmd("WAIT");
                wait.arg(*count).arg(limit_ms);
                Some(wait)
            }
        }
    }

    /// Reads the reply to [`wait_command`](Self::wait_command).
    ///
    /// # Errors
    /// The server did not wait.
    pub(super) fn read_wait(&self, reply: Value) -> RedisResult<WaitOutcome> {
        let reply = reply.extract_error()?;
        Ok(match self {
            Self::Off { .. } => WaitOutcome::Confirmed,
            Self::AppendOnlyFile { .. } => {
                let (on_disk, _replicas): (u32, u32) = redis::from_redis_value(reply)?;
                if on_disk >= 1 {
                    WaitOutcome::Confirmed
                } else {
                    WaitOutcome::TimedOut(
                        "it is not on the disk of Redis: that is slow, or appendfsync is no (REDIS_CONFIRM=aof)"
                            .to_owned(),
                    )
                }
            }
            Self::Replicas(wanted) => {
                let acknowledged = u32::from_redis_value(reply)?;
                if acknowledged >= *wanted {
                    WaitOutcome::Confirmed
                } else {
                    WaitOutcome::TimedOut(format!(
                        "{acknowledged} of {wanted} replicas have it (REDIS_CONFIRM={wanted})"
                    ))
                }
            }
        })
    }

    /// Says for an operator what is in force, and why.
    pub(in crate::redis) fn describe(&self) -> String {
        match self {
            Self::Off { reason: None } => format!("does not confirm writes (REDIS_CONFIRM=none): {UNCONFIRMED_RISK}"),
            Self::Off { reason: Some(reason) } => {
                format!("does not confirm writes: {reason}; {AOF_ADVICE}. Until then, {UNCONFIRMED_RISK}")
            }
            Self::AppendOnlyFile { fsync } => {
                let cost = match fsync.as_deref() {
                    Some("always") => "appendfsync always",
                    Some("everysec") => "appendfsync everysec: an acknowledgement takes up to 1 s",
                    _ => "an acknowledgement takes up to 1 s, unless appendfsync is always",
                };
                format!("confirms writes by the AOF ({cost})")
            }
            Self::Replicas(count) => format!("confirms writes by replicas (REDIS_CONFIRM={count})"),
        }
    }
}

/// Returns why the append-only file cannot confirm writes, from the reply to a `WAITAOF` that waits for nothing.
///
/// # Errors
/// The reply says nothing about that.
fn aof_problem(wait: Value, fsync: Option<&str>, info: Value) -> Result<Option<String>, StoreError> {
    let Err(error) = wait.extract_error() else {
        let is_left_to_the_system = fsync == Some("no");
        return Ok(is_left_to_the_system.then(|| {
            "Redis leaves it to the operating system when its append-only file is on the disk (appendfsync no)"
                .to_owned()
        }));
    };
    let text = error.to_string();
    if text.contains("unknown command") {
        let server = server_version(info).map_or_else(|| "this Redis".to_owned(), |version| format!("Redis {version}"));
        return Ok(Some(format!("{server} has no WAITAOF")));
    }
    if text.contains("appendonly") {
        return Ok(Some("Redis writes no append-only file (appendonly no)".to_owned()));
    }
    let problem = to_store_error(error);
    if problem.outage() == Some(StoreOutage::AccessDenied) {
        return Ok(Some("the user of Redis may not run WAITAOF (ACL SETUSER … +waitaof)".to_owned()));
    }
    Err(problem)
}

/// Reads the reply to `CONFIG GET appendfsync`, which managed servers and most users may not run.
fn read_fsync_policy(reply: Value) -> Option<String> {
    let reply = reply.extract_error().ok()?;
    HashMap::<String, String>::from_redis_value(reply).ok()?.remove("appendfsync")
}

fn server_version(info: Value) -> Option<String> {
    let text = String::from_redis_value(info.extract_error().ok()?).ok()?;
    text.lines().find_map(|line| line.strip_prefix("redis_version:")).map(|version| version.trim().to_owned())
}

/// Whether an error says that the server has stopped to write an append-only file since it was asked.
pub(super) fn is_mode_outdated(error: &RedisError) -> bool {
    error.to_string().contains("appendonly")
}

/// The error of a write that was not confirmed within `limit`.
pub(super) fn unconfirmed(limit: Duration, why: &str) -> StoreError {
    let problem = format!("Redis has not confirmed within {limit:?} that the write survives a failure: {why}");
    StoreError::Unavailable(BackendError::new(problem).with_outage(StoreOutage::Unconfirmed))
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn reply(text: &str) -> Value {
        parse_redis_value(text.as_bytes()).unwrap()
    }

    #[test]
    fn server_says_what_its_append_only_file_can_do() {
        let info = || reply("$22\r\nredis_version:7.0.15\r\n\r\n");
        for (wait, fsync, problem) in [
            ("*2\r\n:1\r\n:0\r\n", Some("everysec"), None),
            ("*2\r\n:1\r\n:0\r\n", None, None),
            ("*2\r\n:1\r\n:0\r\n", Some("no"), Some("appendfsync no")),
            ("-ERR unknown command 'WAITAOF', with args beginning with: '1' \r\n", None, Some("Redis 7.0.15 has no")),
            (
                "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n",
                Some("everysec"),
                Some("appendonly no"),
            ),
            ("-NOPERM User ops has no permissions to run the 'waitaof' command\r\n", None, Some("may not run WAITAOF")),
        ] {
            let found = aof_problem(reply(wait), fsync, info()).unwrap();
            match (&found, problem) {
                (None, None) => {}
                (Some(found), Some(problem)) => assert!(found.contains(problem), "{found}"),
                other => panic!("{wait}: {other:?}"),
            }
        }
        assert!(aof_problem(reply("-LOADING Redis is loading the dataset in memory\r\n"), None, info()).is_err());
    }

    #[test]
    fn wait_is_read_as_what_it_says() {
        let replicas = ConfirmationMode::Replicas(2);
        assert_eq!(replicas.read_wait(Value::Int(2)).unwrap(), WaitOutcome::Confirmed);
        assert!(
            matches!(replicas.read_wait(Value::Int(1)).unwrap(), WaitOutcome::TimedOut(why) if why.contains("1 of 2"))
        );
        let file = ConfirmationMode::AppendOnlyFile { fsync: None };
        assert_eq!(file.read_wait(reply("*2\r\n:1\r\n:0\r\n")).unwrap(), WaitOutcome::Confirmed);
        assert!(matches!(file.read_wait(reply("*2\r\n:0\r\n:3\r\n")).unwrap(), WaitOutcome::TimedOut(_)));
        assert!(file.read_wait(reply("-ERR WAITAOF cannot be used when appendonly is disabled.\r\n")).is_err());
    }
}
