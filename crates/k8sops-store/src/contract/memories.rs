//! What is remembered of users.

use std::{sync::Arc, time::Duration};

use super::new_session;
use k8sops_core::{
    EmbeddingChange, EmbeddingVector, MemoryChange, MemoryId, MemoryKind, MemorySource, MemoryVersion, MemoryWrite,
    SessionStore, StoredMemory, Timestamp, UpkeepClaim, UserId, UserMemory,
};

fn user(name: &str) -> UserId {
    name.parse().expect("an id")
}

fn memory(content: &str) -> UserMemory {
    let now = Timestamp::now();
    UserMemory {
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
    }
}

/// A vector of length 1 in the plane of the first two values, and so many more values.
fn vector(model: &str, angle: f32, more: usize) -> EmbeddingVector {
    let values = [angle.cos(), angle.sin()].into_iter().chain(std::iter::repeat_n(0.0, more));
    EmbeddingVector { model: model.into(), values: values.collect() }
}

fn change(memory: &UserMemory, embedding: EmbeddingChange) -> MemoryChange {
    MemoryChange { memory: memory.clone(), embedding }
}

/// Writes over whatever is there.
async fn put(store: &dyn SessionStore, user: &UserId, changes: &[MemoryChange]) {
    let version = store.read_memories(user).await.expect("read").version;
    let written = store.write_memories(user, version, changes).await.expect("written");
    assert_eq!(written, MemoryWrite::Written, "no other writer");
}

async fn contents(store: &dyn SessionStore, user: &UserId) -> Vec<String> {
    let all = store.read_memories(user).await.expect("read").all;
    all.iter().map(|stored| stored.memory.content.clone()).collect()
}

async fn nearest(store: &dyn SessionStore, user: &UserId, to: &EmbeddingVector, limit: usize) -> Vec<MemoryId> {
    let found = store.find_nearest_memories(user, to, limit).await.expect("searched");
    assert!(found.is_sorted_by(|a, b| a.1 >= b.1), "the nearest first: {found:?}");
    found.into_iter().map(|(id, _)| id).collect()
}

pub(super) async fn memories_belong_to_their_user_and_outlive_their_session(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let (anna, ben) = (user("anna"), user("ben"));
    let session = new_session(store).await;
    let mut one = memory("the cluster is mars-17; ümläuts and \n lines");
    one.source = Some(MemorySource { session_id: session, seq: 7 });
    let two = memory("no vector yet");
    let meaning = vector("p/m", 0.5, 382);
    assert_eq!(store.read_memories(&anna).await.expect("read").version, MemoryVersion::default());
    put(store, &anna, &[change(&two, EmbeddingChange::Clear), change(&one, EmbeddingChange::Set(meaning.clone()))])
        .await;
    put(store, &ben, &[change(&memory("another's"), EmbeddingChange::Clear)]).await;
    put(store, &anna, &[]).await;
    let all = store.read_memories(&anna).await.expect("read");
    let expected = [
        StoredMemory { memory: one.clone(), space: Some(meaning.space()) },
        StoredMemory { memory: two.clone(), space: None },
    ];
    assert!(all.all.iter().map(AsRef::as_ref).eq(&expected), "in the order of their ids: {all:?}");
    assert_eq!(all.get(two.id).map(|stored| &stored.memory), Some(&two));
    assert!(all.get(MemoryId::new()).is_none());
    store.delete_session(session).await.expect("deleted");
    // Written again, it takes the place of what it was.
    let newer = UserMemory { content: "mars-18".into(), ..one.clone() };
    put(store, &anna, &[change(&newer, EmbeddingChange::Clear)]).await;
    assert_eq!(contents(store, &anna).await, ["mars-18", "no vector yet"]);
    assert!(nearest(store, &anna, &meaning, 5).await.is_empty(), "its vector is gone");

    assert!(store.delete_memory(&anna, two.id).await.expect("deleted"));
    assert!(!store.delete_memory(&anna, two.id).await.expect("asked"), "it is gone");
    assert!(!store.delete_memory(&ben, newer.id).await.expect("asked"), "another's cannot be deleted");
    assert_eq!(contents(store, &anna).await, ["mars-18"]);
    assert_eq!(store.delete_all_memories(&anna).await.expect("deleted"), 1);
    assert!(contents(store, &anna).await.is_empty());
    assert_eq!(store.delete_all_memories(&anna).await.expect("deleted"), 0);
    assert_eq!(contents(store, &ben).await, ["another's"]);
}

pub(super) async fn of_two_who_write_memories_at_once_one_has_to_read_again(store: Arc<dyn SessionStore>) {
    let anna = user("anna");
    let before = store.read_memories(&anna).await.expect("read").version;
    let write = |version, text: &str| {
        let (store, anna, changes) =
            (Arc::clone(&store), anna.clone(), [change(&memory(text), EmbeddingChange::Clear)]);
        async move { store.write_memories(&anna, version, &changes).await.expect("asked") == MemoryWrite::Written }
    };
    let both = tokio::join!(write(before, "one"), write(before, "two"));
    assert!(both.0 != both.1, "one of them: {both:?}");
    let after = store.read_memories(&anna).await.expect("read").version;
    assert_ne!(before, after);
    assert!(!write(before, "late").await, "it was written since");
    assert!(write(after, "three").await);
    assert_eq!(contents(store.as_ref(), &anna).await.len(), 2);
    // What is erased and begins anew is not what it was, however many writes it has seen.
    let full = store.read_memories(&anna).await.expect("read").version;
    store.delete_all_memories(&anna).await.expect("deleted");
    assert!(!write(full, "late").await, "it is gone");
    assert!(write(MemoryVersion::default(), "four").await && !write(after, "late").await);

    // Everybody comes to their turn, and nothing is lost.
    let writers = (0..6).map(|writer| {
        let (store, anna) = (Arc::clone(&store), anna.clone());
        tokio::spawn(async move {
            for n in 0..5 {
                let new = change(&memory(&format!("{writer}/{n}")), EmbeddingChange::Set(vector("m", 0.1, 2)));
                while {
                    let version = store.read_memories(&anna).await.expect("read").version;
                    let write = store.write_memories(&anna, version, std::slice::from_ref(&new)).await;
                    write.expect("asked") == MemoryWrite::VersionConflict
                } {}
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("it wrote");
    }
    assert_eq!(contents(store.as_ref(), &anna).await.len(), 31);
    assert_eq!(nearest(store.as_ref(), &anna, &vector("m", 0.1, 2), 100).await.len(), 30);
}

pub(super) async fn the_nearest_memories_are_found_and_only_those_that_hold(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let anna = user("anna");
    let all: Vec<UserMemory> = (0..60).map(|n| memory(&format!("fact {n}"))).collect();
    // Each a little further away from the first.
    let at = |n: u16| vector("p/m", f32::from(n) * 0.02, 6);
    let changes: Vec<_> = all.iter().zip(0..).map(|(memory, n)| change(memory, EmbeddingChange::Set(at(n)))).collect();
    for part in changes.chunks(20) {
        put(store, &anna, part).await;
    }
    put(store, &user("ben"), &[change(&memory("another's"), EmbeddingChange::Set(at(0)))]).await;
    let ids = |range: std::ops::Range<usize>| -> Vec<MemoryId> { all[range].iter().map(|memory| memory.id).collect() };
    assert_eq!(nearest(store, &anna, &at(0), 5).await, ids(0..5));
    for (id, cosine) in store.find_nearest_memories(&anna, &at(0), 60).await.expect("searched") {
        let n = all.iter().position(|memory| memory.id == id).expect("it is Anna's");
        let there = at(u16::try_from(n).expect("small"));
        let expected: f32 = at(0).values.iter().zip(&*there.values).map(|(a, b)| a * b).sum();
        assert!((cosine - expected).abs() < 0.01, "{n}: {cosine}");
    }
    assert!(nearest(store, &anna, &at(0), 0).await.is_empty());
    assert!(nearest(store, &user("nobody"), &at(0), 5).await.is_empty());

    // Of the first fifty none holds any more, some for one reason, some for another: those behind them are found.
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
    put(store, &anna, &ended).await;
    assert_eq!(nearest(store, &anna, &at(0), 5).await, ids(50..55));
    let spaces = store.read_memories(&anna).await.expect("read");
    let superseded = spaces.get(all[1].id).expect("it is kept");
    assert_eq!((superseded.space.as_ref(), superseded.memory.content.as_str()), (None, "fact 1"));
    // One that is to hold again does.
    put(store, &anna, &[change(&all[0], EmbeddingChange::Keep), change(&all[1], EmbeddingChange::Set(at(1)))]).await;
    assert_eq!(nearest(store, &anna, &at(0), 3).await, [all[0].id, all[1].id, all[50].id]);
    store.delete_memory(&anna, all[50].id).await.expect("deleted");
    assert_eq!(nearest(store, &anna, &at(0), 3).await, [all[0].id, all[1].id, all[51].id]);
}

pub(super) async fn vectors_of_two_spaces_are_never_mixed_and_go_with_their_memories(store: Arc<dyn SessionStore>) {
    let store = store.as_ref();
    let anna = user("anna");
    let [one, two, three] = ["one", "two", "three"].map(memory);
    let (old, other, new) = (vector("p/old", 0.1, 2), vector("p/old", 0.1, 4), vector("p/new {x}:1", 0.1, 2));
    let known = |memory: &UserMemory, vector: &EmbeddingVector| change(memory, EmbeddingChange::Set(vector.clone()));
    put(store, &anna, &[known(&one, &old), known(&two, &other), known(&three, &old)]).await;
    assert_eq!(nearest(store, &anna, &other, 5).await, [two.id]);
    assert!(nearest(store, &anna, &new, 5).await.is_empty());
    put(store, &anna, &[known(&one, &new)]).await;
    assert_eq!(nearest(store, &anna, &new, 5).await, [one.id]);
    assert_eq!(nearest(store, &anna, &old, 5).await, [three.id], "it has left its old space");
    // A write that says nothing of the vector keeps it.
    put(store, &anna, &[change(&UserMemory { confidence: 1.0, ..one.clone() }, EmbeddingChange::Keep)]).await;
    assert_eq!(nearest(store, &anna, &new, 5).await, [one.id]);
    assert_eq!(
        store.read_memories(&anna).await.expect("read").get(one.id).and_then(|s| s.space.clone()),
        Some(new.space())
    );
    assert_eq!(store.delete_all_memories(&anna).await.expect("deleted"), 3);
    for space in [&old, &other, &new] {
        assert!(nearest(store, &anna, space, 5).await.is_empty());
    }
    // Nothing of it comes up again with what is written later.
    put(store, &anna, &[known(&memory("later"), &old)]).await;
    assert_eq!(nearest(store, &anna, &old, 5).await.len(), 1);
}

pub(super) async fn the_care_for_vectors_is_claimed_and_given_back(store: Arc<dyn SessionStore>) {
    let (anna, minute) = (user("anna"), Duration::from_secs(60));
    let claim =
        async |user: &UserId, holder: &str| store.claim_embedding_upkeep(user, holder, minute).await.expect("asked");
    for _ in 0..2 {
        assert_eq!(claim(&anna, "a").await, UpkeepClaim::Granted, "the holder extends its claim");
    }
    assert_eq!(claim(&user("ben"), "b").await, UpkeepClaim::Granted, "each user has a claim");
    store.release_embedding_upkeep(&anna, "a").await.expect("given back");
    assert_eq!(claim(&anna, "b").await, UpkeepClaim::Granted);
}
