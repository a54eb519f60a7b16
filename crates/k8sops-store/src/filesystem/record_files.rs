//! Records that expire, one file each: `records/KIND/OWNER/ID.EXPIRES.json`. The name says when a record expires, in
//! milliseconds since 1970, so that a folder is tidied up without reading its files. A write or a removal is on the disk when it
//! returns.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    disk_io,
    files::{Durability, create_durable_folder, if_exists, replace_file, sync_folder, unavailable},
    layout::StoreLayout,
    line_damage::damaged_record,
    line_format::{LineError, named_format, seal_record, verify_record},
};
use k8sops_core::{ExpiringRecord, RecordGroup, RecordId, RecordInsertion, StoreError, Timestamp};

/// The content of a file.
#[derive(Serialize, Deserialize)]
struct StoredRecord {
    value: String,
}

/// The file of a record, as its name says.
struct RecordFile {
    path: PathBuf,
    id: RecordId,
    expires_at: Timestamp,
}

impl RecordFile {
    fn from_path(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".json")?;
        let (id, expires_at) = name.split_once('.')?;
        let (id, expires_at) = (id.parse().ok()?, Timestamp::from_millis(expires_at.parse().ok()?));
        Some(Self { path, id, expires_at })
    }

    fn read(self) -> Result<Option<ExpiringRecord>, StoreError> {
        let Self { path, id, expires_at } = self;
        let Some(bytes) = if_exists(disk_io::read_file(&path)).map_err(|error| unavailable(&path, error))? else {
            return Ok(None);
        };
        let parsed = verify_record(&bytes)
            .and_then(|()| serde_json::from_slice::<StoredRecord>(&bytes).map_err(LineError::from));
        let stored = parsed.map_err(|error| damaged_record(&path, named_format(&bytes).as_ref(), error))?;
        Ok(Some(ExpiringRecord { id, value: stored.value, expires_at }))
    }
}

/// The files of records. All methods block.
#[derive(Debug)]
pub(super) struct RecordFiles {
    layout: StoreLayout,
    // Held during file access, never across an await.
    access: Mutex<()>,
}

impl RecordFiles {
    pub(super) fn new(layout: StoreLayout) -> Self {
        Self { layout, access: Mutex::default() }
    }

    /// See [`RecordStore::insert_record`](k8sops_core::RecordStore::insert_record).
    pub(super) fn insert_record(
        &self,
        group: &RecordGroup,
        record: &ExpiringRecord,
    ) -> Result<RecordInsertion, StoreError> {
        let _access = self.access.lock();
        let folder = self.layout.records(group);
        if let Some(known) = find_record(&folder, &record.id)?.map(RecordFile::read).transpose()?.flatten() {
            return Ok(RecordInsertion::Exists(known));
        }
        self.write_record(&folder, record)?;
        Ok(RecordInsertion::Inserted)
    }

    /// See [`RecordStore::replace_record`](k8sops_core::RecordStore::replace_record).
    pub(super) fn replace_record(&self, group: &RecordGroup, record: &ExpiringRecord) -> Result<(), StoreError> {
        let _access = self.access.lock();
        let folder = self.layout.records(group);
        let known = find_record(&folder, &record.id)?;
        let path = self.write_record(&folder, record)?;
        match known {
            Some(known) if known.path != path => remove_record(&known.path),
            _ => Ok(()),
        }
    }

    /// See [`RecordStore::read_record`](k8sops_core::RecordStore::read_record).
    pub(super) fn read_record(&self, group: &RecordGroup, id: &RecordId) -> Result<Option<ExpiringRecord>, StoreError> {
        let _access = self.access.lock();
        Ok(find_record(&self.layout.records(group), id)?.map(RecordFile::read).transpose()?.flatten())
    }

    /// See [`RecordStore::take_record`](k8sops_core::RecordStore::take_record).
    pub(super) fn take_record(&self, group: &RecordGroup, id: &RecordId) -> Result<Option<ExpiringRecord>, StoreError> {
        let _access = self.access.lock();
        let folder = self.layout.records(group);
        let Some(file) = find_record(&folder, id)? else { return Ok(None) };
        let path = file.path.clone();
        let record = file.read()?;
        remove_record(&path)?;
        sync_folder(&folder)?;
        Ok(record)
    }

    /// See [`RecordStore::list_records`](k8sops_core::RecordStore::list_records).
    pub(super) fn list_records(&self, group: &RecordGroup) -> Result<Vec<ExpiringRecord>, StoreError> {
        let _access = self.access.lock();
        let files = list_files(&self.layout.records(group))?;
        let mut records = Vec::with_capacity(files.len());
        for file in files {
            records.extend(file.read()?);
        }
        records.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(records)
    }

    fn write_record(&self, folder: &Path, record: &ExpiringRecord) -> Result<PathBuf, StoreError> {
        create_durable_folder(folder, self.layout.root())?;
        let path = folder.join(format!("{}.{}.json", record.id, record.expires_at.as_millis()));
        let failed = |error: io::Error| unavailable(&path, error);
        let stored = StoredRecord { value: record.value.clone() };
        let bytes = serde_json::to_vec(&stored).and_then(seal_record).map_err(|error| failed(error.into()))?;
        replace_file(&path, &bytes, Durability::Synced).map_err(failed)?;
        sync_folder(folder)?;
        Ok(path)
    }
}

/// The file of a record that has not expired.
fn find_record(folder: &Path, id: &RecordId) -> Result<Option<RecordFile>, StoreError> {
    // A write in place of another may have left both.
    Ok(list_files(folder)?.into_iter().filter(|file| file.id == *id).max_by_key(|file| file.expires_at))
}

/// The files of the records that have not expired. Removes those of the others.
fn list_files(folder: &Path) -> Result<Vec<RecordFile>, StoreError> {
    let failed = |error: io::Error| unavailable(folder, error);
    let Some(entries) = if_exists(fs::read_dir(folder)).map_err(failed)? else { return Ok(Vec::new()) };
    let now = Timestamp::now();
    let mut files = Vec::new();
    for entry in entries {
        let Some(file) = RecordFile::from_path(entry.map_err(failed)?.path()) else { continue };
        if file.expires_at > now {
            files.push(file);
        } else {
            remove_record(&file.path)?;
        }
    }
    Ok(files)
}

fn remove_record(path: &Path) -> Result<(), StoreError> {
    if_exists(disk_io::remove_file(path)).map(drop).map_err(|error| unavailable(path, error))
}
