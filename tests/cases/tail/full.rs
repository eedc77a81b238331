//! The broker is away for so long that the outbox is full: reading waits, and nothing is dropped.

use super::*;

#[tokio::test]
async fn reading_waits_for_room_in_the_outbox() -> Result<()> {
    let broker = Broker::private(NodeOptions::default()).await?;
    let tables = "[outbox]\nbytes_max = \"4 MiB\"\n";
    let mut host = Host::start(broker, &[("app", "a.log", "")], tables).await?;
    let log = host.log("app");
    let mut wanted = log.write("a.log", 0..100)?;
    host.arrived("app", &wanted).await?;
    // RabbitMQ 3.10 writes down only after a while, or at an orderly end, who coordinates its streams; a node that is
    // killed before has none of them when it comes back.
    host.broker.stop().await?;
    host.broker.start().await?;
    host.arrived("app", &wanted).await?;
    host.broker.kill().await?;
    // About 20 MB of events.
    for piece in 1..=50u64 {
        wanted.extend(log.write("a.log", piece * 10_000..(piece + 1) * 10_000)?);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    host.agent()?.kill().await?;
    host.agent()?.start()?;
    host.broker.start().await?;
    host.arrived("app", &wanted).await?;
    let events = host.events().await?;
    let gaps = events.iter().filter(|event| event.topic == "muster.gap");
    assert_eq!(gaps.count(), 0);
    Ok(())
}
