//! Load averages, from `/proc/loadavg`, by procfs's parser.

use muster_proto::snapshot::host::Load;
use procfs::{FromRead, LoadAverage};

use super::super::files::ParseError;
use super::super::rate::thousandth;
use super::{Part, PartFailed, Run};

pub(super) fn parse(text: &str) -> Result<Load, ParseError> {
    let load = LoadAverage::from_read(text.as_bytes())
        .map_err(|_| ParseError::at(0, "three averages, runnable/all and a pid", text))?;
    let averages = [load.one, load.five, load.fifteen];
    if !averages.iter().all(|average| average.is_finite()) {
        return Err(ParseError::at(0, "three averages", text)); // "NaN" and "inf" parse
    }
    let [load1, load5, load15] = averages.map(|average| thousandth(f64::from(average)));
    Ok(Load {
        load1,
        load5,
        load15,
        runnable: load.cur,
        threads: load.max,
    })
}

pub(super) struct LoadPart;

impl Part for LoadPart {
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed> {
        let path = run.proc("loadavg");
        let load =
            parse(&run.files.text(&path)?).map_err(|error| PartFailed::parse(&path, error))?;
        run.snapshot.load = Some(load);
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn reads_the_five_fields() {
        let want = Load {
            load1: 1.43,
            load5: 0.43,
            load15: 0.14,
            runnable: 7,
            threads: 118,
        };
        assert_eq!(parse("1.43 0.43 0.14 7/118 4676\n").unwrap(), want);
        for text in [
            "",
            "1.43 0.43",
            "a b c d e",
            "1 2 3 4 5",
            "NaN inf 0 1/2 3",
            "0 0 0 1/2",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
