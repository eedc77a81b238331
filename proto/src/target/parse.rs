//! From text to the parsed expression, by recursive descent: one function for each rule of the grammar, one token of
//! look-ahead. Written by hand because the messages, which know what a person may have meant, are most of it.

use regex::bytes::Regex;

use super::error::TargetError;
use super::eval::{Comparison, Expr, Test, number};
use super::pattern::{Pattern, compile, is_glob};
use super::token::{Kind, Lexer, Operator, Token, unescape};
use super::{DEPTH_MAX, HOST_KEY, REGEXES_MAX, SOURCE_BYTES_MAX, TERMS_MAX};

/// `text := either END`
pub(super) fn parse(text: &str) -> Result<Expr, TargetError> {
    if text.len() > SOURCE_BYTES_MAX {
        let message = format!(
            "the expression has {} bytes, the most is {SOURCE_BYTES_MAX}: use labels or globs for so many hosts",
            text.len()
        );
        return Err(TargetError::new(text, SOURCE_BYTES_MAX, &message));
    }
    let mut lexer = Lexer::new(text);
    let token = lexer.next()?;
    let mut parser = Parser {
        text,
        lexer,
        token,
        depth: 0,
        terms: 0,
        regexes: 0,
    };
    if token.kind == Kind::End {
        return Err(TargetError::new(
            text,
            0,
            "the expression is empty: every host is written `*`",
        ));
    }
    let expr = parser.either()?;
    match parser.token.kind {
        Kind::End => Ok(expr),
        Kind::Close => Err(parser.error_here("this `)` has no `(`")),
        _ => Err(parser.not_joined("the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    token: Token<'a>,
    depth: usize,
    terms: usize,
    regexes: usize,
}

impl<'a> Parser<'a> {
    /// `either := both ("or" both)*`
    fn either(&mut self) -> Result<Expr, TargetError> {
        let first = self.both()?;
        if !self.token.is_keyword("or") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.token.is_keyword("or") {
            self.advance()?;
            parts.push(self.both()?);
        }
        Ok(Expr::Or(parts))
    }

    /// `both := unary ("and" unary)*`
    fn both(&mut self) -> Result<Expr, TargetError> {
        let first = self.unary()?;
        if !self.token.is_keyword("and") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.token.is_keyword("and") {
            self.advance()?;
            parts.push(self.unary()?);
        }
        Ok(Expr::And(parts))
    }

    /// `unary := "not" unary | "(" either ")" | term`
    fn unary(&mut self) -> Result<Expr, TargetError> {
        let opening = self.token;
        if !opening.is_keyword("not") && opening.kind != Kind::Open {
            return self.term();
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error_here(&format!(
                "parentheses and `not` nest more than {DEPTH_MAX} deep"
            )));
        }
        self.advance()?;
        let expr = if opening.kind == Kind::Open {
            let inner = self.either()?;
            self.close(opening)?;
            inner
        } else {
            Expr::Not(Box::new(self.unary()?))
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn close(&mut self, opening: Token<'a>) -> Result<(), TargetError> {
        match self.token.kind {
            Kind::Close => self.advance(),
            Kind::End => Err(TargetError::new(
                self.text,
                opening.at,
                "this `(` is never closed",
            )),
            _ => Err(self.not_joined("`)`")),
        }
    }

    /// `term := key OPERATOR value | key ["not"] "in" "(" values ")" | hosts`
    fn term(&mut self) -> Result<Expr, TargetError> {
        let first = self.token;
        if !matches!(first.kind, Kind::Word | Kind::Quoted) || first.is_reserved() {
            return Err(self.expected("a host name, a label or `(`"));
        }
        self.terms += 1;
        if self.terms > TERMS_MAX {
            return Err(self.error_here(&format!(
                "more than {TERMS_MAX} tests: use `in (…)` or labels"
            )));
        }
        self.advance()?;
        match self.token.kind {
            Kind::Operator(operator) => self.compared(first, operator),
            Kind::Word if self.token.is_keyword("in") => self.member(first, false),
            Kind::Word if self.token.is_keyword("not") => {
                let not = self.token;
                self.advance()?;
                if !self.token.is_keyword("in") {
                    let message = "expected `and`, `or` or `not in` before this `not`";
                    return Err(TargetError::new(self.text, not.at, message));
                }
                self.member(first, true)
            }
            _ => self.hosts(first),
        }
    }

    /// A key, an operator and its right side.
    fn compared(&mut self, key: Token<'a>, operator: Operator) -> Result<Expr, TargetError> {
        let key = self.key(key)?;
        let after = format!("after {}", self.token.found());
        self.advance()?;
        let (negated, test) = match operator {
            Operator::Equal => (false, Test::OneOf(vec![self.value(&key, &after)?])),
            Operator::NotEqual => (true, Test::OneOf(vec![self.value(&key, &after)?])),
            Operator::Matches => (false, Test::Found(self.regex(&key, &after)?)),
            Operator::NotMatches => (true, Test::Found(self.regex(&key, &after)?)),
            Operator::Less => (false, self.number(Comparison::Less, &after)?),
            Operator::LessOrEqual => (false, self.number(Comparison::LessOrEqual, &after)?),
            Operator::Greater => (false, self.number(Comparison::Greater, &after)?),
            Operator::GreaterOrEqual => (false, self.number(Comparison::GreaterOrEqual, &after)?),
        };
        self.advance()?;
        Ok(Expr::Test { key, negated, test })
    }

    /// A key, and the list of values after `in`, which is the current token.
    fn member(&mut self, key: Token<'a>, negated: bool) -> Result<Expr, TargetError> {
        let key = self.key(key)?;
        self.advance()?;
        let opening = self.token;
        if opening.kind != Kind::Open {
            return Err(self.expected("`(` after `in`"));
        }
        let mut patterns = Vec::new();
        loop {
            self.advance()?;
            patterns.push(self.value(&key, "in the list")?);
            self.advance()?;
            match self.token.kind {
                Kind::Comma => {}
                Kind::Close => break,
                Kind::End => {
                    return Err(TargetError::new(
                        self.text,
                        opening.at,
                        "this `(` is never closed",
                    ));
                }
                _ => return Err(self.expected("`,` or `)`")),
            }
        }
        self.advance()?;
        Ok(Expr::Test {
            key,
            negated,
            test: Test::OneOf(patterns),
        })
    }

    /// `hosts := name ("," name)*`, of which the first name is read already.
    fn hosts(&mut self, first: Token<'a>) -> Result<Expr, TargetError> {
        let mut patterns = vec![self.host(first)?];
        while self.token.kind == Kind::Comma {
            self.advance()?;
            let name = self.token;
            if !matches!(name.kind, Kind::Word | Kind::Quoted) || name.is_reserved() {
                return Err(self.expected("a host name after `,`"));
            }
            patterns.push(self.host(name)?);
            self.advance()?;
        }
        if matches!(self.token.kind, Kind::Operator(_)) || self.token.is_keyword("in") {
            return Err(
                self.error_here("a comma joins host names only: join tests with `and` or `or`")
            );
        }
        Ok(Expr::Test {
            key: HOST_KEY.to_owned(),
            negated: false,
            test: Test::OneOf(patterns),
        })
    }

    fn host(&self, token: Token<'a>) -> Result<Pattern, TargetError> {
        if token.is_keyword("all") {
            return Ok(Pattern::any());
        }
        let pattern = self.pattern(token, HOST_KEY)?;
        if pattern.exact() == Some("") {
            return Err(TargetError::new(
                self.text,
                token.at,
                "a host's name is never empty",
            ));
        }
        Ok(pattern)
    }

    fn key(&self, token: Token<'a>) -> Result<String, TargetError> {
        if token.kind == Kind::Word && is_glob(token.text) {
            let message = format!(
                "{} is not the name of a label: globs stand on the right",
                token.found()
            );
            return Err(TargetError::new(self.text, token.at, &message));
        }
        match self.pattern(token, "")? {
            Pattern::Exact(key) if !key.is_empty() => Ok(key),
            _ => Err(TargetError::new(
                self.text,
                token.at,
                "the name of a label is never empty",
            )),
        }
    }

    /// The current token as a value; the caller steps over it.
    fn value(&self, key: &str, place: &str) -> Result<Pattern, TargetError> {
        match self.token.kind {
            Kind::Word | Kind::Quoted if !self.token.is_reserved() => self.pattern(self.token, key),
            _ => Err(self.expected(&format!("a value {place}"))),
        }
    }

    /// A pattern for the values of `key`. Host names are lower case wherever they are kept.
    fn pattern(&self, token: Token<'a>, key: &str) -> Result<Pattern, TargetError> {
        let (raw, at) = token.raw();
        let text = if token.kind == Kind::Quoted {
            unescape(raw)
        } else {
            Ok(raw.to_owned())
        };
        text.map(|text| {
            if key == HOST_KEY {
                text.to_ascii_lowercase()
            } else {
                text
            }
        })
        .and_then(|text| match token.kind {
            Kind::Quoted => Ok(Pattern::Exact(text)),
            _ => Pattern::bare(&text),
        })
        .map_err(|(offset, message)| TargetError::new(self.text, at + offset, &message))
    }

    /// The current token as the right side of a comparison; the caller steps over it.
    fn number(&self, wanted: Comparison, place: &str) -> Result<Test, TargetError> {
        let text = match self.token.kind {
            Kind::Word | Kind::Quoted => self.token.raw().0,
            _ => "",
        };
        match number(text) {
            Some(than) => Ok(Test::Number { wanted, than }),
            None => Err(self.expected(&format!("a number {place}"))),
        }
    }

    /// The current token as a regular expression, as it stands; the caller steps over it.
    fn regex(&mut self, key: &str, place: &str) -> Result<Regex, TargetError> {
        if !matches!(self.token.kind, Kind::Word | Kind::Quoted) || self.token.is_reserved() {
            return Err(self.expected(&format!("a pattern {place}")));
        }
        let (raw, at) = self.token.raw();
        if raw.is_empty() {
            return Err(
                self.error_here("an empty pattern matches everything: every host is written `*`")
            );
        }
        self.regexes += 1;
        if self.regexes > REGEXES_MAX {
            return Err(self.error_here(&format!(
                "more than {REGEXES_MAX} patterns: join them with `|` in one"
            )));
        }
        compile(raw, key == HOST_KEY)
            .map_err(|(offset, message)| TargetError::new(self.text, at + offset, &message))
    }

    fn advance(&mut self) -> Result<(), TargetError> {
        self.token = self.lexer.next()?;
        Ok(())
    }

    fn error_here(&self, message: &str) -> TargetError {
        TargetError::new(self.text, self.token.at, message)
    }

    fn expected(&self, what: &str) -> TargetError {
        let hint = if self.token.is_reserved() {
            ", which must be quoted to be a name or value"
        } else {
            ""
        };
        self.error_here(&format!(
            "expected {what}, found {}{hint}",
            self.token.found()
        ))
    }

    /// Something stands where `and`, `or` or the given end should.
    fn not_joined(&self, end: &str) -> TargetError {
        let hint = match self.token.kind {
            Kind::Word | Kind::Quoted if !self.token.is_reserved() => {
                ": host names are joined by commas"
            }
            _ => "",
        };
        self.error_here(&format!(
            "expected `and`, `or` or {end}, found {}{hint}",
            self.token.found()
        ))
    }
}
