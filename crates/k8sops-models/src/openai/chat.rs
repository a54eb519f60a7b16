//! Chat completions: the protocol that nearly every server speaks, each in its own way.

pub(super) mod body;
pub(super) mod reply;
#[cfg(test)]
mod tests;

/// The name of the protocol in what the provider wants back.
const API: &str = "chat_completions";

/// The names by which servers give what the model thought, and take it back. The same server does not take the other.
const REASONING_FIELDS: [&str; 2] = ["reasoning_content", "reasoning"];
/// What is kept with a block of reasoning: the name by which it came.
const FIELD: &str = "field";
/// What is kept with a call: what its server attached to it (Gemini: the signature of the thought behind it).
const EXTRA: &str = "extra_content";
/// What is kept as it is: OpenRouter's blocks of reasoning, signatures and all.
const DETAILS: &str = "reasoning_details";
