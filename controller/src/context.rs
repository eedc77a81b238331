//! What every command is handed: the config, and the screen it writes to. It must not know any command.

use std::io::{self, IsTerminal, Write};

use anyhow::Context as _;
use serde::Serialize;

use crate::cli::{Color, Globals};
use crate::config::Config;
use crate::exit::ReaderGone;
use crate::render::{Format, Style, to_json_document, to_json_line};

/// What every command is handed.
#[derive(Debug)]
pub struct Context {
    /// The parsed config; the defaults for a command that needs none.
    pub config: Config,
    /// Where and how to write.
    pub screen: Screen,
}

/// Where and how to write.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// What standard output shall be.
    pub format: Format,
    /// Whether a person reads standard output.
    pub stdout_is_terminal: bool,
    /// Whether a person reads standard error; progress bars are drawn there.
    pub stderr_is_terminal: bool,
    /// Width and colour of what goes to standard output.
    pub style: Style,
    /// How many `-v` were given.
    pub verbose: u8,
}

impl Context {
    /// Reads the config and looks at the terminal.
    ///
    /// # Errors
    /// When the config can't be read or is wrong.
    pub fn new(globals: &Globals, needs_config: bool) -> anyhow::Result<Self> {
        let config = if needs_config {
            Config::load(globals.config.as_deref())?
        } else {
            Config::without_file()?
        };
        Ok(Self {
            config,
            screen: Screen::of_process(globals),
        })
    }

    /// Writes `text` to standard output as it is.
    ///
    /// # Errors
    /// When it can't be written; a reader who has gone ends the program without a word.
    pub fn print(&self, text: &str) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(mark_reader_gone)
            .context("write to standard output")
    }

    /// Writes one line for people to standard error: progress, hints, what was done.
    pub fn note(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}"); // a closed stderr loses notes, not data
    }

    /// Writes one value: a table (or any text) for people, one pretty document as json, one line as ndjson.
    ///
    /// # Errors
    /// As [`Context::print`].
    pub fn show<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&Style) -> String,
    ) -> anyhow::Result<()> {
        match self.screen.format {
            Format::Table => self.print(&text(&self.screen.style)),
            Format::Json => self.print(&to_json_document(value)?),
            Format::Ndjson => self.print(&to_json_line(value)?),
        }
    }

    /// Writes a list: a table for people, one pretty array as json, one line for each item as ndjson.
    ///
    /// # Errors
    /// As [`Context::print`].
    pub fn show_list<T: Serialize>(
        &self,
        items: &[T],
        text: impl FnOnce(&Style) -> String,
    ) -> anyhow::Result<()> {
        match self.screen.format {
            Format::Table => self.print(&text(&self.screen.style)),
            Format::Json => self.print(&to_json_document(&items)?),
            Format::Ndjson => items
                .iter()
                .try_for_each(|item| self.print(&to_json_line(item)?)),
        }
    }

    /// Writes one item of a stream that has no end: a line for people, a JSON line in both other formats.
    ///
    /// # Errors
    /// As [`Context::print`].
    pub fn show_next<T: Serialize>(
        &self,
        item: &T,
        text: impl FnOnce(&Style) -> String,
    ) -> anyhow::Result<()> {
        match self.screen.format {
            Format::Table => self.print(&text(&self.screen.style)),
            Format::Json | Format::Ndjson => self.print(&to_json_line(item)?),
        }
    }
}

impl Screen {
    fn of_process(globals: &Globals) -> Self {
        let stdout_is_terminal = io::stdout().is_terminal();
        let wish = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let color = match globals.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                stdout_is_terminal
                    && !wish("NO_COLOR")
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        };
        Self {
            format: globals.output,
            stdout_is_terminal,
            stderr_is_terminal: io::stderr().is_terminal(),
            style: Style {
                color,
                width: width(stdout_is_terminal),
            },
            verbose: globals.verbose,
        }
    }
}

/// Sends the log to standard error: warnings of our own, more with each `-v`, or what `MUSTER_LOG` says.
pub fn start_log(verbose: u8) {
    let default = match verbose {
        0 => "off,muster_controller=warn,muster_link=error",
        1 => "warn,lapin=off,muster_controller=info,muster_link=info",
        2 => "info,muster_controller=debug,muster_link=debug",
        _ => "debug",
    };
    let filter = std::env::var("MUSTER_LOG")
        .ok()
        .and_then(|text| tracing_subscriber::EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| tracing_subscriber::EnvFilter::new(default));
    // Fails only where a test has set one before.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
}

/// `COLUMNS`, or the terminal's width. Without a terminal there is none: a program that reads tables wants whole lines.
fn width(stdout_is_terminal: bool) -> Option<u16> {
    let asked = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|columns| *columns > 0);
    asked.or_else(|| {
        let size = stdout_is_terminal
            .then(|| rustix::termios::tcgetwinsize(io::stdout()).ok())
            .flatten()?;
        Some(size.ws_col).filter(|columns| *columns > 0)
    })
}

fn mark_reader_gone(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone)
    } else {
        error
    }
}
