//! Limits per user and in total, which are reported immediately; and misbehaving clients.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    task::JoinSet,
};
use tokio_tungstenite::{connect_async_with_config, tungstenite::protocol::WebSocketConfig};

use crate::{
    program::TestProgram,
    service::{ServiceSetup, TestService, problem},
    websocket::TestSocket,
};
use k8sops_testing::{
    TEST_TIMEOUT,
    counting_server::CountingMcpServer,
    eventually,
    provider::FakeProviders,
    scripted_model::{ScriptedModel, call},
};

async fn start_service(env: &[(&'static str, &str)]) -> TestService {
    let env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    TestService::start(ServiceSetup { env, model: Some(ScriptedModel::new([])), ..ServiceSetup::default() }).await
}

fn socket_address(service: &TestService) -> String {
    service.base.trim_start_matches("http://").to_owned()
}

/// Reads from a socket until the service closes it.
async fn read_to_end(socket: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A connection reset ends the connection, too.
    let _ = tokio::time::timeout(TEST_TIMEOUT, socket.read_to_end(&mut said))
        .await
        .expect("the service closes the connection");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_returns_retry_after() {
    let service = start_service(&[("K8SOPS_MAX_REQUESTS_PER_MINUTE", "5")]).await;
    let mut refused = None;
    for _ in 0..20 {
        let answer = service.request(Method::GET, "/v1/sessions").send().await.unwrap();
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("twenty in a row are too many");
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(problem(refused).await.1["code"], "too_many_requests");
    // Probes are not rate limited.
    service.get("/readyz").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_websocket_frames_count_against_the_rate_limit() {
    let service = start_service(&[("K8SOPS_MAX_REQUESTS_PER_MINUTE", "10")]).await;
    let session = service.create_session().await;
    let mut socket = TestSocket::open(&service, &session, "").await;
    let mut codes = Vec::new();
    for _ in 0..10 {
        socket.send(json!({"type": "no"})).await;
        codes.push(socket.until("error").await.pop().unwrap()["code"].as_str().unwrap().to_owned());
    }
    assert_eq!((&*codes[0], &*codes[9]), ("invalid_request", "too_many_requests"), "{codes:?}");
}

/// Sends probes without waiting for their answers, and counts the bytes of the answers.
async fn pipeline_probes(address: String, answered: Arc<AtomicUsize>) {
    let (mut answers, mut requests) = TcpStream::connect(address).await.unwrap().into_split();
    let batch = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(500);
    let sending = async { while requests.write_all(batch.as_bytes()).await.is_ok() {} };
    let counting = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(bytes @ 1..) = answers.read(&mut buffer).await {
            answered.fetch_add(bytes, Ordering::Relaxed);
        }
    };
    tokio::join!(sending, counting);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_leave_other_connections_their_turn() {
    let service = start_service(&[]).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut floods = JoinSet::new();
    // Some for each thread of the server.
    let flood_count = 4 * std::thread::available_parallelism().unwrap().get();
    for _ in 0..flood_count {
        floods.spawn(pipeline_probes(socket_address(&service), answered.clone()));
    }
    eventually("the floods are answered", async || answered.load(Ordering::Relaxed) > 100_000).await;
    let mut client = TcpStream::connect(socket_address(&service)).await.unwrap();
    let (rounds, mut answer) = (20, vec![0; 2000]);
    let mut answer_bytes = 0;
    let before = answered.load(Ordering::Relaxed);
    for _ in 0..rounds {
        client.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        answer_bytes += client.read(&mut answer).await.unwrap();
    }
    let others = (answered.load(Ordering::Relaxed) - before) / (answer_bytes / rounds);
    let per_turn = others / rounds / flood_count;
    assert!(per_turn < 100, "{per_turn} requests of each flood were answered before one of another client");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_over_the_limit_is_refused_without_a_trace() {
    for (limits, status, code) in [
        ([("K8SOPS_MAX_RUNS_PER_USER", "1"), ("K8SOPS_MAX_RUNS", "9")], 429, "too_many_runs"),
        ([("K8SOPS_MAX_RUNS_PER_USER", "9"), ("K8SOPS_MAX_RUNS", "1")], 503, "overloaded"),
    ] {
        let (model, tools) = (ScriptedModel::new([vec![call("change", json!({}))]]), CountingMcpServer::new());
        let env = limits.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let setup =
            ServiceSetup { model: Some(model), servers: vec![tools.connector()], env, ..ServiceSetup::default() };
        let service = TestService::start(setup).await;
        service.wait_for_mcp_servers().await;
        let (busy, other) = (service.create_session().await, service.create_session().await);
        service.post(&format!("{busy}/messages"), json!({"content": "change it"})).await;
        let asked = service.events(&busy, "").await.until("approval_requested").await.pop().unwrap();
        let ask = || service.request(Method::POST, &format!("{other}/messages")).json(&json!({"content": "and here"}));
        let answer = ask().send().await.unwrap();
        assert!(answer.headers().contains_key("retry-after"));
        let (found, refused) = problem(answer).await;
        assert_eq!((found, &refused["code"]), (status, &json!(code)), "{refused}");
        assert_eq!(service.log(&other).await.len(), 1, "only its session_created");
        // The busy session still accepts messages.
        service.post(&format!("{busy}/messages"), json!({"content": "and then"})).await;
        let path = format!("{busy}/approvals/{}", asked["approval_id"].as_str().unwrap());
        service.post(&path, json!({"decision": "deny"})).await;
        let mut events = service.events(&busy, "").await;
        events.until("run_finished").await;
        events.until("run_finished").await;
        // The finished run has freed its slot.
        eventually("a slot is free again", async || ask().send().await.unwrap().status() == 202).await;
        service.events(&other, "").await.until("run_finished").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_stream_frees_its_slot() {
    let service = start_service(&[("K8SOPS_MAX_STREAMS_PER_USER", "2")]).await;
    let session = service.create_session().await;
    let (first, _second) = (service.events(&session, "").await, service.events(&session, "").await);
    let third = || service.request(Method::GET, &format!("{session}/events"));
    let answer = third().send().await.unwrap();
    assert!(answer.headers().contains_key("retry-after"));
    let (status, found) = problem(answer).await;
    assert_eq!((status, &found["code"]), (429, &json!("too_many_streams")));
    // A message that requests a stream is rejected.
    let message = service
        .request(Method::POST, &format!("{session}/messages"))
        .header("accept", "text/event-stream")
        .json(&json!({"content": "x"}));
    assert_eq!(service.refused(message).await.0, 429);
    assert_eq!(service.get(&session).await["message_count"], 0);
    drop(first);
    eventually("a slot is free again", async || third().send().await.unwrap().status() == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_oversized_request_heads_are_rejected() {
    let service = start_service(&[]).await;
    let began = Instant::now();
    let mut slow = TcpStream::connect(socket_address(&service)).await.unwrap();
    slow.write_all(b"GET /v1/info HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();
    let (mut down, mut up) = slow.split();
    let dripping = async {
        // One header at a time, until the service closes the connection.
        while up.write_all(b"x-more: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let closed = async {
        let mut said = Vec::new();
        let _ = down.read_to_end(&mut said).await;
    };
    tokio::time::timeout(TEST_TIMEOUT, async {
        tokio::select! { () = dripping => {}, () = closed => {} }
    })
    .await
    .expect("the service closes the connection");
    assert!(began.elapsed() > Duration::from_secs(2), "the client gets time to send its request");

    let many = "x-more: y\r\n".repeat(200);
    let large = format!("x-large: {}\r\n", "y".repeat(300 * 1024));
    for flood in [many, large] {
        let mut socket = TcpStream::connect(socket_address(&service)).await.unwrap();
        // The service may close the connection before everything is written.
        let _ = socket.write_all(format!("GET /v1/info HTTP/1.1\r\nhost: localhost\r\n{flood}\r\n").as_bytes()).await;
        let said = read_to_end(&mut socket).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    service.get("/healthz").await;
}

/// Number of concurrent idle streams.
const IDLE: usize = 10_000;
/// Number of WebSockets among them; the others are SSE.
const WEBSOCKETS: usize = 9_000;
/// Number of sessions that the streams follow.
const WATCHED: usize = 10;
/// Upper bound of the memory of one stream in bytes, in a debug build.
const PER_SOCKET: u64 = 64 * 1024;

/// Raises the limit of open files of this process to at least this number.
fn needs_files(count: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(hard >= count as u64, "this test needs {count} open files for a process, and `ulimit -Hn` is {hard}");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// Starts the program with a shell that runs a command first.
async fn program_after(command: &str, yaml: &str, env: &[(&str, &str)]) -> TestProgram {
    let script = format!("{command} && exec {} serve", env!("CARGO_BIN_EXE_k8sops"));
    TestProgram::start_as(Command::new("sh").args(["-c", &script]), yaml, env).await
}

/// Sends a raw request, and reads the response until this text.
async fn send_request(address: &str, path: &str, until: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let answered = async {
        while !String::from_utf8_lossy(&said).contains(until) {
            assert!(socket.read_buf(&mut said).await.unwrap() > 0, "the connection was closed after {said:?}");
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, answered).await.expect("the service responds");
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_sockets_do_not_block_requests() {
    needs_files(IDLE + 5_000);
    let providers = FakeProviders::start().await;
    let env = [
        ("LLM_PROVIDER", "test-openai-chat"),
        ("LLM_MODEL", "m"),
        ("MAX_SESSIONS", "20"),
        ("K8SOPS_MAX_STREAMS", "20000"),
        ("K8SOPS_MAX_STREAMS_PER_USER", "20000"),
        ("K8SOPS_MAX_REQUESTS_PER_MINUTE", "1000000"),
    ];
    // The soft limit of most shells. The program raises it.
    let program = program_after("ulimit -Sn 1024", &providers.settings_yaml(), &env).await;
    let address = program.process.url.trim_start_matches("http://").to_owned();
    let mut sessions = Vec::new();
    for _ in 0..WATCHED {
        sessions.push(program.create_session().await);
    }
    let before = program.process.resident_memory();

    let opened = stream::iter(0..WEBSOCKETS).map(|n| {
        let url = format!("ws://{address}{}/ws", sessions[n % WATCHED]);
        async move {
            let small = WebSocketConfig::default().read_buffer_size(4096);
            let opened = tokio::time::timeout(TEST_TIMEOUT, connect_async_with_config(url, Some(small), false)).await;
            opened.expect("the connection is accepted").unwrap().0
        }
    });
    // Each client answers pings and counts the ends of runs.
    let ends = Arc::new(AtomicUsize::new(0));
    let watching = opened.buffer_unordered(32).map(|mut socket| {
        let ends = ends.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = socket.next().await {
                let ended = message.to_text().is_ok_and(|text| text.contains("\"run_finished\""));
                ends.fetch_add(usize::from(ended), Ordering::Relaxed);
            }
        })
    });
    let websockets: Vec<_> = watching.collect().await;
    let opened = stream::iter(WEBSOCKETS..IDLE).map(|n| {
        let (address, path) = (&address, format!("{}/events", sessions[n % WATCHED]));
        async move { send_request(address, &path, "session_created").await }
    });
    let streams: Vec<_> = opened.buffer_unordered(32).collect().await;
    assert_eq!(websockets.len() + streams.len(), IDLE);
    // Some clients send nothing, or only the start of a request.
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(&address).await.unwrap());
        idle.push(send_request(&address, "/healthz", "\r\n\r\n").await);
    }

    assert!(program.process.open_descriptors() > IDLE, "{}", program.process.open_descriptors());
    let session = program.create_session().await;
    let frames = program.turn(&session, &[]).await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
    let each = program.process.resident_memory().saturating_sub(before) / IDLE as u64;
    assert!(each < PER_SOCKET, "{each} bytes for a socket");
    println!("an idle socket takes {each} bytes");
    // The clients are still connected.
    program.turn(&sessions[0], &[]).await;
    eventually("all who watch see the end of the run", async || {
        (ends.load(Ordering::Relaxed) == WEBSOCKETS / WATCHED).then_some(())
    })
    .await;
    assert!(websockets.iter().all(|socket| !socket.is_finished()), "none was closed");
    // Idle connections are closed after a while.
    for socket in &mut idle {
        read_to_end(socket).await;
    }
    websockets.iter().for_each(tokio::task::JoinHandle::abort);
    drop(streams);
    eventually("idle connections are closed", async || program.process.open_descriptors() < 1000).await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_wait_when_descriptors_run_out() {
    needs_files(2_000);
    let (providers, data) = (FakeProviders::start().await, tempfile::tempdir().unwrap());
    let env = [
        ("LLM_PROVIDER", "test-openai-chat"),
        ("LLM_MODEL", "m"),
        ("MAX_SESSIONS", "200"),
        ("MEMORY_BACKEND", "filesystem"),
        ("MEMORY_FILESYSTEM_PATH", data.path().to_str().unwrap()),
    ];
    let program = program_after("ulimit -n 600", &providers.settings_yaml(), &env).await;
    let session = program.create_session().await;
    // More connections than file descriptors. Clients retry until they are in the accept queue, and reconnect when
    // their idle connection was closed.
    let mut flood = JoinSet::new();
    let last_error = Arc::new(Mutex::new(None));
    for _ in 0..640 {
        let address = program.process.url.trim_start_matches("http://").to_owned();
        let last_error = last_error.clone();
        flood.spawn(async move {
            loop {
                // Where the accept queue is short, the kernel drops connections, and itself tries again only after seconds, and then
                // minutes.
                match tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(&address)).await {
                    Ok(Ok(mut socket)) => drop(read_to_end(&mut socket).await),
                    Ok(Err(error)) => {
                        *last_error.lock() = Some(error);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    Err(_elapsed) => {}
                }
            }
        });
    }
    eventually("as many as fit are connected", async || {
        let open = program.process.open_descriptors();
        if open > 400 { Ok(()) } else { Err(format!("{open} files are open; clients got {:?}", last_error.lock())) }
    })
    .await;
    // Connected clients are served, which opens files of the store, while the others wait.
    for _ in 0..100 {
        program.create_session().await;
        let open = program.process.open_descriptors();
        assert!(open < 560, "{open} of 600");
    }
    let frames = program.turn(&session, &[]).await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed", "{frames:?}");
    flood.abort_all();
    let (log, _) = program.stop().await;
    assert!(log.iter().any(|line| line.contains("open file limit") && line.contains("600")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("Too many open files")), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_with_unread_body_is_closed() {
    let service = start_service(&[]).await;
    let session = service.create_session().await;
    let of_length = ("content-length: 1000000", " ");
    let in_chunks = ("transfer-encoding: chunked", "1\r\na\r\n");
    // The request announces an upgrade to another protocol, and then a body.
    let upgrading = ("connection: upgrade\r\nupgrade: websocket\r\ntransfer-encoding: chunked", "1\r\na\r\n");
    let of_no_kind = ("connection: upgrade\r\nupgrade: websocket", "a");
    // A route without a body, a rejected request, a missing route, and a public route.
    let lines = [
        format!("GET {session}"),
        format!("POST {session}/cancel"),
        "POST /v1/nothing".into(),
        "GET /docs/".into(),
        format!("GET {session}/ws"),
    ];
    let all =
        lines.iter().flat_map(|line| [of_length, in_chunks, upgrading, of_no_kind].map(|framing| (line, framing)));
    for ((line, (header, piece)), drips) in all.flat_map(|case| [(case, true), (case, false)]) {
        let case = format!("{line}, {header}, drips: {drips}");
        let mut socket = TcpStream::connect(socket_address(&service)).await.unwrap();
        let head = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n\r\n{piece}");
        socket.write_all(head.as_bytes()).await.unwrap();
        let (mut down, mut up) = socket.split();
        let mut said = Vec::new();
        let dripping = async {
            while drips && up.write_all(piece.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            std::future::pending::<()>().await;
        };
        let closed = async {
            tokio::select! {
                () = dripping => {}
                _ = down.read_to_end(&mut said) => {}
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, closed).await.unwrap_or_else(|_| panic!("not closed: {case}"));
        assert!(said.starts_with(b"HTTP/1.1 "), "{case}: {}", String::from_utf8_lossy(&said));
    }
}
