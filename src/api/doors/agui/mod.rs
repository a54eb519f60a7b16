//! The door for clients of AG-UI, the protocol between agents and user interfaces.
//!
//! | module | holds |
//! |---|---|
//! | `endpoint` | the handlers |
//! | `run_input` | what clients send, and their answers to interrupts |
//! | `agui_event` | the events of the protocol that are used |
//! | `conversation` | the conversation as messages of the protocol |
//! | `interrupts` | what a run waits for, as interrupts |
//! | `agui_encoder` | a run as events |
//!
//! Three generations of clients are in use. Those of version 1.0 send `protocolVersion`. Those before it fail on the outcome
//! `cancelled`, and some know no interrupts: they get text in addition.

mod agui_encoder;
mod agui_event;
mod conversation;
pub(in crate::api) mod endpoint;
mod interrupts;
mod run_input;
