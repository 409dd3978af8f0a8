//! Text that strangers wrote, made fit to be shown: one line, bounded, without characters that steer a
//! terminal, a log or a reader's eye. It does not interpret the text.

/// Longest piece of a far end's answer in an error message, in characters: enough for a sentence and a code.
pub const ANSWER_CHARS: usize = 300;

/// The characters of `text`, at most `most`, on one line. Line breaks and tabs become blanks; other control
/// characters, bidirectional overrides and invisible characters are written out as `\u{…}`.
#[must_use]
pub fn plain(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most.saturating_mul(2)));
    for (count, character) in text.trim().chars().enumerate() {
        if count >= most {
            out.push('…');
            break;
        }
        match character {
            '\r' | '\n' | '\t' => out.push(' '),
            steering if steers(steering) => {
                out.push_str("\\u{");
                out.push_str(&format!("{:x}", u32::from(steering)));
                out.push('}');
            }
            other => out.push(other),
        }
    }
    out
}

/// The beginning of a response body for an error message.
#[must_use]
pub fn answer(body: &[u8]) -> String {
    // A character has at most four bytes, so no more than this is needed.
    let head = body.get(..body.len().min(ANSWER_CHARS * 4 + 4)).unwrap_or_default();
    plain(&String::from_utf8_lossy(head), ANSWER_CHARS)
}

/// As [`plain`], and no longer a link or a mention to whatever shows it: `hxxps[://]host`, `@` and angle
/// brackets that chat tools read as commands are set apart. For the subject and names in a ticket.
#[must_use]
pub fn defanged(text: &str, most: usize) -> String {
    let mut out = plain(text, most).replace("://", "[://]");
    for (from, to) in [("<", "‹"), (">", "›"), ("](", "] (")] {
        out = out.replace(from, to);
    }
    // A mail address keeps its @; one at the beginning of a word is a mention.
    let mut calm = String::with_capacity(out.len());
    let mut before = ' ';
    for character in out.chars() {
        calm.push(character);
        if character == '@' && !before.is_alphanumeric() {
            calm.push(' ');
        }
        before = character;
    }
    calm
}

/// Whether a character acts on what shows it instead of being shown.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row S18 of the security list.
    #[test]
    fn what_steers_a_terminal_or_the_eye_is_written_out() {
        assert_eq!(plain(" a\r\nb\tc ", 100), "a  b c");
        assert_eq!(plain("\u{1b}[2J\u{0}\u{9b}", 100), "\\u{1b}[2J\\u{0}\\u{9b}");
        assert_eq!(plain("fdp.\u{202e}exe\u{2028}x", 100), "fdp.\\u{202e}exe\\u{2028}x");
        assert_eq!(plain("Überweisung fällig 🙂", 100), "Überweisung fällig 🙂");
    }

    #[test]
    fn long_answers_are_cut_at_a_character_and_bad_utf8_survives() {
        assert_eq!(plain("äöü", 2), "äö…");
        let long = answer("é".repeat(5000).as_bytes());
        assert_eq!(long.chars().count(), ANSWER_CHARS + 1);
        assert_eq!(answer(b"no \xff such"), "no \u{fffd} such");
    }

    /// Row S22 of the security list.
    #[test]
    fn links_and_mentions_are_set_apart() {
        assert_eq!(defanged("https://evil.example/x", 100), "https[://]evil.example/x");
        assert_eq!(defanged("<!channel> @here", 100), "‹!channel› @ here");
        assert_eq!(defanged("[pay](now)", 100), "[pay] (now)");
        assert_eq!(defanged("ada@contoso.example", 100), "ada@contoso.example");
        assert_eq!(defanged("{{7*7}} ${x} {% y %}", 100), "{{7*7}} ${x} {% y %}");
    }
}
