//! Source text into words and marks: what is in comments and literals is gone, and nothing else is understood.

/// A piece of source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// An identifier or keyword; literals become `_`, since what they say is no name.
    Word(String),
    /// Any other character that is not white space.
    Mark(char),
}

/// Where a token stands, from 1.
pub(super) type Line = usize;

/// Every token of a text, with its line.
pub(super) fn tokens(text: &str) -> Vec<(Line, Token)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, token) = next_token(rest, first);
        tokens.extend(token.map(|token| (line, token)));
        let (taken, left) = rest.split_at(length);
        line += taken.matches('\n').count();
        rest = left;
    }
    tokens
}

/// The length in bytes of what `rest` begins with, and the token that it is, where it is one.
fn next_token(rest: &str, first: char) -> (usize, Option<Token>) {
    let literal = Some(Token::Word("_".to_owned()));
    if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), None)
    } else if rest.starts_with("/*") {
        (block_comment(rest), None)
    } else if let Some(length) = string(rest) {
        (length, literal)
    } else if first == '\'' {
        match character(rest) {
            Some(length) => (length, literal),
            // A lifetime: its name is none that a rule asks for.
            None => (1 + word(rest.get(1..).unwrap_or_default()), None),
        }
    } else if first.is_alphanumeric() || first == '_' {
        let length = word(rest);
        (
            length,
            Some(Token::Word(rest.split_at(length).0.to_owned())),
        )
    } else if first.is_whitespace() {
        (first.len_utf8(), None)
    } else {
        (first.len_utf8(), Some(Token::Mark(first)))
    }
}

/// The length of the word at the head; 0 where there is none.
fn word(rest: &str) -> usize {
    rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .unwrap_or(rest.len())
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(here) = rest.get(at..) {
        if here.is_empty() {
            break;
        } else if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of the string literal at the head, of any kind: `"…"`, `b"…"`, `r#"…"#`.
fn string(rest: &str) -> Option<usize> {
    let body = rest.trim_start_matches(['b', 'c']);
    let raw = body.strip_prefix('r');
    let body = raw.unwrap_or(body);
    let hashes = body.len() - body.trim_start_matches('#').len();
    let body = body.get(hashes..)?.strip_prefix('"')?;
    let before = rest.len() - body.len();
    if raw.is_none() && hashes > 0 {
        return None;
    }
    if raw.is_some() {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(before + body.find(&end).map_or(body.len(), |at| at + end.len()));
    }
    let mut escaped = false;
    let end = body.find(|letter| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends
    });
    Some(before + end.map_or(body.len(), |at| at + 1))
}

/// The length of the character literal at the head; none where the quote begins a lifetime.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let first = body.chars().next()?;
    if first == '\\' {
        return Some(4 + body.get(2..)?.find('\'')?);
    }
    body.get(first.len_utf8()..)?
        .starts_with('\'')
        .then_some(2 + first.len_utf8())
}
