//! The permissions of files that exist: only their owner may read them. A copy or a backup may have brought others.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use super::layout::StoreLayout;

/// Permissions of all others than the owner.
const OTHERS: u32 = 0o077;
/// A folder that several users share, like `/tmp`.
const STICKY: u32 = 0o1000;

/// What was found.
#[derive(Debug, Default)]
struct PermissionFindings {
    tightened: usize,
    /// What could not be changed, and why.
    open: Option<String>,
    open_count: usize,
}

/// Takes all permissions on the files of a store from others than their owner, and warns of those where that fails.
pub(super) fn tighten_permissions(layout: &StoreLayout) {
    let mut findings = PermissionFindings::default();
    findings.tighten_path(layout.root());
    let [journal, other_journal] = layout.journal_files();
    for file in [layout.lock_file(), layout.index_file(), layout.key_file(), journal, other_journal] {
        findings.tighten_path(&file);
    }
    for folder in [layout.sessions(), layout.outputs(), layout.usage(), layout.memories(), layout.trash()] {
        findings.tighten_tree(&folder);
    }
    if findings.tightened > 0 {
        tracing::warn!(files = findings.tightened, "files that others could read are now private");
    }
    if let Some(example) = findings.open {
        tracing::warn!(files = findings.open_count, %example, "files can be read by others; make them private (chmod go=)");
    }
}

impl PermissionFindings {
    fn tighten_tree(&mut self, path: &Path) {
        self.tighten_path(path);
        let Ok(entries) = fs::read_dir(path) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.tighten_tree(&path),
                Ok(kind) if kind.is_file() => self.tighten_path(&path),
                _ => {}
            }
        }
    }

    fn tighten_path(&mut self, path: &Path) {
        let Ok(data) = fs::symlink_metadata(path) else { return };
        if data.is_symlink() || data.mode() & OTHERS == 0 {
            return;
        }
        let result = if data.mode() & STICKY == 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(data.mode() & 0o7777 & !OTHERS))
        } else {
            Err(io::Error::other("the folder is shared by several users"))
        };
        match result {
            Ok(()) => self.tightened += 1,
            Err(error) => {
                self.open_count += 1;
                self.open.get_or_insert_with(|| format!("{}: {error}", path.display()));
            }
        }
    }
}
