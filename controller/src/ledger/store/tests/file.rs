//! The file itself: shared by programs, damaged, newer than the program, and its writer killed.

use super::*;

#[test]
fn the_file_survives_being_closed_and_is_shared() {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, notice) = Store::open(dir.path()).unwrap();
    assert_eq!(notice, None);
    let (mut two, _) = Store::open(dir.path()).unwrap();
    let story = story();
    one.apply(&story[..4], NOW).unwrap();
    two.apply(&story, NOW).unwrap();
    one.apply(&story[4..], NOW).unwrap();
    check_story(&mut one);
    assert_eq!(
        two.counters().unwrap().get("undecodable"),
        Some(&1),
        "nothing was written twice"
    );
    drop((one, two));
    let (mut again, _) = Store::open(dir.path()).unwrap();
    check_story(&mut again);
}

#[test]
fn two_programs_that_write_at_once_write_everything_once() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let entries: Vec<Entry> = std::iter::once(opened(0, 1, 100, &[]))
        .chain((0..100).map(|n| result(u64::from(n) + 1, 1, n, Outcome::Succeeded)))
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let (mut store, _) = Store::open(dir.path()).unwrap();
                entries
                    .chunks(7)
                    .for_each(|batch| store.apply(batch, NOW).unwrap());
            });
        }
    });
    let (mut store, _) = Store::open(dir.path()).unwrap();
    let all = states(&mut store, 1);
    assert_eq!(
        (
            all.len(),
            all.iter()
                .filter(|one| one.1 == HostState::Succeeded)
                .count()
        ),
        (100, 100)
    );
    assert_eq!(
        store.counters().unwrap(),
        BTreeMap::new(),
        "nothing was seen twice"
    );
}

#[test]
fn a_file_that_is_begun_anew_is_noticed_by_the_other_program() {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, _) = Store::open(dir.path()).unwrap();
    let (mut two, _) = Store::open(dir.path()).unwrap();
    two.apply(&story(), NOW).unwrap();
    one.begin_anew().unwrap();
    assert!(matches!(
        two.apply(&story(), NOW),
        Err(StoreError::Superseded)
    ));
    two.follow().unwrap();
    assert_eq!(two.position(Stream::Ledger).unwrap(), None);
    two.apply(&story(), NOW).unwrap();
    check_story(&mut one);
}

#[test]
fn a_damaged_file_is_set_aside_and_built_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    std::fs::write(
        &path,
        "not a database at all, and longer than its header would be".repeat(40),
    )
    .unwrap();
    let (mut store, notice) = Store::open(dir.path()).unwrap();
    assert!(notice.unwrap().contains("set aside"));
    store.apply(&story(), NOW).unwrap();
    check_story(&mut store);
    assert!(dir.path().join("ledger.sqlite.damaged").exists());
}

#[test]
fn damage_within_the_file_is_found_when_it_is_met() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let (mut store, _) = Store::open(dir.path()).unwrap();
    store.apply(&story(), NOW).unwrap();
    drop(store); // the last one out writes the journal into the file
    let mut bytes = std::fs::read(&path).unwrap();
    let pages = bytes.len() / 4096;
    assert!(pages > 4);
    bytes[4096 * 2..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let mut store = match Store::open(dir.path()) {
        Ok((store, None)) => store,
        other => unreachable!("the head of the file is whole: {other:?}"),
    };
    let met = store.apply(&[result(40, 1, 2, Outcome::Succeeded)], NOW);
    assert!(matches!(met, Err(StoreError::Damaged { .. })), "{met:?}");
    assert!(store.replace().unwrap().contains("set aside"));
    store.apply(&story(), NOW).unwrap();
    check_story(&mut store);
}

#[test]
fn a_file_of_a_newer_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    store
        .db
        .pragma_update(None, "user_version", SCHEMA_VERSION + 1)
        .unwrap();
    drop(store);
    assert!(matches!(
        Store::open(dir.path()),
        Err(StoreError::Newer { .. })
    ));
}

const KILLED_DIR: &str = "MUSTER_TEST_KILLED_DIR";

/// Run by the test below in a process of its own: writes batches until it is killed.
#[test]
#[ignore = "the other half of a_writer_that_is_killed_leaves_rows_and_offset_that_agree"]
fn a_writer_that_never_ends() {
    let Some(dir) = std::env::var_os(KILLED_DIR) else {
        return;
    };
    let (mut store, _) = Store::open(Path::new(&dir)).unwrap();
    for round in 0_u64.. {
        let number = u8::try_from(round % 200).unwrap();
        let fresh = |entry: Entry, nth: u64| Entry {
            message_id: Some(MessageId::from_parts(
                NOW + round,
                [u8::try_from(nth).unwrap(); 10],
            )),
            ..entry
        };
        let batch = [
            fresh(opened(round * 3 + 1, number, 3, &[]), 1),
            fresh(result(round * 3 + 2, number, 0, Outcome::Succeeded), 2),
            fresh(result(round * 3 + 3, number, 1, Outcome::Failed), 3),
        ];
        store.apply(&batch, NOW).unwrap();
    }
}

#[test]
fn a_writer_that_is_killed_leaves_rows_and_offset_that_agree() {
    for life_batches in [1_u64, 5, 40] {
        let dir = tempfile::tempdir().unwrap();
        let (mut reader, _) = Store::open(dir.path()).unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(
                [
                    "--ignored",
                    "--exact",
                    concat!(module_path!(), "::a_writer_that_never_ends"),
                ]
                .map(|arg| {
                    arg.split_once("::")
                        .filter(|_| arg.starts_with("muster"))
                        .map_or(arg, |(_, path)| path)
                }),
            )
            .env(KILLED_DIR, dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let done = |reader: &mut Store| {
            reader
                .position(Stream::Ledger)
                .unwrap()
                .map_or(0, |at| at.offset / 3)
        };
        while done(&mut reader) < life_batches {
            assert_eq!(
                child.try_wait().unwrap(),
                None,
                "the writer ended by itself"
            );
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        drop(reader);
        let (mut again, notice) = Store::open(dir.path()).unwrap();
        assert_eq!(notice, None);
        let batches = done(&mut again);
        assert!(batches >= life_batches);
        let jobs = usize::try_from(batches.min(200)).unwrap();
        assert_eq!(
            again.jobs(0, 1_000).unwrap().len(),
            jobs,
            "as many jobs as the offset says"
        );
        for number in 0..u8::try_from(jobs).unwrap() {
            assert_eq!(states(&mut again, number).len(), 3);
        }
    }
}
