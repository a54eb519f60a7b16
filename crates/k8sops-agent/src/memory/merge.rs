//! Merges extracted memories with known ones: each confirms one, contradicts one, or is new.

use super::{claim_similarity::Claim, keyword_index::MemoryCandidate};
use k8sops_core::{
    EmbeddingChange, EmbeddingVector, MemoryChange, MemoryId, MemoryKind, MemorySource, Timestamp, UserMemories,
    UserMemory,
};

/// A memory that was extracted from a session.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtractedMemory {
    /// The kind of the memory.
    pub kind: MemoryKind,
    /// What is remembered, in a few sentences.
    pub content: String,
    /// Words for searching.
    pub tags: Vec<String>,
    /// Confidence from 0 to 1.
    pub confidence: f32,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// The known memory that says the same, if the model named one.
    pub same_as: Option<MemoryId>,
    /// The known memory that it contradicts.
    pub contradicts: Option<MemoryId>,
    /// Its embedding.
    pub vector: Option<EmbeddingVector>,
}

/// Minimum cosine of two claims with the same meaning. All second tellings in `tests/recall` are above it or share the words
/// (all-MiniLM-L6-v2). Pairs of different facts reach 0.79; their names and numbers keep them apart.
const SAME_MEANING: f32 = 0.7;
/// Minimum share of common words of two claims with the same meaning.
const SAME_WORDS: f32 = 0.8;

/// Returns the memories to write, new ones and changed ones. Each extracted memory comes with the known ones that may say the
/// same; `known` holds all known ones.
pub(super) fn merge_memories(
    known: &UserMemories,
    extracted: Vec<(ExtractedMemory, Vec<MemoryCandidate>)>,
    source: &MemorySource,
    now: Timestamp,
) -> Vec<MemoryChange> {
    let mut changed: Vec<MemoryChange> = Vec::new();
    for (one, candidates) in extracted {
        let claim = Claim::new(&one.content);
        let is_same = |memory: &UserMemory, cosine: Option<f32>| {
            memory.is_valid_at(now) && says_same(&claim, &Claim::new(&memory.content), cosine)
        };
        // Changes of this merge count as known, in their current form.
        let lately = |id: MemoryId| changed.iter().find(|change| change.memory.id == id);
        let named = |id: MemoryId| {
            let memory = lately(id).map(|change| &change.memory).or_else(|| known.get(id).map(|s| &s.memory))?;
            memory.is_valid_at(now).then(|| memory.clone())
        };
        let same =
            changed.iter().find(|change| is_same(&change.memory, cosine(&change.embedding, one.vector.as_ref())));
        let same = same.map(|change| change.memory.clone()).or_else(|| {
            let mut candidates = candidates.iter().filter(|candidate| lately(candidate.stored.memory.id).is_none());
            let same = candidates.find(|candidate| is_same(&candidate.stored.memory, candidate.meaning))?;
            Some(same.stored.memory.clone())
        });
        if let Some(mut same) = same.or_else(|| one.same_as.and_then(named)) {
            same.updated_at = now;
            same.confidence = same.confidence.max(one.confidence);
            same.source = Some(source.clone());
            same.expires_at = one.expires_at.or(same.expires_at);
            put_change(&mut changed, same, EmbeddingChange::Keep);
            continue;
        }
        let id = MemoryId::new();
        if let Some(mut old) = one.contradicts.and_then(named) {
            old.superseded_by = Some(id);
            put_change(&mut changed, old, EmbeddingChange::Keep);
        }
        let memory = UserMemory {
            id,
            kind: one.kind,
            content: one.content,
            tags: one.tags,
            confidence: one.confidence.clamp(0.0, 1.0),
            source: Some(source.clone()),
            created_at: now,
            updated_at: now,
            expires_at: one.expires_at,
            superseded_by: None,
        };
        put_change(&mut changed, memory, one.vector.into());
    }
    changed
}

/// Adds or replaces a change. A replaced change keeps its embedding.
fn put_change(changed: &mut Vec<MemoryChange>, memory: UserMemory, meaning: EmbeddingChange) {
    match changed.iter_mut().find(|other| other.memory.id == memory.id) {
        Some(other) => other.memory = memory,
        None => changed.push(MemoryChange { memory, embedding: meaning }),
    }
}

/// Returns whether two claims say the same, independently of what the model says.
fn says_same(one: &Claim, other: &Claim, cosine: Option<f32>) -> bool {
    let alike = cosine.is_some_and(|cosine| cosine >= SAME_MEANING) || one.word_overlap(other) >= SAME_WORDS;
    alike && one.may_equal(other)
}

/// Returns the cosine of two vectors of length 1; `None` when they cannot be compared.
fn cosine(meaning: &EmbeddingChange, other: Option<&EmbeddingVector>) -> Option<f32> {
    let (EmbeddingChange::Set(one), Some(other)) = (meaning, other) else { return None };
    let comparable = one.model == other.model && one.values.len() == other.values.len();
    comparable.then(|| one.values.iter().zip(&*other.values).map(|(a, b)| a * b).sum())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use k8sops_core::{SessionId, StoredMemory};

    fn learned(content: &str) -> ExtractedMemory {
        ExtractedMemory {
            kind: MemoryKind::Semantic,
            content: content.into(),
            tags: Vec::new(),
            confidence: 0.6,
            expires_at: None,
            same_as: None,
            contradicts: None,
            vector: None,
        }
    }

    fn source() -> MemorySource {
        MemorySource { session_id: SessionId::new(), seq: 9 }
    }

    /// All memories after something was learned, every known one a candidate.
    fn merged(known: &[MemoryChange], new: Vec<ExtractedMemory>) -> Vec<MemoryChange> {
        let vectors: Vec<EmbeddingChange> = known.iter().map(|change| change.embedding.clone()).collect();
        let all: Vec<_> =
            known.iter().map(|change| Arc::new(StoredMemory { memory: change.memory.clone(), space: None })).collect();
        let candidates = |one: &ExtractedMemory| {
            let all = all.iter().zip(&vectors);
            let all = all.filter(|(stored, _)| stored.memory.superseded_by.is_none());
            all.map(|(stored, meaning)| MemoryCandidate {
                stored: Arc::clone(stored),
                words: 0.0,
                meaning: cosine(meaning, one.vector.as_ref()),
            })
            .collect()
        };
        let new = new.into_iter().map(|one| (one.clone(), candidates(&one))).collect();
        let memories = UserMemories { all: all.clone().into(), ..UserMemories::default() };
        merge_memories(&memories, new, &source(), Timestamp::now())
    }

    #[test]
    fn the_same_fed_twice_leaves_nothing_twice() {
        let feed = || {
            vec![
                learned("The shop runs on the cluster mars-17."),
                learned("Anna prefers rollbacks to fixes in the night."),
            ]
        };
        let known = merged(&[], [feed(), feed()].concat());
        assert_eq!(known.len(), 2);
        let again =
            merged(&known, vec![ExtractedMemory { confidence: 0.9, ..learned("the cluster mars-17 runs the shop") }]);
        assert_eq!((again.len(), again[0].memory.id), (1, known[0].memory.id));
        assert!((again[0].memory.confidence - 0.9).abs() < 1e-6 && again[0].memory.content.contains("The shop"));
    }

    #[test]
    fn what_differs_in_a_name_is_something_else() {
        let known = merged(&[], vec![learned("payments-api needs 2 replicas in the shop")]);
        for other in ["payments-api needs 4 replicas in the shop", "orders-api needs 2 replicas in the shop"] {
            let same_meaning = EmbeddingVector { model: "m".into(), values: [1.0].into() };
            let known: Vec<_> = known
                .iter()
                .map(|k| MemoryChange { embedding: EmbeddingChange::Set(same_meaning.clone()), ..k.clone() })
                .collect();
            let new = merged(&known, vec![ExtractedMemory { vector: Some(same_meaning.clone()), ..learned(other) }]);
            assert_ne!(new[0].memory.id, known[0].memory.id, "{other}");
        }
    }

    #[test]
    fn the_newer_of_two_that_contradict_each_other_holds_and_the_older_is_kept() {
        let known = merged(&[], vec![learned("The shop runs on mars-17")]);
        let newer =
            ExtractedMemory { contradicts: Some(known[0].memory.id), ..learned("The shop was moved to venus-2") };
        let after = merged(&known, vec![newer]);
        let (old, new) = (&after[0].memory, &after[1].memory);
        assert_eq!((old.id, old.superseded_by), (known[0].memory.id, Some(new.id)));
        assert!(!old.is_valid_at(Timestamp::now()) && new.is_valid_at(Timestamp::now()));
        // What is superseded is not confirmed by saying it again: it is new.
        let again = merged(&after, vec![learned("The shop runs on mars-17")]);
        assert!(again.iter().all(|stored| stored.memory.id != old.id));
    }

    #[test]
    fn a_memory_that_the_model_names_is_confirmed_if_it_is_there() {
        let known = merged(&[], vec![learned("The database of orders is a managed one at the provider")]);
        let same = ExtractedMemory {
            same_as: Some(known[0].memory.id),
            ..learned("orders keeps its data outside of the cluster")
        };
        assert_eq!(merged(&known, vec![same.clone()])[0].memory.id, known[0].memory.id);
        assert_eq!(merged(&[], vec![same]).len(), 1, "one that is not there is passed over");
    }
}
