//! What was learned, held against what is known: confirmed, contradicted, or new.

use super::words;
use crate::session::{Memory, MemoryId, MemoryKind, MemorySource, StoredMemory, Timestamp, Vector};

/// Something that was learned from a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// Its kind.
    pub kind: MemoryKind,
    /// What it says.
    pub content: String,
    /// Words under which it may be looked for.
    pub tags: Vec<String>,
    /// How sure it is, from 0 to 1.
    pub confidence: f32,
    /// When it is of no use any more.
    pub expires_at: Option<Timestamp>,
    /// The known memory that says the same, if the model has named one.
    pub same_as: Option<MemoryId>,
    /// The known memory that it contradicts.
    pub contradicts: Option<MemoryId>,
    /// Its meaning.
    pub vector: Option<Vector>,
}

/// From this likeness on two memories say the same.
const SAME_MEANING: f32 = 0.93;
/// From this share of common words on, too.
const SAME_WORDS: f32 = 0.8;

/// The memories to write: those that are new, and those that are changed.
#[must_use]
pub fn merge(
    known: &[StoredMemory],
    learned: Vec<Learned>,
    source: &MemorySource,
    now: Timestamp,
) -> Vec<StoredMemory> {
    let mut changed: Vec<StoredMemory> = Vec::new();
    for one in learned {
        // What was learned a moment ago is known as well.
        let current = |stored: &&StoredMemory| stored.memory.is_current(now);
        let find = |wanted: &dyn Fn(&StoredMemory) -> bool| {
            let newer = changed.iter().filter(current).find(|stored| wanted(stored));
            let is_changed = |id: MemoryId| changed.iter().any(|stored| stored.memory.id == id);
            let older = known.iter().filter(current).filter(|stored| !is_changed(stored.memory.id));
            newer.or_else(|| older.into_iter().find(|stored| wanted(stored))).cloned()
        };
        let same = find(&|stored| says_the_same(stored, &one))
            .or_else(|| one.same_as.and_then(|id| find(&|stored| stored.memory.id == id)));
        if let Some(mut same) = same {
            same.memory.updated_at = now;
            same.memory.confidence = same.memory.confidence.max(one.confidence);
            same.memory.source = Some(source.clone());
            same.memory.expires_at = one.expires_at.or(same.memory.expires_at);
            same.vector = same.vector.or(one.vector);
            put(&mut changed, same);
            continue;
        }
        let id = MemoryId::new();
        if let Some(mut old) = one.contradicts.and_then(|id| find(&|stored| stored.memory.id == id)) {
            old.memory.superseded_by = Some(id);
            put(&mut changed, old);
        }
        let memory = Memory {
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
        put(&mut changed, StoredMemory { memory, vector: one.vector });
    }
    changed
}

fn put(changed: &mut Vec<StoredMemory>, stored: StoredMemory) {
    match changed.iter_mut().find(|other| other.memory.id == stored.memory.id) {
        Some(other) => *other = stored,
        None => changed.push(stored),
    }
}

/// Whether a memory says what was learned, so that nothing is kept twice whatever a model says of it.
fn says_the_same(stored: &StoredMemory, learned: &Learned) -> bool {
    // What only differs in a name or a number is something else, however alike it is in meaning.
    if words::exact(&stored.memory.content) != words::exact(&learned.content) {
        return false;
    }
    let (one, other) = (words::of(&stored.memory.content), words::of(&learned.content));
    let common = one.intersection(&other).count() as f32;
    let all = one.union(&other).count().max(1) as f32;
    let alike =
        stored.vector.as_ref().zip(learned.vector.as_ref()).is_some_and(|(one, other)| {
            super::rank::likeness(one, other).is_some_and(|likeness| likeness >= SAME_MEANING)
        });
    alike || common / all >= SAME_WORDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionId;

    fn learned(content: &str) -> Learned {
        Learned {
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

    fn merged(known: &[StoredMemory], new: Vec<Learned>) -> Vec<StoredMemory> {
        merge(known, new, &source(), Timestamp::now())
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
        let again = merged(&known, vec![Learned { confidence: 0.9, ..learned("the cluster mars-17 runs the shop") }]);
        assert_eq!((again.len(), again[0].memory.id), (1, known[0].memory.id));
        assert!((again[0].memory.confidence - 0.9).abs() < 1e-6 && again[0].memory.content.contains("The shop"));
    }

    #[test]
    fn what_differs_in_a_name_is_something_else() {
        let known = merged(&[], vec![learned("payments-api needs 2 replicas in the shop")]);
        for other in ["payments-api needs 4 replicas in the shop", "orders-api needs 2 replicas in the shop"] {
            let same_meaning = Vector { model: "m".into(), values: [1.0].into() };
            let known: Vec<_> =
                known.iter().map(|k| StoredMemory { vector: Some(same_meaning.clone()), ..k.clone() }).collect();
            let new = merged(&known, vec![Learned { vector: Some(same_meaning.clone()), ..learned(other) }]);
            assert_ne!(new[0].memory.id, known[0].memory.id, "{other}");
        }
    }

    #[test]
    fn the_newer_of_two_that_contradict_each_other_holds_and_the_older_is_kept() {
        let known = merged(&[], vec![learned("The shop runs on mars-17")]);
        let newer = Learned { contradicts: Some(known[0].memory.id), ..learned("The shop was moved to venus-2") };
        let after = merged(&known, vec![newer]);
        let (old, new) = (&after[0].memory, &after[1].memory);
        assert_eq!((old.id, old.superseded_by), (known[0].memory.id, Some(new.id)));
        assert!(!old.is_current(Timestamp::now()) && new.is_current(Timestamp::now()));
        // What is superseded is not confirmed by saying it again: it is new.
        let again = merged(&after, vec![learned("The shop runs on mars-17")]);
        assert!(again.iter().all(|stored| stored.memory.id != old.id));
    }

    #[test]
    fn a_memory_that_the_model_names_is_confirmed_if_it_is_there() {
        let known = merged(&[], vec![learned("The database of orders is a managed one at the provider")]);
        let same =
            Learned { same_as: Some(known[0].memory.id), ..learned("orders keeps its data outside of the cluster") };
        assert_eq!(merged(&known, vec![same.clone()])[0].memory.id, known[0].memory.id);
        assert_eq!(merged(&[], vec![same]).len(), 1, "one that is not there is passed over");
    }
}
