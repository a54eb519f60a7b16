//! What is remembered of users.

use std::sync::Arc;

use super::new_session;
use crate::session::{
    Memory, MemoryId, MemoryKind, MemorySource, SessionStore, StoredMemory, Timestamp, UserId, Vector,
};

fn memory(content: &str) -> StoredMemory {
    let now = Timestamp::now();
    let memory = Memory {
        id: MemoryId::new(),
        kind: MemoryKind::Semantic,
        content: content.into(),
        tags: vec!["shop".into()],
        confidence: 0.75,
        source: None,
        created_at: now,
        updated_at: now,
        expires_at: None,
        superseded_by: None,
    };
    let values: Vec<f32> = (0..384_u16).map(|n| f32::from(n) / 384.0 - 0.5).collect();
    StoredMemory { memory, vector: Some(Vector { model: "p/m".into(), values: values.into() }) }
}

pub(super) async fn memories_belong_to_their_user_and_outlive_their_session(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let (anna, ben): (UserId, UserId) = ("anna".parse().expect("an id"), "ben".parse().expect("an id"));
    let session = new_session(store).await;
    let mut one = memory("the cluster is mars-17; ümläuts and \n lines");
    one.memory.source = Some(MemorySource { session_id: session, seq: 7 });
    let two = StoredMemory { vector: None, ..memory("no vector yet") };
    assert_eq!(store.memories(&anna).await.expect("read").len(), 0);
    store.put_memories(&anna, &[two.clone(), one.clone()]).await.expect("written");
    store.put_memories(&ben, &[memory("another's")]).await.expect("written");
    store.put_memories(&anna, &[]).await.expect("written");
    assert_eq!(*store.memories(&anna).await.expect("read"), [one.clone(), two.clone()], "in the order of their ids");
    store.delete(session).await.expect("deleted");
    // Written again, it takes the place of what it was.
    let newer = StoredMemory { memory: Memory { content: "mars-18".into(), ..one.memory.clone() }, vector: None };
    store.put_memories(&anna, std::slice::from_ref(&newer)).await.expect("written");
    assert_eq!(*store.memories(&anna).await.expect("read"), [newer.clone(), two.clone()]);

    assert!(store.delete_memory(&anna, two.memory.id).await.expect("deleted"));
    assert!(!store.delete_memory(&anna, two.memory.id).await.expect("asked"), "it is gone");
    assert!(!store.delete_memory(&ben, newer.memory.id).await.expect("asked"), "another's cannot be deleted");
    assert_eq!(*store.memories(&anna).await.expect("read"), [newer]);
    assert_eq!(store.delete_memories(&anna).await.expect("deleted"), 1);
    assert_eq!(store.memories(&anna).await.expect("read").len(), 0);
    assert_eq!(store.delete_memories(&anna).await.expect("deleted"), 0);
    assert_eq!(store.memories(&ben).await.expect("read").len(), 1);
}
