//! Fits an output into its budget.

use serde_json::Value;

use k8sops_models::tokens;

use super::{budget::OutputBudget, recognize::shrink_text, truncate::truncate_middle};

/// An output within its budget.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TruncatedOutput {
    pub(crate) content: String,
    pub(crate) structured: Option<Value>,
    /// Whether `content` holds less than the original text.
    pub(crate) truncated: bool,
    /// Size of the original text in bytes.
    pub(crate) bytes: u64,
}

/// Fits an output into the budget, including the note on what was left out. `advice` is added to that note and says how to
/// read the rest.
///
/// A text within the budget is returned unchanged. A longer one is shown by the rule of its kind. Diffs are never folded: a
/// diff is cut at whole hunks, after its context lines, and says how many lines are left out.
///
/// The structured output is kept only if both forms fit completely: most servers send the same content twice.
pub(crate) fn fit_output(
    text: &str,
    structured: Option<Value>,
    budget: OutputBudget,
    advice: Option<&str>,
) -> TruncatedOutput {
    let bytes = text.len() as u64;
    if budget.allows(text) {
        let structured = structured.filter(|value| fits_beside_text(text, value, budget));
        return TruncatedOutput { content: text.to_owned(), structured, truncated: false, bytes };
    }
    let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
    let lines = text.lines().count();
    let note = format!("[shortened from {bytes} bytes and {lines} lines{advice}]");
    let content = format!("{}\n{note}", shrink_text(text, budget.minus(&note)));
    let content = if budget.allows(&content) { content } else { truncate_middle(text, budget, &advice) };
    TruncatedOutput { content, structured: None, truncated: true, bytes }
}

/// Returns whether the structured output fits into what the text leaves of the budget.
fn fits_beside_text(text: &str, structured: &Value, budget: OutputBudget) -> bool {
    if !is_json_within(structured, budget.bytes - text.len()) {
        return false;
    }
    let used_tokens = tokens::count(text);
    used_tokens < budget.tokens && tokens::fits_within(&structured.to_string(), budget.tokens - used_tokens)
}

/// Returns whether the JSON of a value has at most `max_bytes`. It stops writing at that limit.
fn is_json_within(value: &Value, max_bytes: usize) -> bool {
    struct RemainingBytes(usize);
    impl std::io::Write for RemainingBytes {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(RemainingBytes(max_bytes), value).is_ok()
}
