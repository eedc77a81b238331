//! What is asked of which hosts, and the signed message that says so. Pure but for the key, which is handed in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use muster_proto::envelope::encode;
use muster_proto::id::{HostId, JobId, KeyId, MessageId};
use muster_proto::job::{Args, JobOpened, JobRequest};
use muster_proto::signing::{JobSignature, JobSigner};

use super::account::{AFTER_RUN, Patience};
use super::resolve::Resolved;
use super::rollout::Rules;

/// What is asked of which hosts.
#[derive(Debug, Clone)]
pub struct Order {
    /// The action.
    pub action: &'static str,
    /// Its arguments, checked.
    pub args: Args,
    /// The target expression.
    pub target: String,
    /// The hosts that it means.
    pub resolved: Resolved,
    /// Only say what would be done.
    pub dry_run: bool,
    /// How long hosts may take to get it.
    pub deliver_within: Duration,
    /// How long it may run on a host.
    pub run_limit: Duration,
    /// How long to wait for the answers.
    pub patience: Patience,
    /// How it is rolled out; none for everywhere at once.
    pub rollout: Option<Plan>,
    /// Whether to leave it alone once the broker has it.
    pub no_wait: bool,
    /// The message that made somebody ask for it.
    pub cause: Option<MessageId>,
}

/// How a job is rolled out.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The rules.
    pub rules: Rules,
    /// The failure domain of each host; the empty one where there is none.
    pub domains: BTreeMap<HostId, String>,
}

/// A job as it goes over the wire.
#[derive(Debug, Clone)]
pub struct Signed {
    /// What it says.
    pub request: JobRequest,
    /// Its exact bytes.
    pub body: Arc<[u8]>,
    /// The key and its signature over them.
    pub signature: (KeyId, JobSignature),
}

impl Order {
    /// The signed message, made at `now_ms`.
    ///
    /// # Errors
    /// When the arguments are too large for a message.
    pub fn sign(
        &self,
        id: JobId,
        issuer: &KeyId,
        key: &(KeyId, JobSigner),
        now_ms: u64,
    ) -> Result<Signed> {
        let request = JobRequest {
            id,
            issuer: issuer.clone(),
            key_id: key.0.clone(),
            target: self.target.clone(),
            action: self.action.to_owned(),
            args: self.args.clone(),
            issued_at_ms: now_ms,
            deliver_by_ms: now_ms.saturating_add(ms(self.deliver_within)),
            run_limit_ms: ms(self.run_limit),
            dry_run: self.dry_run,
            cause: self.cause,
        };
        let body: Arc<[u8]> = encode(&request)?.into();
        let signature = (key.0.clone(), key.1.sign(&body));
        Ok(Signed {
            request,
            body,
            signature,
        })
    }

    /// The message that opens the job in the ledger.
    #[must_use]
    pub fn opened(&self, signed: &Signed) -> JobOpened {
        JobOpened {
            id: signed.request.id,
            envelope: signed.body.to_vec(),
            signature: signed.signature.1.to_string(),
            hosts: self.resolved.hosts.iter().cloned().collect(),
            away: self.resolved.away.iter().cloned().collect(),
            rollout: self.rollout.is_some(),
            wait_until_ms: self.wait_until_ms(&signed.request),
        }
    }

    /// The latest time at which anybody is still waited for.
    fn wait_until_ms(&self, request: &JobRequest) -> u64 {
        let after_run = request.run_limit_ms.saturating_add(ms(AFTER_RUN));
        if self.rollout.is_some() || self.patience.offline.is_some() {
            return request.deliver_by_ms.saturating_add(after_run);
        }
        let patience = ms(self.patience.ack).saturating_add(after_run);
        let whole = self.patience.whole.map_or(u64::MAX, ms);
        request.issued_at_ms.saturating_add(patience.min(whole))
    }
}

/// Milliseconds, of any sensible duration.
#[must_use]
pub fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
