//! A map of bounded size that forgets what was not used for longest.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// The map. Looking for what goes is linear: it is meant for some hundreds of entries.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    most: usize,
    /// Counts uses.
    clock: u64,
    entries: HashMap<K, (u64, V)>,
}

impl<K: Eq + Hash + Clone, V> Lru<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, clock: 0, entries: HashMap::new() }
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.clock += 1;
        let (used, value) = self.entries.get_mut(key)?;
        *used = self.clock;
        Some(value)
    }

    pub(super) fn put(&mut self, key: K, value: V) {
        self.clock += 1;
        if self.entries.len() >= self.most && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            oldest.map(|key| self.entries.remove(&key));
        }
        self.entries.insert(key, (self.clock, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut lru = Lru::new(2);
        let held = |lru: &mut Lru<&str, i32>| ["a", "b", "c"].map(|key| lru.get(key).copied());
        lru.put("a", 1);
        lru.put("b", 2);
        assert_eq!(lru.get("a"), Some(&1));
        lru.put("c", 3);
        assert_eq!(held(&mut lru), [Some(1), None, Some(3)]);
        lru.put("a", 4);
        assert_eq!(held(&mut lru), [Some(4), None, Some(3)]);
    }
}
