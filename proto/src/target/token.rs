//! Cuts a target expression into words, quoted text and operators. Knows nothing of their order.

use super::error::TargetError;

/// How much of a token an error message repeats, in characters.
const QUOTED_BACK: usize = 32;

/// Words that join or negate tests; as names or values they must be quoted.
const RESERVED: [&str; 4] = ["and", "or", "not", "in"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Matches,
    NotMatches,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Quoted,
    Operator(Operator),
    Open,
    Close,
    Comma,
    End,
}

/// A token and its text in the source, quotes included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) at: usize,
    pub(super) text: &'a str,
}

impl<'a> Token<'a> {
    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    pub(super) fn is_reserved(&self) -> bool {
        RESERVED.iter().any(|keyword| self.is_keyword(keyword))
    }

    /// The token as an error message names it.
    pub(super) fn found(&self) -> String {
        if self.kind == Kind::End {
            return "the end".to_owned();
        }
        let mut text: String = self.text.chars().take(QUOTED_BACK).collect();
        if text.len() < self.text.len() {
            text.push('…');
        }
        format!("`{text}`")
    }

    /// The text without its quotes, escapes as they stand, and the offset where it begins.
    pub(super) fn raw(&self) -> (&'a str, usize) {
        if self.kind != Kind::Quoted {
            return (self.text, self.at);
        }
        (
            self.text.get(1..self.text.len() - 1).unwrap_or_default(),
            self.at + 1,
        )
    }
}

/// Reads one token after the other.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token; `End` again and again at the end.
    pub(super) fn next(&mut self) -> Result<Token<'a>, TargetError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let trimmed = rest.trim_start();
        let at = self.at + rest.len() - trimmed.len();
        let (kind, length) = scan(trimmed)
            .map_err(|(offset, message)| TargetError::new(self.text, at + offset, &message))?;
        self.at = at + length;
        Ok(Token {
            kind,
            at,
            text: trimmed.get(..length).unwrap_or_default(),
        })
    }
}

/// An offset into the text that was given, and what is wrong there.
pub(super) type Fault = (usize, String);

/// The kind and length of the token that `rest` begins with.
fn scan(rest: &str) -> Result<(Kind, usize), Fault> {
    let mut chars = rest.chars();
    let Some(first) = chars.next() else {
        return Ok((Kind::End, 0));
    };
    let second = chars.next();
    let operator = |operator, length| Ok((Kind::Operator(operator), length));
    match (first, second) {
        ('(', _) => Ok((Kind::Open, 1)),
        (')', _) => Ok((Kind::Close, 1)),
        (',', _) => Ok((Kind::Comma, 1)),
        ('=', Some('=')) => Err((0, "`==` is written `=` here".to_owned())),
        ('=', Some('~')) => Err((0, "`=~` is written `~` here".to_owned())),
        ('=', _) => operator(Operator::Equal, 1),
        ('!', Some('=')) => operator(Operator::NotEqual, 2),
        ('!', Some('~')) => operator(Operator::NotMatches, 2),
        ('!', _) => Err((0, "`!` is written `not` here".to_owned())),
        ('~', _) => operator(Operator::Matches, 1),
        ('<', Some('=')) => operator(Operator::LessOrEqual, 2),
        ('<', _) => operator(Operator::Less, 1),
        ('>', Some('=')) => operator(Operator::GreaterOrEqual, 2),
        ('>', _) => operator(Operator::Greater, 1),
        ('&', _) => Err((0, "`&` is written `and` here".to_owned())),
        ('|', _) => Err((
            0,
            "`|` is written `or` here, or belongs in quotes".to_owned(),
        )),
        ('"' | '\'', _) => Ok((Kind::Quoted, quoted_length(rest, first)?)),
        _ => match word_length(rest)? {
            0 => Err((
                0,
                format!("unexpected `{first}`: put text with such characters in quotes"),
            )),
            length => Ok((Kind::Word, length)),
        },
    }
}

/// The length of the quoted text, its two quotes included.
fn quoted_length(rest: &str, quote: char) -> Result<usize, Fault> {
    let mut escaped = false;
    for (index, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Ok(index + quote.len_utf8()),
            _ => {}
        }
    }
    Err((0, format!("this {quote} is never closed")))
}

/// The length of the bare word; its classes, `[…]`, may hold characters that a word may not.
fn word_length(rest: &str) -> Result<usize, Fault> {
    let mut class_at = None;
    for (index, c) in rest.char_indices() {
        match (class_at, c) {
            (None, '[') => class_at = Some(index),
            (None, c) if !is_bare(c) => return Ok(index),
            (Some(_), ']') => class_at = None,
            (Some(_), c) if c.is_whitespace() || matches!(c, '[' | '(' | ')' | '"' | '\'') => break,
            _ => {}
        }
    }
    match class_at {
        Some(at) => Err((at, "this `[` is never closed".to_owned())),
        None => Ok(rest.len()),
    }
}

/// Characters of names, numbers, versions, paths and addresses, and the two that make globs.
fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '/' | '@' | '+' | '-' | '%' | '*' | '?')
}

/// Replaces the escapes of quoted text; a fault's offset counts from the text's start.
pub(super) fn unescape(raw: &str) -> Result<String, Fault> {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.char_indices();
    while let Some((index, c)) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some((_, c @ ('\\' | '"' | '\''))) => text.push(c),
            Some((_, 'n')) => text.push('\n'),
            Some((_, 't')) => text.push('\t'),
            Some((_, c)) => {
                return Err((
                    index,
                    format!("unknown escape `\\{c}`: a backslash is written `\\\\`"),
                ));
            }
            None => return Err((index, "nothing follows the backslash".to_owned())),
        }
    }
    Ok(text)
}
