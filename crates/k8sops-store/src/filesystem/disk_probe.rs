//! Whether a folder can be written to: a disk may be full, over its quota, or read-only.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::files::{create_private_file, unavailable};
use k8sops_core::StoreError;

/// How much is written: more than most commits.
const PROBE_BYTES: usize = 16 * 1024;
/// How long a result holds, so that many probes at once write once.
const RESULT_TTL: Duration = Duration::from_millis(200);

/// Writes some data into a folder, which is on the disk then, and removes it.
///
/// # Errors
/// What the file system says.
pub fn probe_write_access(folder: &Path) -> io::Result<()> {
    // Another process, such as the doctor, may write its own.
    let path = folder.join(format!(".probe-{}", std::process::id()));
    let mut file = create_private_file(&path)?;
    let written = file.write_all(&vec![b'.'; PROBE_BYTES]).and_then(|()| file.sync_all());
    drop(file);
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// The probe of one folder, with its last result.
#[derive(Debug, Default)]
pub(super) struct DiskProbe(Mutex<Option<(Instant, Result<(), StoreError>)>>);

impl DiskProbe {
    /// Checks that a folder can be written to now, or could be a moment ago.
    pub(super) fn check(&self, folder: &Path) -> Result<(), StoreError> {
        let mut last = self.0.lock();
        if let Some((at, result)) = &*last
            && at.elapsed() < RESULT_TTL
        {
            return result.clone();
        }
        let result = probe_write_access(folder).map_err(|error| unavailable(folder, error));
        *last = Some((Instant::now(), result.clone()));
        result
    }
}
