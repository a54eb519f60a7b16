//! The disk operations on which acknowledgements depend. In tests each of them can fail, see `injected_faults`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
};

use super::work_queue::wait_in_work;

/// What is asked of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskOperation {
    Open,
    Read,
    Write,
    Sync,
    Resize,
    Rename,
    Remove,
    CreateFolder,
    SyncFolder,
}

/// A change of a file or a folder that took place.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests look at changes"))]
pub(super) enum DiskChange<'a> {
    Created,
    Written { offset: u64, length: u64 },
    Resized { length: u64 },
    Renamed { from: &'a Path },
    Synced,
    SyncFailed,
}

/// Fails if a test wants this operation to fail.
#[inline]
#[cfg_attr(not(test), expect(clippy::unnecessary_wraps, reason = "only tests let operations fail"))]
pub(super) fn check_operation(operation: DiskOperation, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    super::injected_faults::check_operation(operation, path)?;
    #[cfg(not(test))]
    let _ = (operation, path);
    Ok(())
}

#[inline]
fn record_change(change: DiskChange<'_>, path: &Path) {
    #[cfg(test)]
    super::injected_faults::record_change(change, path);
    #[cfg(not(test))]
    let _ = (change, path);
}

/// Opens a file that exists.
pub(super) fn open_file(path: &Path, options: &OpenOptions) -> io::Result<File> {
    check_operation(DiskOperation::Open, path)?;
    options.open(path)
}

/// Opens a file for reading.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    open_file(path, OpenOptions::new().read(true))
}

/// Creates a file that does not exist, for reading and writing. Only its owner can read it.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    check_operation(DiskOperation::Open, path)?;
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    record_change(DiskChange::Created, path);
    Ok(file)
}

/// Creates a folder that only its owner can enter, in a folder that exists.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    check_operation(DiskOperation::CreateFolder, path)?;
    DirBuilder::new().mode(0o700).create(path)?;
    record_change(DiskChange::Created, path);
    Ok(())
}

/// Reads a whole file.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    check_operation(DiskOperation::Open, path)?;
    check_operation(DiskOperation::Read, path)?;
    fs::read(path)
}

/// Writes all bytes at an offset.
pub(super) fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
    let failed = check_operation(DiskOperation::Write, path);
    // A write that fails has written a part.
    let taken = if failed.is_err() { &bytes[..bytes.len() / 2] } else { bytes };
    file.write_all_at(taken, offset)?;
    record_change(DiskChange::Written { offset, length: taken.len() as u64 }, path);
    failed
}

/// Waits until what was written to a file, and its size, are on the disk.
pub(super) fn sync_file(file: &File, path: &Path) -> io::Result<()> {
    check_operation(DiskOperation::Sync, path).inspect_err(|_| record_change(DiskChange::SyncFailed, path))?;
    wait_in_work(|| file.sync_data())?;
    record_change(DiskChange::Synced, path);
    Ok(())
}

/// Changes the size of a file.
pub(super) fn resize_file(file: &File, path: &Path, length: u64) -> io::Result<()> {
    check_operation(DiskOperation::Resize, path)?;
    file.set_len(length)?;
    record_change(DiskChange::Resized { length }, path);
    Ok(())
}

/// Renames a file, which replaces the one at `to`.
pub(super) fn rename_file(from: &Path, to: &Path) -> io::Result<()> {
    check_operation(DiskOperation::Rename, to)?;
    // Before it takes place, so that a test can keep what is replaced.
    record_change(DiskChange::Renamed { from }, to);
    fs::rename(from, to)
}

/// Removes a file.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    check_operation(DiskOperation::Remove, path)?;
    fs::remove_file(path)
}

/// Makes the creation, renaming or removal of files in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    check_operation(DiskOperation::SyncFolder, folder)
        .inspect_err(|_| record_change(DiskChange::SyncFailed, folder))?;
    wait_in_work(|| File::open(folder)?.sync_all())?;
    record_change(DiskChange::Synced, folder);
    Ok(())
}
