//! The process's log: one event is one line on standard error, for people or as JSON, written by a thread of
//! its own so that a reader who does not read holds nothing up. What is worth logging is not decided here.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use serde::Deserialize;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// The variable that overrides the configured level and filter: `POSTERN_LOG=debug`,
/// `POSTERN_LOG=info,postern::sink=trace`.
pub const VARIABLE: &str = "POSTERN_LOG";

/// Lines that wait for a slow standard error. Beyond, lines are dropped and counted.
const WAITING_LINES: usize = 8192;
/// Characters of a panic's message that are logged.
const PANIC_MESSAGE_CHARS: usize = 120;

/// The `[log]` table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is logged at least. Default `info`. Can be changed by a reload.
    pub level: Level,
    /// How lines look: `human` (default) or `json` (one object per line).
    pub format: LineFormat,
    /// Exceptions by module, in the notation of `POSTERN_LOG`: `postern::sink=debug`. Default none. Can be
    /// changed by a reload.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: Level::Info, format: LineFormat::Human, filter: String::new() }
    }
}

/// The least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Only what needs somebody to act.
    Error,
    /// Also what somebody should look at.
    Warn,
    /// Also the life of the process.
    Info,
    /// Also single requests.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineFormat {
    /// Time, level, module, message, fields.
    Human,
    /// One JSON object.
    Json,
}

impl LogConfig {
    /// The filter that this table and the variable give together.
    ///
    /// # Errors
    /// If the filter cannot be parsed; the text says which part.
    pub fn filter(&self, variable: Option<&str>) -> Result<EnvFilter, String> {
        let both;
        let directives = match variable {
            Some(variable) if !variable.trim().is_empty() => variable,
            _ => {
                both = format!("{},{}", self.level.as_str(), self.filter);
                &both
            }
        };
        // Two libraries that are chatty at `info` and `debug` about nothing an operator can act on.
        let quiet = "hyper=warn,h2=warn";
        EnvFilter::builder()
            .parse(format!("{quiet},{directives}"))
            .map_err(|error| format!("cannot read the log filter {directives:?}: {error}"))
    }
}

/// The running log. Dropping it writes what still waits.
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Logging {
    /// Starts the log on standard error, for the whole process, once.
    ///
    /// # Errors
    /// If the filter is wrong, or a log is running already.
    pub fn start(config: &LogConfig) -> Result<Self, String> {
        let filter = config.filter(std::env::var(VARIABLE).ok().as_deref())?;
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(WAITING_LINES)
            .thread_name("log")
            .finish(io::stderr());
        let dropped = writer.error_counter();
        let (filter, handle) = reload::Layer::new(filter);
        let lines = OneLine(writer);
        let layer = match config.format {
            LineFormat::Human => fmt::layer().with_ansi(false).with_writer(lines).boxed(),
            LineFormat::Json => fmt::layer().json().flatten_event(true).with_writer(lines).boxed(),
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(layer)
            .try_init()
            .map_err(|error| format!("cannot start the log: {error}"))?;
        std::panic::set_hook(Box::new(log_panic));
        Ok(Self { filter: handle, dropped, _writer: guard })
    }

    /// Takes over another level and filter.
    ///
    /// # Errors
    /// If the filter is wrong; then the old one stays.
    pub fn reload(&self, config: &LogConfig) -> Result<(), String> {
        let filter = config.filter(std::env::var(VARIABLE).ok().as_deref())?;
        self.filter.reload(filter).map_err(|error| format!("cannot change the log filter: {error}"))
    }

    /// A counter of lines that were dropped because standard error did not take them.
    #[must_use]
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

/// A panic is one line too. Its message may quote the data it stumbled over, so it is cut before a quotation.
fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("(no message)");
    let end = text.find(['\'', '"', '`']).unwrap_or(text.len());
    let message: String =
        text.get(..end).unwrap_or_default().chars().take(PANIC_MESSAGE_CHARS).collect();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    tracing::error!(place, thread, "panic, a defect in Postern: {message}");
}

/// A writer that gets one whole event per call and makes sure that it is one line that shows what it is.
#[derive(Clone)]
struct OneLine(NonBlocking);

impl io::Write for OneLine {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (body, newline) = match event.strip_suffix(b"\n") {
            Some(body) => (body, true),
            None => (event, false),
        };
        match escape(body) {
            Cow::Borrowed(_) => self.0.write_all(event)?,
            Cow::Owned(mut line) => {
                if newline {
                    line.push('\n');
                }
                self.0.write_all(line.as_bytes())?;
            }
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Writes what could forge a line or hide text as `\u….`, which JSON reads back as the same character.
fn escape(body: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(body);
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.chars().any(misleads) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if misleads(c) {
            let _ = write!(line, "\\u{:04x}", u32::from(c));
        } else {
            line.push(c);
        }
    }
    Cow::Owned(line)
}

/// Control characters (with them every terminal sequence), line and paragraph separators, bidi controls,
/// and characters of no width. All are below U+10000, so one `\u` is enough.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_can_break_a_line_or_turn_it_around() {
        let hostile = "a\r\nb\u{1b}[31mred\u{2028}c\u{202e}d\u{85}e\u{7f}f\u{200b}g\u{feff}";
        let line = escape(hostile.as_bytes());
        assert!(!line.chars().any(misleads), "{line:?}");
        assert_eq!(
            line,
            "a\\u000d\\u000ab\\u001b[31mred\\u2028c\\u202ed\\u0085e\\u007ff\\u200bg\\ufeff"
        );
    }

    #[test]
    fn an_escaped_json_line_reads_back_as_the_same_value() {
        let value = serde_json::json!({"subject": "x\u{202e}y\u{2028}z\n"});
        let line = escape(value.to_string().as_bytes()).into_owned();
        assert!(line.is_ascii(), "{line}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }

    #[test]
    fn ordinary_text_of_any_script_is_not_touched() {
        for text in ["plain", "Grüße", "日本語", "שלום", "🙂"] {
            assert!(matches!(escape(text.as_bytes()), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn the_variable_beats_the_table_and_a_wrong_filter_is_named() {
        let config = LogConfig::default();
        assert!(
            config.filter(Some("postern=debug")).unwrap().to_string().contains("postern=debug")
        );
        assert!(config.filter(None).unwrap().to_string().contains("info"));
        let wrong = LogConfig { filter: "postern=loud".to_owned(), ..config };
        assert!(wrong.filter(None).unwrap_err().contains("postern=loud"));
    }
}
