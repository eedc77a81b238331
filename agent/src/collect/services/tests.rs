use std::sync::Arc;

use tokio::sync::Notify;

use super::*;

fn services(section: &str, wake: Wake) -> Services {
    Services::new(&CollectContext {
        section: section.parse().unwrap(),
        wake,
        ..CollectContext::default()
    })
    .unwrap()
}

const NO_BUS: &str = "units = [\"nginx\"]\nbus = \"unix:path=/nonexistent/muster-test-bus\"";

fn at(seconds: u64) -> SampleTime {
    SampleTime {
        wall_ms: 1_795_000_000_000 + seconds * 1000,
        mono_ms: seconds * 1000,
    }
}

fn active(pid: u32) -> Box<facts::Facts> {
    Box::new(facts::Facts {
        active_state: "active".to_owned(),
        main_pid: pid,
        active_since_mono_us: u64::from(pid),
        ..facts::Facts::default()
    })
}

#[test]
fn without_units_it_is_not_wanted() {
    assert!(!services("", Wake::default()).is_wanted());
    assert!(services(NO_BUS, Wake::default()).is_wanted());
}

#[test]
fn without_a_bus_the_snapshot_says_so() {
    let mut once = services(NO_BUS, Wake::default());
    for run in 0..2 {
        let (snapshot, changes) = once.sample(at(run)).unwrap();
        let error = snapshot.manager.error.unwrap();
        assert!(error.contains("/nonexistent/muster-test-bus"), "{error}");
        assert!(!snapshot.manager.connected && snapshot.manager.since_ms.is_some());
        assert_eq!((changes.len(), snapshot.units.len()), (0, 0));
    }
    assert!(once.listener.is_none());
}

#[test]
fn the_thread_ends_with_the_collector_and_wakes_it_before() {
    let ear = Arc::<Notify>::default();
    let mut lasting = services(NO_BUS, Wake::heard_by(ear.clone()));
    let (snapshot, _) = lasting.sample(at(0)).unwrap();
    assert!(
        snapshot.manager.error.is_some(),
        "the first run has waited for the first attempt"
    );
    let inbox = lasting.listener.as_ref().unwrap().inbox.clone();
    assert!(Arc::strong_count(&inbox) > 2, "the thread holds it");
    drop(lasting);
    let patience = std::time::Instant::now();
    while Arc::strong_count(&inbox) > 1 {
        assert!(
            patience.elapsed() < Duration::from_secs(60),
            "the thread lives on"
        );
        std::thread::yield_now();
    }
}

#[test]
fn what_is_found_is_no_news_and_what_comes_later_is() {
    let mut services = services(NO_BUS, Wake::default());
    let at = Instant::now();
    let unit = |name: &str, facts| News::Unit {
        name: name.to_owned(),
        facts,
        at,
    };
    let whole = || News::Whole {
        version: None,
        at_ms: 5,
    };
    let mut hear = |news| services.hear(news).map(|change| (change.topic, change.key));
    assert_eq!(hear(unit("a.service", active(1))), None);
    assert_eq!(hear(whole()), None);
    let topic = |topic, key: &str| Some((topic, key.to_owned()));
    assert_eq!(
        hear(unit("app@1.service", active(2))),
        topic("service.started", "app@1.service")
    );
    assert_eq!(
        hear(unit("a.service", active(3))),
        topic("service.restarted", "a.service")
    );
    let gone = |name: &str| News::Gone {
        name: name.to_owned(),
    };
    assert_eq!(
        hear(gone("a.service")),
        topic("service.stopped", "a.service")
    );
    assert_eq!(hear(gone("b.service")), None);
    // A bus that is back at once is not worth a word; one that stays away is, once.
    let lost = || News::Lost {
        error: "no bus".to_owned(),
        at_ms: 6,
    };
    assert_eq!([hear(lost()), hear(whole())], [None, None]);
    assert_eq!(hear(lost()), None);
    assert_eq!(hear(lost()), topic("service.watch.lost", "systemd"));
    assert_eq!(hear(lost()), None);
    // What it did meanwhile comes before it is said that all is seen again.
    assert_eq!(
        hear(unit("app@1.service", active(9))),
        topic("service.restarted", "app@1.service")
    );
    assert_eq!(hear(whole()), topic("service.watch.restored", "systemd"));
}
