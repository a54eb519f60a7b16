//! What the stores do alike with whole outputs of tool calls.

/// As much of an output as there is room for, in whole characters.
pub(super) fn beginning(output: &str, room: usize) -> &str {
    &output[..output.floor_char_boundary(room)]
}

/// How many of the oldest outputs, given by their sizes, make room for a new one.
pub(super) fn dropped(sizes: impl Iterator<Item = u64> + Clone, new: u64, room: u64) -> usize {
    let mut total = sizes.clone().sum::<u64>() + new;
    let over = sizes.take_while(|size| {
        let over = total > room;
        total -= size;
        over
    });
    over.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_and_no_more_than_needed() {
        let dropped = |sizes: &[u64], new| dropped(sizes.iter().copied(), new, 10);
        assert_eq!(dropped(&[], 10), 0);
        assert_eq!(dropped(&[4, 4], 2), 0);
        assert_eq!(dropped(&[4, 4], 3), 1);
        assert_eq!(dropped(&[4, 4], 10), 2);
        assert_eq!(dropped(&[1, 9, 1], 9), 2);
    }
}
