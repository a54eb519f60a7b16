//! How the server is set up: what a store of sessions cannot live with, and what an operator should know.

use std::time::Duration;

use k8sops_core::{BackendError, StoreError, StoreOutage};
use redis::Value;

use super::{config::ConfirmationPolicy, confirmation::ConfirmationMode, store::RedisStore};

/// What `INFO` says, of one server or of all nodes of a cluster.
struct ServerInfo(String);

impl ServerInfo {
    /// Collects the texts of a reply. A cluster answers with a map of its nodes.
    fn from_reply(reply: &Value) -> Self {
        fn collect(value: &Value, text: &mut String) {
            match value {
                Value::BulkString(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
                Value::SimpleString(part) | Value::VerbatimString { text: part, .. } => text.push_str(part),
                Value::Array(values) | Value::Set(values) => values.iter().for_each(|value| collect(value, text)),
                Value::Map(pairs) => pairs.iter().for_each(|(_, value)| collect(value, text)),
                _ => {}
            }
            text.push('\n');
        }
        let mut text = String::new();
        collect(reply, &mut text);
        Self(text)
    }

    /// Returns the values of a field, one per server.
    fn values<'a>(&'a self, field: &str) -> impl Iterator<Item = &'a str> {
        let prefix = format!("{field}:");
        self.0.lines().filter_map(move |line| Some(line.strip_prefix(&prefix)?.trim()))
    }

    /// Returns for each master how many replicas follow it and have said so within `max_silence`.
    fn replica_counts(&self, max_silence: Duration) -> Vec<u32> {
        let mut counts = Vec::new();
        for line in self.0.lines().map(str::trim) {
            if line == "role:master" {
                counts.push(0);
            }
            // slave0:ip=10.0.0.2,port=6379,state=online,offset=1414,lag=1
            let Some((name, fields)) = line.split_once(':') else { continue };
            let is_replica = name.strip_prefix("slave").is_some_and(|n| n.parse::<u32>().is_ok());
            let value = |field: &str| fields.split(',').find_map(|pair| pair.strip_prefix(field)?.strip_prefix('='));
            let silence_seconds = value("lag").and_then(|lag| lag.parse().ok()).unwrap_or(0);
            if is_replica
                && value("state") == Some("online")
                && silence_seconds <= max_silence.as_secs() + 1
                && let Some(count) = counts.last_mut()
            {
                *count += 1;
            }
        }
        counts
    }

    /// Returns the policy of a server that evicts keys when its memory is full.
    fn evicting_policy(&self) -> Option<&str> {
        let is_limited = self.values("maxmemory").any(|bytes| bytes != "0");
        self.values("maxmemory_policy").find(|policy| is_limited && *policy != "noeviction")
    }
}

impl RedisStore {
    /// Fails if the server evicts keys when its memory is full: sessions would vanish, in parts.
    ///
    /// A server that does not say is accepted: managed services may not allow `INFO`.
    ///
    /// # Errors
    /// The server evicts keys, and the configuration does not allow that.
    pub(super) async fn check_eviction(&self) -> Result<(), StoreError> {
        if self.allow_eviction {
            return Ok(());
        }
        let Some(info) = self.read_info().await else { return Ok(()) };
        let Some(policy) = info.evicting_policy() else { return Ok(()) };
        let problem = format!(
            "Redis evicts keys when its memory is full (maxmemory-policy {policy}), so that sessions would vanish; set it to \
             noeviction, or REDIS_ALLOW_EVICTION=true if losing sessions is acceptable"
        );
        Err(StoreError::Unavailable(BackendError::new(problem).with_outage(StoreOutage::Misconfigured)))
    }

    /// Fails if the server cannot confirm writes as it is configured to. A server that does not answer is accepted.
    ///
    /// # Errors
    /// `Unavailable` with the outage `Misconfigured`.
    pub(super) async fn check_confirmation_mode(&self) -> Result<(), StoreError> {
        if self.confirmer.policy() != ConfirmationPolicy::AppendOnlyFile {
            return Ok(());
        }
        match self.confirmer.find_modes(&self.keys.work_schedule()).await {
            Err(error) if error.outage() == Some(StoreOutage::Misconfigured) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Fails if a master has fewer replicas than have to confirm each write. A server that does not say is accepted.
    ///
    /// # Errors
    /// `Unavailable` with the outage `Unconfirmed`.
    pub(super) async fn check_replicas(&self) -> Result<(), StoreError> {
        let ConfirmationPolicy::Replicas(wanted) = self.confirmer.policy() else { return Ok(()) };
        let Some(fewest) = self.count_replicas().await.filter(|fewest| *fewest < wanted) else { return Ok(()) };
        let problem = format!(
            "Redis has {fewest} replicas that follow it, and REDIS_CONFIRM={wanted} needs {wanted}: messages are not \
             acknowledged, and tool calls that may change something are not sent"
        );
        Err(StoreError::Unavailable(BackendError::new(problem).with_outage(StoreOutage::Unconfirmed)))
    }

    /// Returns how many replicas the master with the fewest has, if it says so.
    async fn count_replicas(&self) -> Option<u32> {
        let reply: Value = self.reads.query(redis::cmd("INFO").arg("replication")).await.ok()?;
        ServerInfo::from_reply(&reply).replica_counts(self.confirmer.limit()).into_iter().min()
    }

    /// Says what confirms writes, and why.
    async fn describe_confirmation(&self) -> String {
        match self.confirmer.find_modes(&self.keys.work_schedule()).await {
            Ok(modes) => {
                let mut texts: Vec<String> = modes.iter().map(ConfirmationMode::describe).collect();
                texts.sort();
                texts.dedup();
                let text = texts.join("; another node ");
                let is_by_file = modes.iter().any(|mode| matches!(mode, ConfirmationMode::AppendOnlyFile { .. }));
                if is_by_file && self.count_replicas().await.is_some_and(|fewest| fewest > 0) {
                    format!("{text}; a failover can lose what only the master has: REDIS_CONFIRM=1 waits for a replica")
                } else {
                    text
                }
            }
            Err(error) => format!("it is not known what confirms writes: {error}"),
        }
    }

    /// Returns what an operator should know about the server.
    pub(super) async fn describe_setup(&self) -> Vec<String> {
        let mut notes = vec![self.describe_confirmation().await];
        // No session has this id, so that replicas ignore it.
        let publish = self.keys.publish(self.keys.work_channel(), "-");
        if let Err(error) = self.writes.query::<()>(&publish).await
            && error.outage() == Some(StoreOutage::AccessDenied)
        {
            notes.push(format!(
                "{error}: without the right to publish and subscribe to the channels {}*, streams on other replicas lag by \
                 seconds (ACL SETUSER … &{}*)",
                self.keys.prefix(),
                self.keys.prefix()
            ));
        }
        if let Some(info) = self.read_info().await {
            let saves = info.values("aof_enabled").any(|enabled| enabled == "1");
            if info.values("aof_enabled").next().is_some() && !saves {
                notes.push(
                    "Redis does not write an append-only file (appendonly no): what it acknowledged in the last seconds or \
                     minutes is lost when it crashes"
                        .to_owned(),
                );
            }
            if self.allow_eviction
                && let Some(policy) = info.evicting_policy()
            {
                notes.push(format!("Redis may evict sessions when its memory is full (maxmemory-policy {policy})"));
            }
        }
        notes
    }

    /// Returns what the server says of itself, if it does.
    async fn read_info(&self) -> Option<ServerInfo> {
        let reply: Value = self.reads.query(redis::cmd("INFO").arg("memory").arg("persistence")).await.ok()?;
        Some(ServerInfo::from_reply(&reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> ServerInfo {
        ServerInfo::from_reply(&Value::BulkString(text.as_bytes().to_vec()))
    }

    #[test]
    fn replicas_are_counted_for_each_master() {
        let replica = |n: u32, state: &str, lag: u32| {
            format!("slave{n}:ip=10.0.0.{n},port=6379,state={state},offset=1,lag={lag}\r\n")
        };
        let master = |replicas: &[String]| {
            format!("# Replication\r\nrole:master\r\nconnected_slaves:9\r\n{}slave_expires:1\r\n", replicas.concat())
        };
        let count = |text: &str| info(text).replica_counts(Duration::from_secs(5));
        assert_eq!(count(&master(&[])), [0]);
        let replicas = [replica(0, "online", 1), replica(1, "wait_bgsave", 0), replica(2, "online", 30)];
        assert_eq!(count(&master(&replicas)), [1]);
        assert_eq!(count(&(master(&replicas) + "\n" + &master(&replicas[..1]))), [1, 1]);
        assert!(count("role:slave\r\n").is_empty() && count("unknown").is_empty());
    }

    #[test]
    fn eviction_is_found_on_any_node() {
        let memory = |bytes: u64, policy: &str| {
            format!("# Memory\r\nmaxmemory:{bytes}\r\nmaxmemory_human:1G\r\nmaxmemory_policy:{policy}\r\n")
        };
        assert_eq!(info(&memory(1 << 30, "noeviction")).evicting_policy(), None);
        assert_eq!(info(&memory(0, "allkeys-lru")).evicting_policy(), None, "there is no limit");
        assert_eq!(info(&memory(1 << 30, "volatile-lru")).evicting_policy(), Some("volatile-lru"));
        assert_eq!(info("unknown").evicting_policy(), None);
        let node = |policy: &str| (Value::Nil, Value::BulkString(memory(1, policy).into_bytes()));
        let cluster = ServerInfo::from_reply(&Value::Map(vec![node("noeviction"), node("allkeys-lfu")]));
        assert_eq!(cluster.evicting_policy(), Some("allkeys-lfu"));
    }
}
