//! An answer's body as it arrives: decompressed, under a cap on its size and on how much it may swell. Knows
//! nothing of what the body says.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use reqwest::header::HeaderValue;

use super::{HttpConfig, HttpError};

/// Below this size nobody is harmed by any ratio.
const HARMLESS_BYTES: usize = 1 << 20;

/// Collects a body.
pub(super) struct Body<'a> {
    sink: Decoder,
    place: &'a str,
    received: usize,
    max_ratio: usize,
}

enum Decoder {
    Plain(Capped),
    Gzip(Box<MultiGzDecoder<Capped>>),
}

/// Bytes that refuse to become more than `cap`.
struct Capped {
    bytes: Vec<u8>,
    cap: usize,
    over: bool,
}

impl Write for Capped {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(chunk.len()) > self.cap {
            self.over = true;
            return Err(io::Error::other("over the cap"));
        }
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> Body<'a> {
    pub(super) fn new(
        encoding: Option<&HeaderValue>,
        config: &HttpConfig,
        place: &'a str,
    ) -> Result<Self, HttpError> {
        let capped = Capped { bytes: Vec::new(), cap: config.max_response_bytes, over: false };
        let encoding = encoding.map(|value| value.as_bytes().trim_ascii().to_ascii_lowercase());
        let sink = match encoding.as_deref() {
            None | Some(b"" | b"identity") => Decoder::Plain(capped),
            Some(b"gzip" | b"x-gzip") => Decoder::Gzip(Box::new(MultiGzDecoder::new(capped))),
            // We asked for gzip alone; nested codings are a way to build bombs.
            Some(_) => {
                return Err(HttpError::Encoding {
                    place: place.to_owned(),
                    detail: "a content encoding that was not asked for".to_owned(),
                });
            }
        };
        Ok(Self { sink, place, received: 0, max_ratio: config.max_response_ratio })
    }

    /// Takes the next bytes from the wire.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), HttpError> {
        self.received = self.received.saturating_add(chunk.len());
        // In small steps, so that a bomb is noticed before it has filled the cap.
        for step in chunk.chunks(4096) {
            let written = match &mut self.sink {
                Decoder::Plain(capped) => capped.write_all(step),
                Decoder::Gzip(decoder) => decoder.write_all(step),
            };
            written.map_err(|error| self.error(&error.to_string()))?;
            let decoded = self.capped().bytes.len();
            let allowed = self.received.saturating_mul(self.max_ratio).max(HARMLESS_BYTES);
            if decoded > allowed {
                return Err(self.error("it swells more than anything honest does"));
            }
        }
        Ok(())
    }

    /// The whole body, once the wire is at its end.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, HttpError> {
        if self.received == 0 {
            return Ok(Vec::new());
        }
        if let Decoder::Gzip(decoder) = &mut self.sink
            && let Err(error) = decoder.try_finish()
        {
            return Err(self.error(&error.to_string()));
        }
        Ok(match &mut self.sink {
            Decoder::Plain(capped) => std::mem::take(&mut capped.bytes),
            Decoder::Gzip(decoder) => std::mem::take(&mut decoder.get_mut().bytes),
        })
    }

    fn capped(&self) -> &Capped {
        match &self.sink {
            Decoder::Plain(capped) => capped,
            Decoder::Gzip(decoder) => decoder.get_ref(),
        }
    }

    fn error(&self, detail: &str) -> HttpError {
        let place = self.place.to_owned();
        if self.capped().over {
            return HttpError::TooLarge { place, limit: self.capped().cap };
        }
        HttpError::Encoding { place, detail: detail.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(encoding: &str, wire: &[u8], config: &HttpConfig) -> Result<Vec<u8>, HttpError> {
        let encoding = HeaderValue::from_str(encoding).unwrap();
        let mut body = Body::new(Some(&encoding), config, "https://far.contoso.example")?;
        for chunk in wire.chunks(1000) {
            body.push(chunk)?;
        }
        body.finish()
    }

    #[test]
    fn gzip_is_opened_also_in_several_members() {
        let config = HttpConfig::default();
        let text = b"{\"a\":1}".repeat(10_000);
        assert_eq!(read("gzip", &zipped(&text), &config).unwrap(), text);
        let two = [zipped(b"one,"), zipped(b"two")].concat();
        assert_eq!(read("GZIP", &two, &config).unwrap(), b"one,two");
        assert_eq!(read("identity", b"plain", &config).unwrap(), b"plain");
        assert_eq!(read("gzip", b"", &config).unwrap(), b"");
    }

    /// Row S9 of the security list.
    #[test]
    fn bombs_large_bodies_and_cut_ones_are_refused() {
        let bomb = zipped(&vec![b' '; 50 << 20]);
        assert!(bomb.len() < 60_000);
        let config = HttpConfig::default();
        let error = read("gzip", &bomb, &config).unwrap_err();
        assert!(matches!(error, HttpError::Encoding { .. }), "{error}");
        let small = HttpConfig { max_response_bytes: 10_000, ..HttpConfig::default() };
        let error = read("gzip", &zipped(&[b'x'; 20_000]), &small).unwrap_err();
        assert!(matches!(error, HttpError::TooLarge { limit: 10_000, .. }), "{error}");
        let error = read("identity", &[b'x'; 10_001], &small).unwrap_err();
        assert!(matches!(error, HttpError::TooLarge { .. }), "{error}");
        let whole = zipped(&b"some text ".repeat(100));
        let error = read("gzip", &whole[..whole.len() - 6], &config).unwrap_err();
        assert!(matches!(error, HttpError::Encoding { .. }), "{error}");
        let error = read("gzip, gzip", &whole, &config).unwrap_err();
        assert!(matches!(error, HttpError::Encoding { .. }), "{error}");
    }
}
