//! Sequence numbers of events, made of the log: the same event has the same number live, in a replay, and on another replica.
//!
//! Each seq of the log has a range of numbers. What a logged event causes is counted from the beginning of its range. Text that is
//! not logged yet is numbered by where it ends, in the range of the logged event before its message, so that a preview can be cut
//! at the place that a client has reached, however it was divided. Reasoning comes before text.

/// How many numbers a seq has.
const NUMBERS_PER_SEQ: u64 = 1 << 20;
/// Where the numbers of reasoning begin in a range.
const REASONING_BASE: u64 = 1 << 10;
/// Where the numbers of text begin in a range.
const TEXT_BASE: u64 = 1 << 19;
/// How many numbers come before those of the first byte: the beginning of the item.
const OPENING_NUMBERS: u64 = 64;

/// The two texts of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextKind {
    Reasoning,
    Text,
}

impl TextKind {
    /// Returns the number of the first event of a text. `after` is the seq of the logged event before the message, counted from
    /// the beginning of the response.
    pub(super) fn opening_number(self, after: u64) -> u64 {
        after * NUMBERS_PER_SEQ + self.base()
    }

    /// Returns the number of the event by which the item of the text begins. Before it is room for the end of the item of the
    /// reasoning.
    pub(super) fn item_number(self, after: u64) -> u64 {
        self.opening_number(after) + 3
    }

    /// Returns the number of a delta that ends at a byte. `None` for the end of a text that is longer than its range: it comes with
    /// the whole message.
    pub(super) fn delta_number(self, after: u64, end: usize) -> Option<u64> {
        let end = OPENING_NUMBERS + u64::try_from(end).ok()?;
        let limit = match self {
            Self::Reasoning => TEXT_BASE - REASONING_BASE,
            Self::Text => NUMBERS_PER_SEQ - TEXT_BASE,
        };
        (end < limit).then(|| self.opening_number(after) + end)
    }

    /// Returns how many bytes of a text a client has that has seen the event with a number.
    pub(super) fn seen_bytes(self, after: u64, number: u64) -> usize {
        let seen = number.saturating_sub(self.opening_number(after) + OPENING_NUMBERS);
        usize::try_from(seen).unwrap_or(usize::MAX)
    }

    fn base(self) -> u64 {
        match self {
            Self::Reasoning => REASONING_BASE,
            Self::Text => TEXT_BASE,
        }
    }
}

/// Counts the events that a logged event causes.
#[derive(Debug, Default)]
pub(super) struct EventCounter {
    next: u64,
    end: u64,
}

impl EventCounter {
    /// Starts at the event with a seq, which is counted from the beginning of the response.
    pub(super) fn at_seq(seq: u64) -> Self {
        Self { next: seq * NUMBERS_PER_SEQ, end: seq * NUMBERS_PER_SEQ + REASONING_BASE - 1 }
    }

    /// Returns the seq, counted from the beginning of the response.
    pub(super) fn seq(&self) -> u64 {
        self.next / NUMBERS_PER_SEQ
    }

    /// Returns the next number.
    pub(super) fn take(&mut self) -> u64 {
        let number = self.next;
        // No event has as many parts. If one had, its last ones would share a number.
        self.next = (number + 1).min(self.end);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_in_the_order_of_a_stream() {
        let mut counter = EventCounter::at_seq(3);
        let mut numbers = vec![counter.take(), counter.take()];
        numbers.push(TextKind::Reasoning.opening_number(3));
        numbers.extend([1, 9].map(|end| TextKind::Reasoning.delta_number(3, end).unwrap()));
        numbers.push(TextKind::Text.opening_number(3));
        numbers.extend([1, 400_000].map(|end| TextKind::Text.delta_number(3, end).unwrap()));
        numbers.push(EventCounter::at_seq(4).take());
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert_eq!(TextKind::Text.delta_number(3, 1 << 19), None);
        assert_eq!(TextKind::Reasoning.delta_number(3, 1 << 19), None);
        // Languages with one kind of number count exactly up to here.
        assert!(EventCounter::at_seq(1 << 32).take() < 1 << 53);
    }

    #[test]
    fn number_says_what_was_seen() {
        let number = TextKind::Text.delta_number(7, 12).unwrap();
        assert_eq!(TextKind::Text.seen_bytes(7, number), 12);
        assert_eq!(TextKind::Text.seen_bytes(7, EventCounter::at_seq(7).take()), 0);
        assert_eq!(TextKind::Reasoning.seen_bytes(8, number), 0);
    }
}
