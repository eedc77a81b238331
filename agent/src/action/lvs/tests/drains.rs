//! Drains: until nothing is left, until their time is over, and what others do meanwhile.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_drain_waits_until_nothing_is_left() {
    let stage = Stage::new(pool(), |done, table| {
        // Read, two re-reads, two writes; then a look is two reads.
        let looks = (done.saturating_sub(5) as u64).div_ceil(2);
        table[0].reals[0].load.active = 3_u64.saturating_sub(looks);
        table[0].reals[0].load.inactive = 9;
        Ok(())
    });
    let (call, mut pieces) = call(json!({ "real_server": "10.1.0.1" }));
    let data = drain::Drain(stage.lvs.clone()).run(call).await.unwrap();
    assert_eq!(
        (&data["state"], &data["active"], &data["inactive"]),
        (&json!("drained"), &json!(0), &json!(9))
    );
    assert_eq!(
        text(&mut pieces),
        "2 active, 9 inactive connections and 0 persistent clients left\n\
         1 active, 9 inactive connections and 0 persistent clients left\n\
         0 active, 9 inactive connections and 0 persistent clients left\n"
    );
    assert_eq!(
        (stage.weights(), stage.remembered()),
        (vec![0, 50, 0, 7], 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_not_done_in_time_fails_and_leaves_the_weight_at_nothing() {
    for (args, run_limit_s, want_s) in [
        (
            json!({ "real_server": "10.1.0.1:80", "limit_s": 30 }),
            900,
            30,
        ),
        (json!({ "real_server": "10.1.0.1:80" }), 100, 98),
        (
            json!({ "real_server": "10.1.0.1:80", "inactive": true, "limit_s": 5 }),
            900,
            5,
        ),
    ] {
        let stage = Stage::new(pool(), |_, _| Ok(()));
        stage.load(u64::from(args["inactive"] != json!(true)), 4);
        let (mut call, mut pieces) = call(args);
        call.run_limit = Duration::from_secs(run_limit_s);
        let started = tokio::time::Instant::now();
        let failure = drain::Drain(stage.lvs.clone()).run(call).await.unwrap_err();
        assert_eq!(started.elapsed().as_secs(), want_s);
        assert_eq!(failure.data["state"], "limit-over");
        let why = &failure.reason.message;
        assert!(
            why.starts_with(&format!("not drained within {want_s} s: ")),
            "{why}"
        );
        assert!(
            why.ends_with("its weight stays 0, lvs.restore takes that back"),
            "{why}"
        );
        assert_eq!(text(&mut pieces).lines().count() as u64, 1 + want_s / 10);
        assert_eq!((stage.weights()[0], stage.remembered()), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_ended_says_how_it_leaves_things() {
    let stage = Stage::new(pool(), |_, _| Ok(()));
    stage.load(5, 0);
    let (call, _pieces) = call(json!({ "real_server": "10.1.0.1:80" }));
    let stop = call.stop.clone();
    let drain = drain::Drain(stage.lvs.clone());
    let (ended, ()) = tokio::join!(drain.run(call), async {
        tokio::time::sleep(Duration::from_millis(3500)).await;
        stop.cancel();
    });
    let failure = ended.unwrap_err();
    assert_eq!(
        (&failure.data["state"], &failure.data["active"]),
        (&json!("ended"), &json!(5))
    );
    assert_eq!(
        failure.data["note"],
        "the weight stays 0; lvs.restore takes that back"
    );
    assert_eq!(stage.weights(), [0, 50, 7, 7]);
    run(
        restore::Restore(stage.again()),
        json!({ "real_server": "10.1.0.1" }),
    )
    .await
    .unwrap();
    assert_eq!(stage.weights(), [100, 50, 7, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_raised_is_not_drained_and_one_that_is_gone_has_nothing_left() {
    let raised = Stage::new(pool(), |done, table| {
        if done == 8 {
            table[0].reals[0].weight = 100;
        }
        Ok(())
    });
    raised.load(5, 0);
    let failure = run(
        drain::Drain(raised.lvs.clone()),
        json!({ "real_server": "10.1.0.1" }),
    )
    .await
    .unwrap_err();
    assert_eq!(
        failure.reason.message,
        "somebody gave 10.1.0.1 a weight again while it was drained: 100 in tcp/192.0.2.10:80; 10 active, 0 inactive connections and 0 persistent clients left"
    );
    let gone = Stage::new(pool(), |done, table| {
        if done == 8 {
            table.remove(0);
        }
        if done > 9 {
            table[0].reals[0].load.active = 0;
        }
        Ok(())
    });
    gone.load(5, 0);
    let data = run(
        drain::Drain(gone.lvs.clone()),
        json!({ "real_server": "10.1.0.1" }),
    )
    .await
    .unwrap();
    assert_eq!(
        (&data["state"], states(&data).as_str()),
        (&json!("drained"), "gone done")
    );
    // What is gone comes back with a weight of its own.
    let data = run(
        restore::Restore(gone.again()),
        json!({ "real_server": "10.1.0.1" }),
    )
    .await
    .unwrap();
    assert_eq!(
        (&data["forgotten"], states(&data).as_str()),
        (&json!(1), "done")
    );
    assert_eq!(gone.remembered(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_fails_counts_as_none() {
    let stage = Stage::new(pool(), |done, _| {
        if (6..20).contains(&done) {
            return Err(Fault::Other("the kernel is busy".to_owned()));
        }
        Ok(())
    });
    let (call, mut pieces) = call(json!({ "real_server": "10.1.0.1" }));
    let data = drain::Drain(stage.lvs.clone()).run(call).await.unwrap();
    assert_eq!(data["state"], "drained");
    let text = text(&mut pieces);
    assert!(
        text.starts_with("the connections could not be counted: the kernel is busy\n"),
        "{text}"
    );
}
