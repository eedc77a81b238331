//! Texts with names in braces, as rules write them: `real server {real_server} is out`. Knows no rule and no line.

/// A text with names in braces. `{{` and `}}` stand for the braces themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong, and at which byte of `text`.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '{' | '}' if chars.next_if(|(_, next)| *next == c).is_some() => plain.push(c),
                '}' => {
                    return Err((
                        at,
                        "a `}` without its `{`; `}}` stands for a brace".to_owned(),
                    ));
                }
                '{' => {
                    let rest = text.get(at + 1..).unwrap_or_default();
                    let Some((name, _)) = rest.split_once('}') else {
                        return Err((
                            at,
                            "a `{` without its `}`; `{{` stands for a brace".to_owned(),
                        ));
                    };
                    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    if name.is_empty() || !name.chars().all(word) {
                        return Err((
                            at,
                            format!("{{{name}}} is no name of letters, digits and _"),
                        ));
                    }
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(Piece::Name(name.to_owned()));
                    while chars.next().is_some_and(|(_, c)| c != '}') {}
                }
                _ => plain.push(c),
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// The names in it.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Name(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The text with each name's value; nothing stands where a name has none.
    pub(super) fn render<'a>(
        &self,
        value: impl Fn(&str) -> Option<std::borrow::Cow<'a, str>>,
    ) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Name(name) => text.push_str(&value(name).unwrap_or_default()),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_braces_are_written_twice() {
        for (text, want) in [
            ("", Ok("")),
            ("plain", Ok("plain")),
            ("{a}", Ok("1")),
            ("<{a}>{b}<{a}", Ok("<1>2<1")),
            ("{{a}} {a}", Ok("{a} 1")),
            ("{c}|", Ok("|")),
            ("é{a}é", Ok("é1é")),
            ("{a", Err(0)),
            ("x{", Err(1)),
            ("x}", Err(1)),
            ("é{a b}", Err(2)),
            ("{}", Err(0)),
        ] {
            let got = Template::parse(text).map(|template| {
                template.render(|name| match name {
                    "a" => Some("1".into()),
                    "b" => Some("2".into()),
                    _ => None,
                })
            });
            assert_eq!(
                got.as_deref().map_err(|(at, _)| *at),
                want,
                "{text}: {got:?}"
            );
        }
    }
}
