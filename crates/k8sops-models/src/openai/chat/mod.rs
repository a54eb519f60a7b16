//! Chat completions: the protocol that nearly every server speaks, each in its own way.

mod block_fields;
mod reply_assembler;
mod request_body;
#[cfg(test)]
mod tests;

pub(crate) use reply_assembler::ChatCompletionsAssembler;
pub(crate) use request_body::{ChatCompletionsBody, offered_tool_names};
