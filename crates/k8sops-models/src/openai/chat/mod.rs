//! Chat completions, the protocol that most servers speak, with small differences.

mod block_fields;
mod chunks;
mod reply_assembler;
mod request_body;
#[cfg(test)]
mod tests;

pub(crate) use reply_assembler::ChatCompletionsAssembler;
pub(crate) use request_body::{ChatCompletionsBody, offered_tool_names};
