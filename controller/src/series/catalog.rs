//! A small number for each declared series, in place of its three pointers.

use std::collections::HashMap;
use std::sync::LazyLock;

use muster_proto::snapshot::fields::{self, Series};

/// Which declared series, in the order of the declarations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Code(u16);

static ALL: LazyLock<Vec<Series>> =
    LazyLock::new(|| fields::all().take(usize::from(u16::MAX)).collect());

static CODES: LazyLock<HashMap<Series, Code>> = LazyLock::new(|| {
    let codes = (0..u16::MAX).map(Code);
    ALL.iter().copied().zip(codes).collect()
});

impl Code {
    /// The number of a series; none for what is not declared.
    pub(super) fn of(series: Series) -> Option<Self> {
        CODES.get(&series).copied()
    }

    /// The series of this number.
    pub(super) fn series(self) -> Option<Series> {
        ALL.get(usize::from(self.0)).copied()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_declared_series_has_its_number() {
        for series in fields::all() {
            assert_eq!(Code::of(series).unwrap().series(), Some(series));
        }
    }
}
