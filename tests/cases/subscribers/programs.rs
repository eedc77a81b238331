//! The page's programs against a live fleet: what they print is what the agents told, over cut connections and their own
//! deaths; and the same again from the history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use muster_harness::eventually_within;
use muster_proto::event::Event;

use super::printed::{Language, Line, Subscriber, firsts};
use super::{LIMIT, Stage, TOPIC, said};

/// The numbers of each host's events.
type Numbers = BTreeMap<String, BTreeSet<u64>>;

fn numbers(lines: &BTreeMap<String, BTreeMap<u64, Line>>) -> Numbers {
    let numbers = |lines: &BTreeMap<u64, Line>| lines.keys().copied().collect();
    lines
        .iter()
        .map(|(host, lines)| (host.clone(), numbers(lines)))
        .collect()
}

fn of_log(told: &BTreeMap<String, BTreeMap<u64, Event>>) -> Numbers {
    told.iter()
        .map(|(host, events)| (host.clone(), said(events)))
        .collect()
}

fn missing(wanted: &Numbers, found: &Numbers) -> Vec<(String, usize)> {
    let none = BTreeSet::new();
    let missing = wanted.iter().map(|(host, numbers)| {
        let found = found.get(host).unwrap_or(&none);
        (host.clone(), numbers.difference(found).count())
    });
    missing.filter(|(_, missing)| *missing > 0).collect()
}

/// Waits until a program has printed the log's events of these numbers.
async fn await_said(subscriber: &Subscriber, wanted: &Numbers) -> Result<Vec<Line>> {
    let what = format!("the {} program has printed all", subscriber.language.name());
    let lines = eventually_within(&what, LIMIT, async || {
        let lines = subscriber.lines().map_err(|error| format!("{error:#}"))?;
        let firsts = firsts(lines.iter().filter(|line| line.topic == TOPIC));
        let firsts = firsts.map_err(|error| format!("{error:#}"))?;
        match missing(wanted, &numbers(&firsts)) {
            missing if missing.is_empty() => Ok(lines),
            missing => Err(format!("missing {missing:?}; {}", subscriber.complaints())),
        }
    });
    lines.await
}

/// Every line says what the agent told under that number.
fn assert_true(lines: &[Line], told: &BTreeMap<String, BTreeMap<u64, Event>>) -> Result<()> {
    for line in lines.iter().filter(|line| told.contains_key(&line.host)) {
        let event = told[&line.host]
            .get(&line.seq)
            .with_context(|| format!("nobody told {line:?}"))?;
        let rest = format!("{} {}", event.severity, event.summary);
        assert_eq!((&line.topic, &line.rest), (&event.topic, &rest));
    }
    Ok(())
}

async fn subscribers(stage: &Stage, folder: &Path) -> Result<Vec<Subscriber>> {
    let mut all = Vec::new();
    for language in Language::ALL {
        let access = stage.enroll(language.name()).await?;
        let folder = folder.join(language.name());
        std::fs::create_dir(&folder)?;
        let mut subscriber = Subscriber::new(language, &folder, &access, &[], &[])?;
        subscriber.start()?;
        all.push(subscriber);
    }
    for subscriber in &all {
        let bound = stage.await_consumers(&subscriber.queue, 1).await;
        bound.with_context(|| subscriber.complaints())?;
    }
    Ok(all)
}

#[tokio::test]
async fn they_print_every_event_of_a_real_run_and_the_same_from_the_history() -> Result<()> {
    let stage = Stage::start(2).await?;
    let folder = tempfile::tempdir()?;
    let mut all = subscribers(&stage, folder.path()).await?;

    // A quiet run: every event, once.
    stage.say(0..200)?;
    let wanted = of_log(&stage.told(200).await?);
    for subscriber in &all {
        let lines = await_said(subscriber, &wanted).await?;
        let of_log = lines.iter().filter(|line| line.topic == TOPIC).count();
        assert_eq!(of_log, 400, "{:?}", subscriber.language);
    }

    // They die in the middle of work, and all connections are cut again and again.
    for round in 1..=4 {
        stage.say(200 * round..200 * round + 100)?;
        all[0].kill().await?;
        stage.broker.close_connections().await?;
        stage.say(200 * round + 100..200 * (round + 1))?;
        all[0].start()?;
        all.rotate_left(1);
    }
    let told = stage.told(1000).await?;
    let wanted = of_log(&told);
    for subscriber in &all {
        let lines = await_said(subscriber, &wanted).await?;
        // `firsts` has held them to order and to one message for each number, whatever came twice.
        assert_true(&lines, &told)?;
    }

    // From the history: everything that agents ever told, without a gap, each once.
    for mut subscriber in all {
        let language = subscriber.language;
        subscriber.kill().await?;
        let access = stage.enroll(language.name()).await?;
        let arguments = ["--since", "3600"];
        let folder = folder.path().join(language.name());
        let mut replay = Subscriber::new(language, &folder, &access, &[], &arguments)?;
        replay.start()?;
        let what = format!("the {} program has replayed all", language.name());
        eventually_within(&what, LIMIT, async || {
            let now = crate::outage::history(&stage.broker).await;
            let now = now.map_err(|error| format!("{error:#}"))?;
            let lines = replay.lines().map_err(|error| format!("{error:#}"))?;
            let by_agents = lines
                .iter()
                .filter(|line| now.contains_key(&line.host) && line.seq > 0);
            let by_agents: Vec<Line> = by_agents.cloned().collect();
            let printed = firsts(by_agents.iter()).map_err(|error| format!("{error:#}"))?;
            let numbers = numbers(&printed);
            let wanted: Numbers = now
                .iter()
                .map(|(host, events)| (host.clone(), events.keys().copied().collect()))
                .collect();
            let count: usize = numbers.values().map(BTreeSet::len).sum();
            if numbers == wanted && count == by_agents.len() {
                Ok(())
            } else {
                let missing = missing(&wanted, &numbers);
                Err(format!(
                    "missing {missing:?}, {count} of {}; {}",
                    by_agents.len(),
                    replay.complaints()
                ))
            }
        })
        .await?;
        replay.kill().await?;
    }
    Ok(())
}
