//! Peers that refuse, are slow, or lie: each delays nothing else, is tried again where that may help, and stands in the
//! history.

use muster_harness::eventually_within;

use super::peers::{MailServer, Receiver};
use super::*;

#[tokio::test]
async fn what_is_refused_or_slow_delays_nothing_else_and_is_told() -> Result<()> {
    let receiver = Receiver::start().await?;
    let directory = tempfile::tempdir()?;
    let mail = MailServer::start(directory.path(), "starttls").await?;
    let quick = "timeout = \"2s\"\nretry_for = \"1s\"";
    let mut sections = mail.section("secret") + "timeout = \"4s\"\nretry_for = \"30s\"\n";
    sections += &receiver.sections(&["good", "busy", "gone"], "");
    sections += &receiver.sections(&["slow"], quick);
    sections +=
        "[[webhook]]\nname = \"nobody\"\nurl = \"http://127.0.0.1:1/\"\nretry_for = \"1s\"\n";
    sections += "[reactions]\nbreaker_after = 100\n";
    for name in ["good", "busy", "gone", "slow", "nobody"] {
        sections += &format!(
            "[[reaction]]\nname = \"{name}\"\non = [\"test.said\"]\nwebhook = [\"{name}\"]\n"
        );
    }
    for (name, to) in [
        ("taken", "'a@example.com'"),
        ("mixed", "'refused@example.com', 'b@example.com'"),
        ("refused", "'refused@example.com'"),
        ("later", "'later@example.com'"),
        ("never", "'never@example.com'"),
        ("slow-mail", "'slow@example.com'"),
    ] {
        sections += &format!(
            "[[reaction]]\nname = \"{name}\"\non = [\"test.said\"]\nmail = {{ to = [{to}] }}\n"
        );
    }
    let stage = Stage::start(1, &sections).await?;
    stage.say(0, "say 1 of it\n")?;

    // The good ones are done while the slow ones are still under way.
    eventually_within("the good ones", LIMIT, async || {
        let told = stage
            .told(&["reaction.fired"])
            .await
            .map_err(|error| format!("{error:#}"))?;
        let done = |rule: &str| told.iter().any(|event| event["key"] == rule);
        ["good", "taken", "busy", "mixed", "later"]
            .iter()
            .all(|rule| done(rule))
            .then_some(())
            .ok_or_else(|| format!("{told:#?}"))
    })
    .await?;
    let told = stage.await_told("reaction.fired", 5).await?;
    let of = |told: &[Value], rule: &str| {
        let found = told.iter().find(|event| event["key"] == rule);
        found
            .map(|event| event["fields"].clone())
            .unwrap_or_default()
    };
    assert_eq!(
        (&of(&told, "good")["attempts"], &of(&told, "good")["status"]),
        (&1.into(), &200.into())
    );
    assert_eq!(of(&told, "busy")["attempts"], 3);
    assert_eq!(of(&told, "later")["attempts"], 3);
    assert_eq!(
        of(&told, "mixed")["to"],
        serde_json::json!(["b@example.com"])
    );
    assert!(
        of(&told, "mixed")["refused"].to_string().contains("550"),
        "{told:#?}"
    );

    let failed = stage.await_told("reaction.failed", 6).await?;
    for (rule, attempts, why) in [
        ("gone", Some(1), "410"),
        ("slow", None, "time"),
        ("nobody", None, "onnect"),
        ("refused", Some(1), "550"),
        ("never", None, "451"),
        ("slow-mail", None, "longer"),
    ] {
        let fields = of(&failed, rule);
        let error = fields["error"].as_str().unwrap_or_default();
        assert!(error.contains(why), "{rule}: {fields:#}");
        if let Some(attempts) = attempts {
            assert_eq!(fields["attempts"], attempts, "{rule}: {fields:#}");
        }
    }
    // Each try had the same id, and a good signature.
    let busy = receiver.posts("busy");
    assert_eq!(
        busy.iter().map(|post| post.status).collect::<Vec<_>>(),
        [503, 503, 200]
    );
    assert!(
        busy.iter().all(|post| post.signed && post.id == busy[0].id),
        "{busy:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_or_authority_is_told() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mail = MailServer::start(directory.path(), "starttls").await?;
    let rule =
        "[[reaction]]\nname = \"a\"\non = [\"test.said\"]\nmail = { to = [\"a@example.com\"] }\n";
    let section = mail.section("wrong") + "retry_for = \"1s\"\n";
    let stage = Stage::start(1, &format!("{section}{rule}")).await?;
    stage.say(0, "say 1 of it\n")?;
    let failed = stage.await_told("reaction.failed", 1).await?;
    let error = failed[0]["fields"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("535"), "{error}");
    assert!(mail.mails()?.is_empty());
    Ok(())
}
