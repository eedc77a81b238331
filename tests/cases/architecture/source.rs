//! Rust source as the rules see it: the paths that product code names, without comments, literals and test code.
//!
//! Enough of Rust to tell a name from a word in a comment, and no more: it knows nothing of types or macros.

use super::lexer::{Line, Token, tokens};

/// A path that the code names, as in `tokio::time::sleep`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: Line,
    /// `crate`, `self` and `super` are resolved: inside the own crate the first part is `crate`.
    pub(super) parts: Vec<String>,
}

impl Named {
    /// Whether it is `path` or something inside it; a glob import names everything below it.
    pub(super) fn is_in(&self, path: &[&str]) -> bool {
        let known = self.parts.iter().take_while(|part| *part != "*").count();
        let globbed = known < self.parts.len();
        let same = self
            .parts
            .iter()
            .take(known)
            .zip(path)
            .all(|(part, wanted)| part == wanted);
        same && (known >= path.len() || globbed)
    }
}

/// One file's product code.
#[derive(Debug)]
pub(super) struct Code {
    tokens: Vec<(Line, Token)>,
    module: Vec<String>,
}

impl Code {
    /// Reads the source at `path` in the workspace.
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self {
            tokens: without_tests(&tokens(text)),
            module: module_of(path),
        }
    }

    /// Every path that it names, those of `use` spelled out one by one.
    pub(super) fn names(&self) -> Vec<Named> {
        let mut names = Reader {
            tokens: &self.tokens,
            at: 0,
            module: self.module.clone(),
            open: Vec::new(),
            names: Vec::new(),
        };
        names.read();
        names.names
    }

    /// The lines where these tokens follow one another; `_` stands for any word.
    pub(super) fn lines_with(&self, sequence: &[&str]) -> Vec<Line> {
        self.matches(sequence)
            .into_iter()
            .map(|(line, _)| line)
            .collect()
    }

    /// The types that implement this trait here.
    pub(super) fn implementors(&self, name: &str) -> Vec<(Line, String)> {
        self.matches(&[name, "for", "_"])
            .into_iter()
            .filter_map(|(line, words)| Some((line, words.last()?.clone())))
            .collect()
    }

    /// The paths inside the initialiser of the static `name`; none where there is no such static.
    pub(super) fn rows_of(&self, name: &str) -> Option<Vec<Vec<String>>> {
        let start = self.tokens.windows(2).position(|pair| match pair {
            [(_, Token::Word(keyword)), (_, Token::Word(word))] => {
                keyword == "static" && word == name
            }
            _ => false,
        })?;
        let from = start
            + self
                .tokens
                .get(start..)?
                .iter()
                .position(|(_, token)| *token == Token::Mark('='))?;
        let length = end_of_item(self.tokens.get(from..)?);
        let tokens = self.tokens.get(from..from + length)?;
        let mut reader = Reader {
            tokens,
            at: 0,
            module: Vec::new(),
            open: Vec::new(),
            names: Vec::new(),
        };
        reader.read();
        Some(reader.names.into_iter().map(|named| named.parts).collect())
    }

    fn matches(&self, sequence: &[&str]) -> Vec<(Line, Vec<String>)> {
        let fits = |(_, token): &(Line, Token), wanted: &&str| match token {
            Token::Word(word) => *wanted == "_" || word == wanted,
            Token::Mark(mark) => wanted.chars().eq([*mark]),
        };
        self.tokens
            .windows(sequence.len())
            .filter(|window| {
                window
                    .iter()
                    .zip(sequence)
                    .all(|(token, wanted)| fits(token, wanted))
            })
            .filter_map(|window| {
                let words = window.iter().map(|(_, token)| match token {
                    Token::Word(word) => word.clone(),
                    Token::Mark(mark) => mark.to_string(),
                });
                Some((window.first()?.0, words.collect()))
            })
            .collect()
    }
}

/// `agent/src/collect/host/mod.rs` is `crate::collect::host`.
fn module_of(path: &str) -> Vec<String> {
    let inside = path.rsplit_once("src/").map_or(path, |(_, inside)| inside);
    let inside = inside.strip_suffix(".rs").unwrap_or(inside);
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    let parts = inside
        .split('/')
        .filter(|part| !matches!(*part, "lib" | "main"));
    std::iter::once("crate")
        .chain(parts)
        .map(str::to_owned)
        .collect()
}

/// The tokens up to the end of the item that they begin with: its `;`, the end of its block, or its surroundings' end.
fn end_of_item(tokens: &[(Line, Token)]) -> usize {
    let mut depth = 0_usize;
    for (index, (_, token)) in tokens.iter().enumerate() {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') if depth == 0 => return index,
            Token::Mark('}') if depth == 1 => return index + 1,
            Token::Mark(')' | ']' | '}') => depth -= 1,
            Token::Mark(';') if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Leaves out every item under `#[cfg(test)]`; nothing is left of a file that says `#![cfg(test)]`.
fn without_tests(tokens: &[(Line, Token)]) -> Vec<(Line, Token)> {
    let begins = |tokens: &[(Line, Token)], wanted: &[&str]| {
        tokens.len() >= wanted.len()
            && tokens
                .iter()
                .zip(wanted)
                .all(|((_, token), wanted)| match token {
                    Token::Word(word) => word == wanted,
                    Token::Mark(mark) => wanted.chars().eq([*mark]),
                })
    };
    let mut kept = Vec::new();
    let mut rest = tokens;
    while let Some((first, after)) = rest.split_first() {
        if begins(rest, &["#", "!", "[", "cfg", "(", "test", ")"]) {
            return Vec::new();
        }
        let tested = begins(rest, &["#", "[", "cfg", "(", "test", ")", "]"])
            || begins(rest, &["#", "[", "cfg", "(", "all", "(", "test", ","]);
        rest = if tested {
            // Further attributes stand between this one and the item.
            let mut item = rest;
            while begins(item, &["#", "["]) {
                let inside = item.get(1..).unwrap_or_default();
                let end = closing(inside);
                item = inside.get(end..).unwrap_or_default();
            }
            item.get(end_of_item(item)..).unwrap_or_default()
        } else {
            kept.push(first.clone());
            after
        };
    }
    kept
}

/// The tokens of the bracket that they begin with.
fn closing(tokens: &[(Line, Token)]) -> usize {
    let mut depth = 0_usize;
    for (index, (_, token)) in tokens.iter().enumerate() {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// Goes over tokens and gathers paths.
struct Reader<'a> {
    tokens: &'a [(Line, Token)],
    at: usize,
    module: Vec<String>,
    /// Braces that are open; true for those of an inline module, which is one more part of `module`.
    open: Vec<bool>,
    names: Vec<Named>,
}

impl Reader<'_> {
    fn read(&mut self) {
        while let Some(token) = self.peek(0).cloned() {
            match token {
                Token::Word(word) if word == "use" => {
                    self.at += 1;
                    self.tree(&[]);
                }
                Token::Word(word) if word == "mod" => self.module(),
                Token::Word(_) if self.at > 0 && self.follows_dot() => self.at += 1, // a field or method
                Token::Word(_) => {
                    let line = self.line();
                    let parts = self.path();
                    self.name(line, parts);
                }
                Token::Mark(mark) => {
                    match mark {
                        '{' => self.open.push(false),
                        '}' if self.open.pop() == Some(true) => {
                            self.module.pop();
                        }
                        _ => {}
                    }
                    self.at += 1;
                }
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(_, token)| token)
    }

    fn line(&self) -> Line {
        self.tokens.get(self.at).map_or(0, |(line, _)| *line)
    }

    fn follows_dot(&self) -> bool {
        let before = |back: usize| {
            self.at
                .checked_sub(back)
                .and_then(|at| self.tokens.get(at))
                .map(|(_, token)| token)
        };
        let dot = Some(&Token::Mark('.'));
        before(1) == dot && before(2) != dot // `0..tokio::X` is no field
    }

    fn separator(&self) -> bool {
        self.peek(0) == Some(&Token::Mark(':')) && self.peek(1) == Some(&Token::Mark(':'))
    }

    fn module(&mut self) {
        self.at += 1;
        if let (Some(Token::Word(name)), Some(Token::Mark('{'))) =
            (self.peek(0).cloned(), self.peek(1))
        {
            self.module.push(name);
            self.open.push(true);
            self.at += 1;
        }
        self.at += 1;
    }

    /// `a::b::c`, up to what is no word.
    fn path(&mut self) -> Vec<String> {
        let mut parts = Vec::new();
        while let Some(Token::Word(word)) = self.peek(0).cloned() {
            parts.push(word);
            self.at += 1;
            if !(self.separator() && matches!(self.peek(2), Some(Token::Word(_)))) {
                break;
            }
            self.at += 2;
        }
        parts
    }

    /// What follows `use`, or stands in a group of it: `a::{b, c::*}`.
    fn tree(&mut self, prefix: &[String]) {
        if self.separator() {
            self.at += 2; // `use ::std::fs`
        }
        let line = self.line();
        let mut parts = prefix.to_vec();
        parts.extend(self.path());
        if self.separator() {
            self.at += 2;
        }
        match self.peek(0) {
            Some(Token::Mark('{')) => {
                self.at += 1;
                while !matches!(self.peek(0), None | Some(Token::Mark('}'))) {
                    let before = self.at;
                    self.tree(&parts);
                    // A comma; or an `as` with its name.
                    while !matches!(self.peek(0), None | Some(Token::Mark('}' | ','))) {
                        self.at += 1;
                    }
                    if self.peek(0) == Some(&Token::Mark(',')) || self.at == before {
                        self.at += 1;
                    }
                }
                self.at += 1;
            }
            Some(Token::Mark('*')) => {
                self.at += 1;
                parts.push("*".to_owned());
                self.name(line, parts);
            }
            _ => self.name(line, parts),
        }
    }

    fn name(&mut self, line: Line, mut parts: Vec<String>) {
        let mut base = None;
        loop {
            match parts.first().map(String::as_str) {
                Some("self") if base.is_none() && parts.len() > 1 => {
                    base = Some(self.module.clone())
                }
                Some("super") => {
                    base.get_or_insert_with(|| self.module.clone()).pop();
                }
                _ => break,
            }
            parts.remove(0);
        }
        let mut resolved = base.unwrap_or_default();
        resolved.extend(parts);
        if resolved.last().is_some_and(|last| last == "self") {
            resolved.pop(); // `use std::fs::{self}`
        }
        if !resolved.is_empty() {
            self.names.push(Named {
                line,
                parts: resolved,
            });
        }
    }
}

/// Files that hold nothing but tests.
pub(super) fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}
