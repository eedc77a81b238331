//! What `keepalived -t` says of a configuration. Pure.
//!
//! Its exit status alone says little: 2.2 ends with the same 5 over an unknown word and over a mere remark, and with 0
//! where the file is missing. So its lines are told apart, and one of a kind that is not known counts as an error.

/// Lines that are given at the most, of each kind.
const LINES_MAX: usize = 200;

/// What stands in lines that find nothing wrong, in lower case.
const REMARKS: &[&str] = &[
    "warning",
    "notice",
    "deprecated",
    "setting default",
    "defaulting",
    "ports don't match",
    "should be link local",
    "isn't what you want",
    "security violation",
    "reducing quorum",
    "exceeds total weight",
    "setting hysteresis",
    "script user",
    "opening file",
    "configuration file ",
    "starting keepalived",
    "running on linux",
    "command line",
    "max_auto_priority",
    "interface tracking",
];

/// The outcome of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// `None` where a signal ended it.
    pub(super) exit_code: Option<i32>,
    /// What is wrong.
    pub(super) errors: Vec<String>,
    /// What is remarked.
    pub(super) warnings: Vec<String>,
}

/// Judges a test by its status and its words.
///
/// # Errors
/// When this keepalived can't test a configuration, or did not come to an end.
pub(super) fn judge(exit_code: Option<i32>, text: &str) -> Result<Verdict, String> {
    let unknown = ["unrecognized option '", "invalid option -- "];
    if unknown.iter().any(|words| text.contains(words)) {
        return Err(
            "this keepalived can't test a configuration: it takes version 2.0 or later".to_owned(),
        );
    }
    let mut verdict = Verdict {
        exit_code,
        ..Verdict::default()
    };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let lower = line.to_ascii_lowercase();
        let remark = REMARKS.iter().any(|words| lower.contains(words));
        let lines = if remark {
            &mut verdict.warnings
        } else {
            &mut verdict.errors
        };
        if lines.len() < LINES_MAX && !lines.iter().any(|known| known == line) {
            lines.push(line.to_owned());
        }
    }
    match exit_code {
        None => Err("the test was ended by a signal".to_owned()),
        Some(code) if code != 0 && verdict.errors.is_empty() && verdict.warnings.is_empty() => {
            verdict
                .errors
                .push(format!("exit status {code} without a word"));
            Ok(verdict)
        }
        Some(_) => Ok(verdict),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../fixtures/keepalived/2.2.7/config_test.txt");

    #[test]
    fn words_and_not_the_status_decide() {
        for (code, text, errors, warnings) in [
            (0, "", 0, 0),
            (
                5,
                "Virtual server [192.0.2.99]:tcp:80: no forwarding method set, setting default NAT\n",
                0,
                1,
            ),
            (0, "Config files missing 'nosuch.conf'.\n", 1, 0),
            (
                5,
                "(bad1.conf: Line 5) Unknown keyword 'prioritee'\n(VI_1) Unknown interface!\n",
                2,
                0,
            ),
            (
                5,
                "There are 1 missing '}'s or extra '{'s\nThere are 1 missing '}'s or extra '{'s\n",
                1,
                0,
            ),
            (
                5,
                "(b: Line 4) Invalid real server ip address/port 300.1.1.1/8080 - skipping\n",
                1,
                0,
            ),
            (
                4,
                "(b: Line 1) WARNING - interface x for vrrp_instance V doesn't exist\nNon-existent interface specified in configuration",
                1,
                1,
            ),
            (1, "", 1, 0),
        ] {
            let verdict = judge(Some(code), text).unwrap();
            assert_eq!(
                (verdict.errors.len(), verdict.warnings.len()),
                (errors, warnings),
                "{text}"
            );
        }
        let sample: Vec<&str> = SAMPLE
            .lines()
            .filter(|line| !line.contains("rc="))
            .collect();
        let verdict = judge(Some(5), &sample.join("\n")).unwrap();
        assert_eq!((verdict.errors.len(), verdict.warnings.len()), (0, 3));
    }

    #[test]
    fn what_is_no_test_is_no_verdict() {
        assert!(judge(Some(1), "keepalived: unrecognized option '-t'\nUsage:").is_err());
        assert!(judge(None, "").is_err());
    }
}
