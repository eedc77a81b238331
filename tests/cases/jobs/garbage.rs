//! Messages that are no job at all.

use anyhow::Result;
use muster_proto::envelope::{self, Kind};
use serde_json::Value;

use super::stage::Stage;
use super::wire::{Frame, Seen};
use super::*;

#[tokio::test]
async fn what_is_no_job_goes_to_the_dead_letters_and_is_told() -> Result<()> {
    let mut stage = Stage::set().await?;
    let mut dead = stage.wire.listen("muster.dead").await?;
    let good = envelope::encode(&stage.mark())?;
    let long = [good.as_slice(), b"more"].concat();
    let short = good[..good.len() / 2].to_vec();
    let huge = vec![b'x'; Kind::Job.body_bytes_max() + 1];
    let nested = [vec![0x91; 60_000], vec![0xc0]].concat();
    let kind = |kind: &str, frame: Frame| Frame {
        kind: kind.to_owned(),
        ..frame
    };
    let sign = |body: &[u8]| stage.ops.sign(body.to_vec());
    let frames = [
        sign(b"garbage"),
        sign(b""),
        sign(&long),
        sign(&short),
        sign(&huge),
        sign(&nested),
        Frame {
            key: None,
            signature: None,
            ..sign(b"\xff\xfe not a job")
        },
        kind("muster.result/1", sign(&good)),
        kind("muster.job/2", sign(&good)),
        kind("", sign(&good)),
    ];
    let agent = &stage.fleet.agents[0];
    for (number, frame) in frames.iter().enumerate() {
        stage.wire.send(agent, frame).await?;
        let what = format!("dead letter {number}");
        let wanted = |letter: &Seen| letter.body == frame.body && letter.kind() == frame.kind;
        let letter = dead.find(&what, wanted).await?;
        assert_eq!(letter.routing_key, format!("host.{}", agent.host));
    }
    assert_eq!(dead.seen.len(), frames.len());
    stage.still_works(0).await?;
    let arguments = [
        "watch",
        "agent.message.refused",
        "--since",
        "10m",
        "--no-follow",
        "-o",
        "ndjson",
    ];
    let told = eventually("the event about garbage", async || {
        let output = stage
            .fleet
            .muster
            .run(&arguments)
            .await
            .map_err(|error| error.to_string())?;
        let lines = output.json_lines().map_err(|error| error.to_string())?;
        if lines.is_empty() {
            Err(format!("{output:?}"))
        } else {
            Ok(lines)
        }
    });
    let told: Vec<Value> = told.await?;
    assert_eq!(
        told[0]["from"],
        stage.fleet.agents[0].host.as_str(),
        "{told:?}"
    );
    // Not one for each: a flood of garbage must not become a flood of events.
    assert!(told.len() < frames.len(), "{told:?}");
    let depth = stage
        .broker
        .depth(&format!("muster.agent.{}", stage.fleet.agents[0].host))
        .await?;
    assert_eq!(depth, 0);
    Ok(())
}
