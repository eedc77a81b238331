//! The lines of a dump: how deep they stand, and what they say. Knows no record.

/// A line that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Blanks before the text.
    pub(super) depth: usize,
    /// The text without blanks around it.
    pub(super) text: &'a str,
}

/// The lines that say something.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter_map(|line| {
        let inner = line.trim_start_matches([' ', '\t']);
        let depth = line.len() - inner.len();
        let text = inner.trim_end();
        (!text.is_empty()).then_some(Line { depth, text })
    })
}

impl<'a> Line<'a> {
    /// `LVS Topology` of `------< LVS Topology >------`.
    pub(super) fn heading(self) -> Option<&'a str> {
        let inner = self.text.strip_prefix("------<")?;
        Some(inner.trim_end_matches('-').trim_end_matches('>').trim())
    }

    /// `State` and `MASTER` of `State = MASTER`; of `Flags: none` too.
    pub(super) fn pair(self) -> Option<(&'a str, &'a str)> {
        let (key, value) = self
            .text
            .split_once('=')
            .or_else(|| self.text.split_once(": "))?;
        Some((key.trim(), value.trim()))
    }

    /// What a list is of: `Tracked scripts` of `Tracked scripts :`, `Virtual IP` of `Virtual IP (1):` and, in old
    /// dumps, of `Virtual IP = 1`.
    pub(super) fn list(self) -> Option<&'a str> {
        let name = match self.text.strip_suffix(':') {
            Some(name) => name,
            None => {
                let (name, count) = self.text.split_once('=')?;
                count.trim().parse::<u32>().ok()?;
                name
            }
        };
        let name = name.split('(').next().unwrap_or(name);
        Some(name.trim())
    }
}

/// The whole number that `text` begins with.
pub(super) fn integer(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let end = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || (*at == 0 && *c == '-')))
        .map_or(text.len(), |(at, _)| at);
    text.get(..end)?.parse().ok()
}

/// The whole number without a sign that `text` begins with.
pub(super) fn count(text: &str) -> Option<u64> {
    integer(text).and_then(|number| number.try_into().ok())
}

/// The same, small.
pub(super) fn small(text: &str) -> Option<u32> {
    integer(text).and_then(|number| number.try_into().ok())
}

/// A yes or a no in any of keepalived's words.
pub(super) fn truth(text: &str) -> Option<bool> {
    let word = text.split([' ', ',', '(']).next()?.to_ascii_lowercase();
    match word.as_str() {
        "1" | "yes" | "true" | "on" | "enabled" | "up" | "set" => Some(true),
        "0" | "no" | "false" | "off" | "disabled" | "down" | "unset" => Some(false),
        _ => None,
    }
}

/// Milliseconds of `1 sec`, `1000 milli-sec`, `0.50 sec`, `2000000 us`, `5.000000`; seconds where no unit stands.
pub(super) fn span_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let number: f64 = text.get(..end)?.parse().ok()?;
    let unit = text.get(end..)?.trim_start();
    let factor = if unit.starts_with("milli") || unit.starts_with("ms") {
        1.0
    } else if unit.starts_with("us") || unit.starts_with("micro") {
        0.001
    } else {
        1000.0
    };
    rounded(number * factor)
}

/// Milliseconds since 1970 of `1795357886.629934 (Sun Nov 22 …)`, whose fraction old dumps do not have.
pub(super) fn moment_ms(text: &str) -> Option<u64> {
    let number = text.split_ascii_whitespace().next()?;
    let (seconds, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let seconds: u64 = seconds.parse().ok()?;
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    let at = seconds
        .checked_mul(1000)?
        .checked_add(millis.parse().ok()?)?;
    (at > 0).then_some(at)
}

/// A count of milliseconds that came as a fraction.
pub(super) fn rounded(ms: f64) -> Option<u64> {
    const YEAR_MS: f64 = 365.0 * 86_400_000.0; // longer than any interval of keepalived
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded on both sides just before"
    )]
    (0.0..=YEAR_MS).contains(&ms).then(|| ms.round() as u64)
}

/// `value` up to the first comma.
pub(super) fn until_comma(value: &str) -> &str {
    value.split(',').next().unwrap_or(value).trim()
}

/// What stands behind `name = ` within a line of several: `8080` for `RPORT` in `RIP = 10.8.1.2, RPORT = 8080`.
pub(super) fn within<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = text;
    loop {
        let at = rest.find(name)?;
        let (before, found) = rest.split_at(at);
        let behind = found.get(name.len()..)?;
        let whole = before.is_empty() || before.ends_with([' ', ',']);
        if let Some(value) = behind.trim_start().strip_prefix('=')
            && whole
        {
            return value.trim_start().split([',', ' ']).next();
        }
        rest = behind;
    }
}
