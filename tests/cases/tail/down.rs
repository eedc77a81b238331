//! Rotation while the agent is down: killed, not stopped.

use super::*;

#[tokio::test]
async fn what_was_rotated_meanwhile_is_read_to_its_end() -> Result<()> {
    let sections = [
        ("once", "a.log", ""),
        ("twice", "a.log", ""),
        ("copied", "a.log", ""),
        ("copiedtwice", "a.log", ""),
        ("reused", "a.log", ""),
        ("partial", "a.log", ""),
        ("packed", "a.log", ""),
    ];
    let mut host = Host::start(Broker::shared().await?, &sections, "").await?;
    let mut wanted = Vec::new();
    for (section, ..) in sections {
        wanted = host.log(section).write("a.log", 0..300)?;
        host.arrived(section, &wanted).await?;
    }
    host.log("partial").append("a.log", "this line counts ")?;
    host.agent()?.kill().await?;

    for (section, copies) in [
        ("once", false),
        ("twice", false),
        ("copied", true),
        ("copiedtwice", true),
    ] {
        let log = host.log(section);
        log.write("a.log", 300..400)?;
        let rotate = || -> Result<()> {
            if copies {
                log.copy("a.log", "a.log.1")?;
                log.truncate("a.log")
            } else {
                log.rename("a.log", "a.log.1")
            }
        };
        rotate()?;
        log.write("a.log", 400..700)?;
        if section.ends_with("twice") {
            log.rename("a.log.1", "a.log.2")?;
            rotate()?;
            log.write("a.log", 700..800)?;
        }
    }
    let log = host.log("reused");
    fs::remove_file(log.path("a.log"))?;
    log.write("a.log", 1000..2000)?;
    host.log("partial").append("a.log", "310\n")?;
    let log = host.log("packed");
    let before = fs::metadata(log.path("a.log"))?.len();
    log.write("a.log", 300..350)?;
    let lost = fs::metadata(log.path("a.log"))?.len() - before;
    log.rename("a.log", "a.log.1")?;
    let packed = std::process::Command::new("gzip")
        .arg(log.path("a.log.1"))
        .status()?;
    assert!(packed.success());
    log.write("a.log", 400..500)?;

    host.agent()?.start()?;
    let to = |end: u64| (0..end).step_by(10).collect::<Vec<u64>>();
    host.arrived("once", &to(700)).await?;
    host.arrived("twice", &to(800)).await?;
    host.arrived("copied", &to(700)).await?;
    host.arrived("copiedtwice", &to(800)).await?;
    let after = |more: Range<u64>| [wanted.clone(), more.step_by(10).collect()].concat();
    host.arrived("reused", &after(1000..2000)).await?;
    host.arrived("partial", &after(310..311)).await?;
    host.arrived("packed", &after(400..500)).await?;
    assert_eq!(host.lost("packed").await?, [lost]);
    for section in ["once", "twice", "copied", "copiedtwice", "partial"] {
        assert_eq!(host.lost(section).await?, [0; 0], "{section}");
    }
    Ok(())
}

#[tokio::test]
async fn a_damaged_state_file_is_told_and_reading_begins_as_configured() -> Result<()> {
    let sections = [("all", "*.log", ""), ("new", "*.log", "# \n")];
    let mut host = Host::start(Broker::shared().await?, &sections, "").await?;
    let wanted = host.log("all").write("a.log", 0..100)?;
    host.arrived("all", &wanted).await?;
    host.agent()?.stop().await?;
    let state = host.agent()?.state_dir.join("state.redb");
    fs::write(&state, "nonsense")?;
    host.agent()?.start()?;
    let told = |events: &[Event]| {
        ["agent.state.damaged", "agent.log.begun"]
            .map(|topic| events.iter().filter(|event| event.topic == topic).count())
    };
    eventually_within("the damage and the new begin are told", LIMIT, async || {
        let mut history = history(&host.broker)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let events: Vec<Event> = history
            .pop_first()
            .map(|(_, events)| events.into_values().collect())
            .unwrap_or_default();
        // Both sections began when there was no file, and do so again.
        let twice = [&wanted[..], &wanted[..]].concat();
        let found = (told(&events), numbers(&events, "log.all"));
        want(found, ([1, 4], twice))
    })
    .await?;
    Ok(())
}
