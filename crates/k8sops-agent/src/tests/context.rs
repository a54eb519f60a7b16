//! Long conversations: requests stay within the context window and keep what matters.

use futures_util::{StreamExt as _, stream};

use super::*;
use k8sops_models::{
    ChatModel, ChatRequest, ModelReply, ProviderErrorDetails, ReplyDelta, ReplyStream, RequestedCall, tokens,
};

/// Its window, in tokens.
const WINDOW: usize = 8_000;

/// A model that counts, refuses what it cannot take in, calls a tool now and then, and keeps in a summary the lines that it
/// was told to keep.
#[derive(Default)]
struct Counting {
    /// Tokens of the requests for replies.
    sizes: Mutex<Vec<usize>>,
    /// The newest request for a reply.
    last: Mutex<Option<ChatRequest>>,
    summaries: AtomicUsize,
    /// What it answers when it is asked for a summary, instead.
    summariser: Mutex<Option<Result<String, ModelError>>>,
    /// The newest request for a summary.
    asked: Mutex<Option<ChatRequest>>,
    /// The only form of requests for a summary that it accepts.
    accepts: Mutex<Option<RequestForm>>,
    /// It does not say what it used.
    silent: AtomicBool,
}

fn size_of(request: &ChatRequest) -> usize {
    let messages: usize = request
        .messages
        .iter()
        .map(|message| match message.as_ref() {
            ChatMessage::User(m) => tokens::count(&m.content) + 4,
            ChatMessage::Assistant(m) => {
                tokens::count(&m.content)
                    + m.tool_calls.iter().map(|call| tokens::count(&call.arguments.to_string()) + 12).sum::<usize>()
            }
            ChatMessage::Tool(m) => tokens::count(&m.content) + 16,
        })
        .sum();
    tokens::count(&request.system) + messages
}

#[async_trait]
impl ChatModel for Counting {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let size = size_of(&request);
        if size > WINDOW {
            return Err(ModelError::new(
                ModelErrorKind::ContextTooLong,
                format!("{size} tokens are more than {WINDOW}"),
            ));
        }
        let mut reply = ModelReply { stop_reason: StopReason::EndTurn, ..ModelReply::default() };
        if request.system.starts_with("You write the summary") {
            self.summaries.fetch_add(1, Ordering::SeqCst);
            *self.asked.lock() = Some(request.clone());
            if self.accepts.lock().is_some_and(|form| form != request.form) {
                let details = ProviderErrorDetails {
                    status: Some(400),
                    message: Some("Bad Request".into()),
                    ..ProviderErrorDetails::default()
                };
                return Err(ModelError::new(ModelErrorKind::InvalidRequest, "rejected").with_details(details));
            }
            if let Some(answer) = self.summariser.lock().clone() {
                reply.content = answer?;
            } else {
                let ChatMessage::User(asked) = request.messages[0].as_ref() else { panic!("{request:?}") };
                let mut kept: Vec<&str> = asked.content.lines().filter(|line| line.contains("KEEP")).collect();
                kept.dedup();
                reply.content = format!("{}\nand small talk", kept.join("\n"));
            }
        } else {
            self.sizes.lock().push(size);
            let asks = matches!(request.messages.last().map(AsRef::as_ref), Some(ChatMessage::User(m)) if m.content.contains("look"));
            if asks {
                reply.stop_reason = StopReason::ToolUse;
                reply
                    .tool_calls
                    .push(RequestedCall { name: "look".into(), arguments: json!({"pad": "x".repeat(100)}) });
            } else {
                reply.content = "All is as it was, and nothing is to be done about it now. ".repeat(8);
            }
            *self.last.lock() = Some(request);
        }
        if !self.silent.load(Ordering::SeqCst) {
            let output = tokens::count(&reply.content) as u64 + 10;
            reply.usage = TokenUsage { input_tokens: size as u64, output_tokens: output, ..TokenUsage::default() };
        }
        Ok(stream::iter([Ok(ReplyDelta::Done(Box::new(reply)))]).boxed())
    }

    async fn check(&self, _: &str) -> Result<(), ModelError> {
        Ok(())
    }
}

fn run_of(log: &Arc<Log>, model: &Arc<Counting>) -> Run {
    let mut run = run(log, &ScriptedModel::new([]), &Arc::default());
    run.candidates[0].chat = model.clone();
    run.candidates[0].context_window = Some(u32::try_from(WINDOW).unwrap());
    run
}

fn compactions(log: &Log) -> Vec<ContextCompacted> {
    let events = log.events.lock();
    let compactions = events.iter().filter_map(|e| match &e.body {
        EventBody::ContextCompacted(e) => Some(e.clone()),
        _ => None,
    });
    compactions.collect()
}

/// Turns of talk, every third with a call of a tool.
async fn talk(log: &Arc<Log>, run: &Run, turns: usize) {
    for n in 0..turns {
        let ask = if n % 3 == 0 { "look at" } else { "tell me of" };
        again(log, &format!("{ask} pod {n} in the namespace shop, as was said before of those others in it"));
        run.run_to_completion().await.unwrap();
        assert_eq!(log.outcome(), RunOutcome::Completed, "turn {n}");
    }
}

fn sent(model: &Counting) -> Vec<Arc<ChatMessage>> {
    model.last.lock().clone().unwrap().messages
}

fn assert_paired(messages: &[Arc<ChatMessage>]) {
    let mut open: Vec<&ToolCallId> = Vec::new();
    for message in messages {
        match message.as_ref() {
            ChatMessage::Assistant(m) => open.extend(m.tool_calls.iter().map(|call| &call.id)),
            ChatMessage::Tool(m) => {
                let at = open.iter().position(|id| *id == &m.tool_call_id).expect("a result has its call");
                open.remove(at);
            }
            ChatMessage::User(_) => assert!(open.is_empty(), "a call has its result"),
        }
    }
}

#[tokio::test]
async fn a_conversation_of_thousands_of_turns_never_gets_too_long_and_keeps_what_it_was_told_to_keep() {
    let log = Log::new("KEEP: the cluster is called mars-17 and payments-api must never be scaled down.");
    let model = Arc::new(Counting::default());
    let run = run_of(&log, &model);
    run.run_to_completion().await.unwrap();
    talk(&log, &run, 5_000).await;
    assert_eq!(log.warnings(), Vec::<String>::new(), "it was never refused");
    let most = *model.sizes.lock().iter().max().unwrap();
    assert!(most <= WINDOW / 100 * 80, "{most}");
    let compactions = compactions(&log);
    assert!(compactions.len() > 100 && compactions.len() < 1_000, "{}", compactions.len());
    for (n, one) in compactions.iter().enumerate() {
        assert!(one.tokens_after < one.tokens_before, "{one:?}");
        assert!(one.summary.contains("mars-17"), "{n}: {one:?}");
        assert!(tokens::fits_within(&one.summary, 1000), "{one:?}");
    }
    let sent = sent(&model);
    assert!(
        matches!(sent[0].as_ref(), ChatMessage::User(m) if m.content.contains("mars-17 and payments-api")),
        "{:?}",
        sent[0]
    );
    assert_paired(&sent);
    // The conversation that clients see has all of it, and so has the log.
    let state = log.state.read();
    assert_eq!(state.messages.iter().filter(|m| matches!(m.as_ref(), ChatMessage::User(_))).count(), 5_001);
    // What the summaries cost is counted.
    let used: u64 = compactions.iter().map(|c| c.usage.total_tokens()).sum();
    let replies: usize = model.sizes.lock().iter().sum();
    assert!(state.summary.usage.input_tokens > replies as u64 && used > 0);
}

#[tokio::test]
async fn the_beginning_of_what_is_sent_stays_the_same_between_two_summaries() {
    let log = Log::new("begin");
    let model = Arc::new(Counting::default());
    let run = run_of(&log, &model);
    run.run_to_completion().await.unwrap();
    let (mut changed, mut before) = (0, Vec::new());
    let texts = |messages: &[Arc<ChatMessage>]| -> Vec<String> {
        messages
            .iter()
            .map(|m| match m.as_ref() {
                ChatMessage::User(m) => m.content.clone(),
                ChatMessage::Assistant(m) => m.content.clone(),
                ChatMessage::Tool(m) => m.content.clone(),
            })
            .collect()
    };
    for _ in 0..200 {
        talk(&log, &run, 1).await;
        let now = texts(&sent(&model));
        changed += usize::from(!now.starts_with(&before));
        before = now;
    }
    let compactions = compactions(&log).len();
    assert!(compactions > 3 && changed <= compactions, "{changed} changes with {compactions} summaries");
}

#[tokio::test(start_paused = true)]
async fn a_summariser_that_fails_or_writes_too_much_costs_the_summary_and_never_the_turn() {
    for answer in [
        Err(ModelError::new(ModelErrorKind::InvalidRequest, "no")),
        Err(ModelError::new(ModelErrorKind::ContextTooLong, "too long")),
        Ok(String::new()),
        Ok("word ".repeat(20_000)),
    ] {
        let log = Log::new("KEEP: mars-17");
        let model = Arc::new(Counting::default());
        *model.summariser.lock() = Some(answer.clone());
        let run = run_of(&log, &model);
        run.run_to_completion().await.unwrap();
        talk(&log, &run, 150).await;
        // What is waited for is seen.
        let waits = answer == Ok(String::new());
        assert_eq!(log.warnings().is_empty(), !waits, "{answer:?}");
        assert!(log.warnings().iter().all(|code| code == "malformed_stream"), "{answer:?}");
        let compactions = compactions(&log);
        assert!((2..60).contains(&compactions.len()), "{answer:?}: {}", compactions.len());
        let last = compactions.last().unwrap();
        assert!(tokens::fits_within(&last.summary, 1000), "{answer:?}");
        assert_paired(&sent(&model));
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_summariser_is_away_nothing_is_left_out_for_good() {
    let log = Log::new("KEEP: mars-17");
    let model = Arc::new(Counting::default());
    *model.summariser.lock() = Some(Err(ModelError::new(ModelErrorKind::Overloaded, "busy")));
    let run = run_of(&log, &model);
    run.run_to_completion().await.unwrap();
    talk(&log, &run, 80).await;
    assert_eq!(compactions(&log), []);
    let warnings = log.warnings();
    let count = |code: &str| warnings.iter().filter(|known| *known == code).count();
    assert!(count("not_summarised") > 3, "each turn says so: {warnings:?}");
    assert_eq!(count("overloaded"), 2 * count("not_summarised"), "and once only, after three attempts: {warnings:?}");
    assert!(*model.sizes.lock().iter().max().unwrap() <= WINDOW);
    assert_paired(&sent(&model));
    *model.summariser.lock() = None;
    talk(&log, &run, 1).await;
    assert!(compactions(&log)[0].summary.contains("mars-17"), "{:?}", compactions(&log));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_the_wait_for_a_summary() {
    let log = Log::new("begin");
    let model = Arc::new(Counting::default());
    let mut run = run_of(&log, &model);
    run.limits.retry = RetryPolicy::new(100, Duration::from_hours(10));
    run.run_to_completion().await.unwrap();
    *model.summariser.lock() = Some(Err(ModelError::new(ModelErrorKind::Overloaded, "busy")));
    let cancel = run.cancel.clone();
    *log.after_step.lock() = Some(Box::new({
        let log = Arc::downgrade(&log);
        move |_| {
            let waits = log.upgrade().is_some_and(|log| log.warnings().iter().any(|code| code == "overloaded"));
            if waits {
                cancel.cancel();
            }
        }
    }));
    while !run.cancel.is_cancelled() {
        again(&log, "more of it");
        run.run_to_completion().await.unwrap();
    }
    assert_eq!(log.outcome(), RunOutcome::Cancelled);
    assert_eq!(log.warnings(), ["overloaded"]);
}

#[tokio::test]
async fn a_provider_that_does_not_count_is_counted_for() {
    let log = Log::new("begin");
    let model = Arc::new(Counting::default());
    model.silent.store(true, Ordering::SeqCst);
    let run = run_of(&log, &model);
    run.run_to_completion().await.unwrap();
    talk(&log, &run, 200).await;
    assert_eq!(log.warnings(), Vec::<String>::new());
    assert!(*model.sizes.lock().iter().max().unwrap() <= WINDOW / 100 * 80);
}

#[tokio::test]
async fn a_conversation_that_was_long_already_is_summarised_in_pieces() {
    let log = Log::new("KEEP: mars-17");
    for n in 0..60 {
        log.commit(vec![
            EventBody::AssistantMessage(AssistantMessageEvent {
                message_id: MessageId::new(),
                content: format!("answer {n}: {}", "this is what there was to say of it. ".repeat(60)),
                reasoning: None,
                tool_calls: vec![],
                citations: vec![],
                usage: TokenUsage::default(),
                stop_reason: StopReason::EndTurn,
                provider: None,
                model: None,
                provider_data: None,
            }),
            EventBody::RunFinished(RunFinished {
                outcome: RunOutcome::Completed,
                usage: TokenUsage::default(),
                duration_ms: 1,
            }),
        ]);
        again(&log, &format!("question {n}"));
    }
    let model = Arc::new(Counting::default());
    run_of(&log, &model).run_to_completion().await.unwrap();
    assert_eq!((log.outcome(), log.warnings()), (RunOutcome::Completed, vec![]));
    assert!(model.summaries.load(Ordering::SeqCst) > 3, "no piece exceeded the context window");
    assert_eq!(compactions(&log).len(), 1);
    assert!(compactions(&log)[0].summary.contains("mars-17"));
}

#[tokio::test]
async fn a_cancel_ends_the_making_of_a_summary() {
    let log = Log::new("begin");
    let model = Arc::new(Counting::default());
    let run = run_of(&log, &model);
    run.run_to_completion().await.unwrap();
    while compactions(&log).is_empty() {
        talk(&log, &run, 1).await;
    }
    run.cancel.cancel();
    again(&log, "more");
    run.run_to_completion().await.unwrap();
    assert_eq!(log.outcome(), RunOutcome::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_summary_begins_with_the_form_that_the_model_accepts_and_quotes_nothing_that_it_rejected() {
    let log = Log::new("begin");
    let model = Arc::new(Counting::default());
    let run = run_of(&log, &model);
    run.run_to_completion().await.unwrap();
    talk(&log, &run, 3).await;
    let rejected: Vec<u64> = {
        let state = log.state.read();
        let outputs = state.messages.iter().filter(|message| matches!(message.as_ref(), ChatMessage::Tool(_)));
        outputs.map(|message| message.seq()).collect()
    };
    assert!(!rejected.is_empty());
    let remembered = ConversationForm {
        form: RequestForm::Strict,
        outputs_left_out: rejected.iter().copied().collect(),
        left_out_up_to: rejected[0] - 1,
    };
    let simplified = SimplifiedRequest {
        provider: "scripted".into(),
        model: "m".into(),
        step: SimplificationStep::NewestOutputs,
        remembered,
    };
    let warning = SessionWarning::new("request_simplified", "rejected");
    log.commit(vec![EventBody::Warning(SessionWarning { simplified: Some(simplified), ..warning })]);
    while compactions(&log).is_empty() {
        talk(&log, &run, 1).await;
    }
    let asked = model.asked.lock().clone().unwrap();
    assert_eq!(asked.form, RequestForm::Strict);
    let ChatMessage::User(question) = asked.messages[0].as_ref() else { panic!() };
    assert!(question.content.contains("[left out:") && !question.content.contains("begin"), "{}", question.content);
}

#[tokio::test(start_paused = true)]
async fn a_summary_that_is_rejected_is_asked_for_without_options() {
    let log = Log::new("KEEP: mars-17");
    let model = Arc::new(Counting::default());
    *model.accepts.lock() = Some(RequestForm::Bare);
    let run = run_of(&log, &model);
    run.run_to_completion().await.unwrap();
    while compactions(&log).is_empty() {
        talk(&log, &run, 1).await;
    }
    assert!(compactions(&log)[0].summary.contains("mars-17"), "{:?}", compactions(&log));
}

#[tokio::test]
async fn message_is_rendered_and_tokenized_once_in_its_session() {
    let log = Log::new("begin");
    let model = Arc::new(Counting::default());
    model.silent.store(true, Ordering::SeqCst);
    let run = run_of(&log, &model);
    run.run_to_completion().await.unwrap();
    let tokenized = || run.prepared.lock(None).tokenized;
    assert_eq!(tokenized(), 0, "its length says that it fits");
    let mut before = sent(&model);
    while tokenized() == 0 {
        talk(&log, &run, 1).await;
        before = sent(&model);
    }
    for _ in 0..5 {
        let counted = tokenized();
        again(&log, "tell me more");
        run.run_to_completion().await.unwrap();
        let now = sent(&model);
        assert_eq!(tokenized() - counted, 2, "the reply of the turn before, and the message");
        let is_same = before.iter().zip(&now).all(|(before, now)| Arc::ptr_eq(before, now));
        assert!(is_same && now.len() == before.len() + 3, "{} after {}", now.len(), before.len());
        before = now;
    }
    assert_eq!(compactions(&log), []);
}

#[tokio::test]
async fn another_time_zone_is_told_in_all_messages() {
    let log = Log::new("begin");
    let model = Arc::new(Counting::default());
    let mut run = run_of(&log, &model);
    run.run_to_completion().await.unwrap();
    talk(&log, &run, 1).await;
    run.settings.time_zone = Some("Asia/Kolkata".to_owned());
    talk(&log, &run, 1).await;
    let sent = sent(&model);
    let times: Vec<&str> = sent
        .iter()
        .filter_map(|message| match message.as_ref() {
            ChatMessage::User(m) if m.content.starts_with("[sent ") => Some(m.content.as_str()),
            _ => None,
        })
        .collect();
    assert!(times.len() == 3 && times.iter().all(|time| time.ends_with("in Asia/Kolkata)]")), "{times:?}");
}
