//! Real scripts, really run.

use std::time::Duration;

use muster_proto::job::Reason;

use muster_proto::id::JobId;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::script_config::ScriptSection;
use super::super::{OutputPiece, OutputSink};
use super::*;

struct Host {
    dir: TempDir,
    action: ScriptRun,
}

fn host(script: &str) -> Host {
    with_limit(script, None, None)
}

fn with_limit(script: &str, run_limit: Option<jiff::SignedDuration>, user: Option<&str>) -> Host {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("script");
    // Not executable: what the config says counts, not the file's mode.
    std::fs::write(&path, script).unwrap();
    let section = ScriptSection {
        path,
        sha256: to_hex(&Sha256::digest(script.as_bytes())),
        run_limit,
        user: user.map(str::to_owned),
    };
    let scripts = Scripts::from([("it".to_owned(), section.parse("it").unwrap())]);
    let action = ScriptRun {
        scripts,
        run_dir: dir.path().join("run"),
    };
    Host { dir, action }
}

fn call(args: Value) -> Call {
    Call {
        job: JobId::from_parts(1, [1; 10]),
        issuer: "ann".parse().unwrap(),
        args: serde_json::from_value(args).unwrap(),
        dry_run: false,
        run_limit: Duration::from_secs(60),
        stop: CancellationToken::new(),
        output: OutputSink::nowhere(),
    }
}

fn it(args: &[&str]) -> Call {
    call(json!({ "name": "it", "args": args }))
}

async fn ok(host: &Host, call: Call) -> Value {
    host.action.run(call).await.unwrap()
}

async fn failure(host: &Host, call: Call) -> Failure {
    host.action.run(call).await.unwrap_err()
}

fn alive(pid: &str) -> bool {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(done(), "{what}");
}

#[tokio::test]
async fn arguments_go_through_as_they_are() {
    let host = host("#!/bin/sh\nprintf '<%s>' \"$@\"\necho oops >&2\n");
    let data = ok(&host, it(&["a b", "$(id)", "; ls", "*", ""])).await;
    assert_eq!(data["stdout"], "<a b><$(id)><; ls><*><>");
    assert_eq!(data["stderr"], "oops\n");
    assert_eq!(
        (&data["exit_code"], &data["signal"]),
        (&json!(0), &json!(null))
    );
    assert_eq!(data["stdout_truncated_bytes"], 0);
    assert_eq!(
        std::fs::read_dir(host.dir.path().join("run"))
            .unwrap()
            .count(),
        0,
        "the copy is gone"
    );
}

#[tokio::test]
async fn the_environment_is_ours_alone_and_stdin_is_empty() {
    let host =
        host("#!/bin/sh\ncat\npwd\nenv | cut -d= -f1 | sort | tr '\\n' ' '\necho $MUSTER_JOB_ID\n");
    let data = ok(&host, it(&[])).await;
    let want = format!(
        "/\nLANG MUSTER_ISSUER MUSTER_JOB_ID MUSTER_SCRIPT PATH PWD {}\n",
        JobId::from_parts(1, [1; 10])
    );
    assert_eq!(
        data["stdout"]
            .as_str()
            .unwrap()
            .replace("OLDPWD ", "")
            .replace("SHLVL ", "")
            .replace("_ ", ""),
        want
    );
}

#[tokio::test]
async fn exit_status_and_signal_are_told() {
    let host = host("#!/bin/sh\necho x\n[ \"$1\" = kill ] && kill -9 $$\nexit $1\n");
    let failed = failure(&host, it(&["7"])).await;
    assert_eq!(failed.reason.code, ReasonCode::ExitStatus);
    assert_eq!(
        (&failed.data["exit_code"], &failed.data["stdout"]),
        (&json!(7), &json!("x\n"))
    );
    let failed = failure(&host, it(&["kill"])).await;
    assert_eq!(failed.reason.code, ReasonCode::Signal);
    assert_eq!(
        (&failed.data["exit_code"], &failed.data["signal"]),
        (&json!(null), &json!(9))
    );
}

#[tokio::test]
async fn what_is_not_allowed_is_not_run() {
    let host = host("#!/bin/sh\ntouch \"$1\"\n");
    let mark = host.dir.path().join("mark");
    let mark_text = mark.to_str().unwrap();
    let failed = failure(&host, call(json!({ "name": "other" }))).await;
    assert_eq!(
        failed.reason,
        Reason::new(
            ReasonCode::BadArgument,
            "no script \"other\" in this host's config (it names it)"
        )
    );
    std::fs::write(
        host.dir.path().join("script"),
        "#!/bin/sh\ntouch \"$1\" #\n",
    )
    .unwrap();
    let failed = failure(&host, it(&[mark_text])).await;
    assert!(
        failed
            .reason
            .message
            .contains("is not what the config allows: its SHA-256 is "),
        "{failed:?}"
    );
    std::fs::remove_file(host.dir.path().join("script")).unwrap();
    let failed = failure(&host, it(&[mark_text])).await;
    assert!(
        failed.reason.message.contains("could not read "),
        "{failed:?}"
    );
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_dry_run_says_what_would_run() {
    let host = host("#!/bin/sh\ntouch \"$1\"\n");
    let mark = host.dir.path().join("mark");
    let call = Call {
        dry_run: true,
        ..it(&[mark.to_str().unwrap()])
    };
    let data = ok(&host, call).await;
    assert_eq!(data["would_run"], json!(host.dir.path().join("script")));
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_script_that_changes_while_it_runs_is_the_one_that_was_hashed() {
    // The shell reads its script bit by bit: were it the file itself, the new end would run.
    let host = host("#!/bin/sh\nwhile [ ! -e \"$1\" ]; do sleep 0.05; done\necho old\n");
    let go = host.dir.path().join("go");
    let run = host.action.run(it(&[go.to_str().unwrap()]));
    let change = async {
        let copies = host.dir.path().join("run");
        eventually("it runs", || {
            std::fs::read_dir(&copies).is_ok_and(|dir| dir.count() == 1)
        })
        .await;
        std::fs::write(
            host.dir.path().join("script"),
            "#!/bin/sh\nwhile [ ! -e \"$1\" ]; do sleep 0.05; done\necho new\n",
        )
        .unwrap();
        std::fs::write(&go, "").unwrap();
    };
    let (data, ()) = tokio::join!(run, change);
    assert_eq!(data.unwrap()["stdout"], "old\n");
}

#[tokio::test]
async fn a_child_left_behind_neither_hangs_the_job_nor_outlives_it() {
    let host = host("#!/bin/sh\nsleep 1000 &\necho $!\n");
    let data = ok(&host, it(&[])).await;
    let pid = data["stdout"].as_str().unwrap().to_owned();
    eventually("the child is ended", || !alive(&pid)).await;
}

#[test]
fn one_that_has_ended_by_itself_when_the_limit_comes_has_not_failed() {
    let ended = |stopped| Ended {
        status: Some(std::os::unix::process::ExitStatusExt::from_raw(0)),
        stopped,
        stdout: Default::default(),
        stderr: Default::default(),
    };
    assert!(outcome("x", ended(false), true, 1).is_ok());
    assert!(outcome("x", ended(true), true, 1).is_err());
}

#[tokio::test]
async fn a_daemon_that_leaves_the_group_late_outlives_the_job() {
    // As daemon(3) does: it takes its session when the one that started it has ended, and was waited for.
    let host = host(
        "#!/bin/sh\nlead=$$\n(while kill -0 $lead; do sleep 0.01; done\n\
         exec setsid sh -c 'echo $$ > \"$0.new\"; mv \"$0.new\" \"$0\"; exec sleep 1000' \"$1\") >/dev/null 2>&1 &\n",
    );
    let pid_file = host.dir.path().join("pid");
    ok(&host, it(&[pid_file.to_str().unwrap()])).await;
    eventually("it has a session of its own", || pid_file.exists()).await;
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert!(alive(&pid));
    let pid = pid.trim().parse().ok();
    let pid = pid.and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_child_that_leaves_the_group_does_not_hang_the_job() {
    let host = host("#!/bin/sh\nsetsid sh -c 'echo $$; exec sleep 1000' &\nsleep 0.3\necho done\n");
    let data = ok(&host, it(&[])).await;
    let text = data["stdout"].as_str().unwrap();
    assert!(text.contains("done\n"), "{text}");
    let pid = text
        .lines()
        .next()
        .unwrap()
        .parse()
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_stop_is_term_for_the_whole_group() {
    let host =
        host("#!/bin/sh\ntrap 'echo told; exit 0' TERM\nsleep 1000 &\necho $! > \"$1\"\nwait\n");
    let pid_file = host.dir.path().join("pid");
    let call = it(&[pid_file.to_str().unwrap()]);
    let stop = call.stop.clone();
    let run = host.action.run(call);
    let end = async {
        eventually("it has written its pid", || {
            std::fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n'))
        })
        .await;
        stop.cancel();
    };
    let (got, ()) = tokio::join!(run, end);
    let failed = got.unwrap_err();
    assert_eq!(failed.data["stdout"], "told\n", "its own words are kept");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    eventually("its child is ended", || !alive(&pid)).await;
}

#[tokio::test]
async fn one_that_ignores_term_is_killed() {
    let host = with_limit(
        "#!/bin/sh\ntrap '' TERM\necho $$\nwhile :; do sleep 1; done\n",
        Some(jiff::SignedDuration::from_secs(1)),
        None,
    );
    let failed = failure(&host, it(&[])).await;
    assert_eq!(
        failed.reason.code,
        ReasonCode::RunLimit,
        "the config's own limit"
    );
    assert_eq!(failed.data["signal"], 9);
    assert!(!alive(failed.data["stdout"].as_str().unwrap()));
}

#[tokio::test]
async fn a_dropped_run_takes_its_processes_along() {
    let host = host("#!/bin/sh\nsleep 1000 &\necho $! > \"$1\"\nwait\n");
    let pid_file = host.dir.path().join("pid");
    {
        let run = host.action.run(it(&[pid_file.to_str().unwrap()]));
        let started = eventually("it has written its pid", || {
            std::fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n'))
        });
        tokio::select! {
            got = run => assert!(got.is_err(), "it runs until it is ended"),
            () = started => {}
        }
    }
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    eventually("its child is ended", || !alive(&pid)).await;
}

#[tokio::test]
async fn output_is_bounded_and_streamed() {
    let host = host("#!/bin/sh\necho start\nhead -c 3000000 /dev/zero | tr '\\0' x\necho end\n");
    let (sender, mut pieces) = mpsc::channel::<OutputPiece>(1000);
    let call = Call {
        output: OutputSink::new(sender),
        ..it(&[])
    };
    let data = ok(&host, call).await;
    let text = data["stdout"].as_str().unwrap();
    assert!(
        text.starts_with("start\nxxx") && text.ends_with("xxxend\n"),
        "head and tail are kept"
    );
    let all = "start\n".len() + 3_000_000 + "end\n".len();
    let left_out = all - 2 * process::KEPT_BYTES_MAX;
    assert_eq!(data["stdout_truncated_bytes"], json!(left_out));
    assert!(text.contains(&format!("\n[{left_out} bytes left out]\n")));
    let (mut sent, mut dropped, mut seq) = (0, 0, 0);
    while let Some(piece) = pieces.recv().await {
        assert_eq!(piece.seq, seq);
        seq += 1;
        sent += piece.bytes.len();
        dropped += usize::try_from(piece.dropped_bytes).unwrap();
    }
    assert_eq!(sent + dropped, all);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_shown_as_such() {
    let host = host("#!/bin/sh\nprintf 'a\\377b'\n");
    assert_eq!(ok(&host, it(&[])).await["stdout"], "a\u{fffd}b");
}

#[tokio::test]
async fn it_runs_as_another_user() {
    if !rustix::process::geteuid().is_root() {
        return; // only root may
    }
    let host = with_limit(
        "#!/bin/sh\nid -u; id -g; id -G\n",
        None,
        Some("65534:65534"),
    );
    assert_eq!(ok(&host, it(&[])).await["stdout"], "65534\n65534\n65534\n");
    let unknown = with_limit("#!/bin/sh\n", None, Some("no-such-user"));
    let failed = failure(&unknown, it(&[])).await;
    assert!(
        failed
            .reason
            .message
            .contains("no user \"no-such-user\" in /etc/passwd"),
        "{failed:?}"
    );
}

#[tokio::test]
async fn a_program_that_cannot_start_says_why() {
    let host = host("#!/no/such/interpreter\n");
    let failed = failure(&host, it(&[])).await;
    assert!(
        failed
            .reason
            .message
            .starts_with("script it: could not start it: No such file"),
        "{failed:?}"
    );
}

#[test]
fn users_are_found_by_their_whole_name() {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb-data:x:33:34::/:/bin/false\nbad:x:q:1::/:/\n";
    assert_eq!(user_in(passwd, "web-data"), Some(User { uid: 33, gid: 34 }));
    for user in ["web", "bad", "", "root:x"] {
        assert_eq!(user_in(passwd, user), None, "{user}");
    }
}

#[test]
fn sections_are_checked() {
    let section = |path: &str, sha256: &str, run_limit: Option<i64>| {
        let section = ScriptSection {
            path: path.into(),
            sha256: sha256.to_owned(),
            run_limit: run_limit.map(jiff::SignedDuration::from_millis),
            user: None,
        };
        section
            .parse("x")
            .map(|_| ())
            .map_err(|error| error.split(':').next().unwrap_or_default().to_owned())
    };
    let sum = "ab".repeat(32);
    assert_eq!(section("/a", &sum, Some(1000)), Ok(()));
    assert_eq!(section("a", &sum, None), Err("[scripts.x] path".to_owned()));
    assert_eq!(
        section("/a", "abc", None),
        Err("[scripts.x] sha256".to_owned())
    );
    assert_eq!(
        section("/a", &"+1".repeat(32), None),
        Err("[scripts.x] sha256".to_owned())
    );
    assert_eq!(
        section("/a", &sum, Some(0)),
        Err("[scripts.x] run_limit".to_owned())
    );
}
