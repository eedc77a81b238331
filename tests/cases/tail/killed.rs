//! kill -9 again and again, while lines are written and files are rotated.

use super::*;

#[tokio::test]
async fn an_agent_that_is_killed_again_and_again_tells_every_line_once() -> Result<()> {
    let mut host = Host::start(Broker::shared().await?, &[("app", "a.log", "")], "").await?;
    let log = host.log("app");
    // What is rotated away before an agent has ever seen it is not its own.
    let mut wanted = log.write("a.log", 0..500)?;
    host.arrived("app", &wanted).await?;
    for round in 1..12u64 {
        // Enough that the agent is in the middle of it.
        for piece in 0..20 {
            let from = round * 100_000 + piece * 1000;
            wanted.extend(log.write("a.log", from..from + 1000)?);
            let rotated = format!("a.log-202611{}", 10 + round);
            if piece == 10 && round % 3 == 1 {
                log.rename("a.log", &rotated)?;
            }
            if piece == 10 && round % 3 == 2 {
                log.copy("a.log", &rotated)?;
                log.truncate("a.log")?;
            }
            tokio::time::sleep(Duration::from_millis(round * 7 % 30)).await;
        }
        host.agent()?.kill().await?;
        host.agent()?.start()?;
    }
    host.arrived("app", &wanted).await?;
    assert_eq!(host.lost("app").await?, [0; 0]);
    Ok(())
}
