//! The size limit of a session's saved tool outputs.

/// The beginning of an output, at most `max_bytes` in whole characters.
pub(crate) fn truncate_output(output: &str, max_bytes: usize) -> &str {
    &output[..output.floor_char_boundary(max_bytes)]
}

/// How many of the oldest outputs, given by their sizes, must be dropped so that a new one fits the limit.
pub(crate) fn count_outputs_to_drop(sizes: impl Iterator<Item = u64> + Clone, new_size: u64, limit: u64) -> usize {
    let mut total = sizes.clone().sum::<u64>() + new_size;
    let dropped = sizes.take_while(|size| {
        let exceeds_limit = total > limit;
        total -= size;
        exceeds_limit
    });
    dropped.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_outputs_are_dropped_than_needed() {
        let dropped = |sizes: &[u64], new| count_outputs_to_drop(sizes.iter().copied(), new, 10);
        assert_eq!(dropped(&[], 10), 0);
        assert_eq!(dropped(&[4, 4], 2), 0);
        assert_eq!(dropped(&[4, 4], 3), 1);
        assert_eq!(dropped(&[4, 4], 10), 2);
        assert_eq!(dropped(&[1, 9, 1], 9), 2);
    }
}
