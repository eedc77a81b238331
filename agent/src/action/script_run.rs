//! `script.run`: runs a script that the config names, if its content is what the config says.
//!
//! The file is read once, and what was hashed is what runs: a private copy, so that nobody can change it in between.
//! Arguments are passed as they are, never through a shell. Its data is `{"exit_code", "signal", "stdout", "stderr",
//! "stdout_truncated_bytes", "stderr_truncated_bytes", "duration_ms"}`; a dry run's is what would run.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_util::future::BoxFuture;
use muster_proto::job::{Args, Reason, ReasonCode};
use muster_proto::signing::to_hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::process::{self, Ended};
use super::script_config::{Script, Scripts};
use super::{Action, ActionContext, Call, Failure};

/// Largest script: they are read into memory.
const SCRIPT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where scripts find programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Tries to start a copy that the kernel still takes for open: another thread's fork may hold it for a moment.
const BUSY_TRIES: u32 = 5;

struct ScriptRun {
    scripts: Scripts,
    run_dir: PathBuf,
}

pub(super) fn build(context: &ActionContext) -> Box<dyn Action> {
    Box::new(ScriptRun {
        scripts: context.scripts.clone(),
        run_dir: context.run_dir.clone(),
    })
}

impl Action for ScriptRun {
    fn admit(&self, args: &Args) -> Result<(), Reason> {
        self.find(args).map(drop).map_err(|failure| failure.reason)
    }

    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(self.script(call))
    }
}

/// Whether a script could be run now: it is there, its content is what the config says, and so is its user.
///
/// # Errors
/// What is not so.
pub fn check(script: &Script) -> Result<(), String> {
    if let Some(user) = &script.user {
        find_user(user)?;
    }
    read_checked(script).map(drop)
}

/// Who runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
}

/// The copy that runs; removed with this.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        // Left behind, it is removed at the agent's next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl ScriptRun {
    async fn script(&self, call: Call) -> Result<Value, Failure> {
        let (name, script) = self.find(&call.args)?;
        let args: Vec<&str> = call
            .args
            .get("args")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let user = match &script.user {
            None => None,
            Some(user) => {
                Some(find_user(user).map_err(|why| Failure::new(format!("script {name}: {why}")))?)
            }
        };
        let content =
            read_checked(script).map_err(|why| Failure::new(format!("script {name}: {why}")))?;
        if call.dry_run {
            return Ok(json!({
                "would_run": script.path, "args": args, "sha256": to_hex(&script.sha256), "user": script.user,
            }));
        }
        let (copy, path) = self.copy(&call, &content, user).map_err(|error| {
            Failure::new(format!(
                "script {name}: could not write a private copy in {}: {error}",
                self.run_dir.display()
            ))
        })?;
        drop(content);
        let mut command = Command::new(&path);
        command.args(&args).env_clear().current_dir("/");
        command
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .env("MUSTER_JOB_ID", call.job.to_string());
        command
            .env("MUSTER_ISSUER", call.issuer.as_str())
            .env("MUSTER_SCRIPT", name);
        if let Some(user) = user {
            command.uid(user.uid).gid(user.gid);
        }
        let started = Instant::now();
        let (ended, limited) = within(script, &mut command, &call)
            .await
            .map_err(|error| Failure::new(format!("script {name}: could not start it: {error}")))?;
        drop(copy);
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        outcome(name, ended, limited, duration_ms)
    }

    /// The script that the argument `name` means.
    fn find<'a>(&self, args: &'a Args) -> Result<(&'a str, &Script), Failure> {
        let name = args.get("name").and_then(Value::as_str).unwrap_or_default();
        let script = self.scripts.get(name).ok_or_else(|| {
            let known = self.known();
            let why = format!("no script {name:?} in this host's config ({known})");
            Failure::of(ReasonCode::BadArgument, why)
        })?;
        Ok((name, script))
    }

    fn known(&self) -> String {
        if self.scripts.is_empty() {
            return "it names none".to_owned();
        }
        let names: Vec<_> = self.scripts.keys().map(String::as_str).collect();
        format!("it names {}", names.join(", "))
    }

    fn copy(&self, call: &Call, content: &[u8], user: Option<User>) -> io::Result<(Copy, PathBuf)> {
        std::fs::create_dir_all(&self.run_dir)?;
        // Others may enter it (a script may run as another user), but not list it.
        std::fs::set_permissions(&self.run_dir, Permissions::from_mode(0o711))?;
        let path = self.run_dir.join(call.job.to_string());
        let copy = Copy(path.clone());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o200)
            .open(&path)?;
        file.write_all(content)?;
        match user {
            // Its group may read it, nobody may write to it.
            Some(user) => {
                std::os::unix::fs::fchown(&file, None, Some(user.gid))?;
                file.set_permissions(Permissions::from_mode(0o550))?;
            }
            None => file.set_permissions(Permissions::from_mode(0o500))?,
        }
        Ok((copy, path))
    }
}

/// Runs it under the script's own limit, too. Whether that was reached comes with the end.
async fn within(script: &Script, command: &mut Command, call: &Call) -> io::Result<(Ended, bool)> {
    let stop = call.stop.child_token();
    let limit = async {
        match script.run_limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let mut limited = false;
    let run = start(command, &stop, call);
    tokio::pin!(run, limit);
    loop {
        tokio::select! {
            ended = &mut run => return ended.map(|ended| (ended, limited)),
            () = &mut limit, if !limited => {
                limited = true;
                stop.cancel();
            }
        }
    }
}

async fn start(
    command: &mut Command,
    stop: &tokio_util::sync::CancellationToken,
    call: &Call,
) -> io::Result<Ended> {
    let mut tries = 0;
    loop {
        match process::run(command, stop, &call.output).await {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES =>
            {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

fn outcome(name: &str, ended: Ended, limited: bool, duration_ms: u64) -> Result<Value, Failure> {
    let stopped = ended.stopped;
    let code = ended.status.and_then(|status| status.code());
    let signal = ended.status.and_then(|status| status.signal());
    let (stdout, stdout_truncated_bytes) = ended.stdout.into_text();
    let (stderr, stderr_truncated_bytes) = ended.stderr.into_text();
    let data = json!({
        "exit_code": code, "signal": signal, "stdout": stdout, "stderr": stderr,
        "stdout_truncated_bytes": stdout_truncated_bytes, "stderr_truncated_bytes": stderr_truncated_bytes,
        "duration_ms": duration_ms,
    });
    let failure = |reason, message: String| Err(Failure::of(reason, message).with(data.clone()));
    match (code, signal) {
        _ if stopped && limited => failure(
            ReasonCode::RunLimit,
            format!("script {name} was ended at the run limit of its config"),
        ),
        // Whatever it makes of TERM: it was not let to its end.
        _ if stopped => failure(
            ReasonCode::ActionFailed,
            format!("script {name} was told to end"),
        ),
        (Some(0), _) => Ok(data),
        (Some(code), _) => failure(
            ReasonCode::ExitStatus,
            format!("script {name} ended with exit status {code}"),
        ),
        (None, Some(signal)) => failure(
            ReasonCode::Signal,
            format!("script {name} was ended by signal {signal}"),
        ),
        (None, None) => failure(
            ReasonCode::ActionFailed,
            format!("script {name} ended, but how is not known"),
        ),
    }
}

/// The script's content, if it is what the config says.
fn read_checked(script: &Script) -> Result<Vec<u8>, String> {
    let path = script.path.display();
    let content =
        read_bounded(&script.path).map_err(|error| format!("could not read {path}: {error}"))?;
    let found: [u8; 32] = Sha256::digest(&content).into();
    if found != script.sha256 {
        return Err(format!(
            "{path} is not what the config allows: its SHA-256 is {}, {} is wanted; put the right file there, or change sha256 in the config",
            to_hex(&found),
            to_hex(&script.sha256),
        ));
    }
    Ok(content)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut content = Vec::new();
    file.take(SCRIPT_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > SCRIPT_BYTES_MAX {
        return Err(io::Error::other("it is larger than 16 MiB"));
    }
    Ok(content)
}

fn find_user(user: &str) -> Result<User, String> {
    if let Some((uid, gid)) = user.split_once(':')
        && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
    {
        return Ok(User { uid, gid });
    }
    let passwd = std::fs::read_to_string("/etc/passwd")
        .map_err(|error| format!("could not read /etc/passwd: {error}"))?;
    user_in(&passwd, user).ok_or_else(|| {
        format!("no user {user:?} in /etc/passwd; write uid:gid for one of elsewhere")
    })
}

fn user_in(passwd: &str, user: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, _, uid, gid) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        (name == user).then_some(())?;
        Some(User {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        })
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
#[path = "script_run_tests.rs"]
mod tests;
