//! Servers that are child processes, spoken to over standard input and output.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use rmcp::{
    RoleClient,
    service::{ClientLifecycleMode, RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::AsyncReadExt,
    process::{ChildStderr, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use crate::{
    ConnectionHandler,
    transport::handshake::{ConnectError, McpConnection, McpConnector, quote, serve},
    transport::line_transport::Lines,
    transport::redact::Mask,
};

/// The variables that a server gets of our own environment. Everything else (API keys above all) stays here; what more a
/// server needs is configured for it.
///
/// The Kubernetes ones name a file or an address and hold no secret, and without them no kubectl-like server finds its
/// cluster. Proxies are not among them: their URLs can hold passwords.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "KUBECONFIG",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
];

/// How long a server may take to leave by itself after its input is closed, and again after it was asked to.
const GRACE: Duration = Duration::from_secs(2);
const SIGTERM: i32 = 15;
/// Lines of standard error kept for an error message, and the most of one that is looked at.
const TAIL_LINES: usize = 8;
const MAX_LINE: usize = 2048;

/// Starts a server as a child process, in a process group of its own.
pub struct StdioConnector {
    command: String,
    args: Vec<String>,
    env: BTreeMap<String, SecretString>,
    mask: Arc<Mask>,
}

impl StdioConnector {
    /// `env` comes on top of the few variables that every program gets.
    ///
    /// # Errors
    /// [`ConnectError::Config`] when there is no command.
    pub fn new(command: String, args: Vec<String>, env: BTreeMap<String, SecretString>) -> Result<Self, ConnectError> {
        if command.trim().is_empty() {
            return Err(ConnectError::Config("the command of the MCP server is empty".to_owned()));
        }
        let mask = Arc::new(Mask::new(&args, &env));
        Ok(Self { command, args, env, mask })
    }

    fn spawn(&self, handler: &ConnectionHandler) -> Result<StdioTransport, ConnectError> {
        let mut command = Command::new(&self.command);
        command
            .args(&self.args)
            .env_clear()
            .envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .envs(self.env.iter().map(|(name, value)| (name, value.expose_secret())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut wrap = CommandWrap::from(command);
        wrap.wrap(ProcessGroup::leader()).wrap(KillOnDrop);
        let child = wrap.spawn().map_err(|e| {
            let hint = if e.kind() == io::ErrorKind::NotFound { "; is it installed, and in PATH?" } else { "" };
            ConnectError::Unreachable(format!("cannot start `{}`: {e}{hint}", self.command))
        })?;
        let mut group = Group { child, gone: false };
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (group.child.stdin().take(), group.child.stdout().take(), group.child.stderr().take())
        else {
            return Err(ConnectError::Unreachable(format!("`{}` was started without its pipes", self.command)));
        };
        let tail = Arc::<Tail>::default();
        let drain = drain(stderr, tail.clone(), self.mask.clone(), handler.clone());
        Ok(StdioTransport {
            pipe: Lines::new(stdout, stdin, handler.clone()),
            group,
            drain: Drain(Some(tokio::spawn(drain))),
            tail,
            handler: handler.clone(),
        })
    }
}

#[async_trait]
impl McpConnector for StdioConnector {
    fn transport(&self) -> &'static str {
        "stdio"
    }

    async fn connect(&self, handler: ConnectionHandler, limit: Duration) -> Result<McpConnection, ConnectError> {
        let transport = self.spawn(&handler)?;
        let tail = transport.tail.clone();
        // The old handshake: a server that does not know the question of the new one may leave it unanswered, and the
        // question would then cost 10 s at every start. All servers answer this one.
        match serve(handler, transport, ClientLifecycleMode::Initialize, limit).await {
            Err(ConnectError::Timeout(text)) => Err(ConnectError::Timeout(format!("{text}{}", tail.last_words()))),
            other => other,
        }
    }
}

/// The pipes of a child and the child itself.
struct StdioTransport {
    pipe: Lines<ChildStdout, ChildStdin>,
    group: Group,
    drain: Drain,
    tail: Arc<Tail>,
    handler: ConnectionHandler,
}

impl StdioTransport {
    /// The output has ended: finds out why, while that can still be known.
    async fn note_end(&mut self) {
        let status = tokio::time::timeout(Duration::from_millis(500), self.group.leader_exit()).await;
        // What it said last may still be in the pipe.
        if let Some(task) = &mut self.drain.0
            && tokio::time::timeout(Duration::from_millis(200), task).await.is_ok()
        {
            self.drain.0 = None;
        }
        let what = match status {
            Ok(Ok(status)) => format!("the server's process ended ({status})"),
            _ => "the server's process closed its output".to_owned(),
        };
        self.handler.set_close_reason(format!("{what}{}", self.tail.last_words()));
    }
}

impl Transport<RoleClient> for StdioTransport {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let sent = self.pipe.send(item);
        async move {
            match sent.await {
                // The child is going. Its output ends too, and there it is known why.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                other => other,
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = self.pipe.receive().await;
        if message.is_none() {
            self.note_end().await;
        }
        message
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        // A child that reads nothing more can hold up the end of its input.
        let closed = tokio::time::timeout(GRACE, self.pipe.close());
        let closed = tokio::select! {
            biased;
            () = self.handler.hurried() => Ok(()),
            closed = closed => closed.unwrap_or(Ok(())),
        };
        self.group.stop(&self.handler).await;
        closed
    }
}

/// A child and all that it started. Dropping it kills them.
///
/// The SDK's own child transport ends the direct child only; `npx` and `sh -c` would leave the real server behind.
struct Group {
    child: Box<dyn ChildWrapper>,
    gone: bool,
}

impl Group {
    async fn leader_exit(&mut self) -> io::Result<std::process::ExitStatus> {
        // Of the child alone: the wrapper's `wait` blocks a thread for its descendants.
        self.child.inner_mut().wait().await
    }

    /// The input is closed: waits for the child to leave, asks it to, and kills what is left of the group. In a hurry it is
    /// killed at once.
    async fn stop(&mut self, handler: &ConnectionHandler) {
        if self.gone {
            return;
        }
        let leave = async {
            if tokio::time::timeout(GRACE, self.leader_exit()).await.is_err() && self.child.signal(SIGTERM).is_ok() {
                let _ = tokio::time::timeout(GRACE, self.leader_exit()).await;
            }
        };
        tokio::select! {
            biased;
            () = handler.hurried() => {}
            () = leave => {}
        }
        self.kill();
        let _ = tokio::time::timeout(GRACE, self.leader_exit()).await;
    }

    fn kill(&mut self) {
        if !self.gone {
            // An error means that nobody is left.
            let _ = self.child.start_kill();
            self.gone = true;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The task that reads standard error; ends with its owner.
struct Drain(Option<JoinHandle<()>>);

impl Drop for Drain {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// The last lines of a child's standard error, without secrets.
#[derive(Default)]
struct Tail {
    lines: Mutex<VecDeque<String>>,
}

impl Tail {
    fn push(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// For the end of an error message; empty when the child said nothing.
    fn last_words(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return String::new();
        }
        let text = lines.iter().map(String::as_str).collect::<Vec<_>>().join(" | ");
        format!("; it said: {}", quote(&text))
    }
}

/// Reads standard error to its end, so that the child never blocks on it. What is secret is taken out of each line before
/// anything is done with it.
async fn drain(mut stderr: ChildStderr, tail: Arc<Tail>, mask: Arc<Mask>, handler: ConnectionHandler) {
    let mut chunk = [0; 4096];
    let mut line = Vec::new();
    // Of a line that is cut so much more is read that no secret before the cut is without its end.
    let limit = MAX_LINE + mask.longest();
    let finish = |line: &mut Vec<u8>| {
        let mut text = mask.apply(&String::from_utf8_lossy(line));
        if line.len() == limit {
            text.truncate(text.floor_char_boundary(text.len().saturating_sub(mask.longest())));
        }
        line.clear();
        let text = text.trim_end();
        if !text.is_empty() {
            tracing::debug!(server = handler.server(), line = text, "standard error of an MCP server");
            tail.push(text.to_owned());
        }
    };
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        for &byte in &chunk[..read] {
            if byte == b'\n' {
                finish(&mut line);
            } else if line.len() < limit {
                line.push(byte);
            }
        }
    }
    finish(&mut line);
}
