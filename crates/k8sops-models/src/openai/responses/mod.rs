//! OpenAI's Responses API: a conversation is a list of items, and what the model thought goes back to it, encrypted.
//!
//! Nothing is stored at the provider (`store: false`): sessions live in our log, and every request tells the whole of one.

mod reasoning_items;
mod reply_assembler;
mod request_body;
#[cfg(test)]
mod tests;

pub(crate) use reply_assembler::ResponsesAssembler;
pub(crate) use request_body::ResponsesBody;
