//! Ollama's own API. Unlike its OpenAI-compatible API, it lets a request set the context length.

mod model;
mod reply_assembler;
mod request_body;
#[cfg(test)]
mod tests;

pub(crate) use model::OllamaModel;
#[cfg(any(test, fuzzing))]
pub(crate) use reply_assembler::OllamaAssembler;
#[cfg(any(test, fuzzing))]
pub(crate) use request_body::{OllamaBody, OllamaPlan};
