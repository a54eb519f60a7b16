//! Sessions in files, for one machine.
//!
//! ```text
//! ROOT/lock                                    held by the one process that uses the folder
//! ROOT/sessions.jsonl                          the index: a summary per line
//! ROOT/sessions/USER_ID/SESSION_ID.jsonl       a session: one line per atomic write (see `log_line`)
//! ROOT/journal-0, journal-1                    newest lines of all sessions, for a power failure (see `commit_journal`)
//! ROOT/outputs/SESSION_ID/TOOL_CALL_ID         the whole output of a call that was too long for the log
//! ROOT/memories/USER_ID/MEMORY_ID.json         a memory of a user, with its vector
//! ROOT/usage/USER_ID/DAY.json                  what the user's sessions used on a day
//! ROOT/usage/USER_ID/DAY.jsonl                 later records of that, until they are folded into it
//! ROOT/key                                     32 random bytes of this deployment
//! ROOT/trash                                   folders that are being deleted
//! ```
//!
//! A write to a session or a memory is on the disk before it is acknowledged. Outputs and usage are written without waiting
//! for the disk. A session without an owner is closed, except for a few that were read last: it takes an entry in the index
//! and nothing else. Paths are made of parsed ids, which cannot leave their folder.

mod batch_writing;
mod commit_journal;
mod disk_io;
mod disk_probe;
mod files;
mod folder_lock;
mod index_file;
mod index_line;
#[cfg(test)]
mod injected_faults;
mod journal_batch;
mod journal_file;
mod journal_format;
mod journal_replay;
mod known_log;
mod layout;
mod line_damage;
mod line_format;
mod line_search;
mod line_writing;
mod log_line;
mod log_reader;
mod memory_files;
mod open_files;
mod output_files;
mod permissions;
mod ports;
mod record_files;
mod recovery_scan;
mod session_file;
mod session_files;
mod session_replay;
mod session_views;
mod session_work;
mod session_writes;
mod store;
#[cfg(test)]
mod tests;
mod trash;
mod unsynced_files;
mod usage_files;
mod usage_notes;
mod usage_record;
mod work_queue;

pub use disk_probe::probe_write_access;
pub use store::FilesystemStore;
