//! What is done: one event is one mail, one POST and one job; a thousand are one digest; a dry run and a silence are none.

use muster_harness::eventually_within;

use super::peers::{Outlets, Receiver};
use super::*;

#[tokio::test]
async fn one_event_is_one_mail_one_post_and_one_recovery() -> Result<()> {
    let outlets = Outlets::start("starttls").await?;
    let sections = outlets.sections("body = \"alert\"")
        + r#"
[[reaction]]
name = "backend-down"
on = ["keepalived.backend.down"]
when = 'severity in (warning, error, critical) and cluster_id=c7 and parity=even'
mail = { to = ["ops@example.com"], to_fields = ["mailto", "admin_mail_group"] }
webhook = ["good"]
[reaction.job]
action = "script.run"
args = { name = "recover", args = ["{{ event.fields.real_server }}"] }
[[reaction]]
name = "not-this"
on = ["keepalived.backend.down"]
when = 'area=sz'
webhook = ["good"]
"#;
    let stage = Stage::start(2, &sections).await?;
    let host = stage.fleet.agents[0].host.clone();
    stage.say(0, &keepalived("down"))?;
    stage.say(1, &keepalived("down"))?;

    let fired = stage.await_told("reaction.fired", 3).await?;
    let job = fired
        .iter()
        .find(|event| event["fields"]["action"] == "job")
        .context("a job")?["fields"]["job"]
        .clone();
    let event = stage.told(&["keepalived.backend.down"]).await?;
    let event = event.iter().find(|event| event["from"] == host.as_str());
    let event = event.context("the event")?;

    let mails = outlets.mail.mails()?;
    assert_eq!(mails.len(), 1, "{mails:#?}");
    assert_eq!(
        mails[0].to,
        ["ops@example.com", "ann@example.com", "admins@example.com"]
    );
    assert_eq!(mails[0].login, ("muster".to_owned(), true));
    let subject = &mails[0].headers["subject"];
    assert!(
        subject.contains("backend-down") && subject.contains(&host),
        "{subject}"
    );
    for wanted in [
        "the shop",
        "ann",
        "[10.8.1.2]:tcp:8080",
        "<table",
        "text/plain",
        "text/html",
    ] {
        assert!(
            mails[0].text.contains(wanted),
            "{wanted}: {}",
            mails[0].text
        );
    }

    let posts = outlets.receiver.posts("good");
    assert_eq!(posts.len(), 1, "{posts:#?}");
    assert!(posts[0].signed, "{posts:#?}");
    let body = &posts[0].body;
    let at_ms = event["at_ms"].as_u64().context("at_ms")?;
    for (name, wanted) in [
        ("cluster_id", "c7".into()),
        ("lb_id", Value::from(host.as_str())),
        ("area", "gz".into()),
        ("descript", "the shop".into()),
        ("owners", "ann".into()),
        ("rs", "10.8.1.2:8080".into()),
        ("status", "disable".into()),
        ("alert_type", "rs_is_down".into()),
        ("time", (at_ms / 1000).into()),
        ("vip_instance", "shop".into()),
        ("vip_group", "192.0.2.99:80".into()),
        ("message", event["summary"].clone()),
    ] {
        assert_eq!(body[name], wanted, "{name}: {body:#}");
    }
    assert_eq!(
        body.as_object().map(serde_json::Map::len),
        Some(13),
        "{body:#}"
    );

    // The job has run on that host alone, and knows its cause.
    let agents = &stage.fleet.agents;
    eventually_within("the recovery", LIMIT, async || {
        let ran = agents[0].lines("ran");
        muster_harness::want(ran, vec!["[10.8.1.2]:tcp:8080".to_owned()])
    })
    .await?;
    assert!(agents[1].lines("ran").is_empty());
    let job = job.as_str().context("a job's id")?;
    let watched = ["job", "watch", job, "-o", "json"];
    let watched = stage.fleet.muster.succeed(&watched).await?;
    assert!(watched.stdout.contains("succeeded"), "{}", watched.stdout);

    // What had been done is not done again by one who comes later.
    let begun = stage.told(&["reaction.begun"]).await?;
    assert_eq!(begun.len(), 1, "{begun:#?}");
    assert_eq!(begun[0]["fields"]["events"][0], event["message_id"]);
    Ok(())
}

#[tokio::test]
async fn a_burst_of_a_thousand_changes_is_one_digest() -> Result<()> {
    let outlets = Outlets::start("tls").await?;
    let sections = outlets.sections("")
        + r#"
[[reaction]]
name = "flaps"
on = ["keepalived.backend.#"]
group_by = ["virtual_server"]
window = "30s"
mail = { to_fields = ["mailto"] }
webhook = ["good"]
"#;
    let stage = Stage::start(1, &sections).await?;
    let lines: String = (0..500)
        .map(|_| keepalived("down") + &keepalived("up"))
        .collect();
    stage.say(0, &lines)?;
    stage.await_told("reaction.fired", 2).await?;
    let mails = outlets.mail.mails()?;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ["ann@example.com"]);
    let subject = &mails[0].headers["subject"];
    assert!(subject.contains("1000 events"), "{subject}");
    assert!(mails[0].text.contains("and 900 more"), "{}", mails[0].text);
    let posts = outlets.receiver.posts("good");
    assert_eq!(posts.len(), 1);
    assert_eq!(posts[0].body["count"], 1000);
    assert_eq!(posts[0].body["topics"]["keepalived.backend.down"], 500);
    Ok(())
}

#[tokio::test]
async fn silences_and_dry_runs_are_told_and_nothing_is_done() -> Result<()> {
    let receiver = Receiver::start().await?;
    let sections = receiver.sections(&["good"], "")
        + r#"
[[reaction]]
name = "loud"
on = ["test.said"]
when = 'number < 100'
webhook = ["good"]
[[reaction]]
name = "dry"
on = ["test.said"]
when = 'number >= 100'
dry_run = true
webhook = ["good"]
job = { action = "script.run", args = { name = "recover", args = ["{{ event.key }}"] } }
"#;
    let stage = Stage::start(1, &sections).await?;
    let muster = &stage.fleet.muster;
    let add = [
        "silence",
        "add",
        "key=quiet",
        "--for",
        "1h",
        "--comment",
        "deploy",
    ];
    let id = muster.succeed(&add).await?.stdout.trim().to_owned();
    let listed = muster
        .succeed(&["silence", "list", "-o", "ndjson"])
        .await?
        .json_lines()?;
    assert_eq!(
        (listed.len(), &listed[0]["id"]),
        (1, &Value::from(id.as_str()))
    );
    stage.say(0, "say 1 of quiet\nsay 2 of loud\nsay 100 of dry\n")?;
    stage.await_told("reaction.fired", 1).await?;
    let suppressed = stage.await_told("reaction.suppressed", 2).await?;
    let of = |rule: &str| {
        let found = suppressed.iter().find(|event| event["key"] == rule);
        found
            .map(|event| event["fields"].clone())
            .unwrap_or_default()
    };
    assert_eq!(of("loud")["reason"], "silence");
    assert!(
        of("loud")["detail"].to_string().contains("deploy"),
        "{suppressed:#?}"
    );
    assert_eq!(of("dry")["reason"], "dry-run");
    assert_eq!(
        of("dry")["would"]["job"]["args"]["args"][0],
        "dry",
        "{suppressed:#?}"
    );

    // When it is over it is over, also for one that reads it from the history.
    muster.succeed(&["silence", "remove", &id[..20]]).await?;
    assert_eq!(
        muster
            .succeed(&["silence", "list", "-o", "ndjson"])
            .await?
            .stdout,
        ""
    );
    stage.say(0, "say 3 of quiet\n")?;
    stage.await_told("reaction.fired", 2).await?;
    let numbers: Vec<_> = receiver
        .posts("good")
        .iter()
        .map(|post| post.body["event"]["fields"]["number"].clone())
        .collect();
    assert_eq!(numbers, [2, 3]);
    assert!(stage.fleet.agents[0].lines("ran").is_empty());

    // What would be done can be asked without doing it.
    let serve = &stage.serves[0].muster;
    let events = serve.home().join("events.json");
    let written = r#"{"topic": "test.said", "host": "h9", "key": "k", "fields": {"number": 7}}
        [{"topic": "test.said", "host": "h9", "fields": {"number": 700}}, {"topic": "other", "host": "h9"}]"#;
    fs::write(&events, written)?;
    let test = [
        "reactions",
        "test",
        &events.display().to_string(),
        "-o",
        "ndjson",
    ];
    let verdicts = serve.succeed(&test).await?.json_lines()?;
    let short: Vec<String> = verdicts
        .iter()
        .map(|it| {
            format!(
                "{} {}",
                it["rule"].as_str().unwrap_or_default(),
                it["decision"].as_str().unwrap_or_default()
            )
        })
        .collect();
    for wanted in [
        "loud fires",
        "dry suppressed",
        "loud nothing",
        "dry nothing",
    ] {
        assert!(short.iter().any(|it| it == wanted), "{wanted}: {short:?}");
    }
    let listed = serve
        .succeed(&["reactions", "list", "-o", "ndjson"])
        .await?
        .json_lines()?;
    assert_eq!(listed.len(), 2);
    let shown = serve
        .succeed(&["reactions", "show", "loud", "-o", "ndjson"])
        .await?
        .json_lines()?;
    assert_eq!(shown.len(), 3, "{shown:#?}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_config_is_told_with_its_place() -> Result<()> {
    let stage = Stage::fleet(1).await?;
    let muster = stage.fleet.second_desk("wrong")?;
    let config = muster.home().join(".config/muster/config.toml");
    let text = fs::read_to_string(&config)?;
    let lines = text.lines().count() + 1;
    for (sections, wanted) in [
        (
            "[[reaction]]\nname = \"a\"\non = [\"x\"]\n",
            "it does nothing".to_owned(),
        ),
        (
            "[[reaction]]\nname = \"a\"\non = [\"x\"]\nwhen = \"key=\"\nwebhook = []\n",
            format!("config.toml:{}:13: when: character 5", lines + 4),
        ),
        (
            "[[reaction]]\nname = \"a\"\non = [\"x\"]\nwebhook = [\"b\"]\n",
            "no [[webhook]] with the name \"b\"".to_owned(),
        ),
        (
            "[[webhook]]\nname = \"b\"\nurl = \"http://a/\"\nca_file = \"/nowhere\"\n",
            "/nowhere".to_owned(),
        ),
    ] {
        fs::write(&config, format!("{text}\n{sections}"))?;
        let output = muster.run(&["serve", "--check"]).await?;
        assert_ne!(output.code, 0, "{sections}");
        assert!(
            output.stderr.contains(&wanted),
            "{wanted}: {}",
            output.stderr
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_that_changes_in_its_file_is_used_after_a_hang_up() -> Result<()> {
    let receiver = Receiver::start().await?;
    let directory = tempfile::tempdir()?;
    let secret = directory.path().join("secret");
    fs::write(&secret, "of last year")?;
    let sections = format!(
        "[[webhook]]\nname = \"good\"\nurl = \"http://{}/good\"\nsecret_file = {secret:?}\n\
         [[reaction]]\nname = \"said\"\non = [\"test.said\"]\nwebhook = [\"good\"]\n",
        receiver.address
    );
    let mut stage = Stage::start(1, &sections).await?;
    stage.say(0, "say 1 of something\n")?;
    stage.await_told("reaction.fired", 1).await?;
    assert!(!receiver.posts("good")[0].signed);

    fs::write(&secret, super::peers::SECRET)?;
    let process = stage.serves[0].process.as_mut().context("it runs")?;
    process.hang_up()?;
    process.await_stderr(r#"started=["reactions"]"#).await?;
    stage.say(0, "say 2 of something\n")?;
    stage.await_told("reaction.fired", 2).await?;
    let signed: Vec<bool> = receiver.posts("good").iter().map(|it| it.signed).collect();
    assert_eq!(signed, [false, true]);
    Ok(())
}
