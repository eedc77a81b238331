//! Where frames are forged: an agent, the keys it trusts, and another client on its broker.

use anyhow::{Context, Result};
use muster_harness::{Broker, Fleet, FleetOptions};
use muster_proto::id::JobId;
use muster_proto::job::{JobRequest, Outcome, ReasonCode};
use muster_proto::signing::JobSigner;
use serde_json::json;

use super::wire::{Frame, Signer, Tap, Wire};
use super::*;

/// A key of the config that may ping, and one whose time is over.
fn other(id: &str, seed: u8) -> Result<Signer> {
    Ok(Signer {
        id: id.parse()?,
        key: JobSigner::from_seed(&[seed; 32]),
    })
}

/// One agent that trusts three keys, and somebody else on its broker.
pub(crate) struct Stage {
    pub(crate) broker: Broker,
    pub(crate) fleet: Fleet,
    pub(crate) wire: Wire,
    pub(crate) replies: Tap,
    pub(crate) ops: Signer,
    pub(crate) pinger: Signer,
    pub(crate) past: Signer,
}

impl Stage {
    pub(crate) async fn set() -> Result<Self> {
        let broker = Broker::shared().await?;
        let (pinger, past) = (other("pinger", 7)?, other("past", 8)?);
        let tables = format!(
            "[[keys]]\nid = \"pinger\"\npublic_key = \"{}\"\n[[policy]]\nkey = \"pinger\"\nactions = [\"ping\"]\n\
             [[keys]]\nid = \"past\"\npublic_key = \"{}\"\nnot_after = \"2020-01-01T00:00:00Z\"\n\
             [[policy]]\nkey = \"past\"\nactions = [\"*\"]\n",
            pinger.key.public(),
            past.key.public(),
        );
        let fleet = Fleet::start(
            &broker,
            &FleetOptions {
                tables,
                ..options(1)
            },
        )
        .await?;
        let wire = Wire::open(&broker).await?;
        let replies = wire.listen("muster.replies").await?;
        let ops = Signer::of(&broker, &fleet)?;
        Ok(Self {
            broker,
            fleet,
            wire,
            replies,
            ops,
            pinger,
            past,
        })
    }

    pub(crate) fn mark(&self) -> JobRequest {
        self.ops.request("script.run", &[("name", json!("mark"))])
    }

    pub(crate) fn changed(&self, change: impl FnOnce(&mut JobRequest)) -> Result<(JobId, Frame)> {
        let mut request = self.mark();
        change(&mut request);
        Ok((request.id, self.ops.frame(&request)?))
    }

    /// Sends a frame that has to be answered so.
    pub(crate) async fn refused(
        &mut self,
        what: &str,
        (job, frame): (JobId, Frame),
        outcome: Outcome,
        code: ReasonCode,
    ) -> Result<()> {
        let agent = &self.fleet.agents[0];
        self.wire.send(agent, &frame).await?;
        let result = self
            .replies
            .result(agent, job)
            .await
            .with_context(|| what.to_owned())?;
        let reason = result.reason.context("a refusal without a reason")?;
        assert_eq!(
            (result.outcome, reason.code),
            (outcome, code),
            "{what}: {}",
            reason.message
        );
        assert!(
            reason.message.len() > 10 && result.started_at_ms.is_none(),
            "{what}: {}",
            reason.message
        );
        Ok(())
    }

    /// Nothing has run, and the next good job does.
    pub(crate) async fn still_works(&mut self, runs: usize) -> Result<()> {
        let agent = &self.fleet.agents[0];
        assert_eq!(agent.lines("ran").len(), runs);
        let report = ask(
            &self.fleet.muster,
            0,
            &["run", "script.run", "name=mark", "-t", "*"],
        )
        .await?;
        assert_states(&report, &[("succeeded", 1)]);
        assert_eq!(agent.lines("ran").len(), runs + 1);
        Ok(())
    }
}
