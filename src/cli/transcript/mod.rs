//! Turns frames into screen updates: a pure state machine, so that every sequence of frames can be tested without a
//! terminal.
//!
//! It applies the rules of the contract: a `token` with offset 0 starts a new text, an `assistant_message` is final,
//! `run_recovered` discards previews. Its output is only ever appended. Text that is already printed cannot be removed, so
//! a note says when it is no longer valid. Unknown types and fields are skipped, because the contract grows.

mod frame_fields;
mod lost_events;
mod messages;
mod pending_question;
mod reply_preview;
mod snapshot;
mod tool_calls;
mod view;

#[cfg(test)]
mod tests;

pub(in crate::cli) use self::{
    pending_question::{PendingQuestion, QuestionSubject},
    view::TranscriptView,
};
