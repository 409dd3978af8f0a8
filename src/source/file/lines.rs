//! Cuts lines out of a window. It does not look inside them.

use std::io;

use super::input::{WINDOW, Window};

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// A line of so many bytes, without its line feed.
    Whole(usize),
    /// So many bytes at the end without a line feed behind them.
    Open(usize),
    /// The beginning of a line that is longer than a record may be; the rest of it will be passed over.
    Endless(usize),
    /// Nothing.
    End,
}

/// The next line of `window`, which is left in place. With `skipping`, what is left of an endless line is passed
/// over first.
pub(super) fn next(window: &mut Window, skipping: &mut bool) -> io::Result<Line> {
    let mut looked_at = 0;
    loop {
        let rest = window.rest();
        let place = memchr::memchr(b'\n', rest.get(looked_at..).unwrap_or_default());
        match place {
            Some(place) if *skipping => {
                window.pass(looked_at + place + 1);
                *skipping = false;
                looked_at = 0;
                continue;
            }
            Some(place) => return Ok(Line::Whole(looked_at + place)),
            None => {}
        }
        let length = rest.len();
        if *skipping {
            window.pass(length);
            looked_at = 0;
        } else {
            looked_at = length;
            if length >= WINDOW {
                return Ok(Line::Endless(length));
            }
        }
        if !window.fill()? {
            return Ok(if looked_at == 0 { Line::End } else { Line::Open(looked_at) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut window = Window::over(bytes);
        let mut skipping = false;
        let mut found = Vec::new();
        loop {
            let line = next(&mut window, &mut skipping).unwrap();
            let (length, mark, feed) = match line {
                Line::Whole(length) => (length, "", 1),
                Line::Open(length) => (length, "…", 0),
                Line::Endless(length) => {
                    skipping = true;
                    (length, "!", 0)
                }
                Line::End => return found,
            };
            let text = String::from_utf8_lossy(&window.rest()[..length]).into_owned();
            found.push(format!("{}{mark}", if text.len() > 99 { "long" } else { &text }));
            window.pass(length + feed);
        }
    }

    #[test]
    fn lines_are_cut_at_line_feeds_and_an_endless_one_costs_itself_only() {
        assert_eq!(lines(b""), [""; 0]);
        assert_eq!(lines(b"a\r\n\nb"), ["a\r", "", "b…"]);
        let endless = [&vec![b'x'; 3 * WINDOW][..], b"\nb\n"].concat();
        assert_eq!(lines(&endless), ["long!", "b"]);
        assert_eq!(lines(&vec![b'x'; 2 * WINDOW]), ["long!"]);
    }
}
