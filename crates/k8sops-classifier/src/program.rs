//! The programs whose command lines are known.

/// A program whose verbs and flags are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KnownProgram {
    Kubectl,
    Helm,
    Argocd,
}

/// Directories in which a program is trusted to be the one that its name says.
const TRUSTED_DIRECTORIES: &[&str] = &["/usr/local/bin/", "/usr/bin/", "/bin/", "/opt/homebrew/bin/", "/snap/bin/"];

impl KnownProgram {
    /// Returns the program that a command starts, by its bare name or by its path in a trusted directory.
    pub(crate) fn from_command_name(name: &str) -> Option<Self> {
        let name = TRUSTED_DIRECTORIES.iter().find_map(|directory| name.strip_prefix(directory)).unwrap_or(name);
        match name {
            "kubectl" => Some(Self::Kubectl),
            "helm" => Some(Self::Helm),
            "argocd" => Some(Self::Argocd),
            _ => None,
        }
    }

    /// Returns the name by which it is started.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
            Self::Argocd => "argocd",
        }
    }
}
