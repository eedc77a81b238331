//! The token: who knows it is answered, nobody else is, and without it the interface does not open to others.

use super::*;

const WORD: &str = "7c0ffee7c0ffee7c0ffee";

#[tokio::test]
async fn only_who_knows_the_token_is_answered() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    fs::write(&file, format!("{WORD}\n"))?;
    let host = Host::up(&format!(
        "node_paths = true\ntoken_file = {:?}",
        file.display().to_string()
    ))
    .await?;
    for path in [
        "/",
        "/node/dist",
        "/metrics",
        "/readyz",
        "/v1/snapshots",
        "/v1/snapshots/host",
        "/nosuch",
    ] {
        for token in [
            None,
            Some("wrong"),
            Some(""),
            Some(&WORD[1..]),
            Some("7c0ffee7c0ffee7c0ffee7"),
        ] {
            let refused = host.ask("GET", path, token).await?;
            assert_eq!(refused.code, 401, "{path} {token:?}");
            assert_eq!(refused.headers["www-authenticate"], "Bearer");
            assert!(refused.error()?.contains("token"), "{}", refused.text);
            assert!(!refused.text.contains(WORD));
        }
        assert_ne!(host.ask("GET", path, Some(WORD)).await?.code, 401, "{path}");
    }
    assert_eq!(host.get("/healthz").await?.code, 200);
    assert_eq!(
        host.get(&format!("/node/GetMemInfo?token={WORD}"))
            .await?
            .code,
        200
    );
    assert_eq!(
        host.get(&format!("/node/GetIfInfo?interface=lo&token={WORD}"))
            .await?
            .code,
        200
    );
    assert_eq!(host.get("/node/GetMemInfo?token=wrong").await?.code, 401);
    assert_eq!(host.get(&format!("/metrics?token={WORD}")).await?.code, 401);
    Ok(())
}

#[tokio::test]
async fn without_a_usable_token_nothing_is_open_to_others() -> Result<()> {
    let host = Host::start("token_file = \"{folder}/token\"")?;
    eventually("the agent says what is missing", async || {
        let log = host.process.stderr();
        let said = log.contains("read the token") && log.contains("No such file");
        if said { Ok(()) } else { Err(log) }
    })
    .await?;
    assert!(
        host.get("/healthz").await.is_err(),
        "it listens without its token"
    );
    fs::write(host.file("token"), WORD)?;
    eventually("it opens once the token is there", async || {
        let answer = host.ask("GET", "/readyz", Some(WORD)).await;
        answer.map(drop).map_err(|error| format!("{error:#}"))
    })
    .await?;

    let open = host.file("open.toml");
    fs::write(&open, "[http]\nlisten = \"0.0.0.0:9418\"\n")?;
    let output = Command::new(binary("muster-agent")?)
        .arg("--config")
        .arg(&open)
        .arg("run")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains(":2:1: listen: ") && said.contains("token_file"),
        "{said}"
    );
    Ok(())
}
