//! The room as a whole, against a server in this process and against child processes.

mod http;
mod hub;
mod stdio;
pub(crate) mod world;
