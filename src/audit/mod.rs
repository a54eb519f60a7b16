//! The audit trail: who did what, when, with which arguments (by their hash), approved by whom. No outputs, no arguments.
//!
//! A trail is a file of JSON lines. Each process begins a **chain** in it; each record holds the hash of the one before, so
//! that a line that was changed, taken out or moved shows ([`verify`]). One thread writes, so that the order of the file is
//! the order of the chain, and nothing of it blocks a worker.
//!
//! ```text
//! record(entry) ──────────────┐
//! record_durably(entry) ◀─ok──┤ bounded channel ─▶ thread: chain.rs makes the line ─▶ write, fsync for those who wait
//! reopen() (SIGHUP) ──────────┘
//! ```
//!
//! It fails closed: what changes something is not sent before its record is on the disk (`runtime::observed`).

mod chain;
mod file;
mod options;
mod record;
mod verify;

use std::{path::PathBuf, sync::Arc, thread::JoinHandle};

use tokio::sync::{mpsc, oneshot};

pub use options::{AuditDestination, AuditOptions};
pub use record::{Action, Entry, hash_of};
pub use verify::{Fault, Report, verify};

use file::Trail;
use k8sops_telemetry::Metrics;

/// Records that may wait for the thread; whoever has one more waits with it.
const WAITING: usize = 1024;

/// Why a record is not in the trail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The trail cannot be opened.
    #[error("the audit trail {} cannot be opened: {why}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The trail cannot be written.
    #[error("the audit trail cannot be written: {0}")]
    Write(String),
    /// The trail is closed.
    #[error("the audit trail is closed")]
    Closed,
}

enum Order {
    Write(Vec<Entry>),
    WriteDurably(Box<Entry>, oneshot::Sender<Result<(), AuditError>>),
    Reopen,
    Close(oneshot::Sender<()>),
}

/// The way to the trail. Cheap to clone; does nothing where none is configured.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<Arc<Writing>>);

#[derive(Debug)]
struct Writing {
    orders: mpsc::Sender<Order>,
    // Ends when the last sender is gone; not waited for, as `close` waits for what matters.
    _thread: JoinHandle<()>,
}

impl Audit {
    /// Begins a chain at the end of the trail.
    ///
    /// # Errors
    /// The file cannot be opened, or another process writes to it.
    pub fn open(to: &AuditDestination, replica: &str, metrics: Arc<Metrics>) -> Result<Self, AuditError> {
        let trail = Trail::open(to, replica, metrics)?;
        let (orders, received) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || trail.obey(received))
            .map_err(|error| AuditError::Write(error.to_string()))?;
        Ok(Self(Some(Arc::new(Writing { orders, _thread: thread }))))
    }

    /// Whether there is a trail.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Hands records over; they are written soon. That they could not be is counted and logged.
    pub async fn record(&self, entries: Vec<Entry>) {
        if let Some(writing) = self.0.as_ref().filter(|_| !entries.is_empty()) {
            // The thread lives as long as this does.
            let _ = writing.orders.send(Order::Write(entries)).await;
        }
    }

    /// Writes a record; it is on the disk when this returns.
    ///
    /// # Errors
    /// It is not: what it speaks of must not be done.
    pub async fn record_durably(&self, entry: Entry) -> Result<(), AuditError> {
        let Some(writing) = &self.0 else { return Ok(()) };
        let (done, written) = oneshot::channel();
        writing.orders.send(Order::WriteDurably(Box::new(entry), done)).await.map_err(|_| AuditError::Closed)?;
        written.await.unwrap_or(Err(AuditError::Closed))
    }

    /// Goes on in a new file of the same name, after the old one was moved away.
    pub async fn reopen(&self) {
        if let Some(writing) = &self.0 {
            let _ = writing.orders.send(Order::Reopen).await;
        }
    }

    /// Ends the chain with a record that says so. What is recorded later is not written.
    pub async fn close(&self) {
        let Some(writing) = &self.0 else { return };
        let (done, closed) = oneshot::channel();
        if writing.orders.send(Order::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

#[cfg(test)]
mod tests;
