//! The handle through which the service records audit events.

use std::{sync::Arc, thread::JoinHandle};

use k8sops_telemetry::Metrics;
use tokio::sync::{mpsc, oneshot};

use super::{
    errors::AuditError,
    options::AuditDestination,
    record::AuditRecord,
    writer::{TrailWriter, WriterCommand},
};

/// Records that may be queued for the writer thread; senders wait while the queue is full.
const QUEUE_CAPACITY: usize = 1024;

/// A handle to the audit trail. Cheap to clone; all methods do nothing if no trail is configured.
#[derive(Debug, Clone, Default)]
pub struct AuditTrail(Option<Arc<WriterHandle>>);

#[derive(Debug)]
struct WriterHandle {
    commands: mpsc::Sender<WriterCommand>,
    // The thread ends when the last sender is dropped. It is not joined: `close` waits for everything that matters.
    _thread: JoinHandle<()>,
}

impl AuditTrail {
    /// Opens the trail and starts a new chain at its end.
    ///
    /// # Errors
    /// The file cannot be opened or written, or another process writes to it.
    pub fn open(to: &AuditDestination, replica: &str, metrics: Arc<Metrics>) -> Result<Self, AuditError> {
        let writer = TrailWriter::open(to, replica, metrics)?;
        let (commands, received) = mpsc::channel(QUEUE_CAPACITY);
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(received))
            .map_err(AuditError::write)?;
        Ok(Self(Some(Arc::new(WriterHandle { commands, _thread: thread }))))
    }

    /// Whether a trail is configured.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Queues records to be written soon. Write failures are counted and logged by the writer, not returned.
    pub async fn record(&self, records: Vec<AuditRecord>) {
        if let Some(writer) = self.0.as_ref().filter(|_| !records.is_empty()) {
            // The send can only fail after `close`: the thread lives as long as this handle.
            let _ = writer.commands.send(WriterCommand::Write(records)).await;
        }
    }

    /// Writes a record and returns when it is on disk.
    ///
    /// # Errors
    /// The record is not on disk. The action that it describes must not be carried out.
    pub async fn record_durably(&self, record: AuditRecord) -> Result<(), AuditError> {
        let Some(writer) = &self.0 else { return Ok(()) };
        let (done, written) = oneshot::channel();
        let command = WriterCommand::WriteDurably(Box::new(record), done);
        writer.commands.send(command).await.map_err(|_| AuditError::Closed)?;
        written.await.unwrap_or(Err(AuditError::Closed))
    }

    /// Continues the chain in a new file of the same name after the old one was moved away (log rotation).
    pub async fn reopen(&self) {
        if let Some(writer) = &self.0 {
            let _ = writer.commands.send(WriterCommand::Reopen).await;
        }
    }

    /// Ends the chain with a `chain_closed` record. Later records are discarded.
    pub async fn close(&self) {
        let Some(writer) = &self.0 else { return };
        let (done, closed) = oneshot::channel();
        if writer.commands.send(WriterCommand::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}
