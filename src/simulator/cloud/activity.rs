//! The Office 365 Management Activity API: subscriptions, listings of content by windows, blobs of records,
//! with its own error codes and its odd habits (a window without zone, a next page in a header).

use serde_json::{Value, json};

use crate::domain::Ticks;
use crate::domain::ticks::TICKS_PER_SECOND;

use super::asked::{Asked, Reply, Route};
use super::feeds::{CONTENT_TYPES, ContentBlob, GENERAL, Subscription};
use super::store::Store;
use super::tokens::{Refused, Resource, Tokens};

/// Blobs on a page of a listing.
const PAGE: usize = 25;
/// The widest window, in seconds.
const WIDEST: i64 = 24 * 3600;
/// How far back a window may begin: seven days and the hour that the server tolerates.
const OLDEST: i64 = 7 * 86_400 + 3600;

/// Which endpoint a path is: `/api/v1.0/{tenant}/activity/feed/…`.
#[must_use]
pub fn route(parts: &[&str]) -> Option<Route> {
    let ["api", "v1.0" | "v1", _, "activity", "feed", rest @ ..] = parts else { return None };
    match rest {
        ["subscriptions", "start" | "stop" | "list"] => Some(Route::Subscriptions),
        ["subscriptions", "content"] => Some(Route::Content),
        ["audit", _] => Some(Route::Records),
        _ => None,
    }
}

/// An error in the API's form.
#[must_use]
pub fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({ "error": { "code": code, "message": message } }))
}

/// Answers.
#[must_use]
pub fn answer(
    route: Route,
    asked: &Asked,
    store: &mut Store,
    tokens: &Tokens,
    tenant_id: &str,
    now: Ticks,
) -> Reply {
    let roles = ["ActivityFeed.Read", "ActivityFeed.ReadDlp"];
    match tokens.admits(asked, Resource::Activity, &roles, now) {
        Ok(()) => {}
        Err(Refused::Role) => {
            return error(
                403,
                "AF10001",
                "The permission set () sent in the request did not include the expected permission \
                 ActivityFeed.Read.",
            );
        }
        Err(_) => {
            let body = json!({ "Message": "Authorization has been denied for this request." });
            return Reply::json(401, &body);
        }
    }
    let parts = asked.parts();
    let tenant = parts.get(2).map(String::as_str).unwrap_or_default();
    if tenant.len() != 36 {
        return error(
            400,
            "AF20013",
            &format!("The tenant ID passed in the URL ({tenant}) is not a valid GUID."),
        );
    }
    if !tenant.eq_ignore_ascii_case(tenant_id) {
        let text = format!(
            "The tenant ID passed in the URL ({tenant}) does not match the tenant ID passed in the access token \
             ({tenant_id})."
        );
        return error(400, "AF20010", &text);
    }
    let last = parts.last().map(String::as_str).unwrap_or_default();
    match route {
        Route::Subscriptions => subscriptions(last, asked, store, now),
        Route::Content => content(asked, store, now),
        _ => blob(last, store, now),
    }
}

fn content_type(asked: &Asked) -> Result<&str, Reply> {
    let Some(kind) = asked.value("contentType") else {
        return Err(error(400, "AF20001", "Missing parameter: contentType."));
    };
    if CONTENT_TYPES.contains(&kind) {
        return Ok(kind);
    }
    Err(error(400, "AF20020", "The specified content type is not valid."))
}

fn subscriptions(operation: &str, asked: &Asked, store: &mut Store, now: Ticks) -> Reply {
    if operation == "list" {
        if asked.method != "GET" {
            return error(405, "AF20002", "Invalid method.");
        }
        let all: Vec<Value> = store
            .feeds
            .subscriptions
            .iter()
            .map(|(kind, subscription)| {
                let status = if subscription.enabled { "enabled" } else { "disabled" };
                json!({ "contentType": kind, "status": status, "webhook": null })
            })
            .collect();
        return Reply::json(200, &all.into());
    }
    if asked.method != "POST" {
        return error(405, "AF20002", "Invalid method.");
    }
    let kind = match content_type(asked) {
        Ok(kind) => kind.to_owned(),
        Err(reply) => return reply,
    };
    let known = store.feeds.subscriptions.get(&kind).copied();
    let is_on = known.is_some_and(|subscription| subscription.enabled);
    if operation == "stop" {
        if !is_on {
            return error(400, "AF20022", "No subscription found for the specified content type.");
        }
        if let Some(subscription) = store.feeds.subscriptions.get_mut(&kind) {
            subscription.enabled = false;
        }
        return Reply::empty(200);
    }
    if is_on {
        return error(400, "AF20024", "The subscription is already enabled. No property change.");
    }
    store.feeds.subscriptions.insert(kind.clone(), Subscription { enabled: true, started: now });
    if kind == GENERAL && store.feeds.has_waiting() {
        store.seal(now);
    }
    Reply::json(200, &json!({ "contentType": kind, "status": "enabled", "webhook": null }))
}

/// A time as the listing takes it: no zone, no fraction.
fn time(text: &str) -> Option<Ticks> {
    let is_plain = matches!(text.len(), 10 | 16 | 19) && !text.ends_with('Z');
    Ticks::parse(text).filter(|_| is_plain)
}

fn content(asked: &Asked, store: &Store, now: Ticks) -> Reply {
    let kind = match content_type(asked) {
        Ok(kind) => kind,
        Err(reply) => return reply,
    };
    match store.feeds.subscriptions.get(kind) {
        None => {
            return error(400, "AF20022", "No subscription found for the specified content type.");
        }
        Some(subscription) if !subscription.enabled => {
            return error(
                400,
                "AF20023",
                "The subscription was disabled by a tenant administrator.",
            );
        }
        Some(_) => {}
    }
    let (from, to) = match (asked.value("startTime"), asked.value("endTime")) {
        (None, None) => (now.plus_seconds(-WIDEST), now),
        (Some(from), Some(to)) => match (time(from), time(to)) {
            (Some(from), Some(to)) => (from, to),
            _ => return window_error(),
        },
        _ => return window_error(),
    };
    let span = (to.0 - from.0) / TICKS_PER_SECOND;
    if !(0..=WIDEST).contains(&span) || from < now.plus_seconds(-OLDEST) {
        return window_error();
    }
    let skip: usize = match asked.value("nextPage").map(str::parse) {
        None => 0,
        Some(Ok(skip)) => skip,
        Some(Err(_)) => return error(400, "AF20031", "Invalid nextPage Input."),
    };
    let is_in = |blob: &&ContentBlob| kind == GENERAL && blob.created >= from && blob.created < to;
    let found: Vec<&ContentBlob> = store.feeds.blobs.iter().filter(is_in).collect();
    let base = feed(asked);
    let page: Vec<Value> = found
        .iter()
        .skip(skip)
        .take(PAGE)
        .map(|blob| {
            json!({
                "contentType": kind,
                "contentId": blob.id,
                "contentUri": format!("{base}/audit/{}", blob.id),
                "contentCreated": millis(blob.created),
                "contentExpiration": millis(blob.expires),
            })
        })
        .collect();
    let mut reply = Reply::json(200, &page.into());
    if found.len() > skip + PAGE {
        let plain = |time: Ticks| time.to_string().get(..19).unwrap_or_default().to_owned();
        let publisher = asked.value("PublisherIdentifier").unwrap_or_default();
        reply = reply.with(
            "NextPageUri",
            format!(
                "{base}/subscriptions/content?contentType={kind}&startTime={}&endTime={}&nextPage={}&PublisherIdentifier={publisher}",
                plain(from),
                plain(to),
                skip + PAGE
            ),
        );
    }
    reply
}

fn window_error() -> Reply {
    error(
        400,
        "AF20030",
        "Start time and end time must both be specified (or both omitted) and must be less than or equal to 24 \
         hours apart, with the start time no more than 7 days in the past.",
    )
}

/// The root of the feed as the client reached it.
fn feed(asked: &Asked) -> String {
    let root = asked.path.split("/activity/feed").next().unwrap_or_default();
    format!("{}{root}/activity/feed", asked.origin())
}

fn millis(time: Ticks) -> String {
    let text = time.to_string();
    let whole = text.get(..19).unwrap_or_default();
    format!("{whole}.{:03}Z", time.as_millis().rem_euclid(1000))
}

fn blob(id: &str, store: &Store, now: Ticks) -> Reply {
    match store.feeds.blob(id) {
        None => error(404, "AF20050", "The specified content does not exist."),
        Some(blob) if blob.expires <= now => error(
            400,
            "AF20051",
            "Content requested with the key has already expired. Content older than 7 days cannot be retrieved.",
        ),
        Some(blob) => Reply::json(200, &blob.records.clone().into()),
    }
}
