//! An index of vectors that compares a query with each of them: exact, and fast enough for the memories of one user
//! (`cargo bench --bench service memories` measures it).

use std::collections::HashMap;

use k8sops_core::{EmbeddingSpace, EmbeddingVector, MemoryId, Timestamp};

/// Vectors by space and memory.
#[derive(Debug, Default)]
pub(crate) struct ExactVectorIndex(HashMap<EmbeddingSpace, VectorRows>);

/// The vectors of one space in a row.
#[derive(Debug, Default)]
struct VectorRows {
    ids: Vec<MemoryId>,
    /// When each memory becomes invalid, in milliseconds.
    valid_until: Vec<i64>,
    values: Vec<f32>,
    row_of: HashMap<MemoryId, usize>,
}

impl ExactVectorIndex {
    /// Sets the vector of a memory, which is valid until then. A memory has at most one vector.
    pub(crate) fn insert(&mut self, id: MemoryId, vector: &EmbeddingVector, valid_until: Option<Timestamp>) {
        self.remove(id);
        let rows = self.0.entry(vector.space()).or_default();
        rows.row_of.insert(id, rows.ids.len());
        rows.ids.push(id);
        rows.valid_until.push(millis_or_max(valid_until));
        rows.values.extend_from_slice(&vector.values);
    }

    /// Changes until when a memory is valid.
    pub(crate) fn set_valid_until(&mut self, id: MemoryId, valid_until: Option<Timestamp>) {
        for rows in self.0.values_mut() {
            if let Some(row) = rows.row_of.get(&id) {
                rows.valid_until[*row] = millis_or_max(valid_until);
            }
        }
    }

    /// Removes the vector of a memory.
    pub(crate) fn remove(&mut self, id: MemoryId) {
        self.0.retain(|space, rows| {
            rows.remove(id, space.dimensions);
            !rows.ids.is_empty()
        });
    }

    /// The vector of a memory.
    pub(crate) fn get(&self, id: MemoryId) -> Option<EmbeddingVector> {
        self.0.iter().find_map(|(space, rows)| {
            let start = rows.row_of.get(&id)? * space.dimensions;
            let values = rows.values.get(start..start + space.dimensions)?;
            Some(EmbeddingVector { model: space.model.clone(), values: values.into() })
        })
    }

    /// The vectors nearest to `to` that are valid at `now`, with the cosine similarity, nearest first.
    pub(crate) fn find_nearest(&self, to: &EmbeddingVector, limit: usize, now: Timestamp) -> Vec<(MemoryId, f32)> {
        let Some(rows) = self.0.get(&to.space()).filter(|_| limit > 0 && !to.values.is_empty()) else {
            return Vec::new();
        };
        let now = now.as_millis();
        let cosines = rows.values.chunks_exact(to.values.len()).map(|row| dot_product(row, &to.values));
        let mut found: Vec<(f32, usize)> = cosines.zip(0..).filter(|(_, row)| rows.valid_until[*row] > now).collect();
        if found.len() > limit {
            found.select_nth_unstable_by(limit, |a, b| b.0.total_cmp(&a.0));
            found.truncate(limit);
        }
        found.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        found.into_iter().map(|(cosine, row)| (rows.ids[row], cosine)).collect()
    }

    /// The number of values of all vectors, which determines how long a search takes.
    pub(crate) fn value_count(&self) -> usize {
        self.0.values().map(|rows| rows.values.len()).sum()
    }
}

impl VectorRows {
    /// Removes a row and moves the last one into its place.
    fn remove(&mut self, id: MemoryId, dimensions: usize) {
        let Some(row) = self.row_of.remove(&id) else { return };
        let last = self.ids.len() - 1;
        if row < last {
            self.values.copy_within(last * dimensions.., row * dimensions);
            self.row_of.insert(self.ids[last], row);
        }
        self.values.truncate(last * dimensions);
        self.ids.swap_remove(row);
        self.valid_until.swap_remove(row);
    }
}

fn millis_or_max(time: Option<Timestamp>) -> i64 {
    time.map_or(i64::MAX, Timestamp::as_millis)
}

/// Sums eight products at a time, which the compiler turns into vector instructions.
fn dot_product(one: &[f32], other: &[f32]) -> f32 {
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
    fn nearest_valid_vectors_come_first() {
        let mut index = ExactVectorIndex::default();
        let now = Timestamp::from_millis(1_000);
        let ids: Vec<MemoryId> = (0..4).map(|_| MemoryId::new()).collect();
        for (id, values) in ids.iter().zip([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]]) {
            index.insert(*id, &vector("m", &values), None);
        }
        let found = |index: &ExactVectorIndex, to: &[f32]| -> Vec<MemoryId> {
            index.find_nearest(&vector("m", to), 2, now).into_iter().map(|(id, _)| id).collect()
        };
        assert_eq!(found(&index, &[1.0, 0.0]), [ids[0], ids[1]]);
        index.set_valid_until(ids[1], Some(now));
        assert_eq!(found(&index, &[1.0, 0.0]), [ids[0], ids[2]]);
        index.remove(ids[0]);
        assert_eq!(found(&index, &[1.0, 0.0]), [ids[2], ids[3]]);
        // A vector in another space replaces the one in the old space.
        index.insert(ids[2], &vector("other", &[1.0, 0.0]), None);
        assert_eq!(found(&index, &[1.0, 0.0]), [ids[3]]);
        assert_eq!(index.get(ids[2]).unwrap().model.as_ref(), "other");
        assert!(index.find_nearest(&vector("m", &[1.0]), 2, now).is_empty());
        assert_eq!(index.value_count(), 6, "two vectors in one space, one in the other");
    }

    #[test]
    fn dot_product_sums_all_products() {
        let one: Vec<f32> = (0..19_u8).map(f32::from).collect();
        assert!((dot_product(&one, &one) - 2109.0).abs() < 1e-3);
    }
}
