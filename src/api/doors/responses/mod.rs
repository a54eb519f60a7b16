//! The door for clients of OpenAI's Responses API.
//!
//! | module | holds |
//! |---|---|
//! | `endpoint` | the handlers |
//! | `response_request` | what clients send |
//! | `response_creation` | from a request to the run that answers it |
//! | `response_id` | ids that name a part of a log |
//! | `event_number` | sequence numbers that are made of the log |
//! | `event_writer`, `item_text` | events, and texts that grow |
//! | `response_resource` | the response as a whole |
//! | `response_item` | its items: messages, calls, requests for approval |
//! | `response_encoder` | a run as events and as a response |
//!
//! A response is a part of a run: from the message to its end, or to where it waits for its user; the answer begins the next
//! response. Ids and sequence numbers are made of the log, so that a stream is the same whenever, wherever and from wherever it is
//! read.

pub(in crate::api) mod endpoint;
mod event_number;
mod event_writer;
mod item_text;
mod known_response;
mod response_creation;
mod response_encoder;
mod response_id;
mod response_item;
mod response_request;
mod response_resource;
