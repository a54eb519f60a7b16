use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::notifier::{NotificationPosition, PushAuthentication, PushTask, target_policy::AllowedTarget};
use k8sops_core::{RunId, SessionId};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

/// A receiver that answers each request with the same bytes, or never if there are none. Returns its port and what it receives.
async fn start_receiver(answer: &'static str) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !String::from_utf8_lossy(&request).contains("\r\n\r\n{\"a\":1}") {
                    let mut buffer = [0; 4096];
                    match stream.read(&mut buffer).await {
                        Ok(read) if read > 0 => request.extend(&buffer[..read]),
                        _ => return,
                    }
                }
                sender.send(String::from_utf8(request).unwrap()).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                // A receiver without an answer keeps the connection.
                let _ = stream.read(&mut [0; 1]).await;
            });
        }
    });
    (port, requests)
}

fn policy(list: &str) -> Arc<TargetPolicy> {
    Arc::new(TargetPolicy::new(list.split(',').map(|text| AllowedTarget::parse(text).unwrap()).collect()))
}

fn config(url: String) -> PushConfig {
    let task = PushTask {
        user: "anna".parse().unwrap(),
        session: SessionId::new(),
        run: RunId::new(),
        context: None,
        extensions: vec![],
    };
    let authentication = PushAuthentication { scheme: "Bearer".into(), credentials: "s3cret".into() };
    PushConfig { id: "c".into(), task, url, token: Some("t0ken".into()), authentication: Some(authentication) }
}

fn notification() -> PushNotification {
    PushNotification { position: NotificationPosition { seq: 7, index: 2 }, body: "{\"a\":1}".into() }
}

async fn send(sender: &HttpSender, url: String) -> Result<(), SendFailure> {
    sender.send(&config(url), &notification(), "application/a2a+json").await
}

const SOON: Duration = Duration::from_millis(300);
const NEVER: Duration = Duration::from_secs(100);

#[tokio::test]
async fn notification_has_its_headers_and_any_2xx_accepts_it() {
    let (port, mut requests) = start_receiver("HTTP/1.1 204 No Content\r\n\r\n").await;
    let sender = HttpSender::new(policy("http://127.0.0.1"), NEVER).unwrap();
    let config = config(format!("http://127.0.0.1:{port}/hook?key=1"));
    sender.send(&config, &notification(), "application/a2a+json").await.unwrap();
    let request = requests.recv().await.unwrap();
    assert!(request.starts_with("POST /hook?key=1 HTTP/1.1\r\n"), "{request}");
    for header in [
        "content-type: application/a2a+json".to_owned(),
        "x-a2a-notification-token: t0ken".to_owned(),
        "authorization: Bearer s3cret".to_owned(),
        format!("x-k8sops-notification-id: {}-7-2", config.task.run),
    ] {
        assert!(request.lines().any(|line| line == header), "{header} in {request}");
    }
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let (target, mut target_requests) = start_receiver("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let answer =
        format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:{target}/\r\ncontent-length: 0\r\n\r\n");
    let (port, _requests) = start_receiver(answer.leak()).await;
    let sender = HttpSender::new(policy("http://127.0.0.1"), NEVER).unwrap();
    assert_eq!(send(&sender, format!("http://127.0.0.1:{port}/")).await, Err(SendFailure::Status(307)));
    assert!(target_requests.try_recv().is_err());
}

#[tokio::test]
async fn failures_have_a_kind_and_no_secret() {
    let sender = HttpSender::new(policy("http://127.0.0.1,http://receiver.test"), SOON).unwrap();
    let (failing, _requests) =
        start_receiver("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 6\r\n\r\ns3cret").await;
    let (gone, _requests) = start_receiver("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n").await;
    let (hanging, _requests) = start_receiver("").await;
    let (garbage, _requests) = start_receiver("s3cret\r\n\r\n").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for (port, failure) in [
        (failing, SendFailure::Status(503)),
        (gone, SendFailure::Gone),
        (hanging, SendFailure::Timeout),
        (garbage, SendFailure::Unreachable),
        (closed, SendFailure::Unreachable),
    ] {
        let failed = send(&sender, format!("http://127.0.0.1:{port}/s3cret?t0ken")).await.unwrap_err();
        assert_eq!(failed, failure);
        assert!(!failed.to_string().contains("s3cret") && !failed.to_string().contains("t0ken"));
    }
    assert_eq!(send(&sender, "http://127.0.0.2:1/".into()).await, Err(SendFailure::NotAllowed));
    assert!(!format!("{:?}", config("https://a/s3cret".into())).contains("s3cret"));
}

/// A lookup that returns one address after the other, as a server does that rebinds a name.
fn rebinding(addresses: &'static [&'static str]) -> (NameLookup, Arc<AtomicUsize>) {
    let lookups = Arc::new(AtomicUsize::new(0));
    let counted = lookups.clone();
    let lookup: NameLookup = Arc::new(move |_| {
        let address: IpAddr = addresses[counted.fetch_add(1, Ordering::SeqCst) % addresses.len()].parse().unwrap();
        async move { Ok(vec![SocketAddr::new(address, 0)]) }.boxed()
    });
    (lookup, lookups)
}

#[tokio::test]
async fn name_with_a_private_address_is_not_connected_to() {
    let (port, mut requests) = start_receiver("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let (lookup, lookups) = rebinding(&["127.0.0.1"]);
    let sender = HttpSender::with_lookup(policy("http://receiver.test"), NEVER, lookup).unwrap();
    assert_eq!(send(&sender, format!("http://receiver.test:{port}/")).await, Err(SendFailure::Unreachable));
    assert_eq!(lookups.load(Ordering::SeqCst), 1);
    assert!(requests.try_recv().is_err());
    // A network of the list permits it.
    let (lookup, _) = rebinding(&["127.0.0.1"]);
    let sender = HttpSender::with_lookup(policy("http://receiver.test,127.0.0.0/8"), NEVER, lookup).unwrap();
    send(&sender, format!("http://receiver.test:{port}/")).await.unwrap();
    requests.recv().await.unwrap();
}

#[tokio::test]
async fn rebound_name_is_checked_for_the_address_that_is_connected_to() {
    let (port, mut requests) = start_receiver("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    // 127.0.0.2 is allowed and closed: the address that was checked is the one that is connected to.
    let (lookup, lookups) = rebinding(&["127.0.0.2", "127.0.0.1"]);
    let sender = HttpSender::with_lookup(policy("http://receiver.test,127.0.0.2"), NEVER, lookup).unwrap();
    for _ in 0..4 {
        assert_eq!(send(&sender, format!("http://receiver.test:{port}/")).await, Err(SendFailure::Unreachable));
    }
    assert_eq!(lookups.load(Ordering::SeqCst), 4);
    assert!(requests.try_recv().is_err());
}
