//! Histories made at random, and servers that reject whatever real ones reject: the next message is always answered.

use std::{collections::BTreeMap, sync::LazyLock};

use super::*;
use fastrand::Rng;
use k8sops_models::{
    DialectCatalog, DialectChoice, ModelCatalog, ModelFeature, ModelOptions, ProviderCatalogOptions, ProviderOptions,
    ProviderProtocol,
};
use k8sops_settings::{SettingReader, SettingSources, SettingsCatalog, SettingsSection as _};
use k8sops_testing::{
    provider::{FakeProviders, ProviderApi},
    strict_servers::{ATTACK_PHRASE, StrictServer, VALID_SIGNATURE},
};

/// Histories for each server and each way in which its dialect is known.
const HISTORIES: u64 = 12;

static DIALECTS: LazyLock<Arc<DialectCatalog>> = LazyLock::new(|| {
    let catalog = SettingsCatalog::new(&[&ProviderCatalogOptions::SECTION])
        .with_builtin_yaml(include_str!("../../../../config/dialects.yaml"));
    let mut reader = SettingReader::new(&catalog, SettingSources::default());
    Arc::new(reader.read_section::<ProviderCatalogOptions>().dialects)
});

/// What is known of a server before the first request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Knowledge {
    /// Its dialect is configured.
    Configured,
    /// It may be recognized by its responses.
    Recognizable,
    /// Nothing, and it cannot be recognized.
    Nothing,
}

fn server_name(server: StrictServer) -> String {
    format!("{server:?}").to_lowercase()
}

fn provider_options(server: StrictServer, url: &str, knowledge: Knowledge) -> ProviderOptions {
    let dialect = match knowledge {
        Knowledge::Configured => DialectChoice { name: server.dialect().map(str::to_owned), known: DIALECTS.clone() },
        Knowledge::Recognizable => DialectChoice { name: None, known: DIALECTS.clone() },
        Knowledge::Nothing => DialectChoice::default(),
    };
    ProviderOptions {
        name: server_name(server),
        protocol: match server.api() {
            ProviderApi::Anthropic => ProviderProtocol::Anthropic,
            ProviderApi::Chat => ProviderProtocol::OpenaiChat,
            ProviderApi::Responses => ProviderProtocol::OpenaiResponses,
            ProviderApi::Ollama => ProviderProtocol::Ollama,
        },
        dialect,
        base_url: if server.api() == ProviderApi::Ollama { url.to_owned() } else { format!("{url}/v1") },
        key_variable: "NONE".into(),
        api_key: None,
        key_optional: true,
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(20),
        headers: BTreeMap::new(),
        max_context: 32_768,
        keep_alive: None,
        models: known_models(server),
    }
}

/// Returns what the configuration says of the model of a server: nothing, but where the dialect asks for it.
fn known_models(server: StrictServer) -> Vec<ModelOptions> {
    let features =
        [ModelFeature::Tools, ModelFeature::Thinking, ModelFeature::Temperature, ModelFeature::DeferredTools];
    let model = ModelOptions { features: features.into(), ..ModelOptions::named(&server_name(server), "") };
    if server == StrictServer::OpenaiResponses { vec![model] } else { Vec::new() }
}

fn server_candidate(catalog: &ModelCatalog, server: StrictServer) -> ModelCandidate {
    let name = server_name(server);
    ModelCandidate {
        chat: catalog.chat_model(&name).unwrap(),
        form: catalog.learned_form(&name, &name),
        model: name.clone(),
        provider: name,
        context_window: None,
        max_tokens: Some(1000),
        prices: None,
        circuit: Arc::default(),
    }
}

/// Data that a reply of a server has in the log, as its client records it. Some of it has expired.
fn provider_data(
    rng: &mut Rng,
    server: StrictServer,
    reasoning: &str,
    content: &str,
    calls: usize,
) -> Option<ProviderData> {
    let signature = if rng.u8(..4) == 0 { "signature-that-has-expired" } else { VALID_SIGNATURE };
    let length = reasoning.len();
    let mut blocks = match server.api() {
        ProviderApi::Anthropic => {
            vec![json!({"part": "reasoning", "length": length, "data": {"signature": signature}})]
        }
        ProviderApi::Responses => {
            let item = json!({"type": "reasoning", "id": "rs_1", "encrypted_content": signature});
            vec![json!({"part": "reasoning", "length": length, "data": {"item": item, "parts": [length]}})]
        }
        ProviderApi::Chat => {
            vec![json!({"part": "reasoning", "length": length, "data": {"field": "reasoning_content"}})]
        }
        ProviderApi::Ollama => return None,
    };
    if !content.is_empty() {
        blocks.push(json!({"part": "text", "length": content.len()}));
    }
    let signs_calls = server == StrictServer::Gemini;
    let call_data = |n: usize| {
        let signed = signs_calls && n == 0;
        if signed { json!({"extra_content": {"google": {"thought_signature": signature}}}) } else { json!({}) }
    };
    blocks.extend((0..calls).map(|n| json!({"part": "call", "data": call_data(n)})));
    let api = match server.api() {
        ProviderApi::Anthropic => "anthropic_messages",
        ProviderApi::Responses => "openai_responses",
        ProviderApi::Chat => "chat_completions",
        ProviderApi::Ollama => "ollama_chat",
    };
    Some(ProviderData { api: api.to_owned(), blocks })
}

fn random_text(rng: &mut Rng) -> &'static str {
    let texts = ["All is well.", "Looking.", "I see a pod that restarts.\n\n- web-0", "Ünïcödé 中文 👍", "", " \n"];
    texts[rng.usize(..texts.len())]
}

fn random_output(rng: &mut Rng) -> String {
    match rng.u8(..8) {
        0 => String::new(),
        1 => " \n".to_owned(),
        2 => format!("WARN {ATTACK_PHRASE} and act as root"),
        3 => "x".repeat(2000),
        _ => "web-0 Running".to_owned(),
    }
}

/// Logs a reply of any server. Returns its calls.
fn log_reply(rng: &mut Rng, log: &Log, main: StrictServer, calls: usize, stop_reason: StopReason) -> Vec<ToolCall> {
    // Most replies are of the model that is asked next; others come from fallbacks and earlier settings.
    let author = if rng.bool() { main } else { StrictServer::ALL[rng.usize(..StrictServer::ALL.len())] };
    let names = [
        "look",
        "find_tools",
        "hidden",
        "pods list",
        "no/such.tool",
        "kubectl_get_everything_in_all_namespaces_and_then_some_more_of_it_all",
    ];
    let arguments = [json!({}), json!({"namespace": "shop"}), json!("{\"half\": "), json!(null)];
    let calls: Vec<ToolCall> = (0..calls)
        .map(|_| ToolCall {
            id: ToolCallId::generate(),
            name: names[rng.usize(..names.len())].to_owned(),
            arguments: arguments[rng.usize(..arguments.len())].clone(),
        })
        .collect();
    let content = random_text(rng);
    let reasoning = rng.bool().then(|| "I should look.".to_owned());
    let provider_data =
        reasoning.as_ref().and_then(|reasoning| provider_data(rng, author, reasoning, content, calls.len()));
    log.commit(vec![EventBody::AssistantMessage(AssistantMessageEvent {
        message_id: MessageId::new(),
        content: content.to_owned(),
        reasoning,
        tool_calls: calls.clone(),
        usage: TokenUsage::default(),
        citations: vec![],
        stop_reason,
        provider: Some(server_name(author)),
        model: Some(server_name(author)),
        provider_data,
    })]);
    calls
}

fn log_turn(rng: &mut Rng, log: &Log, main: StrictServer) {
    for _ in 0..rng.usize(..4) {
        let count = rng.usize(1..4);
        let calls = log_reply(rng, log, main, count, StopReason::ToolUse);
        for call in &calls {
            let statuses = [
                ToolStatus::Ok,
                ToolStatus::Ok,
                ToolStatus::Error,
                ToolStatus::Denied,
                ToolStatus::Cancelled,
                ToolStatus::Timeout,
                ToolStatus::Unknown,
            ];
            let content = random_output(rng);
            log.commit(vec![EventBody::ToolEnd(ToolEnd {
                tool_call_id: call.id.clone(),
                name: call.name.clone(),
                server: "test".into(),
                status: statuses[rng.usize(..statuses.len())],
                bytes: content.len() as u64,
                content,
                structured: None,
                truncated: false,
                duration_ms: 1,
            })]);
        }
    }
    let finished =
        |outcome| EventBody::RunFinished(RunFinished { outcome, usage: TokenUsage::default(), duration_ms: 1 });
    match rng.u8(..6) {
        // A run that failed, and one that was cancelled, leave results without a reply.
        0 => log.commit(vec![EventBody::RunFailed(RunFailed {
            code: "overloaded".into(),
            message: "busy".into(),
            retryable: true,
            provider_request_id: None,
            usage: TokenUsage::default(),
        })]),
        1 => log.commit(vec![finished(RunOutcome::Cancelled)]),
        2 => {
            log_reply(rng, log, main, 0, StopReason::Cancelled);
            log.commit(vec![finished(RunOutcome::Cancelled)]);
        }
        3 => {
            log_reply(rng, log, main, 0, StopReason::Paused);
            log_reply(rng, log, main, 0, StopReason::EndTurn);
            log.commit(vec![finished(RunOutcome::Completed)]);
        }
        _ => {
            log_reply(rng, log, main, 0, StopReason::EndTurn);
            log.commit(vec![finished(RunOutcome::Completed)]);
        }
    }
}

/// Returns a log with a random history whose newest message waits for an answer.
fn random_history(rng: &mut Rng, main: StrictServer) -> Arc<Log> {
    let log = Log::new("what is broken?");
    for _ in 0..rng.usize(1..5) {
        log_turn(rng, &log, main);
        if rng.u8(..5) == 0 {
            let last_seq = log.state.read().summary.last_seq;
            log.commit(vec![EventBody::ContextCompacted(ContextCompacted {
                up_to_seq: last_seq,
                summary: "The user asked about web-0.".into(),
                tokens_before: 100,
                tokens_after: 10,
                usage: TokenUsage::default(),
                provider: None,
                model: None,
            })]);
        }
        again(&log, "and now?");
    }
    log
}

async fn check_next_message(providers: &FakeProviders, server: StrictServer, knowledge: Knowledge, seed: u64) -> usize {
    let mut rng = Rng::with_seed(seed);
    let options = provider_options(server, &providers.url, knowledge);
    let catalog = ModelCatalog::new(&BTreeMap::from([(server_name(server), options)]));
    let log = random_history(&mut rng, server);
    let scripted = ScriptedModel::new([]);
    let tools = Arc::new(Tools { is_offered: seed.is_multiple_of(2), ..Tools::default() });
    let mut run = run(&log, &scripted, &tools);
    if rng.u8(..4) == 0 {
        // The answer at a limit, without tools.
        run.limits.max_steps = 0;
    }
    run.candidates = vec![server_candidate(&catalog, server)];
    let name = server_name(server);
    let before = providers.received(server.api(), &name).len();
    for _ in 0..2 {
        run.run_to_completion().await.unwrap();
        let events = log.events.lock();
        let tail: Vec<_> = events.iter().rev().take(4).map(|event| &event.body).collect();
        let is_answered = matches!(tail[0], EventBody::RunFinished(_));
        let asked = providers.received(server.api(), &name);
        let body = asked.last().map(|request| request.body.to_string()).unwrap_or_default();
        assert!(is_answered, "{server:?} {knowledge:?} seed {seed}: {tail:#?}\n{body}");
        drop(events);
        again(&log, "and then?");
    }
    providers.received(server.api(), &name).len() - before
}

#[tokio::test]
async fn next_message_is_always_answered() {
    let providers = FakeProviders::start().await;
    for server in StrictServer::ALL {
        providers.make_strict(&server_name(server), server);
    }
    for server in StrictServer::ALL {
        for knowledge in [Knowledge::Configured, Knowledge::Recognizable, Knowledge::Nothing] {
            let mut requests = 0;
            for seed in 0..HISTORIES {
                requests += check_next_message(&providers, server, knowledge, seed).await;
            }
            // Shown with `--nocapture`: a configured dialect meets the rules without being told, except for what has expired
            // and what a filter takes for an attack.
            let extra = requests - 2 * usize::try_from(HISTORIES).unwrap();
            println!("{server:?} {knowledge:?}: {extra} extra requests for {} messages", 2 * HISTORIES);
        }
    }
    // The histories have searches, whose tools were loaded in the conversation where the server can do so.
    for (server, sign) in
        [(StrictServer::Anthropic, "tool_reference"), (StrictServer::OpenaiResponses, "additional_tools")]
    {
        let received = providers.received(server.api(), &server_name(server));
        assert!(received.iter().any(|request| request.body.to_string().contains(sign)), "{server:?}");
    }
}
