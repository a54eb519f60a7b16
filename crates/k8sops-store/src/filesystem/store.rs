//! The store itself: opening it, and running file access on threads that may block.

use std::{path::Path, sync::Arc};

use tokio::sync::oneshot;

use super::{
    commit_journal::{BatchWriter, CommitJournal},
    disk_probe::DiskProbe,
    files::{create_private_folder, sync_parent_folder, unavailable},
    folder_lock::FolderLock,
    index_file::IndexFile,
    journal_replay::replay_journal,
    layout::StoreLayout,
    line_writing::LineWrite,
    memory_files::MemoryFiles,
    output_files::OutputFiles,
    permissions::tighten_permissions,
    record_files::RecordFiles,
    recovery_scan::scan_sessions,
    session_file::SessionFile,
    session_files::SessionFiles,
    session_views::SessionView,
    session_writes::write_session,
    trash::empty_trash,
    usage_files::UsageFiles,
    work_queue::WorkQueue,
};
use crate::log_retention::LogRetention;
use k8sops_core::{SessionId, StoreError};

/// Sessions in files. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FilesystemStore(Arc<StoreFiles>);

/// All files of a store.
#[derive(Debug)]
pub(super) struct StoreFiles {
    pub(super) layout: StoreLayout,
    pub(super) sessions: Arc<SessionFiles>,
    pub(super) outputs: OutputFiles,
    pub(super) usage: UsageFiles,
    pub(super) memories: MemoryFiles,
    pub(super) records: RecordFiles,
    probe: DiskProbe,
    queue: WorkQueue,
    lock: Arc<FolderLock>,
}

impl FilesystemStore {
    /// Opens the folder of a store, and creates it if it does not exist.
    ///
    /// # Errors
    /// `InUse` if another process uses the folder; `Unavailable` if it cannot be created or read.
    pub async fn open(root: &Path, retention: LogRetention) -> Result<Self, StoreError> {
        let layout = StoreLayout::new(root.to_owned());
        run_blocking(move || Ok(Self(Arc::new(StoreFiles::open(layout, retention)?)))).await
    }

    /// The files, for work that does not block.
    pub(super) fn files(&self) -> &StoreFiles {
        &self.0
    }

    /// What is in memory of a session whose file is open. `None` if it is not, or if the folder may be away.
    pub(super) fn find_view(&self, session: SessionId) -> Option<Arc<SessionView>> {
        if self.0.lock.was_held_lately() { self.0.sessions.views.find(session) } else { None }
    }

    /// Runs file access on a thread that may block. It is completed even if its caller goes away.
    pub(super) async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StoreFiles) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let files = self.0.clone();
        run_blocking(move || {
            files.lock.check()?;
            work(&files)
        })
        .await
    }

    /// Does short file access in the work queue. It is completed even if its caller goes away.
    pub(super) async fn with_files_queued<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StoreFiles) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let files = self.0.clone();
        let (done, result) = oneshot::channel();
        self.0.queue.push(move || {
            let worked = files.lock.check().and_then(|()| work(&files));
            // The caller may close the store.
            drop(files);
            // A caller that is gone needs no result.
            drop(done.send(worked));
        });
        result.await.unwrap_or_else(|error| Err(StoreError::unavailable("the file access was aborted", error)))
    }

    /// Works on a session's file in the work queue.
    pub(super) async fn with_session_queued<T: Send + 'static>(
        &self,
        session: SessionId,
        work: impl FnOnce(&mut SessionFile) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.with_files_queued(move |files| files.sessions.with_session(session, work)).await
    }

    /// Works on a session's file, on a thread that may block.
    pub(super) async fn with_session<T: Send + 'static>(
        &self,
        session: SessionId,
        work: impl FnOnce(&mut SessionFile) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.with_files(move |files| files.sessions.with_session(session, work)).await
    }

    /// Writes lines to a session's file, and waits until they are durable. That is completed even if its caller goes away.
    pub(super) async fn write_session<T: Send + 'static>(
        &self,
        session: SessionId,
        stage: impl FnOnce(&mut SessionFile, LogRetention, &CommitJournal) -> Result<LineWrite<T>, StoreError>
        + Send
        + 'static,
    ) -> Result<T, StoreError> {
        let files = self.0.clone();
        let (done, result) = oneshot::channel();
        let work = move || {
            let checked = files.lock.check();
            let sessions = files.sessions.clone();
            drop(files);
            // A caller that is gone needs no result.
            let done = move |result| drop(done.send(result));
            match checked {
                Ok(()) => {
                    let writer = write_session(sessions, session, stage, done);
                    writer.into_iter().for_each(BatchWriter::write_batches);
                }
                Err(error) => {
                    drop(sessions);
                    done(Err(error));
                }
            }
        };
        self.0.queue.push(work);
        result.await.unwrap_or_else(|error| Err(StoreError::unavailable("the file access was aborted", error)))
    }
}

impl StoreFiles {
    fn open(layout: StoreLayout, retention: LogRetention) -> Result<Self, StoreError> {
        let sessions = layout.sessions();
        create_private_folder(&sessions).map_err(|error| unavailable(&sessions, error))?;
        sync_parent_folder(&sessions)?;
        sync_parent_folder(layout.root())?;
        let lock = Arc::new(FolderLock::acquire(&layout)?);
        tighten_permissions(&layout);
        empty_trash(&layout);
        replay_journal(&layout)?;
        let (mut index, known_lines) = IndexFile::open(layout.index_file());
        let lines = scan_sessions(&layout, retention, &known_lines)?;
        let outputs = OutputFiles::new(layout.clone());
        outputs.delete_stray_outputs(&lines.iter().map(|line| line.summary.session_id).collect());
        let usage = UsageFiles::new(layout.clone());
        usage.tidy_up();
        index.replace_lines(lines);
        Ok(Self {
            sessions: Arc::new(SessionFiles::new(layout.clone(), retention, index, lock.clone())),
            outputs,
            usage,
            memories: MemoryFiles::new(layout.clone()),
            records: RecordFiles::new(layout.clone()),
            probe: DiskProbe::default(),
            queue: WorkQueue::new(),
            layout,
            lock,
        })
    }

    /// Checks that the folder can be read and written to.
    pub(super) fn check_access(&self) -> Result<(), StoreError> {
        let sessions = self.layout.sessions();
        let found = std::fs::metadata(&sessions).map_err(|error| unavailable(&sessions, error))?;
        if !found.is_dir() {
            return Err(unavailable(&sessions, std::io::ErrorKind::NotADirectory.into()));
        }
        self.probe.check(self.layout.root())?;
        self.sessions.retry_index_writes();
        Ok(())
    }
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::unavailable("the file access was aborted", error)),
    }
}
