//! Azure's Blob service for one storage account, read-only as a consumer of exported logs needs it: containers,
//! listings in pages, properties, ranges with conditions. A SAS or a token opens it.

use std::fmt::Write as _;

use crate::domain::Ticks;

use super::asked::{Asked, Reply, Route};
use super::shelf::{Blob, Shelf};
use super::tokens::{Refused, Resource, Tokens, guid};

/// Blobs on a page of a listing, and the most.
const PAGE: usize = 5000;

/// Which endpoint it is: `/{account}/{container}` with `comp=list`, or a blob in it.
#[must_use]
pub fn route(parts: &[&str], asked: &Asked, account: &str) -> Option<Route> {
    match parts {
        [first, ..] if *first == account => {}
        _ => return None,
    }
    let lists = asked.value("comp") == Some("list");
    if lists || parts.len() < 3 { Some(Route::BlobList) } else { Some(Route::Blob) }
}

/// An error in the service's form.
#[must_use]
pub fn error(status: u16, code: &str, message: &str) -> Reply {
    let body = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Reply::text(status, "application/xml", body).with("x-ms-error-code", code)
}

/// What the account is to a request.
pub struct Account<'a> {
    /// Its blobs.
    pub shelf: &'a Shelf,
    /// Reads tokens.
    pub tokens: &'a Tokens,
    /// What a SAS must be signed with.
    pub sas_signature: &'a str,
    /// Whether folders are things of their own in it.
    pub hierarchical: bool,
    /// The server's time.
    pub now: Ticks,
}

impl Account<'_> {
    /// Answers.
    #[must_use]
    pub fn answer(&self, asked: &Asked) -> Reply {
        let reply = match self.admit(asked) {
            Ok(()) => self.serve(asked),
            Err(reply) => reply,
        };
        let id = guid(&format!("{} {} {}", self.now.0, asked.path, asked.raw_query));
        reply.with("x-ms-request-id", id).with("x-ms-version", "2024-11-04")
    }

    fn admit(&self, asked: &Asked) -> Result<(), Reply> {
        let denied = |code: &str, text: &str| Err(error(403, code, text));
        if let Some(signature) = asked.value("sig") {
            let expiry = asked.value("se").and_then(Ticks::parse);
            if signature != self.sas_signature || expiry.is_some_and(|expiry| expiry <= self.now) {
                return denied(
                    "AuthenticationFailed",
                    "Server failed to authenticate the request. Make sure the value of Authorization header is \
                     formed correctly including the signature.",
                );
            }
            return Ok(());
        }
        let roles = ["Storage Blob Data Reader", "Storage Blob Data Contributor"];
        match self.tokens.admits(asked, Resource::Storage, &roles, self.now) {
            Ok(()) => Ok(()),
            Err(Refused::Role) => denied(
                "AuthorizationPermissionMismatch",
                "This request is not authorized to perform this operation using this permission.",
            ),
            Err(_) if asked.header("authorization").is_none() => Err(error(
                401,
                "NoAuthenticationInformation",
                "Server failed to authenticate the request. Please refer to the information in the \
                 www-authenticate header.",
            )),
            Err(_) => Err(error(
                401,
                "InvalidAuthenticationInfo",
                "Server failed to authenticate the request. Please refer to the information in the \
                 www-authenticate header.",
            )),
        }
    }

    fn serve(&self, asked: &Asked) -> Reply {
        if asked.method != "GET" && asked.method != "HEAD" {
            return error(
                405,
                "UnsupportedHttpVerb",
                "The resource doesn't support specified Http Verb.",
            );
        }
        let parts = asked.parts();
        let Some(container) = parts.get(1) else { return self.containers(asked) };
        let Some(blobs) = self.shelf.container(container) else {
            return error(404, "ContainerNotFound", "The specified container does not exist.");
        };
        if parts.len() == 2 {
            if asked.value("comp") == Some("list") {
                return self.list(container, blobs, asked);
            }
            return Reply::empty(200).with("last-modified", http_date(self.now));
        }
        let name = parts.get(2..).unwrap_or_default().join("/");
        match blobs.get(&name) {
            Some(blob) => read(blob, asked),
            None => error(404, "BlobNotFound", "The specified blob does not exist."),
        }
    }

    fn containers(&self, asked: &Asked) -> Reply {
        if asked.value("comp") != Some("list") {
            return error(
                400,
                "InvalidQueryParameterValue",
                "Value for one of the query parameters is invalid.",
            );
        }
        let prefix = asked.value("prefix").unwrap_or_default();
        let mut list = String::new();
        for name in self.shelf.containers().filter(|name| name.starts_with(prefix)) {
            let _ = write!(list, "<Container><Name>{}</Name></Container>", escape(name));
        }
        let body = format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Containers>{list}</Containers><NextMarker /></EnumerationResults>"
        );
        Reply::text(200, "application/xml", body)
    }

    fn list(
        &self,
        container: &str,
        blobs: &std::collections::BTreeMap<String, Blob>,
        asked: &Asked,
    ) -> Reply {
        let prefix = asked.value("prefix").unwrap_or_default();
        let delimiter = asked.value("delimiter").filter(|text| !text.is_empty());
        let most = asked.value("maxresults").and_then(|most| most.parse().ok()).unwrap_or(PAGE);
        let most: usize = most.clamp(1, PAGE);
        let marker = asked.value("marker").unwrap_or_default();
        let mut entries: std::collections::BTreeMap<String, Entry<'_>> =
            std::collections::BTreeMap::new();
        for (name, blob) in blobs.iter().filter(|(name, _)| name.starts_with(prefix)) {
            let rest = name.get(prefix.len()..).unwrap_or_default();
            if let Some(end) = delimiter.and_then(|delimiter| rest.find(delimiter)) {
                let folder = name.get(..prefix.len() + end + 1).unwrap_or_default();
                entries.insert(folder.to_owned(), Entry::Prefix);
                continue;
            }
            if self.hierarchical {
                for (slash, _) in rest.match_indices('/') {
                    let folder = name.get(..prefix.len() + slash).unwrap_or_default();
                    entries.insert(folder.to_owned(), Entry::Folder);
                }
            }
            entries.insert(name.clone(), Entry::Blob(blob));
        }
        let mut page = String::new();
        let (mut count, mut next) = (0, "");
        for (name, entry) in entries.iter().filter(|(name, _)| name.as_str() >= marker) {
            if count == most {
                next = name;
                break;
            }
            count += 1;
            entry.write(name, &mut page);
        }
        let next = if next.is_empty() {
            "<NextMarker />".to_owned()
        } else {
            format!("<NextMarker>{}</NextMarker>", escape(next))
        };
        let body = format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"{}/\" ContainerName=\"{}\"><Prefix>{}</Prefix><MaxResults>{most}</MaxResults><Blobs>{page}</Blobs>{next}</EnumerationResults>",
            escape(&asked.origin()),
            escape(container),
            escape(prefix),
        );
        Reply::text(200, "application/xml", body)
    }
}

enum Entry<'a> {
    Blob(&'a Blob),
    Folder,
    Prefix,
}

impl Entry<'_> {
    fn write(&self, name: &str, out: &mut String) {
        let name = escape(name);
        let _ = match self {
            Self::Prefix => write!(out, "<BlobPrefix><Name>{name}</Name></BlobPrefix>"),
            Self::Folder => write!(
                out,
                "<Blob><Name>{name}</Name><Properties><Content-Length>0</Content-Length><BlobType>BlockBlob</BlobType><ResourceType>directory</ResourceType></Properties></Blob>"
            ),
            Self::Blob(blob) => write!(
                out,
                "<Blob><Name>{name}</Name><Properties><Creation-Time>{}</Creation-Time><Last-Modified>{}</Last-Modified><Etag>{}</Etag><Content-Length>{}</Content-Length><Content-Type>application/octet-stream</Content-Type><BlobType>{}</BlobType><AccessTier>Hot</AccessTier><AccessTierInferred>true</AccessTierInferred><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted></Properties></Blob>",
                http_date(blob.created),
                http_date(blob.modified),
                etag(blob),
                blob.data.len(),
                blob.kind,
            ),
        };
    }
}

fn etag(blob: &Blob) -> String {
    format!("0x8DE{:012X}", blob.version)
}

/// A time as headers have it.
#[must_use]
pub fn http_date(time: Ticks) -> String {
    let seconds = u64::try_from(time.as_seconds()).unwrap_or(0);
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn read(blob: &Blob, asked: &Asked) -> Reply {
    let tag = format!("\"{}\"", etag(blob));
    let unquoted = |text: &str| text.trim().trim_matches('"').to_owned();
    let is_other = |text: &str| text.trim() != "*" && unquoted(text) != unquoted(&tag);
    if asked.header("if-match").is_some_and(is_other) {
        return error(
            412,
            "ConditionNotMet",
            "The condition specified using HTTP conditional header(s) is not met.",
        );
    }
    let common = |reply: Reply| {
        reply
            .with("etag", tag.clone())
            .with("last-modified", http_date(blob.modified))
            .with("x-ms-creation-time", http_date(blob.created))
            .with("x-ms-blob-type", blob.kind)
            .with("x-ms-blob-committed-block-count", blob.blocks.to_string())
            .with("accept-ranges", "bytes")
    };
    let whole = blob.data.len();
    if asked.method == "HEAD" {
        let kind = "application/octet-stream".to_owned();
        let head = Reply::empty(200).with("content-type", kind);
        return common(head.with("content-length", whole.to_string()));
    }
    let range = asked.header("x-ms-range").or_else(|| asked.header("range"));
    let Some((from, to)) = range.and_then(bounds) else {
        return common(Reply::text(200, "application/octet-stream", blob.data.clone()));
    };
    let Some(last) = whole.checked_sub(1).filter(|_| from < whole) else {
        return error(
            416,
            "InvalidRange",
            "The range specified is invalid for the current size of the resource.",
        )
        .with("content-range", format!("bytes */{whole}"));
    };
    let to = to.unwrap_or(last).min(last);
    let part = blob.data.get(from..=to).unwrap_or_default();
    common(Reply::text(206, "application/octet-stream", part))
        .with("content-range", format!("bytes {from}-{to}/{whole}"))
}

/// `bytes=from-to` or `bytes=from-`.
fn bounds(text: &str) -> Option<(usize, Option<usize>)> {
    let (from, to) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let to = if to.is_empty() { None } else { Some(to.parse().ok()?) };
    let from = from.parse().ok()?;
    to.is_none_or(|to| to >= from).then_some((from, to))
}
