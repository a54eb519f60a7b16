//! AG-UI while another replica owns the session.

use nix::sys::signal::Signal;
use reqwest::Method;

use crate::{
    agui_client::{RunRequest, open_run, outcome, read_events, said},
    program::TestProgram,
};
use k8sops_testing::{
    provider::{FakeProviders, ProviderApi},
    redis::{RedisFlavor, RedisServer},
};

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn repeated_message_that_no_owner_has_read_is_followed() {
    let (redis, providers) = (RedisServer::start(RedisFlavor::Debian).await, FakeProviders::start().await);
    let redis_url = redis.url();
    let env = [
        ("LLM_PROVIDER", "test-openai-chat"),
        ("LLM_MODEL", "m"),
        ("MEMORY_BACKEND", "redis"),
        ("REDIS_URL", &*redis_url),
    ];
    let yaml = providers.settings_yaml();
    let (owner, other) = (TestProgram::start(&yaml, &env).await, TestProgram::start(&yaml, &env).await);
    providers.script(ProviderApi::Chat, "m", ["hello", "the answer"].map(|text| ProviderApi::Chat.text(text)));
    let open = async |program: &TestProgram, id: &str| {
        let request = RunRequest::message("t-1", id, "hi");
        open_run(program.request(Method::POST, "/agui"), &request).await
    };
    read_events(open(&owner, "m-1").await).await;
    owner.process.send_signal(Signal::SIGSTOP);
    drop(open(&other, "m-2").await);
    let repeated = open(&other, "m-2").await;
    owner.process.send_signal(Signal::SIGCONT);
    let events = read_events(repeated).await;
    assert_eq!((said(&events).as_str(), &outcome(&events)["type"]), ("the answer", &"success".into()));
    owner.stop().await;
    other.stop().await;
}
