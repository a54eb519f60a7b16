//! The tools of one session: what passes between the model and a server is masked, shortened and kept here.
//!
//! ```text
//! arguments ─▶ placeholders become values ─▶ mcp ─▶ values become placeholders ─▶ whole is kept ─▶ shortened ─▶ log, model
//! ```

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::{
    ApprovalRequirement, ArgumentMismatch, ClassifiedCall, ElicitationAnswer, ElicitationForm, ElicitationHandler,
    ElicitationRequest, ToolCallContext, ToolCatalog, ToolExecutor, ToolExecutorFactory, ToolOutcome, ToolRef,
    UserTokens, builtin,
    catalog::{Found, explain},
    effects::{self, Sensitive},
    output::{self, Budget},
    secrets::{Expect, Vault, contains_secret},
};
use crate::ToolsConfig;
use k8sops_core::{SessionId, SessionStore, ToolCallId, ToolEffect, ToolStatus, UserId};
use k8sops_mcp::{CallError, CallLimits, CallOutput, CallProgress, McpCallContext, McpHub};
use k8sops_models::ToolSpec;

/// The most tokens of what is shown of a dry run.
const PREVIEW_TOKENS: usize = 2_000;

/// Gives each session its tools: those of the catalog, and our own. Cheap to clone.
#[derive(Clone)]
pub struct SessionToolFactory(Arc<Shared>);

struct Shared {
    catalog: Arc<ToolCatalog>,
    hub: Arc<McpHub>,
    store: Arc<dyn SessionStore>,
    limits: CallLimits,
    tokens: UserTokens,
    vaults: Vaults,
    config: ToolsConfig,
}

impl SessionToolFactory {
    /// The tools of `catalog`, called through `hub` within `limits`, with the users' own `tokens` where a server wants them;
    /// whole outputs are kept in `store`.
    #[must_use]
    pub fn new(
        catalog: Arc<ToolCatalog>,
        hub: Arc<McpHub>,
        store: Arc<dyn SessionStore>,
        limits: CallLimits,
        tokens: UserTokens,
        config: ToolsConfig,
    ) -> Self {
        Self(Arc::new(Shared { catalog, hub, store, limits, tokens, vaults: Vaults::default(), config }))
    }
}

impl ToolExecutorFactory for SessionToolFactory {
    fn create_executor(&self, session: SessionId, _user: &UserId) -> Arc<dyn ToolExecutor> {
        Arc::new(SessionTools { shared: self.0.clone(), session, vault: self.0.vaults.of(session) })
    }

    fn validate_arguments(&self, name: &str, arguments: &Map<String, Value>) -> Result<(), ArgumentMismatch> {
        self.0.catalog.validate_arguments(name, arguments)
    }
}

/// Sessions whose secrets are remembered; with one more, the one that was not worked on for longest is forgotten.
const MAX_VAULTS: usize = 1_000;

/// What is known of the secrets of each session, for longer than one process works on it without a pause: what was seen in
/// one turn is masked, and can be used, in the next.
#[derive(Default)]
struct Vaults(Mutex<HashMap<SessionId, (Instant, VaultCell)>>);

type VaultCell = Arc<OnceCell<Arc<Vault>>>;

impl Vaults {
    fn of(&self, session: SessionId) -> VaultCell {
        // A plain lock: held for a look-up only.
        let mut vaults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if vaults.len() >= MAX_VAULTS && !vaults.contains_key(&session) {
            let oldest = vaults.iter().min_by_key(|(_, (used, _))| *used).map(|(session, _)| *session);
            oldest.and_then(|oldest| vaults.remove(&oldest));
        }
        let (used, vault) = vaults.entry(session).or_insert_with(|| (Instant::now(), VaultCell::default()));
        *used = Instant::now();
        vault.clone()
    }
}

struct SessionTools {
    shared: Arc<Shared>,
    session: SessionId,
    vault: Arc<OnceCell<Arc<Vault>>>,
}

/// What a server answered, as it may be shown.
struct Shown {
    status: ToolStatus,
    /// The whole text.
    text: String,
    structured: Option<Value>,
}

impl SessionTools {
    /// What the session knows of secrets.
    async fn vault(&self) -> Arc<Vault> {
        let made = self.vault.get_or_init(|| async {
            let key = self.shared.store.deployment_key().await.unwrap_or_else(|error| {
                // Placeholders are then not those of an earlier owner; no secret is shown for it.
                tracing::warn!(session = %self.session, %error, "the deployment's key cannot be read");
                k8sops_core::random_key()
            });
            Arc::new(Vault::new(&key, &self.session.to_string()))
        });
        made.await.clone()
    }

    fn budget(&self, context_window: Option<u32>) -> Budget {
        let config = &self.shared.config;
        let share = context_window.and_then(|tokens| usize::try_from(tokens).ok());
        let share = share.map_or(usize::MAX, |tokens| tokens / 100 * config.max_output_share);
        Budget { tokens: config.max_output_tokens.min(share), bytes: config.max_output_bytes }
    }

    /// Sends one call, with real values in place of placeholders, and masks all that comes back.
    async fn send(
        &self,
        target: &ToolRef,
        effect: ToolEffect,
        expect: Expect,
        arguments: &Map<String, Value>,
        context: McpCallContext,
    ) -> Shown {
        let vault = self.vault().await;
        let real = match vault.reveal(arguments) {
            Ok(real) => real,
            Err(unknown) => {
                let text = format!("{unknown} Nothing was run.");
                return Shown { status: ToolStatus::Error, text, structured: None };
            }
        };
        let answer = self.shared.hub.call_tool(target.server(), target.tool(), real, context).await;
        let hide = move || match answer {
            Ok(CallOutput { text, mut structured, is_error }) => {
                // What a tool says of a failure is words, and no values.
                let expect = if is_error && expect == Expect::Values { Expect::Any } else { expect };
                if let Some(structured) = &mut structured {
                    vault.mask_json(structured, expect);
                }
                let text = match vault.mask(&text, expect) {
                    std::borrow::Cow::Borrowed(_) => text,
                    std::borrow::Cow::Owned(masked) => masked,
                };
                let text = match &structured {
                    Some(structured) if text.is_empty() => structured.to_string(),
                    None if text.is_empty() => "(no output)".to_owned(),
                    _ => text,
                };
                Shown { status: if is_error { ToolStatus::Error } else { ToolStatus::Ok }, text, structured }
            }
            Err(error) => {
                let (status, text) = explain(&error, effect);
                Shown { status, text: vault.mask(&text, Expect::Any).into_owned(), structured: None }
            }
        };
        match tokio::task::spawn_blocking(hide).await {
            Ok(shown) => shown,
            // What cannot be masked is not shown.
            Err(error) => {
                tracing::error!(session = %self.session, %error, "an output could not be looked through for secrets");
                let error = CallError::Failed("its output could not be read by k8sops".into());
                let (status, text) = explain(&error, effect);
                Shown { status, text, structured: None }
            }
        }
    }

    /// Shortens an output to what the model can take in; the whole of it is kept first.
    async fn fit(&self, call: &ToolCallId, shown: Shown, budget: Budget) -> ToolOutcome {
        let Shown { status, text, structured } = shown;
        let text: Arc<str> = text.into();
        let (whole, advice) = (text.clone(), builtin::advice(call));
        let fitted = tokio::task::spawn_blocking(move || output::fit(&whole, structured, budget, Some(&advice))).await;
        let fitted = match fitted {
            Ok(fitted) => fitted,
            Err(error) => {
                tracing::error!(session = %self.session, %error, "an output could not be shortened");
                let words = "[the output could not be shortened; see its whole]";
                let (content, bytes) = (words.to_owned(), text.len() as u64);
                output::Fitted { content, structured: None, truncated: true, bytes }
            }
        };
        if fitted.truncated {
            let room = self.shared.config.keep_output_bytes;
            if let Err(error) = self.shared.store.keep_output(self.session, call, text, room).await {
                tracing::warn!(session = %self.session, %call, %error, "the whole of an output is not kept");
            }
        }
        ToolOutcome {
            status,
            content: fitted.content,
            structured: fitted.structured,
            truncated: fitted.truncated,
            bytes: fitted.bytes,
        }
    }

    fn nothing_was_run(text: String) -> ToolOutcome {
        let bytes = text.len() as u64;
        ToolOutcome { status: ToolStatus::Error, content: text, structured: None, truncated: false, bytes }
    }
}

/// What to expect of the output of a call.
fn expect(sensitive: Option<Sensitive>) -> Expect {
    match sensitive {
        None => Expect::Any,
        Some(Sensitive::Objects) => Expect::Objects,
        Some(Sensitive::Values) => Expect::Values,
    }
}

fn holds_placeholder(value: &Value) -> bool {
    match value {
        Value::String(text) => Vault::holds_any(text),
        Value::Array(items) => items.iter().any(holds_placeholder),
        Value::Object(fields) => fields.iter().any(|(key, value)| Vault::holds_any(key) || holds_placeholder(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[async_trait]
impl ToolExecutor for SessionTools {
    async fn wait_until_ready(&self) {
        self.shared.hub.wait_for_first_attempts().await;
        if let Some(token) = self.shared.tokens.token_of(self.session) {
            self.shared.hub.connect_user(&token).await;
        }
    }

    fn tool_specs(&self) -> Arc<[ToolSpec]> {
        self.shared.catalog.specs()
    }

    fn classify_call(&self, name: &str, arguments: &Map<String, Value>) -> Option<ClassifiedCall> {
        let Found { mut class, approval, .. } = self.shared.catalog.find(name, Some(arguments))?;
        // Whoever writes to a log could have the model send a secret anywhere, even by a call that only reads.
        if matches!(class.approval, ApprovalRequirement::NotRequired | ApprovalRequirement::RequiredIfUntrusted)
            && approval.is_none()
            && arguments.values().any(holds_placeholder)
        {
            class.approval = ApprovalRequirement::Required;
            class.reason = format!("{}; it hands the real value of a secret to the tool", class.reason);
        }
        Some(class)
    }

    fn contains_secret(&self, text: &str) -> bool {
        // What is known of the session's secrets, where anything is.
        let known = self.vault.get().is_some_and(|vault| matches!(vault.mask(text, Expect::Any), Cow::Owned(_)));
        known || contains_secret(text)
    }

    async fn preview_call(&self, name: &str, arguments: &Map<String, Value>) -> Option<String> {
        let asked = self.shared.catalog.find(name, Some(arguments))?.class.tool;
        let dry = effects::preview(asked.tool(), arguments)?;
        let target = ToolRef::new(asked.server(), &dry.tool);
        let Found { class, sensitive, .. } = self.shared.catalog.find_remote(&target, &dry.arguments)?;
        // By what is known here, not by what the server says of itself: it has not been approved.
        if class.effect != ToolEffect::Read || effects::judge(&dry.tool, &dry.arguments)?.effect != ToolEffect::Read {
            return None;
        }
        let context = McpCallContext {
            user_token: self.shared.tokens.token_of(self.session),
            ..McpCallContext::with_limits(self.shared.limits)
        };
        let shown = self.send(&target, ToolEffect::Read, expect(sensitive), &dry.arguments, context).await;
        let budget = Budget { tokens: PREVIEW_TOKENS, bytes: self.shared.config.max_output_bytes };
        let fitted = output::fit(&shown.text, None, budget, None);
        Some(match shown.status {
            ToolStatus::Ok => fitted.content,
            // `kubectl diff` ends like this when there is a difference.
            _ => format!("The dry run did not end well, or found differences:\n{}", fitted.content),
        })
    }

    async fn execute_call(
        &self,
        call: &ClassifiedCall,
        arguments: &Map<String, Value>,
        context: ToolCallContext,
    ) -> ToolOutcome {
        let budget = self.budget(context.context_window);
        if call.tool.server() == builtin::SERVER {
            let answer =
                builtin::call(self.shared.store.as_ref(), self.session, call.tool.tool(), arguments, budget).await;
            let (status, content) = match answer {
                // It was masked when it was kept; more may be known by now.
                Ok(content) => (ToolStatus::Ok, self.vault().await.mask(&content, Expect::Any).into_owned()),
                Err(why) => (ToolStatus::Error, why),
            };
            let bytes = content.len() as u64;
            return ToolOutcome { status, content, structured: None, truncated: false, bytes };
        }
        let sensitive = match self.shared.catalog.still_is(call, arguments) {
            Ok(sensitive) => sensitive,
            Err(why) => return Self::nothing_was_run(format!("{why} Nothing was run.")),
        };
        let vault = self.vault().await;
        let (sink, masked) = (context.progress, vault.clone());
        let progress = Arc::new(move |mut progress: CallProgress| {
            progress.message = progress.message.map(|message| masked.mask(&message, Expect::Any).into_owned());
            sink(progress);
        });
        let elicitation_handler =
            Some(Arc::new(MaskedAsker { vault, elicitation_handler: context.elicitation_handler })
                as Arc<dyn ElicitationHandler>);
        let user_token = self.shared.tokens.token_of(self.session);
        let mcp_context = McpCallContext { limits: self.shared.limits, progress, elicitation_handler, user_token };
        let shown = self.send(&call.tool, call.effect, expect(sensitive), arguments, mcp_context).await;
        self.fit(&context.id, shown, budget).await
    }
}

/// Brings a server's questions to the user without the secrets that may be in them.
struct MaskedAsker {
    vault: Arc<Vault>,
    elicitation_handler: Arc<dyn ElicitationHandler>,
}

#[async_trait]
impl ElicitationHandler for MaskedAsker {
    async fn handle_elicitation(&self, question: ElicitationRequest) -> ElicitationAnswer {
        let message = self.vault.mask(&question.message, Expect::Any).into_owned();
        let form = match question.form {
            ElicitationForm::Fields(schema) => {
                let mut schema = Value::Object(schema);
                self.vault.mask_json(&mut schema, Expect::Any);
                ElicitationForm::Fields(schema.as_object().cloned().unwrap_or_default())
            }
            page @ ElicitationForm::Page { .. } => page,
        };
        self.elicitation_handler.handle_elicitation(ElicitationRequest { message, form }).await
    }
}
