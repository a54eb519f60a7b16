//! Rules of memories.

use std::{sync::Arc, time::Duration};

use super::fixtures::{create_test_session, test_memory, test_user};
use k8sops_core::{
    EmbeddingChange, EmbeddingVector, MemoryChange, MemoryId, MemorySource, MemoryVersion, MemoryWrite, SessionStore,
    StoredMemory, Timestamp, UpkeepClaim, UserId, UserMemory,
};

/// A vector of length 1: the first two values have this angle, and `more` zeros follow.
fn vector(model: &str, angle: f32, more: usize) -> EmbeddingVector {
    let values = [angle.cos(), angle.sin()].into_iter().chain(std::iter::repeat_n(0.0, more));
    EmbeddingVector { model: model.into(), values: values.collect() }
}

fn change(memory: &UserMemory, embedding: EmbeddingChange) -> MemoryChange {
    MemoryChange { memory: memory.clone(), embedding }
}

/// Writes memories at their current version.
async fn write_current(store: &dyn SessionStore, user: &UserId, changes: &[MemoryChange]) {
    let version = store.read_memories(user).await.unwrap().version;
    let written = store.write_memories(user, version, changes).await.unwrap();
    assert_eq!(written, MemoryWrite::Written, "no other writer");
}

async fn memory_contents(store: &dyn SessionStore, user: &UserId) -> Vec<String> {
    let all = store.read_memories(user).await.unwrap().all;
    all.iter().map(|stored| stored.memory.content.clone()).collect()
}

async fn nearest_ids(store: &dyn SessionStore, user: &UserId, to: &EmbeddingVector, limit: usize) -> Vec<MemoryId> {
    let found = store.find_nearest_memories(user, to, limit).await.unwrap();
    assert!(found.is_sorted_by(|a, b| a.1 >= b.1), "the nearest first: {found:?}");
    found.into_iter().map(|(id, _)| id).collect()
}

pub(super) async fn memories_outlive_their_session(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let anna = test_user("anna");
    let ben = test_user("ben");
    let session = create_test_session(store).await;
    let mut one = test_memory("the cluster is mars-17; ümläuts and \n lines");
    one.source = Some(MemorySource { session_id: session, seq: 7 });
    let two = test_memory("no vector yet");
    let meaning = vector("p/m", 0.5, 382);
    assert_eq!(store.read_memories(&anna).await.unwrap().version, MemoryVersion::default());
    write_current(
        store,
        &anna,
        &[change(&two, EmbeddingChange::Clear), change(&one, EmbeddingChange::Set(meaning.clone()))],
    )
    .await;
    write_current(store, &ben, &[change(&test_memory("another's"), EmbeddingChange::Clear)]).await;
    write_current(store, &anna, &[]).await;
    let all = store.read_memories(&anna).await.unwrap();
    let expected = [
        StoredMemory { memory: one.clone(), space: Some(meaning.space()) },
        StoredMemory { memory: two.clone(), space: None },
    ];
    assert!(all.all.iter().map(AsRef::as_ref).eq(&expected), "sorted by id: {all:?}");
    assert_eq!(all.get(two.id).map(|stored| &stored.memory), Some(&two));
    assert!(all.get(MemoryId::new()).is_none());
    store.delete_session(session).await.unwrap();
    // A memory that is written again replaces the old one.
    let newer = UserMemory { content: "mars-18".into(), ..one.clone() };
    write_current(store, &anna, &[change(&newer, EmbeddingChange::Clear)]).await;
    assert_eq!(memory_contents(store, &anna).await, ["mars-18", "no vector yet"]);
    assert!(nearest_ids(store, &anna, &meaning, 5).await.is_empty(), "its vector is gone");

    assert!(store.delete_memory(&anna, two.id).await.unwrap());
    assert!(!store.delete_memory(&anna, two.id).await.unwrap(), "it is gone");
    assert!(!store.delete_memory(&ben, newer.id).await.unwrap(), "another's cannot be deleted");
    assert_eq!(memory_contents(store, &anna).await, ["mars-18"]);
    assert_eq!(store.delete_all_memories(&anna).await.unwrap(), 1);
    assert!(memory_contents(store, &anna).await.is_empty());
    assert_eq!(store.delete_all_memories(&anna).await.unwrap(), 0);
    assert_eq!(memory_contents(store, &ben).await, ["another's"]);
}

pub(super) async fn concurrent_memory_writes_conflict(store: Arc<dyn SessionStore>) {
    let anna = test_user("anna");
    let before = store.read_memories(&anna).await.unwrap().version;
    let write = |version, text: &str| {
        let (store, anna, changes) =
            (Arc::clone(&store), anna.clone(), [change(&test_memory(text), EmbeddingChange::Clear)]);
        async move { store.write_memories(&anna, version, &changes).await.unwrap() == MemoryWrite::Written }
    };
    let both = tokio::join!(write(before, "one"), write(before, "two"));
    assert!(both.0 != both.1, "one of them: {both:?}");
    let after = store.read_memories(&anna).await.unwrap().version;
    assert_ne!(before, after);
    assert!(!write(before, "late").await, "it was written since");
    assert!(write(after, "three").await);
    assert_eq!(memory_contents(store.as_ref(), &anna).await.len(), 2);
    // Memories that are written after a deletion have another version, however many writes there were.
    let full = store.read_memories(&anna).await.unwrap().version;
    store.delete_all_memories(&anna).await.unwrap();
    assert!(!write(full, "late").await, "it is gone");
    assert!(write(MemoryVersion::default(), "four").await && !write(after, "late").await);

    // All writers succeed in the end, and nothing is lost.
    let writers = (0..6).map(|writer| {
        let (store, anna) = (Arc::clone(&store), anna.clone());
        tokio::spawn(async move {
            for n in 0..5 {
                let new = change(&test_memory(&format!("{writer}/{n}")), EmbeddingChange::Set(vector("m", 0.1, 2)));
                while {
                    let version = store.read_memories(&anna).await.unwrap().version;
                    let write = store.write_memories(&anna, version, std::slice::from_ref(&new)).await;
                    write.unwrap() == MemoryWrite::VersionConflict
                } {}
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(memory_contents(store.as_ref(), &anna).await.len(), 31);
    assert_eq!(nearest_ids(store.as_ref(), &anna, &vector("m", 0.1, 2), 100).await.len(), 30);
}

pub(super) async fn only_valid_memories_are_found(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let anna = test_user("anna");
    let all: Vec<UserMemory> = (0..60).map(|n| test_memory(&format!("fact {n}"))).collect();
    // Each vector is a little further away from the first.
    let at = |n: u16| vector("p/m", f32::from(n) * 0.02, 6);
    let changes: Vec<_> = all.iter().zip(0..).map(|(memory, n)| change(memory, EmbeddingChange::Set(at(n)))).collect();
    for part in changes.chunks(20) {
        write_current(store, &anna, part).await;
    }
    write_current(store, &test_user("ben"), &[change(&test_memory("another's"), EmbeddingChange::Set(at(0)))]).await;
    let ids = |range: std::ops::Range<usize>| -> Vec<MemoryId> { all[range].iter().map(|memory| memory.id).collect() };
    assert_eq!(nearest_ids(store, &anna, &at(0), 5).await, ids(0..5));
    for (id, cosine) in store.find_nearest_memories(&anna, &at(0), 60).await.unwrap() {
        let n = all.iter().position(|memory| memory.id == id).unwrap();
        let there = at(u16::try_from(n).unwrap());
        let expected: f32 = at(0).values.iter().zip(&*there.values).map(|(a, b)| a * b).sum();
        assert!((cosine - expected).abs() < 0.01, "{n}: {cosine}");
    }
    assert!(nearest_ids(store, &anna, &at(0), 0).await.is_empty());
    assert!(nearest_ids(store, &test_user("unknown"), &at(0), 5).await.is_empty());

    // The first fifty become invalid, half of them by expiry, half superseded: the ones behind them are found.
    let over = Timestamp::from_millis(Timestamp::now().as_millis() - 1);
    let ended: Vec<_> = all[..50]
        .iter()
        .enumerate()
        .map(|(n, memory)| {
            let mut memory = memory.clone();
            if n % 2 == 0 {
                memory.expires_at = Some(over);
            } else {
                memory.superseded_by = Some(all[55].id);
            }
            change(&memory, EmbeddingChange::Keep)
        })
        .collect();
    write_current(store, &anna, &ended).await;
    assert_eq!(nearest_ids(store, &anna, &at(0), 5).await, ids(50..55));
    let spaces = store.read_memories(&anna).await.unwrap();
    let superseded = spaces.get(all[1].id).unwrap();
    assert_eq!((superseded.space.as_ref(), superseded.memory.content.as_str()), (None, "fact 1"));
    // A memory can become valid again.
    write_current(
        store,
        &anna,
        &[change(&all[0], EmbeddingChange::Keep), change(&all[1], EmbeddingChange::Set(at(1)))],
    )
    .await;
    assert_eq!(nearest_ids(store, &anna, &at(0), 3).await, [all[0].id, all[1].id, all[50].id]);
    store.delete_memory(&anna, all[50].id).await.unwrap();
    assert_eq!(nearest_ids(store, &anna, &at(0), 3).await, [all[0].id, all[1].id, all[51].id]);
}

pub(super) async fn embedding_spaces_are_separate(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let anna = test_user("anna");
    let [one, two, three] = ["one", "two", "three"].map(test_memory);
    let (old, other, new) = (vector("p/old", 0.1, 2), vector("p/old", 0.1, 4), vector("p/new {x}:1", 0.1, 2));
    let known = |memory: &UserMemory, vector: &EmbeddingVector| change(memory, EmbeddingChange::Set(vector.clone()));
    write_current(store, &anna, &[known(&one, &old), known(&two, &other), known(&three, &old)]).await;
    assert_eq!(nearest_ids(store, &anna, &other, 5).await, [two.id]);
    assert!(nearest_ids(store, &anna, &new, 5).await.is_empty());
    write_current(store, &anna, &[known(&one, &new)]).await;
    assert_eq!(nearest_ids(store, &anna, &new, 5).await, [one.id]);
    assert_eq!(nearest_ids(store, &anna, &old, 5).await, [three.id], "a memory has one vector");
    // A write can keep the vector.
    write_current(store, &anna, &[change(&UserMemory { confidence: 1.0, ..one.clone() }, EmbeddingChange::Keep)]).await;
    assert_eq!(nearest_ids(store, &anna, &new, 5).await, [one.id]);
    assert_eq!(store.read_memories(&anna).await.unwrap().get(one.id).and_then(|s| s.space.clone()), Some(new.space()));
    assert_eq!(store.delete_all_memories(&anna).await.unwrap(), 3);
    for space in [&old, &other, &new] {
        assert!(nearest_ids(store, &anna, space, 5).await.is_empty());
    }
    // Deleted vectors do not come back with later writes.
    write_current(store, &anna, &[known(&test_memory("later"), &old)]).await;
    assert_eq!(nearest_ids(store, &anna, &old, 5).await.len(), 1);
}

pub(super) async fn embedding_upkeep_is_claimed_and_released(store: Arc<dyn SessionStore>) {
    let anna = test_user("anna");
    let minute = Duration::from_secs(60);
    let claim = async |user: &UserId, holder: &str| store.claim_embedding_upkeep(user, holder, minute).await.unwrap();
    for _ in 0..2 {
        assert_eq!(claim(&anna, "a").await, UpkeepClaim::Granted, "the holder extends its claim");
    }
    assert_eq!(claim(&test_user("ben"), "b").await, UpkeepClaim::Granted, "each user has a claim");
    store.release_embedding_upkeep(&anna, "a").await.unwrap();
    assert_eq!(claim(&anna, "b").await, UpkeepClaim::Granted);
}
