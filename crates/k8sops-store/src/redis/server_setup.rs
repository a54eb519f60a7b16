//! How the server is set up: what a store of sessions cannot live with, and what an operator should know.

use k8sops_core::{BackendError, StoreError, StoreOutage};
use redis::Value;

use super::store::RedisStore;

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

    /// Returns what an operator should know about the server.
    pub(super) async fn describe_setup(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut publish = redis::cmd("PUBLISH");
        // No session has this id, so that replicas ignore it.
        publish.arg(self.keys.work_channel()).arg("-");
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
