//! How the cloud misbehaves: a script of faults, each aimed at routes, drawn by seed. A fault takes the answer's
//! place, spoils it, or spoils its way over the line; what is true of the tenant never changes by it.
//!
//! ```toml
//! seed = 7
//! [[fault]]
//! kind = "throttle"
//! route = "graph.incidents"    # a route's word or its beginning; empty: every route
//! per_mille = 100              # of so many requests in a thousand
//! retry_after = "date+5"       # the header as it is, or a date so many seconds ahead; left out: no header
//! ```

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::asked::{Asked, Manner, Reply, Route};
use super::blob::{self, http_date};
use super::graph::Reader;
use super::spoil;
use crate::domain::Ticks;
use crate::simulator::random::Random;

/// A script.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Which requests of many are hit.
    pub seed: u64,
    /// Of a thousand things (alerts, incidents, hunting rows), how many become visible late: with a stamp that
    /// lies in the past.
    pub late_per_mille: u64,
    /// By how many seconds at most.
    pub late_seconds: u64,
    /// The faults; the first that strikes is the one.
    #[serde(rename = "fault")]
    pub faults: Vec<Fault>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    pub kind: Kind,
    /// Where: a route's word (`graph.incidents.list`) or its beginning (`graph`); empty for everywhere.
    #[serde(default)]
    pub route: String,
    /// Of a thousand requests, how many. Default all.
    #[serde(default = "always")]
    pub per_mille: u64,
    /// Requests to the route that are spared first. Default 0.
    #[serde(default)]
    pub after_requests: u64,
    /// How often it strikes at most. Default without end.
    pub times: Option<u64>,
    /// Seconds after the start from which on it strikes. Default 0.
    #[serde(default)]
    pub after_seconds: u64,
    /// For how many seconds. Default without end.
    pub for_seconds: Option<u64>,
    /// The status, where the kind leaves a choice.
    pub status: Option<u16>,
    /// `Retry-After`: the header as it is, or `date+N`.
    pub retry_after: Option<String>,
    /// Milliseconds between the pieces of a slow body. Default 100.
    #[serde(default = "pace")]
    pub pace_millis: u64,
    /// Where a link leads astray. Default `https://collector.fabrikam.example`.
    #[serde(default = "away")]
    pub to: String,
    /// By how many seconds the date of the answer is wrong.
    #[serde(default)]
    pub seconds: i64,
}

const fn always() -> u64 {
    1000
}

const fn pace() -> u64 {
    100
}

fn away() -> String {
    "https://collector.fabrikam.example".to_owned()
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 429, or the status named (the Activity API says it with 403): try later.
    Throttle,
    /// 503, or the status named.
    Unavailable,
    /// 500, but only where `$expand=alerts` is asked for.
    ExpandError,
    /// 401, though the token is good.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 200 with a page of some gateway.
    Html,
    /// 200 without a body.
    Empty,
    /// 200 with a body that ends early and a length that fits it.
    Truncated,
    /// The connection breaks off in the middle of the body.
    Cut,
    /// The connection breaks off before the answer.
    Reset,
    /// No answer ever.
    Hang,
    /// The body comes in small pieces.
    Slow,
    /// The body never ends.
    Endless,
    /// A few bytes that unpack to very many.
    Bomb,
    /// The next page is this page.
    LinkLoop,
    /// The next page, or a blob, is on another host.
    LinkAway,
    /// There is a next page, but no link to it.
    LinkMissing,
    /// Some things on the page twice.
    Duplicate,
    /// The things on the page in another order.
    Shuffle,
    /// A field that nobody knows in each thing, and another type than usual.
    NewField,
    /// The content has expired (Activity API).
    Expired,
    /// What was listed is gone.
    Missing,
    /// The blob has been replaced by another with the same lines before it is read (storage).
    Replaced,
    /// No `Date` header.
    NoDate,
    /// A wrong `Date` header.
    WrongDate,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// What is wrong, with line and column.
    pub fn read(text: &str) -> Result<Self, String> {
        let script: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for fault in &script.faults {
            if !Route::ALL.iter().any(|route| fault.is_aimed_at(*route)) {
                let known: Vec<&str> = Route::ALL.iter().map(|route| route.as_str()).collect();
                return Err(format!(
                    "no route begins with {:?}; there are {}",
                    fault.route,
                    known.join(", ")
                ));
            }
        }
        Ok(script)
    }

    /// By how many seconds something becomes visible late.
    pub fn lateness(&self, random: &mut Random) -> u64 {
        if self.late_per_mille > 0 && random.chance(self.late_per_mille) {
            random.between(1, self.late_seconds.max(1))
        } else {
            0
        }
    }
}

impl Fault {
    fn is_aimed_at(&self, route: Route) -> bool {
        let word = route.as_str();
        let rest = word.strip_prefix(self.route.as_str());
        self.route.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// A script at work.
#[derive(Debug)]
pub struct Faults {
    script: Script,
    random: Random,
    began: Ticks,
    asked: HashMap<Route, u64>,
    struck: HashMap<usize, u64>,
}

impl Faults {
    /// From `began` on.
    #[must_use]
    pub fn new(script: Script, began: Ticks) -> Self {
        let random = Random::new(script.seed ^ 0x0fa0_17ed);
        Self { script, random, began, asked: HashMap::new(), struck: HashMap::new() }
    }

    /// The fault that strikes this request, if one does.
    pub fn draw(&mut self, route: Route, asked: &Asked, now: Ticks) -> Option<Fault> {
        let count = self.asked.entry(route).or_default();
        *count += 1;
        let seconds = now.seconds_since(self.began).max(0.0);
        for (number, fault) in self.script.faults.iter().enumerate() {
            let struck = self.struck.entry(number).or_default();
            #[expect(clippy::cast_precision_loss, reason = "seconds of a test")]
            let is_time = seconds >= fault.after_seconds as f64
                && fault.for_seconds.is_none_or(|length| {
                    seconds < fault.after_seconds.saturating_add(length) as f64
                });
            let fits = fault.is_aimed_at(route)
                && is_time
                && *count > fault.after_requests
                && fault.times.is_none_or(|times| *struck < times)
                && (fault.kind != Kind::ExpandError || asked.value("$expand").is_some());
            if fits && self.random.chance(fault.per_mille) {
                *struck += 1;
                return Some(fault.clone());
            }
        }
        None
    }

    /// How often each fault has struck, in the script's order.
    #[must_use]
    pub fn struck(&self) -> Vec<(Kind, u64)> {
        let each = self.script.faults.iter().enumerate();
        each.map(|(number, fault)| (fault.kind, self.struck.get(&number).copied().unwrap_or(0)))
            .collect()
    }

    /// Dice for spoiling.
    pub fn dice(&mut self) -> Random {
        self.random.branch()
    }
}

/// The answer that takes the right one's place, where the fault does so.
#[must_use]
pub fn instead(fault: &Fault, route: Route, asked: &Asked, now: Ticks) -> Option<Reply> {
    let reader = Reader { asked, now };
    let in_its_form = |status: u16, code: &str, text: &str| match route {
        Route::Subscriptions | Route::Content | Route::Records => {
            let code = match status {
                _ if fault.kind == Kind::Throttle => "AF429",
                500.. => "AF50000",
                _ => code,
            };
            super::activity::error(status, code, text)
        }
        Route::BlobList | Route::Blob => {
            let code =
                if status >= 500 || fault.kind == Kind::Throttle { "ServerBusy" } else { code };
            blob::error(status, code, text)
        }
        _ => reader.error(status, code, text),
    };
    let status = |usual: u16| fault.status.unwrap_or(usual);
    let reply = match fault.kind {
        Kind::Throttle => {
            let text = "Too many requests. Method=GetBlob, PublisherId=00000000-0000-0000-0000-000000000000";
            retry_after(fault, now, in_its_form(status(429), "TooManyRequests", text))
        }
        Kind::Unavailable => retry_after(fault, now, in_its_form(status(503), "UnknownError", "")),
        Kind::ExpandError => in_its_form(500, "InternalServerError", "Internal server error."),
        Kind::Unauthorized => {
            in_its_form(401, "InvalidAuthenticationToken", "Access token has been revoked.")
        }
        Kind::Forbidden => in_its_form(403, "Forbidden", "Access is denied."),
        Kind::Html => Reply::text(
            200,
            "text/html",
            "<!DOCTYPE html><html><head><title>Gateway</title></head><body>Please stand by.</body></html>",
        ),
        Kind::Empty => Reply::empty(200),
        Kind::Bomb => spoil::bomb(),
        Kind::Expired => super::activity::error(400, "AF20051", "Content has already expired."),
        Kind::Missing => match route {
            Route::Blob | Route::BlobList => {
                blob::error(404, "BlobNotFound", "The specified blob does not exist.")
            }
            Route::Records => {
                super::activity::error(404, "AF20050", "The specified content does not exist.")
            }
            _ => reader.error(404, "ResourceNotFound", "Resource not found."),
        },
        Kind::Reset => Reply { manner: Manner::Reset, ..Reply::empty(200) },
        Kind::Hang => Reply { manner: Manner::Hang, ..Reply::empty(200) },
        Kind::Endless => Reply {
            manner: Manner::Endless(Duration::from_millis(fault.pace_millis)),
            ..Reply::text(200, "application/json", "{\"value\":[")
        },
        _ => return None,
    };
    Some(reply)
}

fn retry_after(fault: &Fault, now: Ticks, reply: Reply) -> Reply {
    let Some(text) = &fault.retry_after else { return reply };
    let date = text.strip_prefix("date").and_then(|seconds| seconds.parse().ok());
    let value = date.map_or_else(|| text.clone(), |seconds| http_date(now.plus_seconds(seconds)));
    reply.with("retry-after", value)
}

/// The right answer, spoiled, where the fault does so.
#[must_use]
pub fn spoiled(
    fault: &Fault,
    route: Route,
    asked: &Asked,
    reply: Reply,
    dice: &mut Random,
) -> Reply {
    if !(200..300).contains(&reply.status) {
        return reply;
    }
    let pause = Duration::from_millis(fault.pace_millis);
    match fault.kind {
        Kind::Cut => Reply { manner: Manner::Cut, ..reply },
        Kind::Slow => Reply { manner: Manner::Slow(pause), ..reply },
        Kind::Truncated => {
            let half = reply.body.len() / 2;
            let body = reply.body.get(..half).unwrap_or_default().to_vec();
            Reply { body, ..reply }
        }
        Kind::LinkLoop => {
            let here = format!("{}{}?{}", asked.origin(), asked.path, asked.raw_query);
            spoil::link(reply, route, Some(&here))
        }
        Kind::LinkAway => {
            let there = format!("{}{}?{}", fault.to, asked.path, asked.raw_query);
            spoil::contents(spoil::link(reply, route, Some(&there)), route, &fault.to)
        }
        Kind::LinkMissing => spoil::link(reply, route, None),
        Kind::Duplicate => spoil::each_page(reply, |items| {
            let again: Vec<_> = items.iter().filter(|_| dice.chance(300)).cloned().collect();
            items.extend(again);
        }),
        Kind::Shuffle => spoil::each_page(reply, |items| {
            for place in (1..items.len()).rev() {
                let other = usize::try_from(dice.below(place as u64 + 1)).unwrap_or(0);
                items.swap(place, other);
            }
        }),
        Kind::NewField => spoil::each_page(reply, |items| {
            for item in items.iter_mut().filter_map(serde_json::Value::as_object_mut) {
                item.insert(
                    "futureField".to_owned(),
                    serde_json::json!({ "levels": [1, "two", null] }),
                );
                item.insert("priorityScore".to_owned(), "high".into());
            }
        }),
        _ => reply,
    }
}
