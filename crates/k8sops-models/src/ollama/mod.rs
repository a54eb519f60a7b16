//! Ollama's own API, the only one of its APIs in which a request can set the context length.

mod model;
mod reply_assembler;
mod request_body;
#[cfg(test)]
mod tests;

pub use model::OllamaModel;
