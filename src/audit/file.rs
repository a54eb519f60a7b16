//! The file of a trail, and the thread that writes it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    AuditError, Order,
    chain::{self, Chain},
    record::{Action, Entry},
};
use crate::audit::AuditDestination;
use k8sops_telemetry::Metrics;

/// How much of a file's end is read for its last record, which is far shorter.
const TAIL: u64 = 64 * 1024;

/// Where lines go.
enum Place {
    Stdout,
    File { path: PathBuf, file: File },
}

/// A trail as its thread has it.
pub(super) struct Trail {
    place: Place,
    chain: Chain,
    metrics: Arc<Metrics>,
    /// Records that could not be written since the last that was.
    lost: u64,
    /// What was written last is not whole.
    torn: bool,
}

impl Trail {
    pub(super) fn open(to: &AuditDestination, replica: &str, metrics: Arc<Metrics>) -> Result<Self, AuditError> {
        let (place, after, torn) = match to {
            AuditDestination::Stdout => (Place::Stdout, chain::NOTHING.to_owned(), false),
            AuditDestination::File(path) => {
                let (file, after, torn) = open(path)?;
                (Place::File { path: path.clone(), file }, after, torn)
            }
        };
        let id = uuid::Uuid::now_v7().to_string();
        let mut trail = Self { place, chain: Chain::new(id, replica.to_owned(), after), metrics, lost: 0, torn };
        let before = trail.chain.prev.clone();
        trail.append(&Entry::new(Action::ChainStarted), Action::ChainStarted)?;
        trail.sync()?;
        tracing::info!(chain = trail.chain.id, before, head = trail.chain.prev, "the audit trail is open");
        Ok(trail)
    }

    /// Does what it is told until nobody is left to tell it anything.
    pub(super) fn obey(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut waiting = Vec::new();
        while let Some(order) = orders.blocking_recv() {
            let mut next = Some(order);
            // What has gathered meanwhile shares one fsync.
            while let Some(order) = next {
                match order {
                    Order::Write(entries) => entries.iter().for_each(|entry| {
                        let _ = self.write(entry);
                    }),
                    Order::WriteDurably(entry, done) => match self.write(&entry) {
                        Ok(()) => waiting.push(done),
                        Err(error) => tell(done, Err(error)),
                    },
                    Order::Reopen => {
                        self.settle(&mut waiting);
                        self.reopen();
                    }
                    Order::Close(done) => {
                        self.settle(&mut waiting);
                        self.close();
                        // Whoever is told may open the file anew.
                        drop(self);
                        let _ = done.send(());
                        return;
                    }
                }
                next = orders.try_recv().ok();
            }
            self.settle(&mut waiting);
        }
    }

    /// Makes what was written durable, for those who wait for that.
    fn settle(&mut self, waiting: &mut Vec<oneshot::Sender<Result<(), AuditError>>>) {
        if waiting.is_empty() {
            return;
        }
        let synced = self.sync();
        if let Err(error) = &synced {
            tracing::error!(%error, "the audit trail is not durable");
            self.metrics.audited(false);
        }
        waiting.drain(..).for_each(|done| tell(done, synced.clone()));
    }

    fn write(&mut self, entry: &Entry) -> Result<(), AuditError> {
        let written = self.catch_up().and_then(|()| self.append(entry, entry.action()));
        match &written {
            Ok(()) => self.metrics.audited(true),
            Err(error) => {
                if self.lost == 0 {
                    tracing::error!(%error, "the audit trail cannot be written: calls that change something are refused");
                }
                self.lost += 1;
                self.metrics.audited(false);
            }
        }
        written
    }

    /// Says what is missing, before anything else is said.
    fn catch_up(&mut self) -> Result<(), AuditError> {
        if self.lost > 0 {
            self.append(&Entry::lost(self.lost), Action::RecordsLost)?;
            tracing::warn!(records = self.lost, "the audit trail can be written again");
            self.lost = 0;
        }
        Ok(())
    }

    /// Adds one line, or nothing of it.
    fn append(&mut self, entry: &Entry, action: Action) -> Result<(), AuditError> {
        let (line, after) = self.chain.next(entry, action, self.torn);
        let written = match &mut self.place {
            Place::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(line.as_bytes()).and_then(|()| out.flush())
            }
            Place::File { file, .. } => {
                // What is torn stays, with its own end of line: a trail is only ever added to.
                let begin = if self.torn { "\n" } else { "" };
                let text = format!("{begin}{line}");
                let length = file.metadata().map(|data| data.len());
                file.write_all(text.as_bytes()).inspect_err(|_| {
                    // A part of it may be there. It was never a record, and goes away where that is allowed.
                    let undone = length.and_then(|before| file.set_len(before));
                    self.torn |= undone.is_err();
                })
            }
        };
        written.map_err(|error| AuditError::Write(error.to_string()))?;
        self.torn = false;
        self.chain = after;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), AuditError> {
        match &self.place {
            Place::Stdout => Ok(()),
            Place::File { file, .. } => {
                // A terminal or a pipe has nothing to make durable.
                let synced = file.sync_data();
                synced.or_else(|error| match error.kind() {
                    io::ErrorKind::InvalidInput => Ok(()),
                    _ => Err(AuditError::Write(error.to_string())),
                })
            }
        }
    }

    fn reopen(&mut self) {
        let Place::File { path, .. } = &self.place else { return };
        let path = path.clone();
        // Without a new file the old one is gone on with.
        if same_file(&self.place) {
            return;
        }
        let moved = self.append(&Entry::new(Action::ChainMoved), Action::ChainMoved).and_then(|()| self.sync());
        let opened = moved.and_then(|()| open(&path));
        match opened {
            Ok((file, after, torn)) => {
                let fresh = after == chain::NOTHING && !torn;
                self.place = Place::File { path, file };
                self.torn = torn;
                // Somebody else's lines are there already: they are gone on from, as at a start.
                let (action, chain) = if fresh {
                    (Action::ChainContinued, self.chain.clone())
                } else {
                    let id = uuid::Uuid::now_v7().to_string();
                    (Action::ChainStarted, self.chain.begun_anew(id, after))
                };
                self.chain = chain;
                if let Err(error) = self.append(&Entry::new(action), action) {
                    tracing::error!(%error, "the new file of the audit trail cannot be written");
                    self.metrics.audited(false);
                }
            }
            Err(error) => {
                tracing::error!(%error, "the audit trail goes on in its old file");
                self.metrics.audited(false);
            }
        }
    }

    fn close(&mut self) {
        let closed = self.catch_up().and_then(|()| self.append(&Entry::new(Action::ChainClosed), Action::ChainClosed));
        match closed.and_then(|()| self.sync()) {
            Ok(()) => tracing::info!(chain = self.chain.id, head = self.chain.prev, "the audit trail is closed"),
            Err(error) => tracing::error!(%error, "the audit trail could not be closed"),
        }
    }
}

fn tell(done: oneshot::Sender<Result<(), AuditError>>, outcome: Result<(), AuditError>) {
    // Whoever asked may have gone.
    let _ = done.send(outcome);
}

/// Opens a file for adding to it, alone; with the hash of its last record and whether its last line is torn.
fn open(path: &Path) -> Result<(File, String, bool), AuditError> {
    let fault = |why: String| AuditError::Open { path: path.to_owned(), why };
    let opened = OpenOptions::new().read(true).append(true).create(true).open(path);
    // What cannot be read (a pipe) begins with nothing.
    let mut file = opened.or_else(|_| OpenOptions::new().append(true).open(path)).map_err(|e| fault(e.to_string()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            return Err(fault("another process writes to it; each needs a file of its own".into()));
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(fault(error.to_string())),
    }
    if !file.metadata().is_ok_and(|data| data.is_file()) {
        return Ok((file, chain::NOTHING.to_owned(), false));
    }
    let length = file.metadata().map_err(|e| fault(e.to_string()))?.len();
    let mut tail = Vec::new();
    let mut read = || {
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        file.read_to_end(&mut tail)
    };
    read().map_err(|e| fault(e.to_string()))?;
    let mut torn = !tail.is_empty() && !tail.ends_with(b"\n");
    let mut tail = String::from_utf8_lossy(&tail).into_owned();
    if torn && tail.lines().next_back().is_some_and(|line| chain::read(line).is_some()) {
        // Only its end of line is missing.
        file.write_all(b"\n").map_err(|e| fault(e.to_string()))?;
        tail.push('\n');
        torn = false;
    }
    let mut whole = tail.split_inclusive('\n').filter(|line| line.ends_with('\n')).rev();
    // What is not a record is for `verify` to find; the chain goes on from the last one that is.
    let last = whole.find_map(|line| chain::read(line.trim_end()));
    Ok((file, last.map_or_else(|| chain::NOTHING.to_owned(), |place| place.hash), torn))
}

/// Whether the file's name still stands for it.
fn same_file(place: &Place) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Place::File { path, file } = place else { return true };
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}
