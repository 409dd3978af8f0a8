//! Cuts the answer of an API into its objects: a list under a name (`{"value":[…]}`, `{"results":[…]}`), a bare
//! array, or one object. What an object means is not asked here. `envelope` does the same for the Streaming API.
//!
//! An answer that is cut or broken gives the objects before the break and one broken piece for the rest, so that
//! it never looks whole. An object that is too deep or no JSON costs only itself where its end can be found. An
//! object of any size is handed out: what is too large is said by whoever makes an event of it.

use super::envelope::{BYTE_ORDER_MARK, closing};
use super::field;
use super::row::{NotARow, Row};
use super::scan::{DEPTH_CAP, Scanner, Stop};
use crate::domain::DeadLetterReason;

/// A piece of an answer.
#[derive(Debug)]
pub(super) enum Cut<'r, 'a> {
    /// An object of the list.
    Object {
        /// All of it.
        bytes: &'a [u8],
        /// The same, read.
        row: &'r Row<'a>,
    },
    /// Bytes that are none.
    Broken {
        /// All of them.
        bytes: &'a [u8],
        /// Why.
        reason: DeadLetterReason,
        /// What was found, for a person.
        detail: String,
    },
}

/// Where a list is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// The name of the list in the object around it; empty where only a bare array is known.
    pub(super) list: &'static str,
    /// Whether an object without such a list is the one object meant.
    pub(super) single: bool,
}

/// Where scanning stopped: the first byte of what could not be read, and why.
type Stopped = (usize, Stop);

/// One answer being cut.
pub(super) struct Page<'a, 's> {
    bytes: &'a [u8],
    /// `bytes` as text, unless they are not UTF-8; then each object is looked at by itself.
    text: Option<&'a str>,
    row: Row<'a>,
    sink: &'s mut dyn FnMut(Cut<'_, 'a>),
    size_cap: usize,
}

impl<'a, 's> Page<'a, 's> {
    pub(super) fn new(
        bytes: &'a [u8],
        size_cap: usize,
        sink: &'s mut dyn FnMut(Cut<'_, 'a>),
    ) -> Self {
        let text = simdutf8::basic::from_utf8(bytes).ok();
        Self { bytes, text, row: Row::new(), sink, size_cap }
    }

    /// Hands out every object of the answer.
    pub(super) fn cut(&mut self, layout: Layout) {
        let skip = if self.bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let mut scanner = Scanner::at(self.bytes, skip);
        let first = scanner.peek();
        let start = scanner.place();
        let outcome = match first {
            Ok(b'[') => self.list(&mut scanner),
            Ok(b'{') => self.object(&mut scanner, layout),
            Ok(_) => Err((start, Stop::Malformed(start))),
            Err(stop) => Err((start, stop)),
        };
        let outcome = outcome.and_then(|()| match scanner.at_end() {
            true => Ok(()),
            false => Err((scanner.place(), Stop::Malformed(scanner.place()))),
        });
        if let Err((from, stop)) = outcome {
            let rest = self.bytes.get(from..).unwrap_or_default();
            self.refuse(rest, stop);
        }
    }

    /// An object at the top: with the list inside it, or the one object meant.
    fn object(&mut self, scanner: &mut Scanner<'a>, layout: Layout) -> Result<(), Stopped> {
        let start = scanner.place();
        if let Some(inside) = self.find_list(start, layout.list) {
            *scanner = Scanner::at(self.bytes, inside);
            self.list(scanner)?;
            return rest_of_object(scanner);
        }
        if !layout.single {
            self.skip(scanner)?;
            self.no_list(start, scanner.place(), layout);
            return Ok(());
        }
        let Err(stop) = self.element(scanner, Some(layout)) else { return Ok(()) };
        let Some(end) = closing(self.bytes, start, self.bytes.len()) else {
            return Err((start, stop));
        };
        self.refuse(self.bytes.get(start..end).unwrap_or_default(), stop);
        *scanner = Scanner::at(self.bytes, end);
        Ok(())
    }

    fn skip(&self, scanner: &mut Scanner<'a>) -> Result<(), Stopped> {
        let start = scanner.place();
        scanner.value(DEPTH_CAP).map(|_| ()).map_err(|stop| (start, stop))
    }

    fn no_list(&mut self, start: usize, end: usize, layout: Layout) {
        let bytes = self.bytes.get(start..end).unwrap_or_default();
        let detail = match layout.list {
            "" => "the answer is no list of records".to_owned(),
            list => format!("the answer holds no list `{list}`"),
        };
        (self.sink)(Cut::Broken { bytes, reason: DeadLetterReason::NotJsonObject, detail });
    }

    /// In the object that starts at `start`: the bracket of the list. A name that is spelled exactly goes before
    /// one in another letter case.
    fn find_list(&self, start: usize, list: &str) -> Option<usize> {
        let mut loose = None;
        let mut scanner = Scanner::at(self.bytes, start);
        let mut walk = || -> Result<Option<usize>, Stop> {
            scanner.expect(b'{')?;
            if list.is_empty() || scanner.take(b'}')? {
                return Ok(None);
            }
            loop {
                let key = scanner.key()?;
                let name = self.bytes.get(key.start..key.end).unwrap_or_default();
                if scanner.peek()? == b'[' {
                    if name == list.as_bytes() {
                        return Ok(Some(scanner.place()));
                    }
                    if name.eq_ignore_ascii_case(list.as_bytes()) {
                        loose.get_or_insert(scanner.place());
                    }
                }
                scanner.value(DEPTH_CAP + 1)?;
                if !scanner.more(b'}')? {
                    return Ok(None);
                }
            }
        };
        walk().ok().flatten().or(loose)
    }

    /// An array, its bracket next.
    fn list(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Stopped> {
        let here = |scanner: &Scanner<'a>, stop| (scanner.place().min(self.bytes.len()), stop);
        scanner.expect(b'[').map_err(|stop| here(scanner, stop))?;
        if scanner.take(b']').map_err(|stop| here(scanner, stop))? {
            return Ok(());
        }
        loop {
            let first = scanner.peek().map_err(|stop| (scanner.place(), stop))?;
            let start = scanner.place();
            let outcome = match first {
                b'{' => self.element(scanner, None),
                _ => self.stray(scanner),
            };
            if let Err(stop) = outcome {
                let Some(end) = closing(self.bytes, start, self.bytes.len()) else {
                    return Err((start, stop));
                };
                self.refuse(self.bytes.get(start..end).unwrap_or_default(), stop);
                *scanner = Scanner::at(self.bytes, end);
            }
            let behind = scanner.place();
            if !scanner.more(b']').map_err(|stop| (behind, stop))? {
                return Ok(());
            }
        }
    }

    /// An object. `alone` where it is the whole answer; then it must not be one about something else.
    fn element(&mut self, scanner: &mut Scanner<'a>, alone: Option<Layout>) -> Result<(), Stop> {
        let start = scanner.place();
        match self.text {
            Some(text) => self.row.fill(text, scanner, DEPTH_CAP)?,
            None => {
                scanner.value(DEPTH_CAP)?;
                let bytes = self.bytes.get(start..scanner.place()).unwrap_or_default();
                match Row::parse(bytes) {
                    Ok(row) => self.row = row,
                    Err(NotARow::Stop(stop)) => return Err(stop),
                    Err(error) => {
                        let reason = DeadLetterReason::NotJsonObject;
                        (self.sink)(Cut::Broken { bytes, reason, detail: error.to_string() });
                        return Ok(());
                    }
                }
            }
        }
        let end = scanner.place();
        let bytes = self.bytes.get(start..end).unwrap_or_default();
        if let Some(layout) = alone.filter(|layout| is_about_something_else(&self.row, layout)) {
            self.no_list(start, end, layout);
        } else {
            (self.sink)(Cut::Object { bytes, row: &self.row });
        }
        Ok(())
    }

    /// Something that is no object where one should be.
    fn stray(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Stop> {
        let value = scanner.value(DEPTH_CAP)?;
        (self.sink)(Cut::Broken {
            bytes: self.bytes.get(value.start..value.end).unwrap_or_default(),
            reason: DeadLetterReason::NotJsonObject,
            detail: "the record is JSON, but no object".to_owned(),
        });
        Ok(())
    }

    fn refuse(&mut self, bytes: &'a [u8], stop: Stop) {
        let reason = match stop {
            _ if bytes.len() > self.size_cap => DeadLetterReason::OverSizeCap,
            Stop::TooDeep => DeadLetterReason::TooDeep,
            Stop::Cut | Stop::Malformed(_) => DeadLetterReason::NotJsonObject,
        };
        (self.sink)(Cut::Broken { bytes, reason, detail: stop.to_string() });
    }
}

/// Whether an object that is alone is an error, or an answer whose list is none.
fn is_about_something_else(row: &Row<'_>, layout: &Layout) -> bool {
    let named = |name: &str| field::json(row, name).is_some();
    let error = field::json(row, "error").is_some_and(|json| json.starts_with('{'));
    (error && !named("id")) || (!layout.list.is_empty() && named(layout.list) && !named("id"))
}

/// What stands behind the list, to the end of the object around it: so that a cut answer does not look whole.
fn rest_of_object(scanner: &mut Scanner<'_>) -> Result<(), Stopped> {
    let start = scanner.place();
    let mut walk = || -> Result<(), Stop> {
        while scanner.more(b'}')? {
            scanner.key()?;
            scanner.value(DEPTH_CAP)?;
        }
        Ok(())
    };
    walk().map_err(|stop| (start, stop))
}
