//! Names of fields that are stored with the blocks of a reply.

/// The fields in which servers return reasoning, and accept it back. A server accepts only the field that it uses.
pub(crate) const REASONING_FIELDS: [&str; 2] = ["reasoning_content", "reasoning"];
/// Stored with a block of reasoning: the field in which it arrived.
pub(crate) const FIELD_NAME: &str = "field";
/// Stored with a tool call: data that its server attached to it (Gemini: the signature of the reasoning behind it).
pub(crate) const EXTRA_CONTENT: &str = "extra_content";
/// Stored unchanged: OpenRouter's blocks of reasoning with their signatures.
pub(crate) const REASONING_DETAILS: &str = "reasoning_details";
