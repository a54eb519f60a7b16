//! Strict servers: the rules by which real providers reject conversations, with the words in which they do.
//!
//! The rules are those of the providers' references and of public reports of rejected requests; each has its source beside it.
//! What real servers accept beyond that is not accepted here, so a request that passes is accepted in the field as well.

mod chat_rules;
mod check;
mod native_rules;
mod server;
mod violation;

pub use server::{StrictRejection, StrictServer};
pub use violation::{ATTACK_PHRASE, VALID_SIGNATURE};
