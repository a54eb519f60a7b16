//! The Redis servers that tests run.

use crate::testbed;

/// The maker and version of a Redis server. They differ in features that k8sops uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisFlavor {
    /// Redis of Debian (7.0 in Debian 12): the oldest supported version, and the only one here that is built with TLS.
    Debian,
    /// Redis 8, with vector sets.
    Redis8,
    /// Valkey, which has no vector sets.
    Valkey,
}

impl RedisFlavor {
    /// Every flavor.
    pub const ALL: [Self; 3] = [Self::Debian, Self::Redis8, Self::Valkey];

    /// Returns the path of the server program.
    pub(super) fn program(self) -> String {
        testbed::path(match self {
            Self::Debian => "K8SOPS_TEST_REDIS_SERVER",
            Self::Redis8 => "K8SOPS_TEST_REDIS8_SERVER",
            Self::Valkey => "K8SOPS_TEST_VALKEY_SERVER",
        })
    }
}
