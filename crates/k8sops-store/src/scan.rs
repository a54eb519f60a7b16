//! Vectors that are searched by looking at each: exact, and fast enough for what is remembered of a user (`cargo bench
//! --bench service memories` says how fast).

use std::collections::HashMap;

use k8sops_core::{EmbeddingSpace, EmbeddingVector, MemoryId, Timestamp};

/// Vectors by space and memory.
#[derive(Debug, Default)]
pub(super) struct Scan(HashMap<EmbeddingSpace, Rows>);

/// The vectors of a space, one after the other.
#[derive(Debug, Default)]
struct Rows {
    ids: Vec<MemoryId>,
    /// Until when each holds, in ms.
    until: Vec<i64>,
    values: Vec<f32>,
    at: HashMap<MemoryId, usize>,
}

impl Scan {
    /// Sets the one vector of a memory, which holds until then.
    pub(super) fn put(&mut self, id: MemoryId, vector: &EmbeddingVector, until: Option<Timestamp>) {
        let space = vector.space();
        self.0.retain(|other, rows| {
            if *other != space {
                rows.remove(id, other.dimensions);
            }
            *other == space || !rows.ids.is_empty()
        });
        let rows = self.0.entry(space).or_default();
        rows.remove(id, vector.values.len());
        rows.at.insert(id, rows.ids.len());
        rows.ids.push(id);
        rows.until.push(millis(until));
        rows.values.extend_from_slice(&vector.values);
    }

    /// Says anew until when a memory holds.
    pub(super) fn holds(&mut self, id: MemoryId, until: Option<Timestamp>) {
        for rows in self.0.values_mut() {
            if let Some(at) = rows.at.get(&id) {
                rows.until[*at] = millis(until);
            }
        }
    }

    pub(super) fn remove(&mut self, id: MemoryId) {
        self.0.retain(|space, rows| {
            rows.remove(id, space.dimensions);
            !rows.ids.is_empty()
        });
    }

    /// The vector of a memory.
    pub(super) fn get(&self, id: MemoryId) -> Option<EmbeddingVector> {
        self.0.iter().find_map(|(space, rows)| {
            let start = rows.at.get(&id)? * space.dimensions;
            let values = rows.values.get(start..start + space.dimensions)?;
            Some(EmbeddingVector { model: space.model.clone(), values: values.into() })
        })
    }

    /// The nearest to a vector that hold at a time, with the cosine.
    pub(super) fn nearest(&self, to: &EmbeddingVector, limit: usize, now: Timestamp) -> Vec<(MemoryId, f32)> {
        let Some(rows) = self.0.get(&to.space()).filter(|_| limit > 0 && !to.values.is_empty()) else {
            return Vec::new();
        };
        let now = now.as_millis();
        let cosines = rows.values.chunks_exact(to.values.len()).map(|row| dot(row, &to.values));
        let mut found: Vec<(f32, usize)> = cosines.zip(0..).filter(|(_, at)| rows.until[*at] > now).collect();
        if found.len() > limit {
            found.select_nth_unstable_by(limit, |a, b| b.0.total_cmp(&a.0));
            found.truncate(limit);
        }
        found.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        found.into_iter().map(|(cosine, at)| (rows.ids[at], cosine)).collect()
    }

    /// Values in all, by which a search's time is told.
    pub(super) fn size(&self) -> usize {
        self.0.values().map(|rows| rows.values.len()).sum()
    }
}

impl Rows {
    /// The last one takes the place of the one that goes.
    fn remove(&mut self, id: MemoryId, dimensions: usize) {
        let Some(at) = self.at.remove(&id) else { return };
        let last = self.ids.len() - 1;
        if at < last {
            self.values.copy_within(last * dimensions.., at * dimensions);
            self.at.insert(self.ids[last], at);
        }
        self.values.truncate(last * dimensions);
        self.ids.swap_remove(at);
        self.until.swap_remove(at);
    }
}

fn millis(until: Option<Timestamp>) -> i64 {
    until.map_or(i64::MAX, Timestamp::as_millis)
}

/// Eight sums side by side, which the compiler makes vector instructions of.
fn dot(one: &[f32], other: &[f32]) -> f32 {
    let ((ones, one_rest), (others, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    let mut sums = [0.0f32; 8];
    for (one, other) in ones.iter().zip(others) {
        for ((sum, a), b) in sums.iter_mut().zip(one).zip(other) {
            *sum += a * b;
        }
    }
    let rest: f32 = one_rest.iter().zip(other_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(model: &str, values: &[f32]) -> EmbeddingVector {
        EmbeddingVector { model: model.into(), values: values.into() }
    }

    #[test]
    fn the_nearest_come_first_whatever_was_put_and_removed() {
        let mut scan = Scan::default();
        let now = Timestamp::from_millis(1_000);
        let ids: Vec<MemoryId> = (0..4).map(|_| MemoryId::new()).collect();
        for (id, values) in ids.iter().zip([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]]) {
            scan.put(*id, &vector("m", &values), None);
        }
        let found = |scan: &Scan, to: &[f32]| -> Vec<MemoryId> {
            scan.nearest(&vector("m", to), 2, now).into_iter().map(|(id, _)| id).collect()
        };
        assert_eq!(found(&scan, &[1.0, 0.0]), [ids[0], ids[1]]);
        scan.holds(ids[1], Some(now));
        assert_eq!(found(&scan, &[1.0, 0.0]), [ids[0], ids[2]]);
        scan.remove(ids[0]);
        assert_eq!(found(&scan, &[1.0, 0.0]), [ids[2], ids[3]]);
        // One that moves to another space is not in its old one.
        scan.put(ids[2], &vector("other", &[1.0, 0.0]), None);
        assert_eq!(found(&scan, &[1.0, 0.0]), [ids[3]]);
        assert_eq!(scan.get(ids[2]).unwrap().model.as_ref(), "other");
        assert!(scan.nearest(&vector("m", &[1.0]), 2, now).is_empty());
        assert_eq!(scan.size(), 6, "two in one space, one in the other");
    }

    #[test]
    fn a_product_is_the_sum_of_all_products() {
        let one: Vec<f32> = (0..19_u8).map(f32::from).collect();
        assert!((dot(&one, &one) - 2109.0).abs() < 1e-3);
    }
}
