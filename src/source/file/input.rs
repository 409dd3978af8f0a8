//! The bytes of a file: decompressed under caps, through a window of bounded size. It does not know records.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use crate::normalize::SIZE_CAP;

/// Most bytes of one line or document that are held. More than a record may have, so that one which is too large
/// is seen to be.
pub(super) const WINDOW: usize = SIZE_CAP + (64 << 10);
/// Bytes read at once.
const READ: usize = 64 << 10;
/// Below this many bytes the ratio says nothing.
const RATIO_FROM: u64 = 1 << 20;
/// log2 of the most memory that a zstd file may ask for, in bytes (32 MiB; `zstd -19` asks for 8).
const ZSTD_WINDOW_LOG: u32 = 25;

/// How a file is compressed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // Frames that zstd tools write to be skipped.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// Limits on what a compressed file may become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    pub(super) bytes: u64,
    pub(super) ratio: u64,
}

/// Counts what is read of the file itself.
struct Counting {
    file: io::Take<File>,
    count: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(room)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// See the module.
pub(super) struct Window {
    input: Box<dyn Read + Send>,
    /// Compressed bytes that were read; `None` for a plain file.
    packed: Option<Arc<AtomicU64>>,
    caps: Caps,
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    /// Offset of the first byte in the buffer.
    base: u64,
    at_end: bool,
    /// Why the end came before the end of the file.
    fault: Option<String>,
}

impl Window {
    /// Over the first `length` bytes of `file`. A plain file is read from `offset` on; a compressed one always from
    /// its beginning.
    pub(super) fn new(
        mut file: File,
        packing: Packing,
        offset: u64,
        length: u64,
        caps: Caps,
    ) -> io::Result<Self> {
        let base = if packing == Packing::Plain { offset } else { 0 };
        file.seek(SeekFrom::Start(base))?;
        let count = Arc::new(AtomicU64::new(0));
        let file = file.take(length.saturating_sub(base));
        let file = Counting { file, count: Arc::clone(&count) };
        let input: Box<dyn Read + Send> = match packing {
            Packing::Plain => Box::new(file),
            Packing::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(READ, file))),
            Packing::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(file)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        };
        Ok(Self {
            input,
            packed: (packing != Packing::Plain).then_some(count),
            caps,
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            base,
            at_end: false,
            fault: None,
        })
    }

    /// Over bytes at hand.
    #[cfg(test)]
    pub(super) fn over(bytes: &[u8]) -> Self {
        Self {
            input: Box::new(io::Cursor::new(bytes.to_vec())),
            packed: None,
            caps: Caps { bytes: u64::MAX, ratio: u64::MAX },
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            base: 0,
            at_end: false,
            fault: None,
        }
    }

    /// What is held and not yet passed.
    pub(super) fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..self.filled).unwrap_or_default()
    }

    /// Where `rest` begins in the (decompressed) file.
    pub(super) const fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Passes over `length` bytes of `rest`.
    pub(super) fn pass(&mut self, length: usize) {
        self.start = (self.start + length).min(self.filled);
    }

    /// Whether nothing can come behind `rest`.
    pub(super) const fn at_end(&self) -> bool {
        self.at_end
    }

    /// Whether `rest` is as large as it may be.
    pub(super) const fn is_full(&self) -> bool {
        self.filled - self.start >= WINDOW
    }

    /// Why the end came early.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Reads more; false at the end, or if `rest` is full.
    ///
    /// # Errors
    /// What the operating system says. What is wrong with the compression is [`Window::fault`].
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.at_end || self.is_full() {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.base += self.start as u64;
            self.start = 0;
        }
        // What is held grows by as much again, so that looking at it anew stays in proportion.
        let wanted = (self.filled + READ.max(self.filled)).min(WINDOW.max(self.filled + 1));
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let room = self.buffer.get_mut(self.filled..wanted).unwrap_or_default();
        let count = loop {
            match self.input.read(room) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error().is_some() || self.packed.is_none() => {
                    return Err(error);
                }
                Err(error) => {
                    self.fault = Some(format!("it cannot be decompressed: {error}"));
                    break 0;
                }
            }
        };
        self.filled += count;
        self.at_end = count == 0;
        if let Some(packed) = &self.packed {
            let (packed, came) = (packed.load(Ordering::Relaxed), self.base + self.filled as u64);
            let swells = came > RATIO_FROM && came / packed.max(1) >= self.caps.ratio;
            if came > self.caps.bytes || swells {
                let ratio = came / packed.max(1);
                self.fault =
                    Some(format!("it swells to over {came} bytes ({ratio} times its size)"));
                self.at_end = true;
            }
        }
        Ok(count > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8], caps: Caps) -> (Vec<u8>, Option<String>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let length = bytes.len() as u64;
        let mut window = Window::new(file, Packing::of(bytes), 0, length, caps).unwrap();
        let mut all = Vec::new();
        while window.fill().unwrap() {
            all.extend_from_slice(window.rest());
            let length = window.rest().len();
            window.pass(length);
            assert!(window.buffer.len() <= WINDOW);
        }
        assert_eq!(window.offset(), all.len() as u64);
        (all, window.fault().map(str::to_owned))
    }

    const CAPS: Caps = Caps { bytes: 1 << 30, ratio: 200 };

    /// Fault matrix: E5.
    #[test]
    fn members_and_frames_one_after_another_are_one_file() {
        let text = b"{\"a\":1}\n".repeat(50_000);
        let two = [gzip(&text), gzip(b"two")].concat();
        assert_eq!(read(&two, CAPS), ([text.as_slice(), b"two"].concat(), None));
        let frames =
            [zstd::encode_all(&text[..], 3).unwrap(), zstd::encode_all(&b"two"[..], 3).unwrap()];
        let roomy = Caps { ratio: u64::MAX, ..CAPS };
        assert_eq!(read(&frames.concat(), roomy), ([text.as_slice(), b"two"].concat(), None));
        assert_eq!(read(&text, CAPS), (text, None));
    }

    /// Fault matrix: E5.
    #[test]
    fn of_a_cut_archive_everything_before_the_cut_is_read() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        for packed in [gzip(&text), zstd::encode_all(&text[..], 3).unwrap()] {
            let (some, fault) = read(&packed[..packed.len() / 2], CAPS);
            assert!(fault.is_some() && some.len() > text.len() / 4, "{}", some.len());
            assert!(text.starts_with(&some));
            let (some, fault) = read(&packed[..packed.len() - 3], CAPS);
            assert!(fault.is_some() && text.starts_with(&some));
        }
    }

    /// Fault matrix: E5.
    #[test]
    fn a_bomb_stops_at_the_cap() {
        let bomb = gzip(&vec![b' '; 300 << 20]);
        let (some, fault) = read(&bomb, CAPS);
        assert!(fault.unwrap().contains("swells"));
        assert!(some.len() < 100 << 20);
        let packed = zstd::encode_all(&vec![b' '; 64 << 20][..], 1).unwrap();
        let (some, fault) = read(&packed, CAPS);
        assert!(fault.is_some() && some.len() < 4 << 20, "{}", some.len());
        let (some, fault) =
            read(&gzip(&b"0123456789abcdef".repeat(10)), Caps { bytes: 100, ratio: 200 });
        assert!(fault.is_some() && some.len() <= 160);
    }
}
