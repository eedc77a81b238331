//! What is posted, and how much of an answer is read.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn the_signature_is_the_one_that_others_compute() {
    // printf '5.a.{}' | openssl dgst -sha256 -hmac key
    assert_eq!(
        signature(b"key", "5", "a", b"{}"),
        "v1=cf5b5d94c11b5073c6e7732443fa3a68082dd5aafec2a84bb0637c9d8388a257"
    );
}

#[test]
fn what_an_event_says_stays_a_text_in_a_template_of_json() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let raw = "name = 'w'\nurl = 'http://127.0.0.1:1/'\nbody = '{\"text\": \"{{ said }}\"}'";
    let config = WebhookConfig::parse(toml::from_str(raw).unwrap(), |path| path);
    let hook = Hook::open(&config.unwrap_or_else(|_| unreachable!())).unwrap();
    let firing = Firing {
        id: muster_proto::id::MessageId::from_bytes([0; 16]),
        rule: 0,
        group: String::new(),
        events: Vec::new(),
        begun_ms: 0,
        depth: 0,
        again: false,
        done: std::collections::BTreeSet::new(),
    };
    let said = "a \"b\", \"channel\": \"#all";
    let body = hook.body(&firing, &json!({ "said": said })).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body, json!({ "text": said }));
}

#[tokio::test]
async fn of_an_answer_without_end_the_beginning_is_read() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let endless = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .read_buf(&mut Vec::with_capacity(4096))
            .await
            .unwrap();
        let head = b"HTTP/1.1 410 Gone\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        while stream.write_all(b"3\r\nno!\r\n").await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let read = async { beginning(client.get(url).send().await.unwrap()).await };
    let text = tokio::select! {
        text = tokio::time::timeout(Duration::from_secs(30), read) => text.unwrap(),
        () = endless => unreachable!(),
    };
    assert_eq!(text.len(), ANSWER_BYTES_MAX);
    assert!(text.starts_with("no!no!"), "{text}");
}
