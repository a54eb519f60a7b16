//! Two replicas of one store.

use k8sops_testing::{
    provider::FakeProviders,
    redis::{RedisFlavor, RedisServer},
};

use crate::program::TestProgram;

/// Two replicas on one Redis, which ask the model `m` of one provider over chat completions.
pub(crate) struct TwoReplicas {
    pub(crate) redis: RedisServer,
    pub(crate) providers: FakeProviders,
    pub(crate) one: TestProgram,
    pub(crate) other: TestProgram,
}

impl TwoReplicas {
    pub(crate) async fn start() -> Self {
        let (redis, providers) = (RedisServer::start(RedisFlavor::Debian).await, FakeProviders::start().await);
        let redis_url = redis.url();
        let env = [
            ("LLM_PROVIDER", "test-openai-chat"),
            ("LLM_MODEL", "m"),
            ("MEMORY_BACKEND", "redis"),
            ("REDIS_URL", &*redis_url),
        ];
        let yaml = providers.settings_yaml();
        let (one, other) = (TestProgram::start(&yaml, &env).await, TestProgram::start(&yaml, &env).await);
        Self { redis, providers, one, other }
    }

    pub(crate) async fn stop(self) {
        self.one.stop().await;
        self.other.stop().await;
    }
}
