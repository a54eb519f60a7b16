//! The keyword index of a user's memories: a search reads only memories that share a keyword with it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::keywords;
use k8sops_core::{EmbeddingSpace, MemoryId, StoredMemory, Timestamp, UserMemories};

/// A memory that may be relevant to a text.
#[derive(Debug, Clone)]
pub(super) struct MemoryCandidate {
    pub(super) stored: Arc<StoredMemory>,
    /// Weighted share of the keywords of the text that it has, from 0 to 1.
    pub(super) words: f32,
    /// The cosine of their embeddings, if both are known.
    pub(super) meaning: Option<f32>,
}

/// The index of a user's memories, without superseded ones.
#[derive(Debug, Default)]
pub(super) struct KeywordIndex {
    /// The memories as of the last update.
    memories: UserMemories,
    positions: HashMap<MemoryId, u32>,
    texts: Vec<Option<IndexedText>>,
    free: Vec<u32>,
    terms: HashMap<String, u32>,
    /// The positions of the texts that have a term, by term.
    postings: Vec<Vec<u32>>,
    /// Number of memories by the space of their embedding.
    spaces: HashMap<Option<EmbeddingSpace>, usize>,
}

#[derive(Debug)]
struct IndexedText {
    stored: Arc<StoredMemory>,
    /// Sorted.
    terms: Vec<u32>,
}

impl KeywordIndex {
    /// Updates the index to these memories. Memories that did not change are not read again.
    pub(super) fn update(&mut self, memories: &UserMemories) {
        if Arc::ptr_eq(&self.memories.all, &memories.all) {
            return;
        }
        let before = std::mem::replace(&mut self.memories, memories.clone());
        let (mut old, mut new) = (before.all.iter().peekable(), memories.all.iter().peekable());
        loop {
            // Both are sorted by id.
            let (removed, added) = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(one), Some(other)) if one.memory.id == other.memory.id => (old.next(), new.next()),
                (Some(one), Some(other)) if one.memory.id > other.memory.id => (None, new.next()),
                (None, Some(_)) => (None, new.next()),
                (Some(_), _) => (old.next(), None),
            };
            if let (Some(removed), Some(added)) = (removed, added)
                && Arc::ptr_eq(removed, added)
            {
                continue;
            }
            if let Some(removed) = removed {
                self.remove_memory(removed.memory.id);
            }
            if let Some(added) = added.filter(|added| added.memory.superseded_by.is_none()) {
                self.add_memory(added);
            }
        }
    }

    fn add_memory(&mut self, stored: &Arc<StoredMemory>) {
        let memory = &stored.memory;
        let position = self.free.pop().unwrap_or_else(|| {
            self.texts.push(None);
            u32::try_from(self.texts.len() - 1).unwrap_or(u32::MAX)
        });
        let mut terms = Vec::new();
        for word in keywords::extract_keywords(&format!("{} {}", memory.content, memory.tags.join(" "))) {
            let next = u32::try_from(self.postings.len()).unwrap_or(u32::MAX);
            let term = *self.terms.entry(word).or_insert(next);
            if term == next {
                self.postings.push(Vec::new());
            }
            self.postings[term as usize].push(position);
            terms.push(term);
        }
        terms.sort_unstable();
        *self.spaces.entry(stored.space.clone()).or_default() += 1;
        self.positions.insert(memory.id, position);
        self.texts[position as usize] = Some(IndexedText { stored: Arc::clone(stored), terms });
    }

    fn remove_memory(&mut self, id: MemoryId) {
        let Some(position) = self.positions.remove(&id) else { return };
        self.free.push(position);
        let Some(text) = self.texts[position as usize].take() else { return };
        for term in text.terms {
            self.postings[term as usize].retain(|other| *other != position);
        }
        if let Some(count) = self.spaces.get_mut(&text.stored.space) {
            *count -= 1;
            if *count == 0 {
                self.spaces.remove(&text.stored.space);
            }
        }
    }

    /// Returns whether a memory lacks an embedding in a wanted space.
    pub(super) fn lacks_embedding(&self, is_wanted: impl Fn(&Option<EmbeddingSpace>) -> bool) -> bool {
        self.spaces.keys().any(|space| !is_wanted(space))
    }

    /// Returns current memories that may be relevant to a text: those that are `near` to its embedding, and the `most` that share
    /// most of its keywords.
    pub(super) fn find_candidates(
        &self,
        text: &str,
        near: &[(MemoryId, f32)],
        most: usize,
        now: Timestamp,
    ) -> Vec<MemoryCandidate> {
        let words = keywords::extract_keywords(text);
        let asked: Vec<(u32, f32)> = words
            .iter()
            .filter_map(|word| self.terms.get(word))
            .filter(|term| !self.postings[**term as usize].is_empty())
            .map(|term| (*term, self.term_weight(*term)))
            .collect();
        // A keyword that no memory has weighs as much as the rarest one, so that a question about something else is not
        // answered by a single common keyword.
        let unknown = (words.len() - asked.len()) as f32 * self.rarest_weight();
        let all = asked.iter().map(|(_, weight)| weight).sum::<f32>() + unknown;
        let mut found: HashMap<u32, f32> = HashMap::new();
        for (term, weight) in &asked {
            for position in &self.postings[*term as usize] {
                *found.entry(*position).or_default() += weight;
            }
        }
        let holds = |position: u32| {
            let text = self.texts.get(position as usize)?.as_ref()?;
            text.stored.memory.is_valid_at(now).then_some(text)
        };
        let mut by_words: Vec<(u32, f32)> = found.iter().map(|(position, sum)| (*position, *sum)).collect();
        by_words.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0)));
        let by_words = by_words.into_iter().filter(|(position, _)| holds(*position).is_some()).take(most);

        let share =
            |position: u32| if all > 0.0 { found.get(&position).copied().unwrap_or_default() / all } else { 0.0 };
        let mut seen = HashSet::new();
        let near = near.iter().filter_map(|(id, cosine)| Some((*self.positions.get(id)?, Some(*cosine))));
        let positions = near.chain(by_words.map(|(position, _)| (position, None)));
        positions
            .filter(|(position, _)| seen.insert(*position))
            .filter_map(|(position, meaning)| {
                let stored = Arc::clone(&holds(position)?.stored);
                Some(MemoryCandidate { stored, words: share(position), meaning })
            })
            .collect()
    }

    fn rarest_weight(&self) -> f32 {
        (1.0 + self.positions.len() as f32).ln()
    }

    /// Returns the weight of a term, which is higher the fewer texts have it.
    fn term_weight(&self, term: u32) -> f32 {
        let postings = self.postings[term as usize].len().max(1);
        (1.0 + self.positions.len() as f32 / postings as f32).ln()
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

    fn found(index: &KeywordIndex, text: &str) -> Vec<String> {
        let found = index.find_candidates(text, &[], 10, Timestamp::now());
        found.into_iter().map(|candidate| candidate.stored.memory.content.clone()).collect()
    }

    #[test]
    fn a_rare_word_says_more_than_a_common_one() {
        let mut index = KeywordIndex::default();
        let all = ["payments-api needs redis", "orders needs redis", "the cluster needs nodes"];
        index.update(&memories(&all.map(|text| Arc::new(stored(text)))));
        let found = index.find_candidates("what does payments-api needs", &[], 10, Timestamp::now());
        assert_eq!((found.len(), found[0].stored.memory.content.as_str()), (3, all[0]));
        assert!(found[0].words > 0.9 && found[1].words < 0.3 && found[2].words < 0.3, "{found:?}");
        assert!(index.find_candidates("entirely unknown", &[], 10, Timestamp::now()).is_empty());
    }

    #[test]
    fn it_follows_what_is_added_changed_removed_and_superseded() {
        let mut index = KeywordIndex::default();
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
        assert!(index.lacks_embedding(Option::is_some));
        index.update(&memories(&all[..1]));
        assert!(found(&index, "redis").is_empty() && !index.lacks_embedding(Option::is_some));
        assert_eq!(found(&index, "four"), ["postgres four"]);
        index.update(&UserMemories::default());
        assert!(found(&index, "four").is_empty());
    }
}
