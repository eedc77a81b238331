//! Every path against a host in files, as over HTTP but without a network.

use std::fs;
use std::path::PathBuf;

use axum::response::IntoResponse;

use super::*;

/// A host in files; what is not written is not there.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn of(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn node(&self) -> Node {
        Node::new(HostRoots::at(self.0.path()))
    }
}

fn refused(outcome: Result<Body, Refusal>) -> u16 {
    outcome.unwrap_err().into_response().status().as_u16()
}

#[tokio::test]
async fn every_question_reads_below_the_roots_and_when_it_is_asked() {
    let fixture = Fixture::of(&[
        ("proc/loadavg", "1.00 2.00 3.00 4/5 6\n"),
        ("proc/meminfo", "MemTotal: 4 kB\nMemFree: 1 kB\n"),
        ("proc/cpuinfo", "processor : 0\n"),
        (
            "proc/net/dev",
            "eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
        ),
        ("proc/net/ip_vs_stats", "\n\n1 2 3 4 F\n"),
        ("etc/os-release", "ID=debian\n"),
        (
            "proc/1/mountinfo",
            "27 1 254:0 / / rw - ext4 /dev/vda rw\n28 1 254:1 / /boot rw - ext4 /dev/vdb rw\n29 1 0:5 / /dev rw - devtmpfs udev rw\n",
        ),
    ]);
    let node = fixture.node();
    for (name, question) in QUESTIONS
        .iter()
        .filter(|(_, question)| *question != Question::CpuDetail)
    {
        let body = node.answer(*question, Some("eth0")).await;
        let body = body.unwrap_or_else(|refusal| unreachable!("{name}: {refusal:?}"));
        let value: serde_json::Value = serde_json::from_str(&body.0).unwrap();
        match question {
            Question::HddInfo => {
                assert_eq!(
                    value.as_object().unwrap().keys().collect::<Vec<_>>(),
                    ["/dev/vda"],
                    "{body:?}"
                );
                assert_eq!(value["/dev/vda"]["mounted_on"], "/");
            }
            Question::LvsStatsSumm => assert_eq!(value["out_bytes"], serde_json::json!([15])),
            Question::IfTraffic => {
                let inner = value["eth0"].as_str().unwrap();
                assert_eq!(
                    inner,
                    node.answer(Question::IfInfo, Some("eth0")).await.unwrap().0
                );
            }
            _ => assert!(!value.is_null()),
        }
    }
    fs::write(fixture.path("proc/loadavg"), "9.00 2.00 3.00 4/5 6\n").unwrap();
    let again = node.answer(Question::LoadAvg, None).await.unwrap();
    assert!(again.0.contains("\"lavg_1\": \"9.00\""), "{again:?}");
}

#[tokio::test]
async fn a_host_that_does_not_tell_is_503_and_bad_questions_are_400_and_404() {
    let fixture = Fixture::of(&[(
        "proc/net/dev",
        "eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
    )]);
    let node = fixture.node();
    for question in [
        Question::CpuInfo,
        Question::MemInfo,
        Question::LoadAvg,
        Question::HddInfo,
        Question::CpuDetail,
        Question::LvsStatsSumm,
    ] {
        assert_eq!(
            refused(node.answer(question, None).await),
            503,
            "{question:?}"
        );
    }
    assert_eq!(refused(node.answer(Question::IfInfo, None).await), 400);
    assert_eq!(
        refused(node.answer(Question::IfInfo, Some("eth1")).await),
        404
    );
    // A distribution that does not say its name has one all the same.
    assert!(node.answer(Question::Dist, None).await.is_ok());
}
