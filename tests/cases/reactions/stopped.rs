//! What stops a loop: the depth limit, the budget, and the breaker, which tells a person.

use super::peers::Outlets;
use super::*;

/// A job that brings the event again which it is the answer to.
const LOOP: &str = r#"
[[reaction]]
name = "worse"
on = ["test.service.down"]
[reaction.job]
action = "script.run"
args = { name = "worsen", args = ["{{ event.key }}"] }
"#;

/// The reasons of what was held back.
async fn reasons(stage: &Stage, count: usize) -> Result<Vec<String>> {
    let told = stage.await_told("reaction.suppressed", count).await?;
    let reason = |event: &Value| {
        event["fields"]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    Ok(told.iter().map(reason).collect())
}

#[tokio::test]
async fn a_loop_is_stopped_by_the_depth_limit() -> Result<()> {
    let stage = Stage::start(1, &format!("[reactions]\ndepth_max = 3\n{LOOP}")).await?;
    stage.say(0, "db is down\n")?;
    assert_eq!(reasons(&stage, 1).await?, ["depth"]);
    let fired = stage.await_told("reaction.fired", 3).await?;
    let depths: Vec<_> = fired
        .iter()
        .map(|event| event["fields"]["depth"].clone())
        .collect();
    assert_eq!(depths, [0, 1, 2]);
    assert_eq!(stage.fleet.agents[0].lines("ran").len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_loop_is_stopped_by_the_budget_and_the_breaker_tells_a_person() -> Result<()> {
    let outlets = Outlets::start("starttls").await?;
    let limits = "[reactions]\nloop_window = \"0s\"\nbreaker_after = 2\nbreaker_pause = \"1h\"\ntell = [\"person@example.com\"]\n\
                  tell_webhook = [\"good\"]\n";
    let rule = LOOP.replace("[reaction.job]", "budget = \"4/1h\"\n[reaction.job]");
    let sections = outlets.sections("") + limits + &rule;
    let stage = Stage::start(1, &sections).await?;
    stage.say(0, "db is down\n")?;
    assert_eq!(reasons(&stage, 1).await?, ["budget"]);
    stage.await_told("reaction.fired", 4).await?;
    assert_eq!(stage.fleet.agents[0].lines("ran").len(), 4);

    // Once more, and the breaker opens; from then on nothing is even counted.
    stage.say(0, "db is down\n")?;
    let open = stage.await_told("reaction.breaker.open", 1).await?;
    assert_eq!(open[0]["severity"], "critical");
    stage.say(0, "db is down\n")?;
    assert_eq!(reasons(&stage, 3).await?, ["budget", "budget", "breaker"]);
    muster_harness::eventually_within("a person is told", LIMIT, async || {
        let mails = outlets.mail.mails().map_err(|error| format!("{error:#}"))?;
        let to: Vec<_> = mails.iter().flat_map(|mail| mail.to.clone()).collect();
        let posts = outlets.receiver.posts("good").len();
        muster_harness::want((to, posts), (vec!["person@example.com".to_owned()], 1))
    })
    .await?;
    assert_eq!(stage.fleet.agents[0].lines("ran").len(), 4);
    let metrics = stage.serves[0].metrics().await?;
    for figure in [
        "actions_total{reaction=\"worse\",action=\"job\",outcome=\"done\"} 4",
        "suppressed_events_total{reaction=\"worse\",reason=\"budget\"} 2",
        "suppressed_events_total{reaction=\"worse\",reason=\"breaker\"} 1",
    ] {
        let line = format!("muster_reaction_{figure}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    Ok(())
}
