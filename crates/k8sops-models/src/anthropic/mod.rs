//! Anthropic's Messages API and the servers that speak it.

mod model;
mod reply_assembler;
mod request_body;
#[cfg(test)]
mod tests;

pub(crate) use model::AnthropicModel;
#[cfg(any(test, fuzzing))]
pub(crate) use reply_assembler::MessagesAssembler;
pub(crate) use request_body::MAX_TEMPERATURE;
#[cfg(any(test, fuzzing))]
pub(crate) use request_body::{MessagesBody, MessagesPlan, ThinkingMode};
