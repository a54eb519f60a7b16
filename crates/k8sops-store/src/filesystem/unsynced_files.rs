//! Sessions' files that may not be on the disk.

use std::{fs::File, io, path::PathBuf, sync::Arc};

use super::disk_io;

/// How many threads sync sessions' files, because the file system joins syncs that come at the same time.
const SYNC_THREADS: usize = 16;
/// How many files are worth a thread.
const FILES_PER_THREAD: usize = 8;

/// A session's file that may not be on the disk.
#[derive(Debug, Clone)]
pub(super) struct UnsyncedFile {
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
}

/// Waits until all files are on the disk.
pub(super) fn sync_files(files: &[UnsyncedFile]) -> io::Result<()> {
    let sync_all =
        |files: &[UnsyncedFile]| files.iter().try_for_each(|file| disk_io::sync_file(&file.file, &file.path));
    let chunk = files.len().div_ceil(SYNC_THREADS).max(FILES_PER_THREAD);
    if files.len() <= chunk {
        return sync_all(files);
    }
    std::thread::scope(|scope| {
        let spawn = |files| std::thread::Builder::new().spawn_scoped(scope, move || sync_all(files));
        let threads: Vec<_> = files.chunks(chunk).map(spawn).collect();
        let results = threads.into_iter().map(|thread| {
            thread?.join().unwrap_or_else(|_| Err(io::Error::other("a thread that syncs files panicked")))
        });
        // Every thread is waited for, also after a failure.
        results.collect::<Vec<_>>().into_iter().collect()
    })
}
