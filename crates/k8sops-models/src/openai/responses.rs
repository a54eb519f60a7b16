//! OpenAI's Responses API: a conversation is a list of items, and what the model thought goes back to it, encrypted.
//!
//! Nothing is stored at the provider (`store: false`): sessions live in our log, and every request tells the whole of one.

pub(super) mod body;
pub(super) mod reply;
#[cfg(test)]
mod tests;
mod thought;

/// The name of the protocol in what the provider wants back.
const API: &str = "openai_responses";
