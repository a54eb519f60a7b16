//! File access with the permissions and the durability that the store needs. All functions block.

use std::{
    error::Error as _,
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::disk_io::{self, DiskOperation};
use k8sops_core::{BackendError, StoreError, StoreOutage};

/// How the names of files end whose content is to replace another file.
pub(super) const REPLACEMENT_EXTENSION: &str = ".new";

/// Whether a write waits for the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The data is on the disk when the write returns.
    Synced,
    /// A power failure may lose the data.
    Unsynced,
}

/// Which file a path leads to: two files with the same identity are the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(super) fn from_metadata(data: &Metadata) -> Self {
        Self { device: data.dev(), inode: data.ino() }
    }

    /// The identity of the file at a path. A symbolic link has its own.
    pub(super) fn at_path(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|data| Self::from_metadata(&data))
    }
}

/// A file with its size and the time of its last change: equal as long as no other program writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStamp {
    identity: FileIdentity,
    bytes: u64,
    modified: (i64, i64),
}

impl FileStamp {
    pub(super) fn from_metadata(data: &Metadata) -> Self {
        let identity = FileIdentity::from_metadata(data);
        Self { identity, bytes: data.len(), modified: (data.mtime(), data.mtime_nsec()) }
    }

    /// The stamp of the file at a path; `None` if there is no file.
    pub(super) fn at_path(path: &Path) -> io::Result<Option<Self>> {
        Ok(if_exists(fs::symlink_metadata(path))?.map(|data| Self::from_metadata(&data)))
    }
}

/// When a file was last changed, and when what the file system knows of it was. Programs can set back the former only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChangeTimes {
    modified: (i64, i64),
    changed: (i64, i64),
}

impl ChangeTimes {
    pub(super) fn from_metadata(data: &Metadata) -> Self {
        Self { modified: (data.mtime(), data.mtime_nsec()), changed: (data.ctime(), data.ctime_nsec()) }
    }
}

/// The error of a file operation.
pub(super) fn unavailable(path: &Path, error: io::Error) -> StoreError {
    let outage = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => StoreOutage::Full,
        io::ErrorKind::ReadOnlyFilesystem => StoreOutage::ReadOnly,
        io::ErrorKind::PermissionDenied => StoreOutage::AccessDenied,
        _ => StoreOutage::Unreachable,
    };
    StoreError::Unavailable(BackendError::caused_by(path.display().to_string(), error).with_outage(outage))
}

/// Whether an open file does not lead to its file any more, because a network file system was mounted or started again.
/// Opening it again may help.
pub(super) fn is_stale(error: &StoreError) -> bool {
    let StoreError::Unavailable(error) = error else { return false };
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::StaleNetworkFileHandle)
}

/// Turns "not found" into `None`. A path that leads through a file has nothing at its end.
pub(super) fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        result => result.map(Some),
    }
}

/// Options that create files which only their owner can read.
pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Creates a folder and its parents, which only their owner can enter. A folder that exists is left as it is.
pub(super) fn create_private_folder(path: &Path) -> io::Result<()> {
    disk_io::check_operation(DiskOperation::CreateFolder, path)?;
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates a folder that only its owner can enter, and those above it as far as `root`, which are on the disk when this
/// returns. If that fails they are removed: a second sync of a folder may succeed without having written it.
pub(super) fn create_durable_folder(path: &Path, root: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| parent.starts_with(root) && *parent != root) {
        create_durable_folder(parent, root)?;
    }
    create_private_subfolder(path).map_err(|error| unavailable(path, error))?;
    sync_parent_folder(path).inspect_err(|_| drop(fs::remove_dir(path)))
}

/// Creates a folder that only its owner can enter, in a folder that exists: a store whose folder is away must not be
/// created again in its place.
fn create_private_subfolder(path: &Path) -> io::Result<()> {
    match disk_io::create_folder(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

/// Where the new content of a file is written before it takes the file's place.
pub(super) fn replacement_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(REPLACEMENT_EXTENSION);
    PathBuf::from(name)
}

/// Creates a file for reading and writing. A file that exists is removed first, because it may be a link, or readable by
/// others.
pub(super) fn create_private_file(path: &Path) -> io::Result<File> {
    if_exists(fs::remove_file(path))?;
    disk_io::create_file(path)
}

/// Writes a whole file. What a failed write leaves is removed.
pub(super) fn write_file(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let file = create_private_file(path)?;
    let written = disk_io::write_at(&file, path, bytes, 0).and_then(|()| match durability {
        Durability::Synced => disk_io::sync_file(&file, path),
        Durability::Unsynced => Ok(()),
    });
    written.inspect_err(|_| drop(fs::remove_file(path)))
}

/// Writes a file under a temporary name and renames it, so that readers see the old content or the new.
pub(super) fn replace_file(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let new = replacement_path(path);
    write_file(&new, bytes, durability)?;
    disk_io::rename_file(&new, path).inspect_err(|_| drop(fs::remove_file(&new)))
}

/// Makes the creation, renaming or removal of a file durable.
pub(super) fn sync_parent_folder(path: &Path) -> Result<(), StoreError> {
    // A relative path of one component has an empty parent.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_folder(folder)
}

/// Makes the creation, renaming or removal of files in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    disk_io::sync_folder(folder).map_err(|error| unavailable(folder, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_says_decides_the_outage() {
        for (kind, outage) in [
            (io::ErrorKind::StorageFull, StoreOutage::Full),
            (io::ErrorKind::QuotaExceeded, StoreOutage::Full),
            (io::ErrorKind::FileTooLarge, StoreOutage::Full),
            (io::ErrorKind::ReadOnlyFilesystem, StoreOutage::ReadOnly),
            (io::ErrorKind::PermissionDenied, StoreOutage::AccessDenied),
            (io::ErrorKind::Other, StoreOutage::Unreachable),
            (io::ErrorKind::NotFound, StoreOutage::Unreachable),
        ] {
            let error = unavailable(Path::new("/data"), io::Error::from(kind));
            assert_eq!(error.outage(), Some(outage), "{kind}");
        }
        // EIO, EMFILE, EDQUOT, EFBIG and ESTALE of Linux.
        for (errno, outage, stale) in [
            (5, StoreOutage::Unreachable, false),
            (24, StoreOutage::Unreachable, false),
            (122, StoreOutage::Full, false),
            (27, StoreOutage::Full, false),
            (116, StoreOutage::Unreachable, true),
        ] {
            let error = unavailable(Path::new("/data"), io::Error::from_raw_os_error(errno));
            assert_eq!((error.outage(), is_stale(&error)), (Some(outage), stale), "{error}");
        }
    }
}
