//! The thread that writes the trail.

use std::{
    fs::File,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
};

use k8sops_core::ErrorChain;
use k8sops_telemetry::Metrics;
use tokio::sync::{mpsc, oneshot};

use super::{
    chain::{self, HashChain, PreviousLine},
    errors::AuditError,
    file::{OpenedTrail, is_same_file, open_trail_file},
    options::AuditDestination,
    record::{AuditAction, AuditRecord},
};

/// What the handle asks of the writer thread.
pub(super) enum WriterCommand {
    Write(Vec<AuditRecord>),
    WriteDurably(Box<AuditRecord>, oneshot::Sender<Result<(), AuditError>>),
    Reopen,
    Close(oneshot::Sender<()>),
}

/// Where lines are written.
enum TrailDestination {
    Stdout,
    File { path: PathBuf, file: File },
}

/// The state of the writer thread.
pub(super) struct TrailWriter {
    destination: TrailDestination,
    chain: HashChain,
    metrics: Arc<Metrics>,
    /// Records that could not be written since the last successful write.
    lost_records: u64,
    /// Whether the last write left an incomplete line.
    last_line: PreviousLine,
}

impl TrailWriter {
    pub(super) fn open(to: &AuditDestination, replica: &str, metrics: Arc<Metrics>) -> Result<Self, AuditError> {
        let (destination, after, last_line) = match to {
            AuditDestination::Stdout => (TrailDestination::Stdout, chain::INITIAL_HASH.to_owned(), PreviousLine::Whole),
            AuditDestination::File(path) => {
                let OpenedTrail { file, last_hash, last_line } = open_trail_file(path)?;
                (TrailDestination::File { path: path.clone(), file }, last_hash, last_line)
            }
        };
        let chain = HashChain::new(new_chain_id(), replica.to_owned(), after);
        let mut writer = Self { destination, chain, metrics, lost_records: 0, last_line };
        let before = writer.chain.prev.clone();
        writer.append(&AuditRecord::new(AuditAction::ChainStarted))?;
        writer.sync()?;
        tracing::info!(chain = writer.chain.id, before, head = writer.chain.prev, "audit trail opened");
        Ok(writer)
    }

    /// Executes commands until `Close`, or until all senders are dropped.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<WriterCommand>) {
        let mut awaiting_sync = Vec::new();
        while let Some(command) = commands.blocking_recv() {
            let mut next = Some(command);
            // All commands that are queued by now share one fsync.
            while let Some(command) = next {
                match command {
                    WriterCommand::Write(records) => records.iter().for_each(|record| {
                        let _ = self.write_record(record);
                    }),
                    WriterCommand::WriteDurably(record, done) => match self.write_record(&record) {
                        Ok(()) => awaiting_sync.push(done),
                        Err(error) => send_outcome(done, Err(error)),
                    },
                    WriterCommand::Reopen => {
                        self.sync_for(&mut awaiting_sync);
                        self.reopen();
                    }
                    WriterCommand::Close(done) => {
                        self.sync_for(&mut awaiting_sync);
                        self.close();
                        // Releases the file lock first: the receiver may open the file again.
                        drop(self);
                        let _ = done.send(());
                        return;
                    }
                }
                next = commands.try_recv().ok();
            }
            self.sync_for(&mut awaiting_sync);
        }
    }

    /// Makes written records durable and reports the outcome to the callers that wait for it.
    fn sync_for(&mut self, awaiting_sync: &mut Vec<oneshot::Sender<Result<(), AuditError>>>) {
        if awaiting_sync.is_empty() {
            return;
        }
        let synced = self.sync();
        if let Err(error) = &synced {
            tracing::error!(error = %ErrorChain(error), "audit trail fsync failed");
            self.metrics.count_audit_error();
        }
        awaiting_sync.drain(..).for_each(|done| send_outcome(done, synced.clone()));
    }

    fn write_record(&mut self, record: &AuditRecord) -> Result<(), AuditError> {
        let written = self.append_lost_count().and_then(|()| self.append(record));
        match &written {
            Ok(()) => self.metrics.count_audit_record(),
            Err(error) => {
                if self.lost_records == 0 {
                    tracing::error!(error = %ErrorChain(error), "audit trail write failed, rejecting mutating tool calls");
                }
                self.lost_records += 1;
                self.metrics.count_audit_error();
            }
        }
        written
    }

    /// Records how many records were lost before any other record is written.
    fn append_lost_count(&mut self) -> Result<(), AuditError> {
        if self.lost_records > 0 {
            self.append(&AuditRecord::with_lost_count(self.lost_records))?;
            tracing::warn!(lost_records = self.lost_records, "audit trail writable again");
            self.lost_records = 0;
        }
        Ok(())
    }

    /// Appends one whole line, or nothing.
    fn append(&mut self, record: &AuditRecord) -> Result<(), AuditError> {
        let (line, after) = self.chain.format_next(record, self.last_line);
        let written = match &mut self.destination {
            TrailDestination::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(line.as_bytes()).and_then(|()| out.flush())
            }
            TrailDestination::File { file, .. } => {
                // A torn line stays and gets its own newline: a trail is append-only.
                let separator = if self.last_line == PreviousLine::Torn { "\n" } else { "" };
                let text = format!("{separator}{line}");
                let length = file.metadata().map(|data| data.len());
                file.write_all(text.as_bytes()).inspect_err(|_| {
                    // A part of the line may be in the file. It was never a record, so it is cut off if possible.
                    if length.and_then(|before| file.set_len(before)).is_err() {
                        self.last_line = PreviousLine::Torn;
                    }
                })
            }
        };
        written.map_err(AuditError::write)?;
        self.last_line = PreviousLine::Whole;
        self.chain = after;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), AuditError> {
        match &self.destination {
            TrailDestination::Stdout => Ok(()),
            TrailDestination::File { file, .. } => match file.sync_data() {
                // A terminal or a pipe cannot be synced.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                synced => synced.map_err(AuditError::write),
            },
        }
    }

    fn reopen(&mut self) {
        let TrailDestination::File { path, file } = &self.destination else { return };
        let path = path.clone();
        if is_same_file(&path, file) {
            return;
        }
        let moved = self.append(&AuditRecord::new(AuditAction::ChainMoved)).and_then(|()| self.sync());
        let opened = moved.and_then(|()| open_trail_file(&path));
        match opened {
            Ok(OpenedTrail { file, last_hash, last_line }) => {
                let is_new_file = last_hash == chain::INITIAL_HASH && last_line == PreviousLine::Whole;
                self.destination = TrailDestination::File { path, file };
                self.last_line = last_line;
                // A file that already contains lines of another writer gets a new chain after them, as at startup.
                let action = if is_new_file {
                    AuditAction::ChainContinued
                } else {
                    self.chain = self.chain.start_new(new_chain_id(), last_hash);
                    AuditAction::ChainStarted
                };
                if let Err(error) = self.append(&AuditRecord::new(action)) {
                    tracing::error!(error = %ErrorChain(&error), "new audit trail file cannot be written");
                    self.metrics.count_audit_error();
                }
            }
            Err(error) => {
                tracing::error!(error = %ErrorChain(&error), "audit trail rotation failed, keeping the old file");
                self.metrics.count_audit_error();
            }
        }
    }

    fn close(&mut self) {
        let closed = self.append_lost_count().and_then(|()| self.append(&AuditRecord::new(AuditAction::ChainClosed)));
        match closed.and_then(|()| self.sync()) {
            Ok(()) => tracing::info!(chain = self.chain.id, head = self.chain.prev, "audit trail closed"),
            Err(error) => tracing::error!(error = %ErrorChain(&error), "audit trail not closed"),
        }
    }
}

fn new_chain_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn send_outcome(done: oneshot::Sender<Result<(), AuditError>>, outcome: Result<(), AuditError>) {
    // The send fails if the caller was cancelled.
    let _ = done.send(outcome);
}
