//! Faults of disk operations, for tests, and a model of what a machine that fails loses after them.
//!
//! After a failed `fsync` the kernel forgets which pages were not written: a second `fsync` succeeds and writes nothing. So
//! what was written before a failed sync is on the disk only if it is written again and synced. [`FaultyDisk::lose_power`]
//! leaves only what is on the disk by this rule.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use parking_lot::Mutex;

use super::disk_io::{DiskChange, DiskOperation};

/// Which operations fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedFault {
    /// How many operations succeed first.
    pub(super) after: usize,
    /// How many fail then.
    pub(super) count: usize,
    /// The error that they return.
    pub(super) errno: i32,
}

/// A folder whose disk fails.
pub(super) struct FaultyDisk {
    root: PathBuf,
}

#[derive(Default)]
struct DiskModel {
    operations: Vec<DiskOperation>,
    fault: Option<PlannedFault>,
    files: BTreeMap<PathBuf, FileModel>,
}

/// What is not on the disk of a file, or of a folder's entries.
#[derive(Default, Clone)]
struct FileModel {
    /// Written, and not synced.
    pending: Vec<(u64, u64)>,
    /// Written before a failed sync, and not written again.
    lost: Vec<(u64, u64)>,
    /// The content that a renaming which is not on the disk replaced, if there was any.
    replaced: Option<(EntryState, Option<Vec<u8>>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryState {
    Pending,
    Lost,
}

// Tests run at the same time, each in a folder of its own.
static DISKS: LazyLock<Mutex<BTreeMap<PathBuf, DiskModel>>> = LazyLock::new(Mutex::default);

impl FaultyDisk {
    /// Lets operations below a folder be counted and fail.
    pub(super) fn new(root: &Path) -> Self {
        DISKS.lock().insert(root.to_owned(), DiskModel::default());
        Self { root: root.to_owned() }
    }

    /// Plans a fault, counted from now on; `None` ends it.
    pub(super) fn plan(&self, fault: Option<PlannedFault>) {
        with_disk(&self.root, |disk| {
            disk.fault = fault;
            disk.operations.clear();
        });
    }

    /// The operations since the last plan.
    pub(super) fn operations(&self) -> Vec<DiskOperation> {
        with_disk(&self.root, |disk| disk.operations.clone()).unwrap_or_default()
    }

    /// Leaves in the folder what is on the disk.
    pub(super) fn lose_power(&self) {
        let files = with_disk(&self.root, |disk| std::mem::take(&mut disk.files)).unwrap_or_default();
        for (path, file) in files {
            match &file.replaced {
                Some((_, Some(before))) => fs::write(&path, before).unwrap(),
                Some((_, None)) => drop(fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path))),
                None => {
                    let Ok(mut bytes) = fs::read(&path) else { continue };
                    for (start, end) in file.pending.iter().chain(&file.lost) {
                        let end = usize::try_from(*end).unwrap().min(bytes.len());
                        let start = usize::try_from(*start).unwrap().min(end);
                        bytes[start..end].fill(0);
                    }
                    fs::write(&path, bytes).unwrap();
                }
            }
        }
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        DISKS.lock().remove(&self.root);
    }
}

/// Counts an operation, and fails if that is planned.
pub(super) fn check_operation(operation: DiskOperation, path: &Path) -> io::Result<()> {
    let errno = with_disk(path, |disk| {
        let number = disk.operations.len();
        disk.operations.push(operation);
        disk.fault.filter(|fault| number >= fault.after && number - fault.after < fault.count).map(|fault| fault.errno)
    });
    match errno.flatten() {
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Ok(()),
    }
}

/// Records a change that took place.
pub(super) fn record_change(change: DiskChange<'_>, path: &Path) {
    with_disk(path, |disk| match change {
        DiskChange::Created => {
            let created = FileModel { replaced: Some((EntryState::Pending, None)), ..FileModel::default() };
            disk.files.insert(path.to_owned(), created);
        }
        DiskChange::Written { offset, length } => {
            let file = disk.files.entry(path.to_owned()).or_default();
            file.lost.retain_mut(|range| cut_range(range, offset, offset + length));
            file.pending.push((offset, offset + length));
        }
        DiskChange::Resized { length } => {
            let file = disk.files.entry(path.to_owned()).or_default();
            for ranges in [&mut file.pending, &mut file.lost] {
                ranges.retain_mut(|range| cut_range(range, length, u64::MAX));
            }
        }
        DiskChange::Renamed { from } => {
            let mut file = disk.files.remove(from).unwrap_or_default();
            let known = disk.files.get(path).and_then(|known| known.replaced.clone());
            file.replaced =
                Some((EntryState::Pending, known.map_or_else(|| fs::read(path).ok(), |(_, before)| before)));
            disk.files.insert(path.to_owned(), file);
        }
        DiskChange::Synced if path.is_dir() => {
            let is_in = |file: &PathBuf| file.parent() == Some(path);
            let has_changed = |file: &FileModel| matches!(file.replaced, Some((EntryState::Pending, _)));
            let mut in_folder: Vec<_> = disk.files.iter_mut().filter(|(file, _)| is_in(file)).collect();
            // Writing the folder again writes its older entries, too.
            if in_folder.iter().any(|(_, file)| has_changed(file)) {
                for (_, file) in &mut in_folder {
                    file.replaced = None;
                }
            }
        }
        DiskChange::SyncFailed if path.is_dir() => {
            let entries = disk.files.iter_mut().filter(|(file, _)| file.parent() == Some(path));
            for (state, _) in entries.filter_map(|(_, file)| file.replaced.as_mut()) {
                *state = EntryState::Lost;
            }
        }
        DiskChange::Synced => {
            if let Some(file) = disk.files.get_mut(path) {
                file.pending.clear();
            }
        }
        DiskChange::SyncFailed => {
            if let Some(file) = disk.files.get_mut(path) {
                let pending = std::mem::take(&mut file.pending);
                file.lost.extend(pending);
            }
        }
    });
}

/// Takes `start..end` out of a range; false if nothing is left. What would be left behind `end` is taken out, too.
fn cut_range(range: &mut (u64, u64), start: u64, end: u64) -> bool {
    if range.0 < end && start < range.1 {
        range.1 = start.max(range.0);
    }
    range.0 < range.1
}

fn with_disk<T>(path: &Path, work: impl FnOnce(&mut DiskModel) -> T) -> Option<T> {
    let mut disks = DISKS.lock();
    let root = disks.keys().find(|root| path.starts_with(root))?.clone();
    disks.get_mut(&root).map(work)
}
