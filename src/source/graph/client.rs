//! The questions to Graph as HTTP, and what each of its refusals means. It asks once: whoever called decides what
//! comes next.

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::walk::{Part, Question};
use crate::cloud::http::{Answer, HttpError};
use crate::cloud::plain;
use crate::cloud::tenant::{Ask, TenantAccess, Workload};
use crate::domain::{Failure, Ticks};
use crate::pipeline::AdapterError;

/// A collection of Graph's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Collection {
    /// Its path.
    pub(super) path: &'static str,
    /// What is in it, for people.
    pub(super) noun: &'static str,
    /// The application permission that lets us read it.
    pub(super) permission: &'static str,
    /// Whether its rows have alerts that can be expanded, and may have been merged into others.
    pub(super) incidents: bool,
}

/// How to ask for a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Rows.
    pub(super) top: u32,
    /// Alerts along with them.
    pub(super) expand: bool,
    /// With the order that we want.
    pub(super) orderby: bool,
    /// With the number of all rows.
    pub(super) count: bool,
}

/// A question, ready to be sent, and in words that let a person ask it again.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) url: Url,
    pub(super) words: String,
}

/// Asks. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) access: TenantAccess,
    pub(super) collection: Collection,
}

impl Client {
    /// A page of the collection.
    ///
    /// # Errors
    /// If it is a link that leads elsewhere.
    pub(super) fn page(&self, question: &Question, how: Manner) -> Result<Wanted, AdapterError> {
        let edge = |word: &str, at: Ticks| format!("lastUpdateDateTime {word} {at}");
        let (low, with_low) = question.lower;
        let mut filter = edge(if with_low { "ge" } else { "gt" }, low);
        if let Some((high, with_high)) = question.upper {
            filter.push_str(" and ");
            filter.push_str(&edge(if with_high { "le" } else { "lt" }, high));
        }
        let mut options = vec![("$filter", filter.clone())];
        if how.expand {
            options.push(("$expand", "alerts".to_owned()));
        }
        if how.orderby {
            options.push(("$orderby", "lastUpdateDateTime asc".to_owned()));
        }
        options.push(("$top", how.top.to_string()));
        if how.count && question.count {
            options.push(("$count", "true".to_owned()));
        }
        match &question.part {
            Part::First => {}
            Part::Skip(rows) => options.push(("$skip", rows.to_string())),
            Part::Link(link) => {
                let words = format!("{} (a linked page of {filter})", self.collection.path);
                return Ok(Wanted { url: self.access.link(Workload::Graph, link)?, words });
            }
        }
        self.wanted(self.below(&[])?, &options)
    }

    /// The newest row, by the order that the collection has of itself.
    ///
    /// # Errors
    /// Never, in practice: the address was checked when it was configured.
    pub(super) fn newest(&self) -> Result<Wanted, AdapterError> {
        self.wanted(self.below(&[])?, &[("$top", "1".to_owned())])
    }

    /// One row by its id.
    ///
    /// # Errors
    /// If no URL can be made with the id.
    pub(super) fn one(&self, id: &str, expand: bool) -> Result<Wanted, AdapterError> {
        let options = [("$expand", "alerts".to_owned())];
        let options = if expand { options.as_slice() } else { &[] };
        self.wanted(self.below(&[id])?, options)
    }

    fn below(&self, segments: &[&str]) -> Result<Url, AdapterError> {
        let unfit = |why: &str| AdapterError::new(Failure::Hold, format!("endpoints.graph: {why}"));
        let home = self.access.endpoint(Workload::Graph);
        let mut url = home.join(self.collection.path).map_err(|e| unfit(&e.to_string()))?;
        url.path_segments_mut().map_err(|()| unfit("cannot have a path"))?.extend(segments);
        Ok(url)
    }

    fn wanted(&self, mut url: Url, options: &[(&str, String)]) -> Result<Wanted, AdapterError> {
        let mut words = url.path().to_owned();
        if !options.is_empty() {
            let told: Vec<String> =
                options.iter().map(|(name, value)| format!("{name}={value}")).collect();
            words = format!("{words}?{}", told.join("&"));
            url.query_pairs_mut().extend_pairs(options);
        }
        Ok(Wanted { url, words })
    }

    /// Sends it.
    ///
    /// # Errors
    /// Anything but a 2xx answer that was read to its end.
    pub(super) async fn send(&self, wanted: &Wanted) -> Result<Answer, HttpError> {
        let mut ask = Ask::get(wanted.url.clone());
        // Without it, members that are newer than the first version of an enumeration come as one and the same word.
        let prefer = HeaderValue::from_static("include-unknown-enum-members");
        ask.headers.push((HeaderName::from_static("prefer"), prefer));
        let answer = self.access.send(Workload::Graph, ask).await?;
        tracing::debug!(question = wanted.words, bytes = answer.body.len(), "graph");
        Ok(answer)
    }

    /// What a failure means for the source as a whole.
    pub(super) fn sorted(&self, error: HttpError) -> AdapterError {
        let Collection { path, noun, permission, .. } = self.collection;
        let hold = |text: String| AdapterError::new(Failure::Hold, text);
        match error.status() {
            Some(403) => {
                let text = format!(
                    "Graph does not let us read {noun}: the app registration needs the application permission \
                     {permission} with admin consent"
                );
                AdapterError::because(Failure::Hold, text, error)
            }
            Some(404) => hold(format!(
                "Graph has no {path} here: this cloud does not offer it, or endpoints.graph is another place"
            )),
            _ if error.failure() == Failure::Reject => {
                let text = format!("Graph does not take our question for {noun}");
                AdapterError::because(Failure::Hold, text, error)
            }
            _ => error.during(&format!("reading {noun} from Graph")),
        }
    }

    /// An answer that is 200 and yet none.
    pub(super) fn unreadable(&self, body: &[u8], why: &str) -> AdapterError {
        let shown = plain::answer(body);
        let text = format!(
            "Graph answered with something that is not {}: {why}; it begins with {shown:?}",
            self.collection.noun
        );
        AdapterError::new(Failure::Retry(None), text)
    }
}

/// Whether a smaller question may do better: the far end broke down over it, or it became too much.
pub(super) fn too_heavy(error: &HttpError) -> bool {
    match error {
        HttpError::Status { status, .. } => matches!(status, 500 | 504),
        HttpError::Timeout { .. } | HttpError::TooLarge { .. } => true,
        HttpError::Unbuilt { .. }
        | HttpError::NotNow { .. }
        | HttpError::NoToken { .. }
        | HttpError::Connect { .. }
        | HttpError::Broken { .. }
        | HttpError::Encoding { .. } => false,
    }
}
