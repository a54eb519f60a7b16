//! The heart: a session is a log of events, and all else is a fold of it.
//!
//! This room owns the words of the contract (events, commands, ids), the projection that turns a log into a conversation,
//! the cursor that reads a log from any place and then live, and the port through which a log is stored. It knows no other
//! room: no HTTP, no provider, no storage technology.
//!
//! ```text
//! Command ─▶ inbox ─▶ owner ─▶ Commit{epoch, expected_seq, events} ─▶ log ─▶ Cursor ─▶ Frame
//!                                                                      └─ fold ─▶ SessionState (a checkpoint, stored)
//! ```

mod command;
mod cursor;
mod error_chain;
mod event;
mod feed;
mod frame;
mod ids;
mod memories;
mod message;
mod money;
mod net;
mod open_run;
mod ports;
mod replay;
mod settings;
mod state;
mod summary;
mod time;
mod usage;

pub use command::*;
pub use cursor::EventCursor;
pub use error_chain::ErrorChain;
pub use event::*;
pub use feed::SessionFeed;
pub use frame::*;
pub use ids::*;
pub use memories::*;
pub use message::*;
pub use money::UsdAmount;
pub use net::{is_loopback, mask_url, shown};
pub use open_run::*;
pub use ports::*;
pub use replay::*;
pub use settings::*;
pub use state::*;
pub use summary::*;
pub use time::Timestamp;
pub use usage::*;
