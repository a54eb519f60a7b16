//! Which node of a cluster has which keys, so that writes of one node are confirmed together.

use std::collections::HashMap;

use redis::{Value, cluster_routing::Slot};

/// The server that has a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ServerNode {
    /// The only one.
    Single,
    /// The node of a cluster with this id.
    Node(String),
    /// A node of a cluster that is not known. What has its keys is confirmed by itself.
    Unknown(Slot),
}

/// The masters of a cluster, by the slots that they serve.
pub(super) struct SlotOwners {
    nodes: HashMap<Slot, String>,
}

impl SlotOwners {
    /// Reads the reply to `CLUSTER SLOTS`: ranges, each as its first and last slot and its nodes, the master first, each as its
    /// address, port and id.
    pub(super) fn from_reply(reply: Value) -> Self {
        let Value::Array(ranges) = reply else { return Self { nodes: HashMap::new() } };
        let mut nodes = HashMap::new();
        for range in ranges {
            let Value::Array(fields) = range else { continue };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = fields.as_slice() else { continue };
            let Some(id) = master.get(2).and_then(|id| redis::from_redis_value::<String>(id.clone()).ok()) else {
                continue;
            };
            let slots = (*first..=*last).filter_map(|slot| Slot::new(u16::try_from(slot).ok()?));
            nodes.extend(slots.map(|slot| (slot, id.clone())));
        }
        Self { nodes }
    }

    pub(super) fn owner_of(&self, key: &str) -> ServerNode {
        let slot = Slot::for_key(key);
        self.nodes.get(&slot).map_or(ServerNode::Unknown(slot), |id| ServerNode::Node(id.clone()))
    }

    /// Returns a key for each node that it has.
    pub(super) fn keys_of_nodes(&self) -> Vec<String> {
        let mut missing: std::collections::HashSet<&String> = self.nodes.values().collect();
        let mut keys = Vec::new();
        for n in 0_u32.. {
            if missing.is_empty() {
                break;
            }
            let key = n.to_string();
            if let Some(id) = self.nodes.get(&Slot::for_key(&key))
                && missing.remove(id)
            {
                keys.push(key);
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_the_master_of_its_range() {
        let node = |id: &str| {
            Value::Array(vec![
                Value::BulkString(b"10.0.0.1".to_vec()),
                Value::Int(6379),
                Value::BulkString(id.into()),
                Value::Array(Vec::new()),
            ])
        };
        let range = |first, last, master: &str| {
            Value::Array(vec![Value::Int(first), Value::Int(last), node(master), node("replica")])
        };
        let owners = SlotOwners::from_reply(Value::Array(vec![range(0, 8000, "a"), range(8001, 16383, "b")]));
        assert_eq!(owners.nodes.len(), 16384);
        // The slot of `123456789` is 12739, see the specification of Redis Cluster.
        assert_eq!(owners.owner_of("123456789"), ServerNode::Node("b".to_owned()));
        assert_eq!(owners.owner_of("k8sops:{123456789}:meta"), ServerNode::Node("b".to_owned()));
        let owned: Vec<ServerNode> = owners.keys_of_nodes().iter().map(|key| owners.owner_of(key)).collect();
        assert!(owned.len() == 2 && owned[0] != owned[1], "{owned:?}");
        let unknown = SlotOwners::from_reply(Value::Nil);
        assert!(matches!(unknown.owner_of("a"), ServerNode::Unknown(_)) && unknown.keys_of_nodes().is_empty());
    }
}
