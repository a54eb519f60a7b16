//! OpenAI's Responses API: a conversation is a list of items, and reasoning is returned to the model in encrypted form.
//!
//! Nothing is stored at the provider (`store: false`): sessions are stored in our log, and every request contains the
//! whole conversation.

#[cfg(test)]
mod deferred_tool_tests;
mod reasoning_items;
mod reply_assembler;
mod request_body;
#[cfg(test)]
mod tests;

pub(crate) use reply_assembler::ResponsesAssembler;
pub(crate) use request_body::ResponsesBody;
