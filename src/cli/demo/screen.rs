//! The terminal: redraws a few lines in place where it can, prints a plain line now and then where it cannot
//! (a pipe, a log). It knows nothing of what the lines say.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

/// Columns where the terminal does not say how wide it is.
const USUAL_WIDTH: usize = 100;

/// The screen.
#[derive(Debug)]
pub struct Screen {
    live: bool,
    color: bool,
    drawn: usize,
}

impl Screen {
    /// For standard output.
    pub fn new() -> Self {
        let live = io::stdout().is_terminal();
        let color = live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { live, color, drawn: 0 }
    }

    /// Whether it redraws.
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// How often there should be something new.
    pub const fn pace(&self) -> Duration {
        if self.live { Duration::from_millis(200) } else { Duration::from_secs(5) }
    }

    /// Draws `lines` over the ones drawn before.
    pub fn draw(&mut self, lines: &[String]) {
        let (width, height) = size();
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}F", self.drawn));
        }
        // What would scroll away could not be drawn over.
        let shown = lines.len().min(height.saturating_sub(1).max(1));
        for line in lines.iter().take(shown) {
            text.push_str("\x1b[2K");
            text.extend(line.chars().take(width.saturating_sub(1)));
            text.push('\n');
        }
        text.push_str("\x1b[J");
        self.drawn = shown;
        say(&text);
    }

    /// Prints a line below whatever is there; it stays.
    pub fn print(&mut self, line: &str) {
        self.drawn = 0;
        say(&format!("{line}\n"));
    }

    /// `text`, in bold where there is color.
    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// `text`, in green where there is color.
    pub fn good(&self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// `text`, in red where there is color.
    pub fn bad(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A reader that went away (`| head`) is no reason to fail: the demo's answer is its exit code.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            (usize::from(size.ws_col), usize::from(size.ws_row))
        }
        _ => (USUAL_WIDTH, usize::MAX),
    }
}
