//! The words of a user's memories, cut once and held by word, so that a search looks only at those that have one of its words.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::words;
use k8sops_core::{EmbeddingSpace, MemoryId, StoredMemory, Timestamp, UserMemories};

/// A memory that may speak to a question.
#[derive(Debug, Clone)]
pub(super) struct MemoryCandidate {
    pub(super) stored: Arc<StoredMemory>,
    /// How much of what the question says stands in it, from 0 to 1.
    pub(super) words: f32,
    /// The cosine of their meanings, if both are known.
    pub(super) meaning: Option<f32>,
}

/// The index of a user's memories. What is superseded is not in it.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// What it is of.
    of: UserMemories,
    places: HashMap<MemoryId, u32>,
    texts: Vec<Option<Text>>,
    free: Vec<u32>,
    terms: HashMap<String, u32>,
    /// By term: the places of the texts that have it.
    having: Vec<Vec<u32>>,
    /// How many memories there are by the space of their vector.
    spaces: HashMap<Option<EmbeddingSpace>, usize>,
}

#[derive(Debug)]
struct Text {
    stored: Arc<StoredMemory>,
    /// Sorted.
    terms: Vec<u32>,
}

impl Index {
    /// Makes it one of these memories. What is the same as before is not looked at again.
    pub(super) fn update(&mut self, memories: &UserMemories) {
        if Arc::ptr_eq(&self.of.all, &memories.all) {
            return;
        }
        let before = std::mem::replace(&mut self.of, memories.clone());
        let (mut old, mut new) = (before.all.iter().peekable(), memories.all.iter().peekable());
        loop {
            // Both are in the order of their ids.
            let (gone, come) = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(one), Some(other)) if one.memory.id == other.memory.id => (old.next(), new.next()),
                (Some(one), Some(other)) if one.memory.id > other.memory.id => (None, new.next()),
                (None, Some(_)) => (None, new.next()),
                (Some(_), _) => (old.next(), None),
            };
            if let (Some(gone), Some(come)) = (gone, come)
                && Arc::ptr_eq(gone, come)
            {
                continue;
            }
            if let Some(gone) = gone {
                self.remove(gone.memory.id);
            }
            if let Some(come) = come.filter(|come| come.memory.superseded_by.is_none()) {
                self.add(come);
            }
        }
    }

    fn add(&mut self, stored: &Arc<StoredMemory>) {
        let memory = &stored.memory;
        let place = self.free.pop().unwrap_or_else(|| {
            self.texts.push(None);
            u32::try_from(self.texts.len() - 1).unwrap_or(u32::MAX)
        });
        let mut terms = Vec::new();
        for word in words::of(&format!("{} {}", memory.content, memory.tags.join(" "))) {
            let next = u32::try_from(self.having.len()).unwrap_or(u32::MAX);
            let term = *self.terms.entry(word).or_insert(next);
            if term == next {
                self.having.push(Vec::new());
            }
            self.having[term as usize].push(place);
            terms.push(term);
        }
        terms.sort_unstable();
        *self.spaces.entry(stored.space.clone()).or_default() += 1;
        self.places.insert(memory.id, place);
        self.texts[place as usize] = Some(Text { stored: Arc::clone(stored), terms });
    }

    fn remove(&mut self, id: MemoryId) {
        let Some(place) = self.places.remove(&id) else { return };
        self.free.push(place);
        let Some(text) = self.texts[place as usize].take() else { return };
        for term in text.terms {
            self.having[term as usize].retain(|other| *other != place);
        }
        if let Some(count) = self.spaces.get_mut(&text.stored.space) {
            *count -= 1;
            if *count == 0 {
                self.spaces.remove(&text.stored.space);
            }
        }
    }

    /// Whether a memory lacks a vector that is wanted.
    pub(super) fn lacks(&self, is_wanted: impl Fn(&Option<EmbeddingSpace>) -> bool) -> bool {
        self.spaces.keys().any(|space| !is_wanted(space))
    }

    /// The memories that hold and may speak to a text: those that are `near` to it in meaning, and `most` that have the most
    /// of its words.
    pub(super) fn candidates(
        &self,
        text: &str,
        near: &[(MemoryId, f32)],
        most: usize,
        now: Timestamp,
    ) -> Vec<MemoryCandidate> {
        let words = words::of(text);
        let asked: Vec<(u32, f32)> = words
            .iter()
            .filter_map(|word| self.terms.get(word))
            .filter(|term| !self.having[**term as usize].is_empty())
            .map(|term| (*term, self.weight(*term)))
            .collect();
        // A word that no memory has weighs as much as the rarest: a question that is mostly about something else is not
        // answered by the one word in common.
        let unknown = (words.len() - asked.len()) as f32 * self.rarest();
        let all = asked.iter().map(|(_, weight)| weight).sum::<f32>() + unknown;
        let mut found: HashMap<u32, f32> = HashMap::new();
        for (term, weight) in &asked {
            for place in &self.having[*term as usize] {
                *found.entry(*place).or_default() += weight;
            }
        }
        let holds = |place: u32| {
            let text = self.texts.get(place as usize)?.as_ref()?;
            text.stored.memory.is_current(now).then_some(text)
        };
        let mut by_words: Vec<(u32, f32)> = found.iter().map(|(place, sum)| (*place, *sum)).collect();
        by_words.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0)));
        let by_words = by_words.into_iter().filter(|(place, _)| holds(*place).is_some()).take(most);

        let share = |place: u32| if all > 0.0 { found.get(&place).copied().unwrap_or_default() / all } else { 0.0 };
        let mut seen = HashSet::new();
        let near = near.iter().filter_map(|(id, cosine)| Some((*self.places.get(id)?, Some(*cosine))));
        let places = near.chain(by_words.map(|(place, _)| (place, None)));
        places
            .filter(|(place, _)| seen.insert(*place))
            .filter_map(|(place, meaning)| {
                let stored = Arc::clone(&holds(place)?.stored);
                Some(MemoryCandidate { stored, words: share(place), meaning })
            })
            .collect()
    }

    fn rarest(&self) -> f32 {
        (1.0 + self.places.len() as f32).ln()
    }

    /// How much a word says: more, the fewer texts have it.
    fn weight(&self, term: u32) -> f32 {
        let having = self.having[term as usize].len().max(1);
        (1.0 + self.places.len() as f32 / having as f32).ln()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use k8sops_core::{MemoryKind, UserMemory};

    pub(in crate::memory) fn stored(content: &str) -> StoredMemory {
        let now = Timestamp::now();
        let memory = UserMemory {
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
        StoredMemory { memory, space: None }
    }

    fn memories(all: &[Arc<StoredMemory>]) -> UserMemories {
        let mut all = all.to_vec();
        all.sort_by_key(|stored| stored.memory.id);
        UserMemories { all: all.into(), ..UserMemories::default() }
    }

    fn found(index: &Index, text: &str) -> Vec<String> {
        let found = index.candidates(text, &[], 10, Timestamp::now());
        found.into_iter().map(|candidate| candidate.stored.memory.content.clone()).collect()
    }

    #[test]
    fn a_rare_word_says_more_than_a_common_one() {
        let mut index = Index::default();
        let all = ["payments-api needs redis", "orders needs redis", "the cluster needs nodes"];
        index.update(&memories(&all.map(|text| Arc::new(stored(text)))));
        let found = index.candidates("what does payments-api needs", &[], 10, Timestamp::now());
        assert_eq!((found.len(), found[0].stored.memory.content.as_str()), (3, all[0]));
        assert!(found[0].words > 0.9 && found[1].words < 0.3 && found[2].words < 0.3, "{found:?}");
        assert!(index.candidates("entirely unknown", &[], 10, Timestamp::now()).is_empty());
    }

    #[test]
    fn it_follows_what_is_added_changed_removed_and_superseded() {
        let mut index = Index::default();
        let mut all: Vec<_> = ["redis one", "redis two", "redis three"].map(|text| Arc::new(stored(text))).to_vec();
        index.update(&memories(&all));
        assert_eq!(found(&index, "redis").len(), 3);
        let mut changed = StoredMemory::clone(&all[0]);
        changed.memory.content = "postgres four".into();
        changed.space = Some(EmbeddingSpace { model: "m".into(), dimensions: 2 });
        all[0] = Arc::new(changed);
        let mut superseded = StoredMemory::clone(&all[1]);
        superseded.memory.superseded_by = Some(all[0].memory.id);
        all[1] = Arc::new(superseded);
        all.push(Arc::new(stored("redis five")));
        index.update(&memories(&all));
        let mut redis = found(&index, "redis");
        redis.sort();
        assert_eq!(redis, ["redis five", "redis three"]);
        assert_eq!(found(&index, "where is postgres"), ["postgres four"]);
        assert!(index.lacks(Option::is_some));
        index.update(&memories(&all[..1]));
        assert!(found(&index, "redis").is_empty() && !index.lacks(Option::is_some));
        assert_eq!(found(&index, "four"), ["postgres four"]);
        index.update(&UserMemories::default());
        assert!(found(&index, "four").is_empty());
    }
}
