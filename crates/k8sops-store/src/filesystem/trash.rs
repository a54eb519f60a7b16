//! Folders that are deleted. A folder is renamed into the trash first, so that it is there as a whole or not at all, also
//! after a crash.

use std::{fs, io, path::Path};

use super::{
    files::{create_private_folder, if_exists, unavailable},
    layout::StoreLayout,
};
use k8sops_core::StoreError;

/// Whether there was something to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Discarded {
    Existed,
    Missing,
}

/// Deletes a folder, or what is in its place. What cannot be removed after the renaming is removed at the next start.
pub(super) fn discard_folder(layout: &StoreLayout, path: &Path) -> Result<Discarded, StoreError> {
    let trash = layout.trash();
    let target = trash.join(uuid::Uuid::new_v4().to_string());
    let renamed = create_private_folder(&trash).and_then(|()| fs::rename(path, &target));
    match renamed {
        Ok(()) => {
            if let Err(error) = remove_all(&target) {
                tracing::warn!(path = %target.display(), %error, "deleted files cannot be removed yet");
            }
            Ok(Discarded::Existed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && trash.is_dir() => Ok(Discarded::Missing),
        // The folder is a mount of its own, or the disk is full.
        Err(_) => match if_exists(remove_all(path)).map_err(|error| unavailable(path, error))? {
            Some(()) => Ok(Discarded::Existed),
            None => Ok(Discarded::Missing),
        },
    }
}

/// Removes what is left in the trash.
pub(super) fn empty_trash(layout: &StoreLayout) {
    let trash = layout.trash();
    if let Err(error) = if_exists(remove_all(&trash)) {
        tracing::warn!(path = %trash.display(), %error, "deleted files cannot be removed yet");
    }
}

fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        // A file in place of a folder.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        result => result,
    }
}
