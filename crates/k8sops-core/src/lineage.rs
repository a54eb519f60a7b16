//! The lineage of a log: a chain of hashes over its events, which shows when a store has lost acknowledged writes.
//!
//! Each event extends the chain value of the event before it. Two logs with the same chain value at a seq have the same
//! events up to there. A log that was written by an older version has no chain values; the chain begins with the first
//! event that is written by this one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::ids::{RunId, ToolCallId};

/// Seqs that are left out after a lost branch, at least: events of it that no process of ours saw have one of these.
const SEQ_RESERVE: u64 = 1000;
/// Upper bound of the reserves that are skipped at random, so that two losses in a row do not use one seq twice.
const MAX_SKIPPED_RESERVES: u64 = 1000;

/// The chain value of a log at one of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogLineage(u128);

impl LogLineage {
    /// The chain value after an event, as it is stored. `previous` is the one before; `None` begins the chain.
    #[must_use]
    pub fn extend(previous: Option<Self>, stored_event: &[u8]) -> Self {
        let mut hash = Sha256::new();
        if let Some(Self(previous)) = previous {
            hash.update(previous.to_be_bytes());
        }
        hash.update(stored_event);
        let digest = hash.finalize();
        // Half of the digest: enough that two branches never agree by accident.
        Self(digest.iter().take(16).fold(0, |value, byte| value << 8 | u128::from(*byte)))
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for LogLineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for LogLineage {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// A position in a log: a seq, and the chain value there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogHead {
    /// The seq of the event.
    pub seq: u64,
    /// The chain value there; `None` if it is not known.
    pub lineage: Option<LogLineage>,
}

impl LogHead {
    /// A position whose chain value is not known.
    #[must_use]
    pub fn at_seq(seq: u64) -> Self {
        Self { seq, lineage: None }
    }

    /// Whether a log that ends here has lost events of a log that once ended at `earlier`: it is shorter, or has another
    /// event there. A longer log has to be compared by [`EventPage::continues`](crate::EventPage::continues).
    #[must_use]
    pub fn contradicts(self, earlier: Self) -> bool {
        let differs = |lineage: LogLineage| earlier.lineage.is_some_and(|earlier| earlier != lineage);
        self.seq < earlier.seq || (self.seq == earlier.seq && self.lineage.is_some_and(differs))
    }
}

/// Whether a log is still the one that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogContinuity {
    /// The log is as it was, or has grown.
    Continued,
    /// The store has lost events that it had acknowledged.
    Forked,
}

/// A call that may have changed something, was sent, and whose record is lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LostToolCall {
    /// The run that made the call.
    pub run_id: RunId,
    /// The id of the call.
    #[schema(value_type = String)]
    pub tool_call_id: ToolCallId,
    /// The name of the tool, as the model knows it.
    pub name: String,
    /// The MCP server that the call was sent to.
    pub server: String,
    /// The arguments that were sent; `null` if they are too long to be kept.
    pub arguments: Value,
}

/// What is known of events that a store had acknowledged and has lost.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LostBranch {
    /// The newest seq that is known to have been used.
    pub known_seq: u64,
    /// Calls that may have changed something, were sent, and whose records are lost.
    #[serde(default)]
    pub calls: Vec<LostToolCall>,
}

impl LostBranch {
    /// The seq of the first event after the lost ones, in a log that ends at `last_seq`: one that no branch has used.
    ///
    /// `random` is a random number. A `log_truncated` can be lost itself before another process has seen it, and the next
    /// owner must not choose its seq again.
    #[must_use]
    pub fn next_seq(&self, last_seq: u64, random: u32) -> u64 {
        let skipped_reserves = 2 + u64::from(random) % MAX_SKIPPED_RESERVES;
        (self.known_seq.max(last_seq) / SEQ_RESERVE + skipped_reserves) * SEQ_RESERVE
    }

    /// How many events after `last_seq` are known to be lost: the true number is not smaller.
    ///
    /// More seqs than [`next_seq`](Self::next_seq) skips at least were skipped, because the lost branch had a loss of its own. Then
    /// the events since are counted.
    #[must_use]
    pub fn count_lost(&self, last_seq: u64) -> u64 {
        let seqs = self.known_seq.saturating_sub(last_seq);
        if seqs <= SEQ_RESERVE { seqs } else { self.known_seq % SEQ_RESERVE + 1 }
    }

    /// Adds what another process knows.
    pub fn merge(&mut self, other: Self) {
        self.known_seq = self.known_seq.max(other.known_seq);
        for call in other.calls {
            if self.calls.iter().all(|known| known.tool_call_id != call.tool_call_id) {
                self.calls.push(call);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64, event: Option<&str>) -> LogHead {
        LogHead { seq, lineage: event.map(|event| LogLineage::extend(None, event.as_bytes())) }
    }

    #[test]
    fn chain_value_depends_on_all_events() {
        let [a, b] = [b"a", b"b"].map(|event| LogLineage::extend(None, event));
        assert_ne!(LogLineage::extend(Some(a), b"c"), LogLineage::extend(Some(b), b"c"));
        assert_ne!(LogLineage::extend(Some(a), b"c"), LogLineage::extend(None, b"c"));
        assert_eq!(a.to_string().parse(), Ok(a));
        assert_eq!(a.to_string().len(), 32);
    }

    #[test]
    fn shorter_or_other_log_contradicts_the_earlier_one() {
        for (now, earlier, forked) in [
            (head(5, Some("x")), head(5, Some("x")), false),
            (head(5, Some("y")), head(5, Some("x")), true),
            (head(4, Some("x")), head(5, Some("x")), true),
            (head(6, Some("y")), head(5, Some("x")), false),
            (head(4, None), head(5, None), true),
            // A log of an older version, and a replica of one during an upgrade.
            (head(5, None), head(5, Some("x")), false),
            (head(5, Some("y")), head(5, None), false),
            (head(0, None), LogHead::default(), false),
        ] {
            assert_eq!(now.contradicts(earlier), forked, "{now:?} after {earlier:?}");
        }
    }

    #[test]
    fn next_seq_is_beyond_all_known_seqs_and_a_reserve() {
        for (known_seq, last_seq) in [(0, 1), (7, 3), (999, 5), (1000, 5), (1001, 5), (3, 1500)] {
            for random in [0, 1, u32::MAX] {
                let next = LostBranch { known_seq, calls: Vec::new() }.next_seq(last_seq, random);
                assert!(next > known_seq.max(last_seq) + SEQ_RESERVE, "{known_seq} {last_seq} {next}");
                assert_eq!(next % SEQ_RESERVE, 0);
            }
        }
    }

    #[test]
    fn skipped_seqs_are_not_lost_events() {
        for (known_seq, last_seq, lost) in
            [(5, 3, 2), (3, 3, 0), (0, 3, 0), (1003, 3, 1000), (614_002, 17, 3), (614_000, 17, 1)]
        {
            assert_eq!(
                LostBranch { known_seq, calls: Vec::new() }.count_lost(last_seq),
                lost,
                "{last_seq} to {known_seq}"
            );
        }
    }

    #[test]
    fn owners_that_do_not_know_of_each_other_choose_different_seqs() {
        let branch = LostBranch { known_seq: 40_007, calls: Vec::new() };
        assert_ne!(branch.next_seq(40_007, 5), branch.next_seq(40_007, 6));
    }
}
