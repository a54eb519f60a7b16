//! A broken rule.

/// A phrase by which the content filter of Azure OpenAI takes a text for an attack.
pub const ATTACK_PHRASE: &str = "ignore all previous instructions";
/// The signature of reasoning that every strict server accepts as its own.
pub const VALID_SIGNATURE: &str = "signature-of-this-server";

/// A broken rule.
pub(super) struct Violation {
    /// The server's code, if it has one.
    pub(super) code: &'static str,
    /// The server's words.
    pub(super) text: String,
}

impl Violation {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { code: "", text: text.into() }
    }

    pub(super) fn with_code(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// Fails with these words if a rule does not hold.
pub(super) fn require(holds: bool, text: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(text())) }
}

/// Returns whether a name of a tool is accepted by OpenAI and Anthropic.
pub(super) fn is_tool_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}
