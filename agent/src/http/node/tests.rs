//! Every path against a host in files, as over HTTP but without a network.

use std::fs;
use std::path::PathBuf;

use axum::response::IntoResponse;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::collect::schedule::Schedule;
use crate::tick::Grid;

/// A table as the kernel writes it for those who may not ask for more.
const IP_VS: &str = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\nTCP  C0000263:0050 rr  \n  -> 0A080202:1F90      Masq    1      1          15        \n";

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

    /// Its schedule runs as long as the test's runtime.
    fn node(&self) -> Node {
        let roots = HostRoots::at(self.0.path());
        let (reports, mut told) = mpsc::channel(1);
        let grid = Grid::by_chance(Instant::now());
        let schedule = Schedule::new(roots.clone(), BTreeMap::new(), grid, reports);
        let (schedule, collectors) = schedule.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(schedule.run(CancellationToken::new()));
        tasks.spawn(async move { while told.recv().await.is_some() {} });
        tasks.detach_all();
        Node::new(roots, collectors)
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
        ("proc/net/ip_vs", IP_VS),
        ("etc/os-release", "ID=debian\n"),
        (
            "proc/1/mountinfo",
            "27 1 254:0 / / rw - ext4 /dev/vda rw\n28 1 254:1 / /boot rw - ext4 /dev/vdb rw\n29 1 0:5 / /dev rw - devtmpfs udev rw\n",
        ),
    ]);
    let node = fixture.node();
    for (name, question) in QUESTIONS
        .iter()
        .filter(|(_, question)| ![Question::CpuDetail, Question::LvsTraffic].contains(question))
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
            Question::LvsConn => {
                assert_eq!(value[0]["vip"], "192.0.2.99:80");
                assert_eq!(value[0]["node"][0]["rs"], "10.8.2.2:8080");
                assert_eq!(value[0]["node"][0]["inactconn"], "15");
            }
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
        Question::LvsConn,
        Question::LvsStatus,
        Question::LvsTraffic,
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

#[tokio::test]
async fn a_table_without_counters_has_no_traffic_and_says_whose_fault_that_is() {
    let fixture = Fixture::of(&[
        ("proc/net/ip_vs_stats", "\n\n1 2 3 4 F\n"),
        ("proc/net/ip_vs", IP_VS),
    ]);
    let refusal = fixture.node().answer(Question::LvsTraffic, None).await;
    let refusal = format!("{:?}", refusal.unwrap_err());
    assert!(
        refusal.contains("CAP_NET_ADMIN") && refusal.contains("503"),
        "{refusal}"
    );
}
