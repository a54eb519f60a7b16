//! What tests share: a model that says what it is told to, and a service to talk to.

pub mod scripted;
