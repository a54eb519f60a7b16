//! `k8sops demo --crash`: a guided tour. The process that serves a run is killed in the middle of it, another one is started, and
//! the log is checked for what was lost.

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::{
    service::{ApiClient, ConnectionEvent, SessionConnection},
    terminal::sanitize_text,
};

/// A question that needs several calls and has a long answer.
const QUESTION: &str = "what is broken?";
/// How much of a reply is shown when the process is killed, in characters.
const SHOWN_BEFORE_KILL: usize = 60;
/// How many calls have ended by then.
const CALLS_BEFORE_KILL: usize = 3;
/// How long a step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the tour. Everything that it starts and writes is gone when it returns.
///
/// # Errors
/// A step fails, or something was lost.
pub async fn run() -> anyhow::Result<ExitCode> {
    let folder = TourFolder::create()?;
    tokio::select! {
        toured = tour(&folder.0) => toured.map(|()| ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
    }
}

async fn tour(folder: &Path) -> anyhow::Result<()> {
    let mut first = ServingProcess::start(folder, 0).await?;
    println!("1. A service runs: process {}, with its sessions in {}.", first.id(), folder.display());
    let client = ApiClient::new(&first.url)?;
    let session = client.create_session(None, None).await?;
    let mut connection = SessionConnection::open(client.clone(), session.clone(), Some(0));
    let command_id = uuid::Uuid::now_v7().to_string();
    connection.send_command(json!({"type": "message", "command_id": command_id, "content": QUESTION})).await;
    println!("2. A user asks \"{QUESTION}\", and a client follows the run:\n");
    let mut seen = SeenRun::default();
    follow(&mut connection, &mut seen, SeenRun::is_in_reply).await?;
    ensure!(seen.outcome.is_none(), "the run ended before the process could be killed; try again");

    let killed = first.id();
    first.child.kill().await.context("the process cannot be killed")?;
    println!(
        "\n3. kill -9 {killed}, while a reply was being written. The log has {} events; the {} characters of that reply",
        seen.last_seq,
        seen.preview_chars()
    );
    println!("   that the client saw are in no log.");
    let second = ServingProcess::start(folder, first.port).await?;
    println!(
        "4. Another process is started on the same folder: {}. Nothing is sent again. The client reconnects by itself:\n",
        second.id()
    );
    follow(&mut connection, &mut seen, |seen| seen.outcome.is_some()).await?;

    let messages = client.list_messages(&session).await?;
    let facts = seen.check(&messages)?;
    println!("\n5. {facts}");
    println!(
        "\nThe simulated cluster lives in the process and was started again with it. A change that was cut off would have become"
    );
    println!("`unknown` and would not be sent twice. The processes and the folder of this tour are gone.");
    Ok(())
}

/// Applies frames until `is_done`, and prints what they say.
async fn follow(
    connection: &mut SessionConnection,
    seen: &mut SeenRun,
    is_done: impl Fn(&SeenRun) -> bool,
) -> anyhow::Result<()> {
    let followed = async {
        while !is_done(seen) {
            match connection.next_event().await {
                Some(ConnectionEvent::Frame(frame)) => seen.apply_frame(&frame),
                Some(ConnectionEvent::Lost(_)) => {}
                Some(ConnectionEvent::Ended(error)) => return Err(error.into()),
                None => bail!("the connection is closed"),
            }
        }
        Ok(())
    };
    timeout(STEP_TIMEOUT, followed).await.context("the run does not continue")?
}

/// What a client has seen of a run.
#[derive(Debug, Default)]
struct SeenRun {
    last_seq: u64,
    /// Seqs that did not follow the one before.
    gaps: Vec<u64>,
    /// How often each call has ended.
    ended_calls: BTreeMap<String, usize>,
    /// The text of the reply that is being written.
    preview: String,
    answer: String,
    recoveries: usize,
    outcome: Option<String>,
}

impl SeenRun {
    /// Whether calls have ended, and a part of the reply that follows them was shown.
    fn is_in_reply(&self) -> bool {
        self.ended_calls.len() >= CALLS_BEFORE_KILL && self.preview_chars() >= SHOWN_BEFORE_KILL
    }

    fn preview_chars(&self) -> usize {
        self.preview.chars().count()
    }

    fn apply_frame(&mut self, frame: &Value) {
        let text = |name: &str| frame[name].as_str().unwrap_or_default();
        let kind = text("type");
        if kind == "token" {
            if frame["offset"] == 0 {
                self.preview.clear();
            }
            self.preview.push_str(text("content"));
            return;
        }
        let Some(seq) = frame["seq"].as_u64().filter(|_| kind != "ack") else { return };
        if seq != self.last_seq + 1 {
            self.gaps.push(seq);
        }
        self.last_seq = seq;
        let said = match kind {
            "tool_start" => format!("calls {}", text("name")),
            "tool_end" => {
                *self.ended_calls.entry(text("tool_call_id").to_owned()).or_default() += 1;
                format!("{}: {}", text("name"), text("status"))
            }
            "run_recovered" => {
                self.recoveries += 1;
                self.preview.clear();
                format!("the run is resumed: {}", text("reason"))
            }
            "assistant_message" => {
                self.preview.clear();
                text("content").clone_into(&mut self.answer);
                match frame["tool_calls"].as_array().map_or(0, Vec::len) {
                    0 => format!("the answer, {} characters", self.answer.chars().count()),
                    calls => format!("the model wants {calls} calls"),
                }
            }
            "run_finished" | "run_failed" => {
                let outcome = if kind == "run_failed" { "failed" } else { text("outcome") };
                self.outcome = Some(outcome.to_owned());
                format!("the run is {outcome}")
            }
            "user_message" => "the question is logged".to_owned(),
            _ => return,
        };
        println!("   {seq:>3}  {}", sanitize_text(&said));
    }

    /// Checks that nothing was lost or done twice, and says what was found.
    fn check(&self, messages: &[Value]) -> anyhow::Result<String> {
        ensure!(self.gaps.is_empty(), "the log has gaps before {:?}", self.gaps);
        ensure!(self.recoveries > 0, "the run was not resumed");
        ensure!(self.outcome.as_deref() == Some("completed"), "the run ended as {:?}", self.outcome);
        ensure!(self.ended_calls.values().all(|count| *count == 1), "calls ended twice: {:?}", self.ended_calls);
        let questions = messages.iter().filter(|message| message["role"] == "user").count();
        ensure!(questions == 1, "the question is there {questions} times");
        ensure!(!self.answer.is_empty(), "there is no answer");
        Ok(format!(
            "The log has the events 1 to {} without a gap, the question once, and {} calls that ended once each. The answer is whole.",
            self.last_seq,
            self.ended_calls.len()
        ))
    }
}

/// The demo as a process, which is killed when this is dropped.
struct ServingProcess {
    child: Child,
    url: String,
    port: u16,
}

impl ServingProcess {
    /// Starts a demo that keeps its sessions in a folder, and waits until it listens.
    async fn start(folder: &Path, port: u16) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program cannot be found")?;
        let mut command = Command::new(program);
        command.args(["demo", "--host", "127.0.0.1", "--port", &port.to_string(), "--data"]).arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("the demo cannot be started")?;
        let stdout = child.stdout.take().context("the demo has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let listening = async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, rest)) = line.split_once("listens on ") {
                    return Ok(rest.split_whitespace().next().unwrap_or_default().to_owned());
                }
            }
            bail!("the demo ended before it listened")
        };
        let url = timeout(STEP_TIMEOUT, listening).await.context("the demo does not listen")??;
        // What else it prints must not block it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let port = url.rsplit(':').next().and_then(|port| port.parse().ok()).context("the demo has no port")?;
        Ok(Self { child, url, port })
    }

    fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }
}

/// A folder that is removed when this is dropped.
struct TourFolder(PathBuf);

impl TourFolder {
    fn create() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("k8sops-crash-{}", uuid::Uuid::new_v4().simple()));
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TourFolder {
    fn drop(&mut self) {
        // The folder is of no use to anyone.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(frames: &[Value]) -> SeenRun {
        let mut seen = SeenRun::default();
        for frame in frames {
            seen.apply_frame(frame);
        }
        seen
    }

    #[test]
    fn what_was_lost_or_done_twice_is_said() {
        let question = [json!({"role": "user"})];
        let call = json!({"seq": 2, "type": "tool_end", "tool_call_id": "a", "name": "look", "status": "ok"});
        let recovered = json!({"seq": 3, "type": "run_recovered", "reason": "taken over"});
        let answer = json!({"seq": 4, "type": "assistant_message", "content": "it is DNS"});
        let end = json!({"seq": 5, "type": "run_finished", "outcome": "completed"});
        let message = json!({"seq": 1, "type": "user_message"});
        let whole = [message, call, recovered, answer, end];
        let facts = seen(&whole).check(&question).unwrap();
        assert!(facts.contains("events 1 to 5 without a gap") && facts.contains("1 calls"), "{facts}");
        assert!(seen(&whole).check(&[]).unwrap_err().to_string().contains("0 times"));
        for (without, why) in [(0, "gaps"), (2, "gaps"), (4, "ended as None")] {
            let mut frames = whole.to_vec();
            frames.remove(without);
            let error = seen(&frames).check(&question).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let mut twice = whole.to_vec();
        twice[3] = json!({"seq": 4, "type": "tool_end", "tool_call_id": "a"});
        assert!(seen(&twice).check(&question).unwrap_err().to_string().contains("twice"));
    }
}
