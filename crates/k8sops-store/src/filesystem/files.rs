//! File access with the permissions and the durability that the store needs. All functions block.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use k8sops_core::StoreError;

/// Whether a write waits for the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The data is on the disk when the write returns.
    Synced,
    /// A power failure may lose the data.
    Unsynced,
}

/// The error of a file operation.
pub(super) fn unavailable(path: &Path, error: io::Error) -> StoreError {
    StoreError::unavailable(path.display().to_string(), error)
}

/// Turns "not found" into `None`.
pub(super) fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
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
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a whole file.
pub(super) fn write_file(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = private_file().create(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    if durability == Durability::Synced { file.sync_all() } else { Ok(()) }
}

/// Writes a file under a temporary name and renames it, so that readers see the old content or the new.
pub(super) fn replace_file(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let new = path.with_extension("new");
    write_file(&new, bytes, durability)?;
    fs::rename(&new, path)
}

/// Makes the creation, renaming or removal of a file durable.
pub(super) fn sync_parent_folder(path: &Path) -> Result<(), StoreError> {
    // A relative path of one component has an empty parent.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_folder(folder)
}

/// Makes the creation, renaming or removal of files in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| unavailable(folder, error))
}
