use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, mpsc as blocking};

use muster_proto::event::Severity;
use serde_json::Value;

use tokio::sync::oneshot;

use super::super::{Change, CollectContext, CollectError, Collected, Spec, Timing};
use super::*;

/// What a scripted collector does in its run.
enum Act {
    Give,
    Fail,
    Panic,
    /// Asks for a run.
    Wake,
    /// Blocks until the sender is dropped.
    Hang(blocking::Receiver<()>),
}

/// Plays its acts one after the other, then gives for ever.
struct Scripted {
    acts: VecDeque<Act>,
    runs: Arc<AtomicU32>,
    wake: Wake,
}

impl Collect for Scripted {
    fn collect(&mut self, now: SampleTime) -> Result<Collected, CollectError> {
        let run = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        match self.acts.pop_front().unwrap_or(Act::Give) {
            Act::Give => {}
            Act::Wake => (0..100).for_each(|_| self.wake.now()),
            Act::Fail => {
                return Err(CollectError::Nothing {
                    collector: "scripted",
                    what: "no luck".into(),
                });
            }
            Act::Panic => panic!("as told"),
            Act::Hang(until) => _ = until.recv(),
        }
        let change = Change {
            topic: "test.ran",
            severity: Severity::Info,
            summary: String::new(),
            key: String::new(),
            before: Value::Null,
            after: Value::Null,
            fields: BTreeMap::new(),
        };
        let snapshot = serde_json::json!({"run": run, "at": now.wall_ms});
        Collected::of("scripted", &snapshot, vec![change])
    }
}

const fn spec(name: &'static str, deadline_ms: u64) -> Spec {
    every(name, Duration::from_millis(20), deadline_ms)
}

const fn every(name: &'static str, interval_default: Duration, deadline_ms: u64) -> Spec {
    fn build(_: &CollectContext) -> Result<Box<dyn Collect>, ConfigError> {
        Ok(Box::new(Scripted {
            acts: VecDeque::new(),
            runs: Arc::default(),
            wake: Wake::default(),
        }))
    }
    Spec {
        name,
        summary: "",
        interval_default,
        deadline_default: Duration::from_millis(deadline_ms),
        sample: "",
        build,
    }
}

/// Longer than any machine stalls.
const PATIENT_MS: u64 = 30_000;
/// Soon over.
const SHORT_MS: u64 = 200;

static FIRST: Spec = spec("first", PATIENT_MS);
static SECOND: Spec = spec("second", PATIENT_MS);
static HASTY: Spec = spec("hasty", SHORT_MS);

struct Rig {
    collectors: Collectors,
    reports: mpsc::Receiver<Report>,
    stop: CancellationToken,
    task: tokio::task::JoinSet<()>,
    runs: BTreeMap<&'static str, Arc<AtomicU32>>,
    wakes: BTreeMap<&'static str, Wake>,
}

impl Rig {
    fn start(collectors: Vec<(&'static Spec, Vec<Act>)>) -> Self {
        let (send, reports) = mpsc::channel(64);
        let grid = Grid::new(Instant::now(), Duration::ZERO);
        let (mut runs, mut wakes) = (BTreeMap::new(), BTreeMap::new());
        let ear = Arc::<Notify>::default();
        let built = collectors.into_iter().map(|(spec, acts)| {
            let count: Arc<AtomicU32> = Arc::default();
            let wake = Wake::heard_by(ear.clone());
            wakes.insert(spec.name, wake.clone());
            runs.insert(spec.name, count.clone());
            let timing = Timing {
                enabled: true,
                interval: spec.interval_default,
                deadline: spec.deadline_default,
            };
            Built {
                spec,
                timing,
                collector: Box::new(Scripted {
                    acts: acts.into(),
                    runs: count,
                    wake: wake.clone(),
                }),
                wake,
            }
        });
        let built: Vec<Built> = built.collect();
        let (schedule, collectors) = Schedule::with(
            built,
            ear,
            HostRoots::default(),
            BTreeMap::new(),
            grid,
            send,
        );
        let stop = CancellationToken::new();
        let mut task = tokio::task::JoinSet::new();
        task.spawn(schedule.run(stop.clone()));
        Self {
            collectors,
            reports,
            stop,
            task,
            runs,
            wakes,
        }
    }

    /// The next report of `collector` for which `wanted` holds; a minute without it is a failure.
    async fn until(&mut self, collector: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let find = async {
            loop {
                let report = self.reports.recv().await.expect("the schedule has ended");
                if report.collector == collector && wanted(&report) {
                    return report;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), find)
            .await
            .expect("no such report within a minute")
    }

    async fn end(mut self) {
        self.stop.cancel();
        drop(self.reports);
        while let Some(ended) = self.task.join_next().await {
            ended.expect("the schedule panicked");
        }
    }
}

fn failed(report: &Report) -> bool {
    matches!(report.edge, Some(Edge::Failed { .. }))
}

fn recovered(report: &Report) -> bool {
    matches!(report.edge, Some(Edge::Recovered { .. }))
}

#[tokio::test]
async fn runs_at_once_and_at_each_tick_with_rising_numbers() {
    let mut rig = Rig::start(vec![(&FIRST, vec![])]);
    for seq in 1..=3 {
        let report = rig.until("first", |_| true).await;
        assert_eq!(report.seq, seq);
        assert_eq!(report.changes.len(), 1);
        assert!(report.edge.is_none());
    }
    assert!(
        rig.collectors.board().borrow().collectors["first"]
            .success_at_ms
            .is_some()
    );
    rig.end().await;
}

#[tokio::test]
async fn failures_are_told_once_and_recovery_once() {
    let mut rig = Rig::start(vec![(
        &FIRST,
        vec![Act::Give, Act::Fail, Act::Fail, Act::Fail],
    )]);
    let report = rig.until("first", failed).await;
    let Some(Edge::Failed { error }) = report.edge else {
        panic!("no edge")
    };
    assert!(error.contains("no luck"), "{error}");
    let report = rig.until("first", |_| true).await;
    assert!(
        recovered(&report),
        "the next report after the failure is the recovery: {report:?}"
    );
    let board = rig.collectors.board();
    assert_eq!(board.borrow().collectors["first"].failures, 3);
    assert_eq!(board.borrow().failing(), BTreeMap::new());
    rig.end().await;
}

#[tokio::test]
async fn a_panic_is_contained_and_the_collector_made_anew() {
    let mut rig = Rig::start(vec![(&FIRST, vec![Act::Panic])]);
    let report = rig.until("first", failed).await;
    assert!(
        format!("{:?}", report.edge).contains("as told"),
        "{:?}",
        report.edge
    );
    // The scripted collectors are not in the table, so nothing can take the place of the one that panicked.
    let (snapshots, errors) = {
        rig.collectors
            .clone()
            .requests
            .send(Request {
                collector: "first",
                answer: oneshot::channel().0,
            })
            .await
            .unwrap();
        (
            rig.collectors.board().borrow().collectors["first"].successes,
            rig.collectors.board().borrow().failing(),
        )
    };
    assert_eq!(snapshots, 0);
    assert!(errors["first"].contains("panicked"));
    rig.end().await;
}

#[tokio::test]
async fn one_that_hangs_is_given_up_and_left_alone_until_it_is_back() {
    let (release, hang) = blocking::channel();
    let mut rig = Rig::start(vec![(&HASTY, vec![Act::Hang(hang)]), (&SECOND, vec![])]);
    let report = rig.until("hasty", failed).await;
    assert!(
        format!("{:?}", report.edge).contains("hangs"),
        "{:?}",
        report.edge
    );
    for _ in 0..3 {
        rig.until("second", |report| report.snapshot.is_some())
            .await;
    }
    assert_eq!(
        rig.runs["hasty"].load(Ordering::SeqCst),
        1,
        "it was started again while it hung"
    );
    let (_, errors) = rig.collectors.collect(&["hasty".into()]).await;
    assert!(errors["hasty"].contains("hangs"), "{errors:?}");
    drop(release);
    rig.until("hasty", recovered).await;
    rig.end().await;
}

#[tokio::test]
async fn no_more_than_four_threads_are_given_up() {
    static HANGING: [Spec; 5] = [
        spec("a", SHORT_MS),
        spec("b", SHORT_MS),
        spec("c", SHORT_MS),
        spec("d", SHORT_MS),
        spec("e", SHORT_MS),
    ];
    let releases: Mutex<Vec<blocking::Sender<()>>> = Mutex::default();
    let hang = || {
        let (release, hang) = blocking::channel();
        releases.lock().unwrap().push(release);
        vec![Act::Hang(hang)]
    };
    let mut rig = Rig::start(HANGING.iter().map(|spec| (spec, hang())).collect());
    let report = rig.until("e", failed).await;
    assert!(
        format!("{:?}", report.edge).contains("no more threads"),
        "{:?}",
        report.edge
    );
    assert_eq!(rig.runs["e"].load(Ordering::SeqCst), 0);
    releases.lock().unwrap().clear();
    rig.until("e", recovered).await;
    rig.end().await;
}

#[tokio::test]
async fn who_asks_gets_a_snapshot_that_is_fresh_or_the_reason_why_not() {
    let mut rig = Rig::start(vec![(&FIRST, vec![]), (&SECOND, vec![])]);
    rig.until("first", |report| report.snapshot.is_some()).await;
    let (snapshots, errors) = rig
        .collectors
        .collect(&["first".into(), "third".into(), "host".into()])
        .await;
    assert_eq!(snapshots.keys().collect::<Vec<_>>(), ["first"]);
    assert!(errors["third"].contains("no such collector"), "{errors:?}");
    assert!(errors["host"].contains("switched off"), "{errors:?}");
    let (snapshots, errors) = rig.collectors.collect(&[]).await;
    assert_eq!(snapshots.keys().collect::<Vec<_>>(), ["first", "second"]);
    assert!(errors.is_empty());
    rig.end().await;
}

#[tokio::test]
async fn one_that_wakes_runs_before_its_time_and_once_more_for_what_comes_meanwhile() {
    static RARE: Spec = every("rare", Duration::from_secs(3600), PATIENT_MS);
    let mut rig = Rig::start(vec![(&RARE, vec![Act::Give, Act::Wake])]);
    assert_eq!(rig.until("rare", |_| true).await.seq, 1);
    let wake = rig.wakes["rare"].clone();
    std::thread::spawn(move || wake.now()).join().unwrap();
    // The run that was asked for asks for another.
    assert_eq!(rig.until("rare", |_| true).await.seq, 2);
    assert_eq!(rig.until("rare", |_| true).await.seq, 3);
    // Its hundred calls were one: the next run is that of the next call.
    rig.wakes["rare"].now();
    assert_eq!(rig.until("rare", |_| true).await.seq, 4);
    assert_eq!(rig.runs["rare"].load(Ordering::SeqCst), 4);
    rig.end().await;
}

#[tokio::test]
async fn a_storm_of_one_leaves_the_others_their_turn() {
    let mut rig = Rig::start(vec![(&FIRST, vec![]), (&SECOND, vec![])]);
    let (wake, stop) = (rig.wakes["first"].clone(), CancellationToken::new());
    let ended = stop.clone();
    let storm = std::thread::spawn(move || {
        while !ended.is_cancelled() {
            wake.now();
        }
    });
    for _ in 0..5 {
        rig.until("second", |report| report.snapshot.is_some())
            .await;
    }
    stop.cancel();
    storm.join().unwrap();
    rig.end().await;
}
