//! Ranks memories by their relevance to a text.

use std::{cmp::Ordering, time::Duration};

use super::keyword_index::MemoryCandidate;
use k8sops_core::{Timestamp, UserMemory};

// The three constants below were chosen with the even half of `tests/recall` and all-MiniLM-L6-v2, and tried on the odd half
// (both halves were visible while choosing). Weights of 0.65 and 0.8, without counting unknown keywords, found 59 and 65 of
// 100; these find 71 and 78; the cosine alone finds 70 and 76.

/// Weight of the embedding against keywords, where both are known.
const EMBEDDING_WEIGHT: f32 = 0.8;
/// Upper bound of a score by keywords alone: an exact name matches without similar embeddings. Values from 0.4 to 0.6 make no
/// difference in `tests/recall`.
const KEYWORDS_ALONE: f32 = 0.7;
/// Minimum score: "good morning" and the like score 0.11 to 0.23 against those facts, and 0.2 would lose three of a hundred
/// questions.
const MIN_SCORE: f32 = 0.18;
/// Minimum score without an embedding.
const MIN_SCORE_BY_KEYWORDS: f32 = 0.05;
/// Upper bound of what age takes off a score.
const AGE_PENALTY: f32 = 0.1;
/// Upper bound of what low confidence takes off a score.
const DOUBT_PENALTY: f32 = 0.3;
/// The age at which a memory has lost about two thirds of [`AGE_PENALTY`].
const FADE_TIME: Duration = Duration::from_hours(24 * 90);

/// Returns the best candidates with their scores from 0 to 1, at most `limit`, the best first. A candidate by keywords that is
/// not among the nearest gets the cosine of the last of those.
pub(super) fn rank_candidates(
    candidates: Vec<MemoryCandidate>,
    limit: usize,
    now: Timestamp,
) -> Vec<(MemoryCandidate, f32)> {
    let farthest = candidates.iter().filter_map(|candidate| candidate.meaning).reduce(f32::min);
    let mut ranked: Vec<(MemoryCandidate, f32)> = candidates
        .into_iter()
        .map(|candidate| {
            let words = candidate.words;
            let meaning = candidate.meaning.or(farthest.filter(|_| candidate.stored.space.is_some()));
            let likely = match meaning {
                Some(meaning) => {
                    (EMBEDDING_WEIGHT * meaning.max(0.0) + (1.0 - EMBEDDING_WEIGHT) * words).max(KEYWORDS_ALONE * words)
                }
                None => KEYWORDS_ALONE * words,
            };
            let score = likely * score_factor(&candidate.stored.memory, now);
            let least = if meaning.is_some() { MIN_SCORE } else { MIN_SCORE_BY_KEYWORDS };
            (candidate, score, least)
        })
        .filter(|(_, score, least)| score >= least)
        .map(|(candidate, score, _)| (candidate, score))
        .collect();
    // Of two equal scores the newer memory comes first.
    ranked.sort_by(|(a, score_a), (b, score_b)| {
        let by_score = score_b.partial_cmp(score_a).unwrap_or(Ordering::Equal);
        by_score.then(b.stored.memory.updated_at.cmp(&a.stored.memory.updated_at))
    });
    ranked.truncate(limit);
    ranked
}

/// Returns the factor by which age and low confidence reduce a score.
fn score_factor(memory: &UserMemory, now: Timestamp) -> f32 {
    let age = now.saturating_duration_since(memory.updated_at).as_secs_f32() / FADE_TIME.as_secs_f32();
    let old = AGE_PENALTY * (1.0 - (-age).exp());
    let unsure = DOUBT_PENALTY * (1.0 - memory.confidence.clamp(0.0, 1.0));
    1.0 - old - unsure
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::keyword_index::tests::stored;
    use k8sops_core::{EmbeddingSpace, StoredMemory};

    fn candidate(stored: StoredMemory, words: f32, meaning: Option<f32>) -> MemoryCandidate {
        let space = meaning.map(|_| EmbeddingSpace { model: "m".into(), dimensions: 3 });
        MemoryCandidate { stored: Arc::new(StoredMemory { space, ..stored }), words, meaning }
    }

    fn found(candidates: Vec<MemoryCandidate>) -> Vec<String> {
        let ranked = rank_candidates(candidates, 5, Timestamp::now());
        ranked.into_iter().map(|(candidate, _)| candidate.stored.memory.content.clone()).collect()
    }

    #[test]
    fn meaning_finds_what_words_do_not_and_a_name_what_meaning_does_not() {
        let all = |words: [f32; 3], meaning: Option<[f32; 3]>| {
            let of = |n: usize, text: &str| candidate(stored(text), words[n], meaning.map(|meaning| meaning[n]));
            vec![of(0, "the shop runs on mars-17"), of(1, "payments-api needs two replicas"), of(2, "anna is on call")]
        };
        assert_eq!(found(all([0.0; 3], Some([0.8, 0.0, 0.6]))), ["the shop runs on mars-17", "anna is on call"]);
        assert_eq!(found(all([0.0, 1.0, 0.0], Some([0.8, 0.0, 0.6])))[0], "payments-api needs two replicas");
        assert_eq!(found(all([0.0, 1.0, 0.0], None)), ["payments-api needs two replicas"]);
        assert!(found(all([0.0; 3], None)).is_empty());
    }

    #[test]
    fn what_is_old_or_unsure_comes_later() {
        let now = Timestamp::now();
        let mut memories: Vec<_> = (0..3).map(|n| stored(&format!("redis is at host {n}"))).collect();
        memories[0].memory.confidence = 0.2;
        memories[1].memory.updated_at = Timestamp::from_millis(now.as_millis() - 400 * 24 * 3600 * 1000);
        assert_eq!(
            found(memories.into_iter().map(|stored| candidate(stored, 1.0, None)).collect()),
            ["redis is at host 2", "redis is at host 1", "redis is at host 0"]
        );
    }
}
