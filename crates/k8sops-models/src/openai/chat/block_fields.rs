//! Names of fields that are kept with the blocks of a reply.

/// The names by which servers give what the model thought, and take it back. The same server does not take the other.
pub(crate) const REASONING_FIELDS: [&str; 2] = ["reasoning_content", "reasoning"];
/// What is kept with a block of reasoning: the name by which it came.
pub(crate) const FIELD_NAME: &str = "field";
/// What is kept with a call: what its server attached to it (Gemini: the signature of the thought behind it).
pub(crate) const EXTRA_CONTENT: &str = "extra_content";
/// What is kept as it is: OpenRouter's blocks of reasoning, signatures and all.
pub(crate) const REASONING_DETAILS: &str = "reasoning_details";
