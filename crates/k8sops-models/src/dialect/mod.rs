//! Dialects: the rules by which servers of one protocol differ, as data.
//!
//! The built-in dialects are in `config/dialects.yaml`, and the configuration overrides and adds to them. A provider speaks
//! the dialect that its configuration names, or else that of its host, or else the one by which its server gives itself away.
//! What a model rejects nevertheless is learned on top, see [`ModelQuirk`](crate::quirks::ModelQuirk).

mod adaptation;
mod rules;
mod server_dialect;
#[cfg(test)]
mod tests;

pub use rules::{
    CallIdForm, ContentWithCalls, DeferredTools, Dialect, DialectCatalog, DialectChoice, DialectProtocol,
    ReasoningReturn, ReplyLimitField, SystemRole, ToolBounds,
};
pub(crate) use server_dialect::ServerDialect;
pub use server_dialect::{DialectSign, RecognizedDialect};
