//! Connections to servers that are child processes, over their standard input and output.

use std::{collections::BTreeMap, ffi::OsString, io, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use rmcp::{
    RoleClient,
    service::{ClientLifecycleMode, RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::process::{ChildStdin, ChildStdout};

use super::{
    child_process::{ChildPipes, ChildProcess, GRACE_PERIOD},
    environment::{inherited_variables, secret_variables},
    handshake::perform_handshake,
    line_transport::LineTransport,
    redact::OutputRedactor,
    stderr_tail::{StderrReader, StderrTail},
};
use crate::{
    ConnectError, ConnectionHandler, ErrorReason, McpConnection, McpConnector, ServerScope,
    close_reason::CloseReason,
    private_kubeconfig::{PrivateKubeconfigs, inherited_kubeconfig},
    server_launcher::launch_command,
};

/// Longest wait for the exit status after the child's output has ended.
const EXIT_STATUS_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest wait for the rest of the child's standard error after its output has ended.
const STDERR_TIMEOUT: Duration = Duration::from_millis(200);

/// Starts a server as a child process.
#[derive(Clone)]
pub(super) struct StdioConnector {
    command: String,
    args: Vec<String>,
    /// The environment of the server, besides what it inherits at each start.
    env: BTreeMap<String, SecretString>,
    /// Variables of our own environment that it inherits in addition.
    pass_env: Vec<String>,
    redactor: Arc<OutputRedactor>,
    scope: ServerScope,
    /// `Some` unless the server is shared.
    kubeconfigs: Option<Arc<PrivateKubeconfigs>>,
    /// Whose calls the process serves; `None` if it serves no calls, or those of all.
    owner: Option<String>,
}

impl StdioConnector {
    /// Creates a connector. `env` and the variables that `pass_env` names are added to the inherited variables.
    ///
    /// # Errors
    /// [`ConnectError::Config`] if the command is empty.
    pub(super) fn new(
        command: String,
        args: Vec<String>,
        env: BTreeMap<String, SecretString>,
        pass_env: Vec<String>,
    ) -> Result<Self, ConnectError> {
        if command.trim().is_empty() {
            return Err(ConnectError::Config("the command of the MCP server is empty".into()));
        }
        let mut secrets = secret_variables(&pass_env);
        secrets.extend(env.iter().map(|(name, value)| (name.clone(), value.clone())));
        let redactor = Arc::new(OutputRedactor::new(&args, &secrets));
        Ok(Self { command, args, env, pass_env, redactor, scope: ServerScope::Shared, kubeconfigs: None, owner: None })
    }

    /// Gives every user or session a process.
    ///
    /// # Errors
    /// [`ConnectError::Config`] if the directory of the processes' kubeconfigs cannot be created.
    pub(super) fn with_scope(self, scope: ServerScope) -> Result<Self, ConnectError> {
        let kubeconfigs = PrivateKubeconfigs::create().map_err(kubeconfig_failure)?;
        Ok(Self { scope, kubeconfigs: Some(Arc::new(kubeconfigs)), ..self })
    }

    /// Checks that the program exists: the launcher always starts.
    fn check_program(&self) -> io::Result<()> {
        let program = Path::new(&self.command);
        let configured = self.env.get("PATH").map(|path| OsString::from(path.expose_secret()));
        let found = match configured.or_else(|| std::env::var_os("PATH")) {
            Some(path) if program.components().count() == 1 && !self.command.contains('/') => {
                std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
            }
            Some(_) => program.exists(),
            // What a system searches without PATH is its own.
            None => true,
        };
        if found { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn start_server(&self, handler: &ConnectionHandler) -> Result<StdioTransport, ConnectError> {
        let cannot_start = |error: io::Error| {
            let hint = if error.kind() == io::ErrorKind::NotFound { " (is it installed and in PATH?)" } else { "" };
            let message = format!("cannot start `{}`{hint}", self.command);
            ConnectError::Unreachable(ErrorReason::with_source(message, error))
        };
        self.check_program().map_err(cannot_start)?;
        let mut command = launch_command(&self.command, &self.args);
        command
            .env_clear()
            .envs(inherited_variables(&self.pass_env))
            .envs(self.env.iter().map(|(name, value)| (name, value.expose_secret())));
        if let Some(variable) = self.private_kubeconfig()? {
            command.env("KUBECONFIG", variable);
        }
        let (process, pipes) = ChildProcess::spawn(command).map_err(cannot_start)?;
        let ChildPipes { stdin, stdout, stderr } = pipes;
        let stderr_tail = Arc::<StderrTail>::default();
        let stderr_reader = StderrReader::spawn(stderr, stderr_tail.clone(), self.redactor.clone(), handler.clone());
        Ok(StdioTransport {
            lines: LineTransport::new(stdout, stdin, handler.clone()),
            process,
            stderr_reader,
            stderr_tail,
            handler: handler.clone(),
        })
    }

    /// Returns the `KUBECONFIG` of a process that serves one owner, with files that no other process writes to.
    fn private_kubeconfig(&self) -> Result<Option<String>, ConnectError> {
        let configured = self.env.get("KUBECONFIG").map(ExposeSecret::expose_secret);
        let (Some(kubeconfigs), Some(owner), Some(inherited)) =
            (&self.kubeconfigs, &self.owner, inherited_kubeconfig(configured))
        else {
            return Ok(None);
        };
        kubeconfigs.kubeconfig_variable(owner, &inherited).map(Some).map_err(kubeconfig_failure)
    }
}

fn kubeconfig_failure(error: io::Error) -> ConnectError {
    ConnectError::Config(ErrorReason::with_source("cannot create a kubeconfig for a process of its own", error))
}

#[async_trait]
impl McpConnector for StdioConnector {
    fn transport(&self) -> &'static str {
        "stdio"
    }

    fn scope(&self) -> ServerScope {
        self.scope
    }

    fn for_owner(&self, owner: &str) -> Result<Arc<dyn McpConnector>, ConnectError> {
        if self.kubeconfigs.is_none() {
            return Err(ConnectError::Config("the MCP server is shared by all users".into()));
        }
        let connector = Self { owner: Some(owner.to_owned()), ..self.clone() };
        Ok(Arc::new(connector))
    }

    async fn connect(&self, handler: ConnectionHandler, limit: Duration) -> Result<McpConnection, ConnectError> {
        let transport = self.start_server(&handler)?;
        let stderr_tail = transport.stderr_tail.clone();
        // Always `initialize`: a server that does not know `server/discover` may leave it unanswered, which would cost 10 s
        // at every start. All servers answer `initialize`.
        match perform_handshake(handler, transport, ClientLifecycleMode::Initialize, limit).await {
            Err(ConnectError::Timeout(reason)) => {
                Err(ConnectError::Timeout(format!("{reason}{}", stderr_tail.last_lines()).into()))
            }
            other => other,
        }
    }
}

/// The pipes of a child process, and the process itself.
struct StdioTransport {
    lines: LineTransport<ChildStdout, ChildStdin>,
    process: ChildProcess,
    stderr_reader: StderrReader,
    stderr_tail: Arc<StderrTail>,
    handler: ConnectionHandler,
}

impl StdioTransport {
    /// Records why the output has ended.
    async fn record_close_reason(&mut self) {
        let status = tokio::time::timeout(EXIT_STATUS_TIMEOUT, self.process.wait_for_exit()).await;
        // The last lines may still be in the pipe.
        self.stderr_reader.wait_for_end(STDERR_TIMEOUT).await;
        let stderr = self.stderr_tail.last_lines();
        self.handler.set_close_reason(match status {
            Ok(Ok(status)) => CloseReason::ProcessExited { status, stderr },
            _ => CloseReason::OutputClosed { stderr },
        });
    }
}

impl Transport<RoleClient> for StdioTransport {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let sent = self.lines.send(item);
        async move {
            match sent.await {
                // The child is exiting. Its output ends too, and `record_close_reason` then finds the reason.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                other => other,
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = self.lines.receive().await;
        if message.is_none() {
            self.record_close_reason().await;
        }
        message
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        // Closing the input can block on a child that does not read it.
        let close_input = tokio::time::timeout(GRACE_PERIOD, self.lines.close());
        let closed = tokio::select! {
            biased;
            () = self.handler.wait_for_immediate_shutdown() => Ok(()),
            closed = close_input => closed.unwrap_or(Ok(())),
        };
        self.process.stop_group(&self.handler).await;
        closed
    }
}
