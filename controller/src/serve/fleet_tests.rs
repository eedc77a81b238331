//! What the fleet tells, step by step.
#![expect(clippy::unwrap_used, reason = "tests")]

use muster_proto::presence::OutboxDepth;

use super::*;

/// A host's word.
pub(crate) fn word(host: &str, at_ms: u64) -> Presence {
    Presence {
        host: host.parse().unwrap(),
        at_ms,
        interval_ms: 10_000,
        seq: 0,
        goodbye: false,
        version: "1".into(),
        boot_id: String::new(),
        started_at_ms: 1,
        labels: BTreeMap::new(),
        facts: BTreeMap::new(),
        outbox: OutboxDepth::default(),
        last_job: None,
        last_confirm_at_ms: None,
        jobs_open: 0,
        failing: BTreeMap::new(),
    }
}

/// A fleet and what was told of it.
struct Scene(Fleet, Told);

impl Scene {
    fn of(hosts: usize) -> Self {
        let mut scene = Self(Fleet::default(), Told::default());
        scene.heard(0..hosts, 0);
        scene
    }

    fn heard(&mut self, hosts: std::ops::Range<usize>, now_ms: u64) {
        for number in hosts {
            self.0.hear(word(&format!("h{number}"), now_ms), now_ms);
        }
    }

    /// A look at the clock by one who leads.
    fn tick(&mut self, now_ms: u64) -> Vec<Change> {
        self.0.tick(now_ms);
        let changes = self.0.untold(&self.1, now_ms);
        changes.iter().for_each(|change| self.1.note(change));
        changes
    }
}

/// The changes without their ids: `lost h0`, `back h0`.
fn named(changes: &[Change]) -> Vec<String> {
    let name = |change: &Change| match change {
        Change::Lost { host, seen_ms, .. } => format!("lost {host} {seen_ms}"),
        Change::Back { host, .. } => format!("back {host}"),
        other => format!("{other:?}"),
    };
    changes.iter().map(name).collect()
}

#[test]
fn a_host_is_lost_once_and_back_once() {
    let mut scene = Scene::of(10);
    for second in 1..=60 {
        scene.heard(1..10, second * 1000);
        let want: &[&str] = if second == 31 { &["lost h0 0"] } else { &[] };
        assert_eq!(named(&scene.tick(second * 1000)), want, "at {second} s");
    }
    scene.heard(0..10, 61_000);
    assert_eq!(named(&scene.tick(61_000)), ["back h0"]);
    assert_eq!(scene.tick(62_000), []);
}

#[test]
fn who_takes_over_tells_what_was_not_told_and_nothing_again() {
    let mut scene = Scene::of(10);
    scene.heard(2..10, 20_000);
    scene.0.tick(31_000);
    // The one who led before has told of h0, and died before it told of h1.
    let id = MessageId::from_bytes([1; 16]);
    scene.1.lost.insert("h0".parse().unwrap(), id);
    assert_eq!(named(&scene.tick(31_001)), ["lost h1 0"]);
}

#[test]
fn what_two_tell_has_one_id_and_what_is_told_again_later_another() {
    let mut ids = Vec::new();
    for delay_ms in [0, 300] {
        // The same words, heard at different times.
        let mut scene = Scene::of(0);
        let mut tell = |at_ms| {
            scene.0.hear(word("h0", at_ms), at_ms + delay_ms);
            scene.tick(at_ms + delay_ms);
            scene.tick(at_ms + 40_000);
            scene.1.clone()
        };
        let told = [0, 50_000, 100_000].map(|at_ms| tell(at_ms).lost.into_values().next());
        assert!(told[0].is_some() && told[0] != told[1] && told[1] != told[2]);
        ids.push(told);
    }
    assert_eq!(ids.first(), ids.last());
}

#[test]
fn two_that_are_back_are_two() {
    let mut scene = Scene::of(10);
    scene.heard(2..10, 40_000);
    scene.tick(40_000);
    scene.heard(0..10, 41_000);
    let back = scene.tick(41_000);
    assert_eq!(named(&back), ["back h0", "back h1"]);
    let ids: BTreeMap<_, _> = back
        .iter()
        .filter_map(|change| match change {
            Change::Back { host, id } => Some((*id, host)),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn one_that_said_goodbye_is_not_lost() {
    let mut scene = Scene::of(1);
    let mut goodbye = word("h0", 1_000);
    goodbye.goodbye = true;
    scene.0.hear(goodbye.clone(), 1_000);
    assert_eq!(scene.tick(100_000), []);
    // Started anew, and the old agent's goodbye comes late.
    let mut anew = word("h0", 2_000);
    anew.started_at_ms = 2_000;
    scene.0.hear(anew, 2_000);
    scene.0.hear(goodbye, 2_001);
    assert_eq!(scene.0.count(HostState::There), 1);
}

#[test]
fn one_whose_clock_was_set_back_is_heard_and_not_lost() {
    let mut scene = Scene::of(1);
    let mut anew = word("h0", 100_000);
    (anew.started_at_ms, anew.seq) = (0, 1);
    let mut first = word("h0", 1_000);
    first.started_at_ms = 28_800_000;
    scene.0.hear(first, 1_000);
    scene.0.hear(anew, 100_000);
    assert_eq!(scene.tick(101_000), []);
    assert_eq!(scene.0.count(HostState::There), 1);
}

#[test]
fn a_silence_of_many_is_one_change_and_ends_with_those_who_are_still_silent() {
    let mut scene = Scene::of(10);
    let began = Change::SilenceBegan {
        silent: 10,
        hosts: 10,
    };
    assert_eq!(scene.tick(26_000), [began]);
    assert_eq!(scene.tick(27_000), []);
    // They come back one after the other, and most of those who are late are not lost.
    scene.heard(0..6, 40_000);
    let ended = Change::SilenceEnded { silent: 4 };
    assert_eq!(scene.tick(40_000), [ended]);
    for second in 41..=70 {
        scene.heard(0..8, second * 1000);
        assert_eq!(scene.tick(second * 1000), [], "at {second} s");
    }
    scene.heard(0..8, 71_000);
    let told = scene.tick(71_000);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(scene.0.count(HostState::Lost), 2);
}

#[test]
fn a_silence_that_does_not_end_names_its_hosts_in_the_end() {
    let mut scene = Scene::of(4);
    scene.tick(26_000);
    assert_eq!(scene.tick(26_000 + SILENCE_HOLD_MS - 1), []);
    assert_eq!(scene.tick(26_000 + SILENCE_HOLD_MS).len(), 5);
}

#[test]
fn who_was_deaf_gives_everybody_their_time_anew() {
    let mut scene = Scene::of(10);
    scene.0.listening_from(100_000);
    assert_eq!(scene.tick(129_999), []);
    scene.heard(1..10, 130_000);
    assert_eq!(scene.tick(130_001).len(), 1);
}

#[test]
fn the_number_of_hosts_is_bounded() {
    let scene = Scene::of(HOSTS_MAX + 5);
    assert_eq!((scene.0.hosts().len(), scene.0.refused), (HOSTS_MAX, 5));
}
