//! A file of API keys, as an operator keeps it or as Kubernetes mounts a Secret.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use k8sops::auth::{NewKey, UserRole};
use tempfile::TempDir;

/// A file of API keys, and its entries by user.
pub(crate) struct ApiKeyFile {
    folder: TempDir,
    entries: Vec<(String, String)>,
    kept: KeyStorage,
}

/// How the file is stored.
enum KeyStorage {
    /// As a plain file.
    Plain,
    /// As the kubelet mounts a Secret: the name is a symbolic link over `..data` to a folder that is replaced and never
    /// changed. Holds the number of the current folder.
    Mounted(u32),
}

impl ApiKeyFile {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), entries: Vec::new(), kept: KeyStorage::Plain }
    }

    /// Creates a file that is stored like a mounted Secret.
    pub(crate) fn mounted() -> Self {
        let keys = Self { kept: KeyStorage::Mounted(0), ..Self::new() };
        symlink("..data/keys.yaml", keys.path()).unwrap();
        keys
    }

    pub(crate) fn add(&mut self, user: &str, roles: &[UserRole]) -> String {
        let new = NewKey::generate(user, roles, None).unwrap();
        self.entries.push((user.to_owned(), new.entry));
        self.write();
        new.key
    }

    pub(crate) fn remove(&mut self, user: &str) {
        self.entries.retain(|(of, _)| of != user);
        self.write();
    }

    fn write(&mut self) {
        let all: String = self.entries.iter().map(|(_, entry)| entry.as_str()).collect();
        match &mut self.kept {
            KeyStorage::Plain => std::fs::write(self.path(), all).unwrap(),
            KeyStorage::Mounted(next) => {
                *next += 1;
                swap(self.folder.path(), &format!("..2026_{next}"), &all);
            }
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("keys.yaml")
    }

    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        vec![("AUTH_MODE", "api_key".into()), ("AUTH_API_KEYS_FILE", self.path().to_str().unwrap().into())]
    }
}

/// Replaces the folder of the mount in one atomic step.
fn swap(mount: &Path, new: &str, keys: &str) {
    std::fs::create_dir(mount.join(new)).unwrap();
    std::fs::write(mount.join(new).join("keys.yaml"), keys).unwrap();
    let (data, before) = (mount.join("..data"), std::fs::read_link(mount.join("..data")));
    symlink(new, mount.join("..data_tmp")).unwrap();
    std::fs::rename(mount.join("..data_tmp"), data).unwrap();
    if let Ok(before) = before {
        std::fs::remove_dir_all(mount.join(before)).unwrap();
    }
}
