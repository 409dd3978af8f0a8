//! Little-endian numbers in and out of byte slices, never by index. Not a format: the formats are `frame`,
//! `segment`, `snapshot` and `positions`.

use serde::Serialize;

/// Reads from the front of a slice; `None` when it ends early.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
}

/// A length as the formats write it. Lengths are capped far below 4 GiB before they come here.
pub(crate) fn length32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A `u32` as a length in memory.
pub(crate) const fn size(length: u32) -> usize {
    length as usize
}

/// A length in memory as a position in a file.
pub(crate) const fn position(length: usize) -> u64 {
    length as u64
}

/// Serializes at the end of `out`. Our types always serialize: they have no maps of unknown length.
pub(crate) fn postcard_into<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    struct End<'a>(&'a mut Vec<u8>);
    impl postcard::ser_flavors::Flavor for End<'_> {
        type Output = ();
        fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
        fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
            self.0.push(byte);
            Ok(())
        }
        fn finalize(self) -> postcard::Result<()> {
            Ok(())
        }
    }
    let written = postcard::serialize_with_flavor(value, End(out));
    debug_assert!(written.is_ok(), "every type of the format serializes");
}
