//! Which memories speak to what a user says.

use std::{cmp::Ordering, time::Duration};

use super::words::{self, Frequencies};
use crate::session::{StoredMemory, Timestamp, Vector};

/// How much the meaning counts against the words, where both are known.
const MEANING: f32 = 0.65;
/// What the words alone are worth at most: an exact name hits without any likeness in meaning.
const WORDS_ALONE: f32 = 0.8;
/// A score below this says nothing. Found by trial over `tests/recall`.
const LEAST: f32 = 0.3;
/// What age and doubt may take away at most.
const AGE: f32 = 0.1;
const DOUBT: f32 = 0.3;
/// The age at which a memory has lost about two thirds of what age takes away.
const FADES: Duration = Duration::from_hours(24 * 90);

/// A memory that speaks to a question.
#[derive(Debug, Clone)]
pub struct Ranked<'a> {
    /// The memory.
    pub stored: &'a StoredMemory,
    /// How much, from 0 to 1.
    pub score: f32,
}

/// The best of the memories that hold, at most `limit`, the best first. Without a vector the words decide.
#[must_use]
pub fn rank<'a>(
    memories: &'a [StoredMemory],
    question: &str,
    vector: Option<&Vector>,
    limit: usize,
    now: Timestamp,
) -> Vec<Ranked<'a>> {
    let current: Vec<&StoredMemory> = memories.iter().filter(|stored| stored.memory.is_current(now)).collect();
    let texts: Vec<_> = current
        .iter()
        .map(|stored| words::of(&format!("{} {}", stored.memory.content, stored.memory.tags.join(" "))))
        .collect();
    let frequencies = Frequencies::new(texts.iter());
    let asked = words::of(question);
    let mut ranked: Vec<Ranked<'_>> = current
        .into_iter()
        .zip(&texts)
        .map(|(stored, text)| {
            let by_words = frequencies.share(&asked, text);
            let by_meaning = vector.zip(stored.vector.as_ref()).and_then(|(one, other)| likeness(one, other));
            let likely = match by_meaning {
                Some(meaning) => (MEANING * meaning + (1.0 - MEANING) * by_words).max(WORDS_ALONE * by_words),
                None => WORDS_ALONE * by_words,
            };
            Ranked { stored, score: likely * worth(stored, now) }
        })
        .filter(|ranked| ranked.score >= LEAST)
        .collect();
    // Of two that are alike the newer one.
    ranked.sort_by(|a, b| {
        let by_score = b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal);
        by_score.then(b.stored.memory.updated_at.cmp(&a.stored.memory.updated_at))
    });
    ranked.truncate(limit);
    ranked
}

/// The cosine of two vectors of length 1; `None` when they cannot be compared. What points away is as good as unlike.
pub(super) fn likeness(one: &Vector, other: &Vector) -> Option<f32> {
    let comparable = one.model == other.model && one.values.len() == other.values.len();
    comparable.then(|| one.values.iter().zip(&*other.values).map(|(a, b)| a * b).sum::<f32>().max(0.0))
}

/// What a memory is worth by its age and how sure it is.
fn worth(stored: &StoredMemory, now: Timestamp) -> f32 {
    let age = now.since(stored.memory.updated_at).as_secs_f32() / FADES.as_secs_f32();
    let old = AGE * (1.0 - (-age).exp());
    let unsure = DOUBT * (1.0 - stored.memory.confidence.clamp(0.0, 1.0));
    1.0 - old - unsure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Memory, MemoryId, MemoryKind};

    fn stored(content: &str, values: &[f32]) -> StoredMemory {
        let now = Timestamp::now();
        let memory = Memory {
            id: MemoryId::new(),
            kind: MemoryKind::Semantic,
            content: content.into(),
            tags: Vec::new(),
            confidence: 1.0,
            source: None,
            created_at: now,
            updated_at: now,
            expires_at: None,
            superseded_by: None,
        };
        StoredMemory { memory, vector: Some(vector("m", values)) }
    }

    fn vector(model: &str, values: &[f32]) -> Vector {
        Vector { model: model.into(), values: values.into() }
    }

    fn found<'a>(memories: &'a [StoredMemory], question: &str, by: Option<&Vector>) -> Vec<&'a str> {
        let ranked = rank(memories, question, by, 5, Timestamp::now());
        ranked.iter().map(|ranked| ranked.stored.memory.content.as_str()).collect()
    }

    #[test]
    fn meaning_finds_what_words_do_not_and_a_name_what_meaning_does_not() {
        let memories = [
            stored("the shop runs on mars-17", &[1.0, 0.0, 0.0]),
            stored("payments-api needs two replicas", &[0.0, 1.0, 0.0]),
            stored("anna is on call on Mondays", &[0.0, 0.0, 1.0]),
        ];
        let like_first = vector("m", &[0.8, 0.0, 0.6]);
        assert_eq!(
            found(&memories, "which cluster do we use?", Some(&like_first)),
            ["the shop runs on mars-17", "anna is on call on Mondays"]
        );
        assert_eq!(found(&memories, "is payments-api well?", Some(&like_first))[0], "payments-api needs two replicas");
        assert_eq!(found(&memories, "is payments-api well?", None), ["payments-api needs two replicas"]);
        assert!(found(&memories, "good morning", None).is_empty());
    }

    #[test]
    fn vectors_of_another_model_are_not_compared() {
        let memories = [stored("the shop runs on mars-17", &[1.0, 0.0])];
        assert!(found(&memories, "which cluster?", Some(&vector("other", &[1.0, 0.0]))).is_empty());
        assert!(found(&memories, "which cluster?", Some(&vector("m", &[1.0]))).is_empty());
    }

    #[test]
    fn what_does_not_hold_is_not_found_and_what_is_old_or_unsure_comes_later() {
        let now = Timestamp::now();
        let mut memories: Vec<_> = (0..5).map(|n| stored(&format!("redis is at host {n}"), &[1.0])).collect();
        memories[0].memory.superseded_by = Some(memories[1].memory.id);
        memories[1].memory.expires_at = Some(Timestamp::from_millis(now.as_millis() - 1));
        memories[2].memory.confidence = 0.2;
        memories[3].memory.updated_at = Timestamp::from_millis(now.as_millis() - 400 * 24 * 3600 * 1000);
        assert_eq!(
            found(&memories, "where is redis?", None),
            ["redis is at host 4", "redis is at host 3", "redis is at host 2"]
        );
    }
}
