//! What a turn costs Redis, as docs/src/performance.md says it: scripts and commands, counted by each flavor of the server.

use std::collections::HashMap;

use k8sops_testing::{
    fake_mcp_server::FakeMcpServer,
    redis::{RedisFlavor, RedisServer},
    scripted_model::{ReplyStep, ScriptedModel, call, text},
};
use serde_json::json;

use crate::service::{ServiceSetup, TestService};

const PERFORMANCE: &str = include_str!("../../docs/src/performance.md");
/// More scripts than this are too many for any turn with at most one tool.
const SCRIPT_LIMIT: u64 = 8;
/// A turn costs what this many turns cost alike. Others also have commands that a timer sent, or a checkpoint.
const ALIKE: usize = 4;
const MAX_TURNS: usize = 60;

/// Commands that Redis has executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct CommandCounts {
    scripts: u64,
    /// With the scripts, and the commands that these run.
    commands: u64,
}

async fn count_commands(redis: &RedisServer) -> CommandCounts {
    let info = redis.cli(&["INFO", "commandstats"]).await;
    let mut counts = CommandCounts { scripts: 0, commands: 0 };
    for line in info.lines() {
        let Some((name, fields)) = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(':')) else {
            continue;
        };
        let calls = fields.strip_prefix("calls=").and_then(|fields| fields.split(',').next()?.parse::<u64>().ok());
        // The count itself, and what a new connection sends.
        if !["info", "command", "hello", "ping"].contains(&name) && !name.starts_with("client") {
            counts.commands += calls.unwrap();
        }
        if ["eval", "evalsha"].contains(&name) {
            counts.scripts += calls.unwrap();
        }
    }
    counts
}

/// Counts when two counts in a row are alike: what follows a turn has been executed.
async fn count_settled_commands(redis: &RedisServer) -> CommandCounts {
    let mut counts = count_commands(redis).await;
    loop {
        let again = count_commands(redis).await;
        if again == counts {
            return counts;
        }
        counts = again;
    }
}

/// Counts the commands of a usual turn, each of which has these replies of the model.
async fn count_commands_of_turn(flavor: RedisFlavor, replies: impl Fn() -> Vec<Vec<ReplyStep>>) -> CommandCounts {
    let redis = RedisServer::start(flavor).await;
    let model = ScriptedModel::new([]);
    let tools = FakeMcpServer::new().read_only_tool("pods_list", "The pods.", |_| Ok("none".into()));
    let env = vec![("MEMORY_BACKEND", "redis".into()), ("REDIS_URL", redis.url()), ("REDIS_CONFIRM", "none".into())];
    let servers = vec![tools.connector("prod")];
    let setup = ServiceSetup { model: Some(model.clone()), env, servers, ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    let mut seen: HashMap<CommandCounts, usize> = HashMap::new();
    for _ in 0..MAX_TURNS {
        model.add_replies(replies());
        let before = count_settled_commands(&redis).await;
        service.turn(&session, "go").await;
        let after = count_settled_commands(&redis).await;
        let turn =
            CommandCounts { scripts: after.scripts - before.scripts, commands: after.commands - before.commands };
        let alike = seen.entry(turn).or_default();
        *alike += 1;
        if *alike == ALIKE {
            return turn;
        }
    }
    panic!("no turn is usual: {seen:?}");
}

/// Checks that the table says what a turn costs each flavor.
async fn check_row(what: &str, replies: impl Fn() -> Vec<Vec<ReplyStep>>) {
    let mut row = format!("| {what} |");
    for flavor in RedisFlavor::ALL {
        let turn = count_commands_of_turn(flavor, &replies).await;
        assert!(turn.scripts <= SCRIPT_LIMIT, "{what}: {turn:?}");
        row += &format!(" {}, {} |", turn.scripts, turn.commands);
    }
    assert!(PERFORMANCE.lines().any(|line| line == row), "docs/src/performance.md does not have the row\n{row}");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn commands_of_a_turn_are_as_documented() {
    check_row("A turn whose reply is one token", || vec![vec![text("fine")]]).await;
    check_row("A turn with one tool call", || vec![vec![call("pods_list", json!({}))], vec![text("fine")]]).await;
}
