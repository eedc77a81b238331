//! What the names of rotated files look like beside the name of the file they came from. Pure.

/// Endings of files that are packed: their lines can't be read any more.
const PACKED: [&str; 7] = [".gz", ".xz", ".bz2", ".zst", ".lz4", ".Z", ".zip"];

/// Longer numbers are dates.
const COUNTER_DIGITS_MAX: usize = 5;

/// Whether a file of this name is packed.
pub(super) fn is_packed(name: &str) -> bool {
    PACKED.iter().any(|ending| name.ends_with(ending))
}

/// Whether `name` is what a rotation by number or date makes of `base`: `app.log.1`, `app.log-20261122`,
/// `app-2026-11-22.log`, `app.1.log`. A packing ending is not looked at.
pub(super) fn is_rotation_of(base: &str, name: &str) -> bool {
    let ending = PACKED.iter().find_map(|ending| name.strip_suffix(ending));
    let name = ending.unwrap_or(name);
    if let Some(rest) = name.strip_prefix(base) {
        return is_counter(rest);
    }
    let Some((stem, extension)) = base.rsplit_once('.') else {
        return false;
    };
    name.strip_prefix(stem)
        .and_then(|rest| rest.strip_suffix(extension)?.strip_suffix('.'))
        .is_some_and(is_counter)
}

/// Whether `name` begins as `base` does, so that it may be a copy of it by any name.
pub(super) fn is_kin_of(base: &str, name: &str) -> bool {
    let stem = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
    name != base && !stem.is_empty() && name.starts_with(stem)
}

/// What orders rotated names that were written to at the same moment, oldest first: the higher number, the earlier date.
pub(super) fn age(name: &str) -> (i64, String) {
    let ending = PACKED.iter().find_map(|ending| name.strip_suffix(ending));
    let name = ending.unwrap_or(name);
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).count();
    let last = name
        .rsplit(|letter: char| !letter.is_ascii_digit())
        .find(|run| !run.is_empty());
    let number = last.filter(|run| run.len() <= COUNTER_DIGITS_MAX && digits(name) == run.len());
    let number: i64 = number.and_then(|run| run.parse().ok()).unwrap_or(0);
    (-number, name.to_owned())
}

/// A separator, and then a number or a time.
fn is_counter(text: &str) -> bool {
    let Some(counter) = text.strip_prefix(['.', '-', '_']) else {
        return false;
    };
    counter.starts_with(|first: char| first.is_ascii_digit())
        && counter
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".-_:TZ".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_have_a_number_or_a_date() {
        for (base, name, want) in [
            ("syslog", "syslog.1", true),
            ("syslog", "syslog.12", true),
            ("syslog", "syslog-20261122", true),
            ("syslog", "syslog-20261122.gz", true),
            ("syslog", "syslog", false),
            ("syslog", "syslog.bak", false),
            ("syslog", "syslog2", false),
            ("app.log", "app.log.1", true),
            ("app.log", "app-2026-11-22.log", true),
            ("app.log", "app.1.log", true),
            ("app.log", "app_2026-11-22T10:00:00Z.log", true),
            ("app.log", "app.log.err", false),
            ("app.log", "app-ssl.log", false),
            ("app.log", "application.log", false),
            (".log", ".1.log", true),
        ] {
            assert_eq!(is_rotation_of(base, name), want, "{base} {name}");
        }
        assert!(age("a.log.10") < age("a.log.2") && age("a.log.2.gz") < age("a.log.1"));
        assert!(age("a.log-20261121") < age("a.log-20261122"));
        assert!(is_packed("syslog.2.gz") && !is_packed("syslog.2"));
        assert!(is_kin_of("app.log", "app.bak") && !is_kin_of("app.log", "app.log"));
    }
}
