//! Microsoft Graph's security endpoints: incidents, alerts, hunting. Refuses as Graph refuses, in its envelope.

use serde_json::{Value, json};

use crate::domain::Ticks;

use super::asked::{Asked, Reply, Route};
use super::odata::{ALERTS, INCIDENTS, Options};
use super::store::Store;
use super::tokens::{Refused, Resource, Tokens, guid};

/// Which endpoint a path below `/v1.0` is.
#[must_use]
pub fn route(parts: &[&str]) -> Option<Route> {
    match parts {
        ["v1.0", "security", "incidents"] => Some(Route::Incidents),
        ["v1.0", "security", "incidents", _] => Some(Route::Incident),
        ["v1.0", "security", "alerts_v2"] | ["v1.0", "security", "alerts_v2", _] => {
            Some(Route::Alerts)
        }
        ["v1.0", "security", "runHuntingQuery"] => Some(Route::Hunting),
        _ => None,
    }
}

/// Answers.
#[must_use]
pub fn answer(route: Route, asked: &Asked, store: &Store, tokens: &Tokens, now: Ticks) -> Reply {
    let reader = Reader { asked, now };
    let (roles, method): (&[&str], &str) = match route {
        Route::Hunting => (&["ThreatHunting.Read.All"], "POST"),
        Route::Alerts => (&["SecurityAlert.Read.All", "SecurityAlert.ReadWrite.All"], "GET"),
        _ => (&["SecurityIncident.Read.All", "SecurityIncident.ReadWrite.All"], "GET"),
    };
    if let Err(refused) = tokens.admits(asked, Resource::Graph, roles, now) {
        return reader.refuse(refused, roles);
    }
    if asked.method != method {
        return reader.error(405, "Request_BadRequest", "Specified HTTP method is not allowed.");
    }
    let parts = asked.parts();
    let id = parts.get(3).map(String::as_str);
    let known = |asked: &Asked| {
        asked.header("prefer").is_some_and(|prefer| prefer.contains("include-unknown-enum-members"))
    };
    match (route, id) {
        (Route::Hunting, _) => super::hunting::answer(&reader, store),
        (Route::Incidents, _) => reader.incidents(store, known(asked)),
        (Route::Incident, Some(id)) => reader.incident(store, id),
        (Route::Alerts, Some(id)) => reader.alert(store, id),
        (Route::Alerts, None) => reader.alerts(store),
        _ => reader.error(404, "ResourceNotFound", "Resource not found."),
    }
}

/// A request and when it came.
pub struct Reader<'a> {
    /// The request.
    pub asked: &'a Asked,
    /// The server's time.
    pub now: Ticks,
}

impl Reader<'_> {
    /// An error in Graph's envelope.
    #[must_use]
    pub fn error(&self, status: u16, code: &str, message: &str) -> Reply {
        let own = guid(&format!("{} {} {}", self.now.0, self.asked.path, self.asked.raw_query));
        let client =
            self.asked.header("client-request-id").map_or_else(|| own.clone(), str::to_owned);
        let date = self.now.to_string();
        Reply::json(
            status,
            &json!({ "error": {
                "code": code,
                "message": message,
                "innerError": {
                    "date": date.get(..19),
                    "request-id": own,
                    "client-request-id": client,
                },
            }}),
        )
    }

    fn refuse(&self, refused: Refused, roles: &[&str]) -> Reply {
        let invalid = "InvalidAuthenticationToken";
        match refused {
            Refused::Invalid => self.error(401, invalid, "Access token is empty or invalid."),
            Refused::Expired => {
                self.error(401, invalid, "Lifetime validation failed, the token is expired.")
            }
            Refused::Audience => {
                self.error(401, invalid, "Access token validation failure. Invalid audience.")
            }
            Refused::Role => {
                let text = format!(
                    "Missing application scopes. API requires one of '{}'.",
                    roles.join(", ")
                );
                self.error(403, "Forbidden", &text)
            }
        }
    }

    fn page(&self, context: &str, values: Vec<Value>, options: &Options, total: usize) -> Reply {
        let mut body = json!({
            "@odata.context": format!("{}/v1.0/$metadata#security/{context}", self.asked.origin()),
        });
        let Some(object) = body.as_object_mut() else { return Reply::empty(500) };
        if options.count {
            object.insert("@odata.count".to_owned(), total.into());
        }
        if total > options.skip + options.top {
            let link =
                format!("{}{}?{}", self.asked.origin(), self.asked.path, options.next(self.asked));
            object.insert("@odata.nextLink".to_owned(), link.into());
        }
        object.insert("value".to_owned(), values.into());
        Reply::json(200, &body)
    }

    fn incidents(&self, store: &Store, known: bool) -> Reply {
        let options = match Options::read(self.asked, INCIDENTS) {
            Ok(options) => options,
            Err(message) => return self.error(400, "", &message),
        };
        let cases = &store.cases;
        let mut found: Vec<_> =
            cases.incidents.values().filter(|incident| options.fits(*incident)).collect();
        options.sort(&mut found);
        let total = found.len();
        let page = found.into_iter().skip(options.skip).take(options.top);
        let values = page
            .map(|incident| {
                let mut value = cases.incident_json(incident, options.expand, &store.mails);
                if !known {
                    hide_unknown(&mut value);
                }
                value
            })
            .collect();
        let context = if options.expand { "incidents(alerts())" } else { "incidents" };
        self.page(context, values, &options, total)
    }

    fn alerts(&self, store: &Store) -> Reply {
        let options = match Options::read(self.asked, ALERTS) {
            Ok(options) => options,
            Err(message) => return self.error(400, "", &message),
        };
        let cases = &store.cases;
        let mut found: Vec<_> =
            cases.alerts.values().filter(|alert| options.fits(*alert)).collect();
        options.sort(&mut found);
        let total = found.len();
        let page = found.into_iter().skip(options.skip).take(options.top);
        let values = page.map(|alert| cases.alert_json(alert, &store.mails)).collect();
        self.page("alerts_v2", values, &options, total)
    }

    fn incident(&self, store: &Store, id: &str) -> Reply {
        let options = match Options::read(self.asked, INCIDENTS) {
            Ok(options) => options,
            Err(message) => return self.error(400, "", &message),
        };
        let found = id.parse().ok().and_then(|id: u64| store.cases.incidents.get(&id));
        match found {
            Some(incident) => {
                Reply::json(200, &store.cases.incident_json(incident, options.expand, &store.mails))
            }
            None => self.error(404, "ResourceNotFound", "Incident not found."),
        }
    }

    fn alert(&self, store: &Store, id: &str) -> Reply {
        match store.cases.alerts.get(id) {
            Some(alert) => Reply::json(200, &store.cases.alert_json(alert, &store.mails)),
            None => self.error(404, "ResourceNotFound", "Alert not found."),
        }
    }
}

/// Members that a client does not ask for come as a placeholder.
fn hide_unknown(incident: &mut Value) {
    if let Some(status) = incident.get_mut("status")
        && status == "awaitingAction"
    {
        *status = "unknownFutureValue".into();
    }
}
