//! Commands for people at a terminal: `chat`, a client of our own API, and `doctor`.
//!
//! What is here talks to the service as any client does; it knows the wire, not the rooms behind it. (`doctor` is the
//! exception: it tries the parts that a start would use.)

pub mod audit;
pub mod chat;
pub mod doctor;
