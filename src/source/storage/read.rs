//! Reads what is new of one blob: a range of bytes up to the last line break. It does not decide which blob.

use azure_core::http::Etag;
use azure_storage_blob::models::{BlobClientDownloadOptions, HttpRange};

use super::Storage;
use super::look::{Work, gone_gap, is_another};
use super::shelf::{Mark, print};
use super::trouble::{Refusal, sort};
use crate::cloud::plain::plain;
use crate::domain::{Chunk, Failure, Gap, Position, Raw, Shape};
use crate::normalize::SIZE_CAP;
use crate::pipeline::port::AdapterError;

/// Most bytes that are held to find the end of a line: more than a record may have.
const LINE_CAP: u64 = SIZE_CAP as u64 + (64 << 10);

/// What reading brought.
pub(super) enum Reading {
    /// Whole lines; whether the blob has more.
    Chunk { chunk: Chunk, more: bool },
    /// No whole line; whether more must be asked for at once.
    Nothing { more: bool },
    /// The blob was deleted.
    Gone(Gap),
    /// The blob changed since it was listed: the next look sees it as it is.
    Changed,
}

impl Storage {
    /// Reads on in the blob that `work` names.
    pub(super) async fn read(&mut self, work: &mut Work) -> Result<Reading, AdapterError> {
        let Some(container) = self.containers.get(work.at) else { return Ok(Reading::Changed) };
        let known = container.shelf.blobs.get(&work.name);
        let mut mark = match known {
            Some(mark) if !is_another(mark, work) => mark.clone(),
            _ => Mark::default(),
        };
        // What it was before must still be there; looked at once, with the first bytes after a change.
        let check = if mark.etag == work.etag { 0 } else { mark.print_length().min(mark.offset) };
        let from = mark.offset - check;
        let want = work.length.min(mark.offset.saturating_add(work.budget));
        let bytes = match self.fetch(work, from, want).await {
            Ok(bytes) => bytes,
            Err(refusal) => return self.refused(work, &mark, refusal),
        };
        let (before, new) =
            bytes.split_at_checked(usize::try_from(check).unwrap_or_default()).unwrap_or_default();
        if check > 0 && print(before) != mark.print {
            // Other bytes under the same name: from the beginning.
            let fresh = Mark { created: work.created.clone(), ..Mark::default() };
            self.put(work, fresh);
            return Ok(Reading::Nothing { more: true });
        }
        let reached_end = want == work.length;
        (mark.etag, mark.created) = (work.etag.clone(), work.created.clone());
        mark.length = want;
        let start =
            if mark.skipping { memchr::memchr(b'\n', new).map(|place| place + 1) } else { Some(0) };
        let Some(start) = start else {
            // Still within the endless line.
            mark.offset = want;
            mark.print = print(new);
            self.put(work, mark);
            return Ok(Reading::Nothing { more: !reached_end });
        };
        if mark.skipping {
            mark.skipping = false;
            mark.line += 1;
        }
        let rest = new.get(start..).unwrap_or_default();
        let end = memchr::memrchr(b'\n', rest).map(|place| place + 1);
        let position = Position::File {
            path: self.path(work).into(),
            line: mark.line + 1,
            offset: mark.offset + start as u64,
        };
        let taken = match end {
            Some(end) => end,
            None if reached_end || (rest.len() as u64) < LINE_CAP => {
                mark.offset += start as u64;
                if start > 0 {
                    mark.print = print(new.get(..start).unwrap_or_default());
                }
                if !reached_end {
                    work.budget = work.budget.saturating_mul(2).min(LINE_CAP);
                }
                self.put(work, mark);
                return Ok(Reading::Nothing { more: !reached_end });
            }
            None => {
                // Longer than a record may be: its beginning says so, the rest is passed over.
                mark.skipping = true;
                rest.len()
            }
        };
        let lines = rest.get(..taken).unwrap_or_default();
        let chunk = Chunk {
            raw: Raw::new(lines),
            shape: Shape::StreamingLines,
            position,
            observed: None,
            backfill: false,
        };
        mark.line += memchr::memchr_iter(b'\n', lines).count() as u64;
        mark.offset += (start + taken) as u64;
        mark.print = print(new.get(..start + taken).unwrap_or_default());
        work.budget = self.config.page_bytes as u64;
        self.put(work, mark);
        Ok(Reading::Chunk { chunk, more: !reached_end })
    }

    /// The bytes from `from` to before `to`, all of them.
    pub(super) async fn fetch(&self, work: &Work, from: u64, to: u64) -> Result<Vec<u8>, Refusal> {
        let Some(container) = self.containers.get(work.at) else { return Err(Refusal::Changed) };
        let tried = || format!("reading {}", plain(&self.path(work), 300));
        let refuse = |error| sort(error, &tried(), &self.door.place());
        let wanted = to.saturating_sub(from);
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let most = usize::try_from(wanted).unwrap_or(usize::MAX);
        let options = BlobClientDownloadOptions {
            range: Some(HttpRange::new(from, wanted)),
            // What has been appended cannot change any more, and something is appended all the time.
            if_match: (!work.append).then(|| Etag::from(work.etag.to_string())),
            parallel: std::num::NonZero::new(1),
            partition_size: std::num::NonZero::new(most.max(4 << 20)),
            ..BlobClientDownloadOptions::default()
        };
        let blob = container.client.blob_client(&format!("{}{}", self.prefix, work.name));
        let answer = blob.download(Some(options)).await.map_err(refuse)?;
        let created = answer.properties.created_on.map(|time| time.to_string());
        if created.is_some_and(|created| !work.created.is_empty() && *created != *work.created) {
            return Err(Refusal::Changed);
        }
        let bytes = answer.body.collect().await.map_err(refuse)?;
        if bytes.len() as u64 != wanted {
            let message =
                format!("{}: {} bytes came, {wanted} were asked for", tried(), bytes.len());
            return Err(Refusal::Trouble(AdapterError::new(Failure::Retry(None), message)));
        }
        Ok(bytes.to_vec())
    }

    fn refused(
        &mut self,
        work: &Work,
        mark: &Mark,
        refusal: Refusal,
    ) -> Result<Reading, AdapterError> {
        match refusal {
            Refusal::Changed => Ok(Reading::Changed),
            Refusal::NoBlob | Refusal::NoContainer => {
                let what = self.path(work);
                if let Some(container) = self.containers.get_mut(work.at) {
                    container.shelf.blobs.remove(&work.name);
                    container.changed = true;
                }
                let why = "it was deleted before it was read";
                Ok(Reading::Gone(gone_gap(&self.name, &what, mark.offset, work.length, why)))
            }
            Refusal::Trouble(error) => Err(error),
        }
    }

    fn put(&mut self, work: &Work, mark: Mark) {
        if let Some(container) = self.containers.get_mut(work.at) {
            container.shelf.blobs.insert(work.name.clone(), mark);
            container.changed = true;
        }
    }

    /// Container and blob, as a person finds it.
    fn path(&self, work: &Work) -> String {
        let container = self.containers.get(work.at).map_or("", |container| &*container.name);
        plain(&format!("{container}/{}{}", self.prefix, work.name), 1100)
    }
}
