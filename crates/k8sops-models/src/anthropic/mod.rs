//! Anthropic's Messages API and the servers that speak it.

mod model;
mod reply_assembler;
mod request_body;
#[cfg(test)]
mod tests;

pub(crate) use model::AnthropicModel;
pub(crate) use request_body::MAX_TEMPERATURE;
