//! Outputs of any size, shortened to what a model can take in.
//!
//! ```text
//! text ─▶ fits? ─yes─▶ as it is
//!          │no
//!          ▼
//!   noise dropped ─▶ objects or rows as a table, what is not ordinary first ─┐
//!                 └▶ lines: what repeats is folded, errors first ────────────┴▶ head and tail ─▶ content
//! ```
//!
//! The whole is kept elsewhere; [`range`] and [`search`] show parts of it.

mod cut;
mod lines;
mod noise;
mod objects;
mod pages;
mod table;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub(super) use pages::{range, search};

use k8sops_models::tokens;

/// Bytes of a token, on average over what clusters print; a first guess, which counting then corrects.
const BYTES_PER_TOKEN: usize = 3;

/// What an output may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) tokens: usize,
    pub(super) bytes: usize,
}

impl Budget {
    /// Whether a text is within it.
    fn holds(self, text: &str) -> bool {
        text.len() <= self.bytes && tokens::fits_within(text, self.tokens)
    }

    /// Bytes that are worth trying.
    fn guess(self) -> usize {
        self.bytes.min(self.tokens.saturating_mul(BYTES_PER_TOKEN))
    }
}

/// An output within its budget.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fitted {
    pub(super) content: String,
    pub(super) structured: Option<Value>,
    /// Whether `content` is less than what came.
    pub(super) truncated: bool,
    /// The size of the text that came.
    pub(super) bytes: u64,
}

/// Fits an output into the budget, what is said of the cuts included. `whole` are words on how the rest is read. The
/// structured form is kept only where both fit as they are: most servers send the same twice.
pub(super) fn fit(text: &str, structured: Option<Value>, budget: Budget, whole: Option<&str>) -> Fitted {
    let bytes = text.len() as u64;
    let clean = noise::dropped(text);
    if let Some(clean) = clean.as_deref().or(Some(text)).filter(|clean| budget.holds(clean)) {
        let truncated = clean.len() < text.len();
        let room = budget.bytes - clean.len();
        let structured = structured.filter(|value| !truncated && fits(value, room) && holds_both(clean, value, budget));
        return Fitted { content: clean.to_owned(), structured, truncated, bytes };
    }
    let clean = clean.as_deref().unwrap_or(text);
    let note = whole.map_or_else(String::new, |whole| format!("; {whole}"));
    let content = table::of_objects(clean, budget, &note)
        .or_else(|| table::of_rows(clean, budget, &note))
        .or_else(|| lines::folded(clean, budget, &note))
        .unwrap_or_else(|| cut::middle(clean, budget, &note));
    Fitted { content, structured: None, truncated: true, bytes }
}

fn holds_both(text: &str, structured: &Value, budget: Budget) -> bool {
    let used = tokens::count(text);
    used < budget.tokens && tokens::fits_within(&structured.to_string(), budget.tokens - used)
}

/// Whether the JSON of a value is no longer than `room`; stops counting where it is.
fn fits(value: &Value, room: usize) -> bool {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Count(room), value).is_ok()
}
