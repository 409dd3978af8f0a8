//! Damage to right answers: links, lists, sizes. Works on the JSON that the APIs answer with; what is no such
//! JSON stays as it is.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::asked::{Reply, Route};

/// Bytes that a bomb unpacks to.
const BOMB: usize = 256 << 20;

/// Sets, or takes away, the link to the next page.
#[must_use]
pub fn link(mut reply: Reply, route: Route, to: Option<&str>) -> Reply {
    if route == Route::Content {
        reply.headers.retain(|(name, _)| *name != "NextPageUri");
        return match to {
            Some(to) => reply.with("NextPageUri", to),
            None => reply,
        };
    }
    edit(reply, |body| {
        let Some(object) = body.as_object_mut().filter(|object| object.contains_key("value"))
        else {
            return;
        };
        match to {
            Some(to) => object.insert("@odata.nextLink".to_owned(), to.into()),
            None => object.remove("@odata.nextLink"),
        };
    })
}

/// Sends the reader of a listing of the Activity API elsewhere for the content.
#[must_use]
pub fn contents(reply: Reply, route: Route, to: &str) -> Reply {
    if route != Route::Content {
        return reply;
    }
    each_page(reply, |items| {
        for item in items {
            let text = item.get("contentUri").and_then(Value::as_str).unwrap_or_default();
            let path = text.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
            if let Some(object) = item.as_object_mut() {
                object.insert("contentUri".to_owned(), format!("{to}/{path}").into());
            }
        }
    })
}

/// Changes the list in an answer: `value`, `results`, or the answer itself.
#[must_use]
pub fn each_page(reply: Reply, change: impl FnOnce(&mut Vec<Value>)) -> Reply {
    edit(reply, |body| {
        if let Some(items) = body.as_array_mut() {
            change(items);
            return;
        }
        let Some(object) = body.as_object_mut() else { return };
        let name = if object.contains_key("value") { "value" } else { "results" };
        if let Some(items) = object.get_mut(name).and_then(Value::as_array_mut) {
            change(items);
        }
    })
}

fn edit(reply: Reply, change: impl FnOnce(&mut Value)) -> Reply {
    let Ok(mut body) = serde_json::from_slice::<Value>(&reply.body) else { return reply };
    change(&mut body);
    Reply { body: body.to_string().into_bytes(), ..reply }
}

/// An answer of a few hundred kilobytes that unpacks to very many.
#[must_use]
pub fn bomb() -> Reply {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..BOMB >> 20 {
        if packer.write_all(&zeros).is_err() {
            break;
        }
    }
    let body = packer.finish().unwrap_or_default();
    Reply::text(200, "application/json", body).with("content-encoding", "gzip")
}
