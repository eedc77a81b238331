//! The actions over a table in memory, which others change at the worst moment. Over the kernel's table they are tested
//! end to end.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod drains;
mod law;

use std::sync::{Mutex as Lock, PoisonError};
use std::time::Duration;

use muster_proto::id::JobId;
use proptest::prelude::*;
use serde_json::json;
use tokio::sync::mpsc;

use super::director::{Fault, Table};
use super::plan::VirtualServer;
use super::plan::tests::server;
use super::*;
use crate::action::{Call, OutputPiece, OutputSink};
use crate::ipvs::{DestinationKey, ServiceKey};

/// What others do to the table, before the n-th thing that is done to it.
type Others = Box<dyn FnMut(usize, &mut Vec<VirtualServer>) -> Result<(), Fault> + Send>;

struct Shelf(Arc<Lock<Inside>>);

struct Inside {
    table: Vec<VirtualServer>,
    done: usize,
    others: Others,
}

struct Opened(Arc<Lock<Inside>>);

impl Director for Shelf {
    fn open(&self) -> Result<Box<dyn Table>, Fault> {
        Ok(Box::new(Opened(self.0.clone())))
    }
}

impl Opened {
    fn turn<T>(
        &self,
        work: impl FnOnce(&mut Vec<VirtualServer>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Inside {
            table,
            done,
            others,
        } = &mut *inside;
        *done += 1;
        others(*done, table)?;
        work(table)
    }
}

impl Table for Opened {
    fn all(&mut self) -> Result<Vec<VirtualServer>, Fault> {
        self.turn(|table| Ok(table.clone()))
    }

    fn one(&mut self, key: &ServiceKey) -> Result<Option<VirtualServer>, Fault> {
        self.turn(|table| Ok(table.iter().find(|server| server.key == *key).cloned()))
    }

    fn set_weight(
        &mut self,
        key: &ServiceKey,
        real: &DestinationKey,
        weight: u32,
    ) -> Result<(), Fault> {
        self.turn(|table| {
            let server = table.iter_mut().find(|server| server.key == *key);
            let reals = server.ok_or(Fault::Gone)?.reals.iter_mut();
            let mut own = reals.filter(|known| known.key == *real);
            own.next().ok_or(Fault::Gone)?.weight = weight;
            Ok(())
        })
    }
}

struct Stage {
    lvs: Lvs,
    inside: Arc<Lock<Inside>>,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new(
        table: Vec<VirtualServer>,
        others: impl FnMut(usize, &mut Vec<VirtualServer>) -> Result<(), Fault> + Send + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inside = Arc::new(Lock::new(Inside {
            table,
            done: 0,
            others: Box::new(others),
        }));
        let lvs = Lvs::of(Arc::new(Shelf(inside.clone())), dir.path(), dir.path());
        Self { lvs, inside, dir }
    }

    /// The same host after a restart of the agent.
    fn again(&self) -> Lvs {
        Lvs::of(
            Arc::new(Shelf(self.inside.clone())),
            self.dir.path(),
            self.dir.path(),
        )
    }

    fn weights(&self) -> Vec<u32> {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let reals = inside.table.iter().flat_map(|server| &server.reals);
        reals.map(|real| real.weight).collect()
    }

    fn remembered(&self) -> usize {
        self.lvs.memory.read().unwrap().len()
    }

    fn load(&self, active: u64, inactive: u64) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let reals = inside.table.iter_mut().flat_map(|server| &mut server.reals);
        reals.for_each(|real| (real.load.active, real.load.inactive) = (active, inactive));
    }
}

fn pool() -> Vec<VirtualServer> {
    vec![
        server(
            "tcp/192.0.2.10:80",
            &[("10.1.0.1:80", 100), ("10.1.0.2:80", 50)],
        ),
        server(
            "tcp/192.0.2.10:443",
            &[("10.1.0.1:443", 7), ("10.1.0.2:443", 7)],
        ),
    ]
}

fn call(args: Value) -> (Call, mpsc::Receiver<OutputPiece>) {
    let (sender, pieces) = mpsc::channel(100);
    let call = Call {
        job: JobId::from_parts(1, [0; 10]),
        issuer: "ann".parse().unwrap(),
        args: serde_json::from_value(args).unwrap(),
        dry_run: false,
        run_limit: Duration::from_secs(900),
        stop: CancellationToken::new(),
        output: OutputSink::new(sender),
    };
    (call, pieces)
}

async fn run(action: impl Action, args: Value) -> Result<Value, Failure> {
    action.run(call(args).0).await
}

fn states(data: &Value) -> String {
    let rows = data["virtual_servers"].as_array().unwrap().iter();
    let states = rows.map(|row| row["state"].as_str().unwrap());
    states.collect::<Vec<_>>().join(" ")
}

fn text(pieces: &mut mpsc::Receiver<OutputPiece>) -> String {
    let mut bytes = Vec::new();
    while let Ok(piece) = pieces.try_recv() {
        bytes.extend(piece.bytes);
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_weight_is_set_where_it_is_named_and_given_back() {
    let stage = Stage::new(pool(), |_, _| Ok(()));
    let args = json!({ "real_server": "10.1.0.1", "weight": 0 });
    let data = run(weight::Weight(stage.lvs.clone()), args.clone())
        .await
        .unwrap();
    assert_eq!(
        (data["changed"].as_u64(), states(&data).as_str()),
        (Some(2), "done done")
    );
    assert_eq!(stage.weights(), [0, 50, 0, 7]);
    let data = run(weight::Weight(stage.lvs.clone()), args).await.unwrap();
    assert_eq!(
        (data["changed"].as_u64(), states(&data).as_str()),
        (Some(0), "unchanged unchanged")
    );
    assert_eq!(
        stage.remembered(),
        2,
        "the second time has not overwritten the first"
    );
    let one = json!({ "real_server": "10.1.0.1:80" });
    let data = run(restore::Restore(stage.again()), one).await.unwrap();
    assert_eq!(states(&data), "done");
    assert_eq!(
        (stage.weights(), stage.remembered()),
        (vec![100, 50, 0, 7], 1)
    );
    let data = run(
        restore::Restore(stage.again()),
        json!({ "real_server": "10.1.0.1" }),
    )
    .await
    .unwrap();
    assert_eq!(states(&data), "unchanged done");
    assert_eq!(
        (stage.weights(), stage.remembered()),
        (vec![100, 50, 7, 7], 0)
    );
}

#[tokio::test]
async fn the_last_one_is_refused_with_everything_it_goes_with() {
    let stage = Stage::new(pool(), |_, _| Ok(()));
    let second = json!({ "real_server": "10.1.0.2:443", "weight": 0 });
    run(weight::Weight(stage.lvs.clone()), second)
        .await
        .unwrap();
    let args = |force| json!({ "real_server": "10.1.0.1", "weight": 0, "force": force });
    let failure = run(weight::Weight(stage.lvs.clone()), args(false))
        .await
        .unwrap_err();
    assert_eq!(failure.reason.code, ReasonCode::Unsafe);
    assert_eq!(
        failure.reason.message,
        "without 10.1.0.1, no real server with a weight above 0 would be left in tcp/192.0.2.10:443; nothing was changed; force=true does it all the same"
    );
    assert_eq!(states(&failure.data), "unchanged refused-last");
    assert_eq!(stage.weights(), [100, 50, 7, 0]);
    run(weight::Weight(stage.lvs.clone()), args(true))
        .await
        .unwrap();
    assert_eq!(stage.weights(), [0, 50, 0, 0]);
}

#[tokio::test]
async fn a_dry_run_changes_and_remembers_nothing() {
    let stage = Stage::new(pool(), |_, _| Ok(()));
    let (mut call, _pieces) = call(json!({ "real_server": "10.1.0.1" }));
    call.dry_run = true;
    let data = drain::Drain(stage.lvs.clone()).run(call).await.unwrap();
    assert_eq!(states(&data), "would-change would-change");
    assert_eq!(
        (
            &data["virtual_servers"][0]["before"],
            &data["virtual_servers"][0]["after"]
        ),
        (&json!(100), &json!(0))
    );
    assert_eq!(
        (stage.weights(), stage.remembered()),
        (vec![100, 50, 7, 7], 0)
    );
    assert_eq!(std::fs::read_dir(stage.dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_host_that_does_not_have_it_says_so_and_succeeds() {
    let stage = Stage::new(pool(), |_, _| Ok(()));
    let other = json!({ "real_server": "10.1.0.9", "weight": 0 });
    let data = run(weight::Weight(stage.lvs.clone()), other).await.unwrap();
    assert_eq!(
        data,
        json!({ "real_server": "10.1.0.9", "changed": 0, "not_here": true })
    );
    let data = run(
        drain::Drain(stage.lvs.clone()),
        json!({ "real_server": "10.1.0.9" }),
    )
    .await
    .unwrap();
    assert_eq!(data["not_here"], true);
}

#[tokio::test]
async fn nothing_is_changed_when_the_weight_can_not_be_written_down() {
    let stage = Stage::new(pool(), |_, _| Ok(()));
    let lvs = Lvs {
        memory: Memory::at(&stage.dir.path().join("nowhere")),
        ..stage.lvs.clone()
    };
    let failure = run(drain::Drain(lvs), json!({ "real_server": "10.1.0.1" }))
        .await
        .unwrap_err();
    assert!(
        failure.reason.message.ends_with("; nothing was changed"),
        "{}",
        failure.reason.message
    );
    assert_eq!(stage.weights(), [100, 50, 7, 7]);
}

#[tokio::test]
async fn what_others_take_away_meanwhile_is_told_and_stops_nothing_else() {
    // The table is read; then keepalived takes the server out of one virtual server, and the other one's neighbour away.
    let stage = Stage::new(
        [
            pool(),
            vec![server("fwmark/7", &[("10.1.0.1:0", 3), ("10.1.0.2:0", 3)])],
        ]
        .concat(),
        |done, table| {
            if done == 2 {
                table[0].reals.remove(0);
                table[1].reals.remove(1);
            }
            Ok(())
        },
    );
    let args = json!({ "real_server": "10.1.0.1", "weight": 0 });
    let failure = run(weight::Weight(stage.lvs.clone()), args)
        .await
        .unwrap_err();
    let rows = failure.data["virtual_servers"].as_array().unwrap();
    let state = |name: &str| {
        rows.iter()
            .find(|row| row["virtual_server"] == name)
            .unwrap()["state"]
            .clone()
    };
    assert_eq!(state("tcp/192.0.2.10:80"), "gone");
    assert_eq!(state("tcp/192.0.2.10:443"), "refused-last");
    assert_eq!(state("fwmark/7"), "done");
    assert_eq!(
        failure.reason.message,
        "1 of 3 places were not changed; 10.1.0.1:443 in tcp/192.0.2.10:443: it would have been the last one by then"
    );
    assert_eq!(stage.weights(), [50, 7, 0, 3]);
}

#[tokio::test]
async fn a_weight_that_changed_meanwhile_is_the_one_to_go_back_to() {
    let stage = Stage::new(pool(), |done, table| {
        if done == 2 {
            table[0].reals[0].weight = 80;
        }
        Ok(())
    });
    let args = json!({ "real_server": "10.1.0.1:80", "weight": 0 });
    run(weight::Weight(stage.lvs.clone()), args).await.unwrap();
    run(
        restore::Restore(stage.again()),
        json!({ "real_server": "10.1.0.1:80" }),
    )
    .await
    .unwrap();
    assert_eq!(stage.weights(), [80, 50, 7, 7]);
}

#[tokio::test]
async fn a_former_weight_that_is_not_known_has_to_be_named() {
    let stage = Stage::new(
        vec![server("fwmark/7", &[("10.1.0.1:0", 0), ("10.1.0.2:0", 3)])],
        |_, _| Ok(()),
    );
    let failure = run(
        restore::Restore(stage.lvs.clone()),
        json!({ "real_server": "10.1.0.1" }),
    )
    .await
    .unwrap_err();
    assert_eq!(
        failure.reason.message,
        "no former weight of 10.1.0.1 is remembered on this host, and its weight is 0; weight=N sets one"
    );
    let data = run(
        restore::Restore(stage.lvs.clone()),
        json!({ "real_server": "10.1.0.2" }),
    )
    .await
    .unwrap();
    assert_eq!(states(&data), "unchanged");
    run(
        restore::Restore(stage.lvs.clone()),
        json!({ "real_server": "10.1.0.1", "weight": 9 }),
    )
    .await
    .unwrap();
    assert_eq!(stage.weights(), [9, 3]);
}

#[test]
fn arguments_that_mean_nothing_are_refused_before_the_job_is_recorded() {
    let stage = Stage::new(pool(), |_, _| Ok(()));
    let connections = connections::Connections {
        proc: stage.dir.path().to_owned(),
    };
    let drain = drain::Drain(stage.lvs.clone());
    let cases: &[(&dyn Action, Value, &str)] = &[
        (
            &drain,
            json!({ "real_server": "web1" }),
            "real_server: \"web1\" is no real server",
        ),
        (
            &drain,
            json!({ "real_server": "10.1.0.1", "virtual_server": "x" }),
            "virtual_server: \"x\" is no",
        ),
        (
            &connections,
            json!({ "client": "x" }),
            "client: the address of a client is wanted",
        ),
        (
            &connections,
            json!({ "real_server": "10.1.0.1:099" }),
            "real_server: \"10.1.0.1:099\" is to be spelt 10.1.0.1:99",
        ),
    ];
    for (action, args, want) in cases {
        let args = serde_json::from_value(args.clone()).unwrap();
        let reason = action.admit(&args).unwrap_err();
        assert_eq!(reason.code, ReasonCode::BadArgument);
        assert!(reason.message.starts_with(want), "{}", reason.message);
    }
}
