//! `muster-agent check`: whether the config holds on this host, one line per check, nothing changed. What a service
//! manager runs before it starts the agent, and what an operator runs after he has changed something.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use muster_link::{Binding, Outgoing, Receipt, Session, stamp};
use muster_proto::envelope::{self, Kind};
use muster_proto::job::Probe;
use muster_proto::topology;
use rustix::fs::{Access, access};

use crate::action;
use crate::config::Config;
use crate::http::Token;
use crate::tail;

/// How a check came out, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// The agent will run, and something will not work.
    Warning,
    /// There is no broker, or it does not let the agent do its work.
    NoBroker,
    /// The agent will not run, or not as configured.
    Bad,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::NoBroker | Self::Bad => "failed",
        })
    }
}

/// Writes each check's outcome to `out`, and keeps the worst.
struct Checks<'a> {
    out: &'a mut dyn Write,
    worst: Verdict,
}

impl Checks<'_> {
    fn say(&mut self, verdict: Verdict, what: &str, detail: impl fmt::Display) -> io::Result<()> {
        self.worst = self.worst.max(verdict);
        writeln!(self.out, "{verdict:<8} {what:<12} {detail}")
    }

    fn judge(
        &mut self,
        what: &str,
        bad: Verdict,
        outcome: Result<String, String>,
    ) -> io::Result<()> {
        match outcome {
            Ok(detail) => self.say(Verdict::Good, what, detail),
            Err(why) => self.say(bad, what, why),
        }
    }
}

/// Makes every check; the worst outcome. `path` is where the config came from.
///
/// # Errors
/// When `out` can't be written to.
pub async fn check(
    config: &Config,
    path: &Path,
    offline: bool,
    out: &mut dyn Write,
) -> io::Result<Verdict> {
    let mut checks = Checks {
        out,
        worst: Verdict::Good,
    };
    checks.say(
        Verdict::Good,
        "config",
        format_args!(
            "{} reads well; this host is {}",
            path.display(),
            config.host
        ),
    )?;
    let (keys, rules) = config.access.counts();
    if keys == 0 || rules == 0 {
        let what = if keys == 0 { "[[keys]]" } else { "[[policy]]" };
        checks.say(
            Verdict::Warning,
            "trust",
            format_args!("there is no {what}, so no job will be carried out"),
        )?;
    } else {
        checks.say(
            Verdict::Good,
            "trust",
            format_args!("{keys} key(s), {rules} rule(s)"),
        )?;
    }
    checks.judge("state", Verdict::Bad, state_dir(&config.state_dir))?;
    checks.judge("roots", Verdict::Bad, roots(config))?;
    local(config, &mut checks).await?;
    if let Some(file) = config.broker.password_file() {
        let outcome = std::fs::read_to_string(file);
        let outcome = outcome.map(|_| format!("{} can be read", file.display()));
        checks.judge(
            "password",
            Verdict::Bad,
            outcome.map_err(|error| format!("read {}: {error}", file.display())),
        )?;
    }
    if !offline {
        broker(config, &mut checks).await?;
    }
    Ok(checks.worst)
}

/// What the config names on this host.
async fn local(config: &Config, checks: &mut Checks<'_>) -> io::Result<()> {
    for (name, script) in &config.scripts {
        let outcome = action::check_script(script).map(|()| format!("{name} is as its hash says"));
        checks.judge(
            "script",
            Verdict::Warning,
            outcome.map_err(|why| format!("{name}: {why}")),
        )?;
    }
    for (section, outcome) in config.tail.iter().flat_map(tail::check) {
        let named = |what: String| format!("{section}: {what}");
        checks.judge("logs", Verdict::Warning, outcome.map(named).map_err(named))?;
    }
    for section in &config.journals {
        let outcome = tail::journal::check(section).await;
        let named = |what: String| format!("{}: {what}", section.name);
        checks.judge("logs", Verdict::Warning, outcome.map(named).map_err(named))?;
    }
    for outcome in action::check_services(&config.services).await {
        checks.judge("service", Verdict::Warning, outcome)?;
    }
    if let Some(listen) = config.http.listen {
        let token = config.http.token_file.as_deref().map(Token::read);
        let outcome = match token {
            None => Ok(listen.to_string()),
            Some(Ok(_)) => Ok(format!("{listen}, with a token")),
            Some(Err(error)) => Err(error.to_string()),
        };
        checks.judge("http", Verdict::Warning, outcome)?;
    }
    Ok(())
}

/// The folder, or else the nearest one above it that is there, must be writable.
fn state_dir(dir: &Path) -> Result<String, String> {
    for folder in dir.ancestors() {
        if !folder.exists() {
            continue;
        }
        if !folder.is_dir() {
            return Err(format!("{} is no folder", folder.display()));
        }
        access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
            format!(
                "{} can't be written to: {error}; state_dir must be the agent's own",
                folder.display()
            )
        })?;
        let made = if folder == dir {
            ""
        } else {
            " (it will be made at the first start)"
        };
        return Ok(format!("{} can be written to{made}", dir.display()));
    }
    Err(format!(
        "{} is not there, nor any folder above it",
        dir.display()
    ))
}

fn roots(config: &Config) -> Result<String, String> {
    let stat = config.roots.proc.join("stat");
    std::fs::read(&stat).map_err(|error| {
        format!(
            "read {}: {error}; [roots] proc must be a mounted proc",
            stat.display()
        )
    })?;
    Ok(format!("{} can be read", config.roots.proc.display()))
}

async fn broker(config: &Config, checks: &mut Checks<'_>) -> io::Result<()> {
    let session = match Session::open(
        &config.broker,
        &format!("muster-agent check {}", config.host),
    )
    .await
    {
        Ok(session) => session,
        Err(error) => return checks.say(Verdict::NoBroker, "broker", error),
    };
    let url = config.broker.url();
    checks.say(
        Verdict::Good,
        "broker",
        format_args!("{} lets {} in", url.address(), config.broker.user()),
    )?;
    let outcome = rights(&session, config).await;
    session.close().await;
    checks.judge("queue", Verdict::NoBroker, outcome)
}

/// Sends a probe to the own queue, which whoever reads it ignores, and binds the queue once more to what it is bound to.
async fn rights(session: &Session, config: &Config) -> Result<String, String> {
    const PROBE_MS: u64 = 1_000;
    let probe = Probe {
        host: config.host.clone(),
        at_ms: stamp::now_ms(),
    };
    let body = envelope::encode(&probe).map_err(|error| error.to_string())?;
    let outgoing = Outgoing {
        exchange: topology::JOBS,
        routing_key: topology::host_key(&config.host),
        kind: Kind::Probe,
        message_id: stamp::new_message_id(),
        correlation_id: None,
        timestamp_ms: probe.at_ms,
        expiration_ms: Some(PROBE_MS),
        mandatory: true,
        transient: false,
        reply_to: None,
        signature: None,
        body: Arc::from(body),
    };
    let queue = topology::agent_queue(&config.host);
    match session.publish(outgoing).await {
        Ok(Receipt::Returned { .. }) => Ok(format!("{queue} is not there yet; the agent makes it")),
        Ok(Receipt::Refused) => Err(format!("{queue} is full, or the broker has a fault")),
        Ok(Receipt::Confirmed) => {
            let binding = Binding {
                exchange: topology::JOBS.to_owned(),
                key: topology::host_key(&config.host),
            };
            session
                .bind(&queue, &binding)
                .await
                .map_err(|error| error.to_string())?;
            Ok(format!(
                "{queue} is there, and {} may use it",
                config.broker.user()
            ))
        }
        Err(error) => Err(format!(
            "could not publish to {} with the key {}: {error}; has `muster broker init` been run on this vhost, and `muster broker enroll {}`?",
            topology::JOBS,
            topology::host_key(&config.host),
            config.host
        )),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_check_has_its_line_and_the_worst_counts() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "host = \"lb1\"\nstate_dir = \"{}/new\"\n[roots]\nproc = \"/nonexistent\"\n[scripts.x]\npath = \"/nonexistent/x\"\nsha256 = \"{}\"\n",
            dir.path().display(),
            "0".repeat(64)
        );
        let config = Config::parse(&text, Path::new("a.toml")).unwrap();
        let mut out = Vec::new();
        let worst = check(&config, Path::new("a.toml"), true, &mut out)
            .await
            .unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(worst, Verdict::Bad, "{out}");
        for line in [
            "ok       config       a.toml reads well; this host is lb1",
            "warning  trust        there is no [[keys]], so no job will be carried out",
            "will be made at the first start",
            "failed   roots        read /nonexistent/stat: No such file",
            "warning  script       x: ",
        ] {
            assert!(out.contains(line), "{line}\n{out}");
        }
        assert!(
            !dir.path().join("new").exists(),
            "a check has made something"
        );
    }
}
