//! Whatever the table and whatever others do: the last one stays, unless the job says otherwise.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Jobs that come one after the other, while others take real servers out and put them in, never take the last one:
    /// whenever a virtual server has none left, it was not our write that did it.
    #[test]
    fn no_write_of_ours_ever_takes_the_last_one(
        jobs in prop::collection::vec((0..3_usize, prop::option::of(0..2_usize), prop_oneof![3 => Just(0), 1 => 1..9_u32]), 1..6),
        moves in prop::collection::vec((1..40_usize, 0..2_usize, 0..3_usize, 0..3_u32), 0..12),
    ) {
        let name = |real: usize| format!("10.1.0.{}:80", real + 1);
        let table: Vec<VirtualServer> = ["tcp/192.0.2.1:80", "tcp/192.0.2.2:80"]
            .into_iter()
            .map(|key| server(key, &[("10.1.0.1:80", 1), ("10.1.0.2:80", 1), ("10.1.0.3:80", 1)]))
            .collect();
        let stage = Stage::new(table, move |done, table| {
            for (_, at, real, weight) in moves.iter().filter(|(when, ..)| *when == done) {
                let key = name(*real).parse().unwrap();
                let reals = &mut table[*at].reals;
                reals.retain(|real| real.key != key);
                if *weight > 0 {
                    let again = server("fwmark/1", &[(&name(*real), *weight - 1)]);
                    reals.extend(again.reals);
                }
            }
            Ok(())
        });
        for (real, only, weight) in jobs {
            let wish = Wish {
                real: name(real).parse().unwrap(),
                virtual_server: only.map(|at| format!("192.0.2.{}", at + 1).parse().unwrap()),
                to: plan::To::Weight(weight),
                force: false,
            };
            let guard = Guard(stage.inside.clone());
            let _ = deed::carry_out(&guard, &stage.lvs.memory, &wish, false);
        }
    }
}

/// A shelf that looks at the table around every write.
struct Guard(Arc<Lock<Inside>>);

struct Watched(Opened);

impl Director for Guard {
    fn open(&self) -> Result<Box<dyn Table>, Fault> {
        Ok(Box::new(Watched(Opened(self.0.clone()))))
    }
}

impl Table for Watched {
    fn all(&mut self) -> Result<Vec<VirtualServer>, Fault> {
        self.0.all()
    }

    fn one(&mut self, key: &ServiceKey) -> Result<Option<VirtualServer>, Fault> {
        self.0.one(key)
    }

    fn set_weight(
        &mut self,
        key: &ServiceKey,
        real: &DestinationKey,
        weight: u32,
    ) -> Result<(), Fault> {
        // Between the last look and the write nothing can be shut out, on a real kernel neither; so nothing moves here.
        let mut inside = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let server = inside
            .table
            .iter_mut()
            .find(|server| server.key == *key)
            .unwrap();
        let up =
            |server: &VirtualServer| server.reals.iter().filter(|real| real.weight > 0).count();
        let before = up(server);
        server
            .reals
            .iter_mut()
            .find(|known| known.key == *real)
            .unwrap()
            .weight = weight;
        assert!(
            before == 0 || up(server) > 0,
            "the last one of {key} was taken away"
        );
        Ok(())
    }
}
