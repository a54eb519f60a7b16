//! The room as a whole, against a server in this process and against child processes.

mod ask;
mod http;
mod hub;
mod listen;
mod rough;
mod stdio;
mod users;
