//! The OData options that Graph's security collections take, read as strictly as Graph reads them: what it
//! does not know or allow is a 400 with Graph's own words.

use crate::domain::Ticks;

use super::asked::Asked;

/// What a collection allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest `$top`, and the page size without one.
    pub top: usize,
    /// The largest `$skip`.
    pub skip: usize,
    /// Text columns that may be filtered on.
    pub words: &'static [&'static str],
    /// Whether there are alerts to expand.
    pub expands: bool,
}

/// Incidents.
pub const INCIDENTS: Limits = Limits {
    top: 50,
    skip: usize::MAX,
    words: &["assignedTo", "classification", "determination", "severity", "status"],
    expands: true,
};

/// Alerts.
pub const ALERTS: Limits = Limits {
    top: 1000,
    skip: 500,
    words: &[
        "assignedTo",
        "classification",
        "determination",
        "serviceSource",
        "severity",
        "status",
    ],
    expands: false,
};

const TIMES: [&str; 2] = ["createdDateTime", "lastUpdateDateTime"];

/// Something in a collection.
pub trait Item {
    /// A time of it.
    fn time(&self, field: &str) -> Ticks;
    /// A word of it.
    fn word(&self, field: &str) -> Option<&str>;
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Clause {
    Time { field: &'static str, operator: String, than: Ticks },
    Word { field: &'static str, is: bool, value: Option<String> },
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    clauses: Vec<Clause>,
    /// The most that a page has.
    pub top: usize,
    /// How many are left out in front.
    pub skip: usize,
    order: (&'static str, bool),
    /// Whether alerts come inside incidents.
    pub expand: bool,
    /// Whether the whole number is asked for.
    pub count: bool,
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// Graph's text for the 400.
    pub fn read(asked: &Asked, limits: Limits) -> Result<Self, String> {
        let mut options = Self {
            clauses: Vec::new(),
            top: limits.top.min(100),
            skip: 0,
            order: ("createdDateTime", true),
            expand: false,
            count: false,
        };
        let invalid = |what: String| format!("The query specified in the URI is not valid. {what}");
        for (name, value) in &asked.query {
            match name.as_str() {
                "$filter" => {
                    options.clauses = clauses(value, limits).map_err(&invalid)?;
                }
                "$top" => options.top = number(value, "Top", limits.top).map_err(&invalid)?,
                "$skip" => options.skip = number(value, "Skip", limits.skip).map_err(&invalid)?,
                "$orderby" => options.order = order(value).map_err(&invalid)?,
                "$expand" if limits.expands && value == "alerts" => options.expand = true,
                "$expand" => {
                    return Err(invalid(format!("Could not find a property named '{value}'.")));
                }
                "$count" => options.count = value == "true",
                other if other.starts_with('$') => {
                    return Err(invalid(format!("Query option '{other}' is not allowed.")));
                }
                _ => {}
            }
        }
        Ok(options)
    }

    /// Whether it fits the filter.
    pub fn fits(&self, item: &impl Item) -> bool {
        self.clauses.iter().all(|clause| match clause {
            Clause::Time { field, operator, than } => {
                let time = item.time(field);
                match operator.as_str() {
                    "ge" => time >= *than,
                    "gt" => time > *than,
                    "le" => time <= *than,
                    "lt" => time < *than,
                    "ne" => time != *than,
                    _ => time == *than,
                }
            }
            Clause::Word { field, is, value } => (item.word(field) == value.as_deref()) == *is,
        })
    }

    /// Puts them in order.
    pub fn sort<T: Item>(&self, items: &mut [&T]) {
        let (field, newest_first) = self.order;
        items.sort_by_key(|item| item.time(field));
        if newest_first {
            items.reverse();
        }
    }

    /// The query of the page behind this one.
    #[must_use]
    pub fn next(&self, asked: &Asked) -> String {
        let mut pairs: Vec<(&str, String)> = asked
            .query
            .iter()
            .filter(|(name, _)| name != "$skip")
            .map(|(name, value)| (&**name, value.clone()))
            .collect();
        pairs.push(("$skip", (self.skip + self.top).to_string()));
        let pairs: Vec<String> = pairs
            .into_iter()
            .map(|(name, value)| format!("{name}={}", super::asked::encode(&value)))
            .collect();
        pairs.join("&")
    }
}

fn number(value: &str, what: &str, most: usize) -> Result<usize, String> {
    let number: usize = value.trim().parse().map_err(|_| {
        format!("Invalid value '{value}' for ${} query option found.", what.to_lowercase())
    })?;
    if number > most || (what == "Top" && number == 0) {
        return Err(format!(
            "The limit of '{most}' for {what} query has been exceeded. The value from the incoming request is \
             '{number}'."
        ));
    }
    Ok(number)
}

fn order(value: &str) -> Result<(&'static str, bool), String> {
    let mut words = value.split_ascii_whitespace();
    let field = words.next().unwrap_or_default();
    let field = TIMES
        .iter()
        .find(|known| **known == field)
        .ok_or_else(|| format!("Ordering by '{field}' is not supported."))?;
    match (words.next(), words.next()) {
        (None | Some("asc"), None) => Ok((field, false)),
        (Some("desc"), None) => Ok((field, true)),
        _ => Err(format!("Syntax error in $orderby: '{value}'.")),
    }
}

fn clauses(text: &str, limits: Limits) -> Result<Vec<Clause>, String> {
    text.split(" and ").map(|clause| one(clause.trim(), limits)).collect()
}

fn one(text: &str, limits: Limits) -> Result<Clause, String> {
    let wrong = || format!("Invalid filter clause: '{text}'.");
    let mut words = text.splitn(3, ' ');
    let (field, operator, value) = (
        words.next().ok_or_else(wrong)?,
        words.next().ok_or_else(wrong)?,
        words.next().ok_or_else(wrong)?.trim(),
    );
    if let Some(field) = TIMES.iter().find(|known| **known == field) {
        if !["ge", "gt", "le", "lt", "eq", "ne"].contains(&operator) {
            return Err(wrong());
        }
        let is_whole = value.ends_with('Z') && value.contains('T');
        let than = Ticks::parse(value)
            .filter(|_| is_whole)
            .ok_or_else(|| format!("Invalid filter clause: '{value}' is no Edm.DateTimeOffset."))?;
        return Ok(Clause::Time { field, operator: operator.to_owned(), than });
    }
    let field = limits.words.iter().find(|known| **known == field).ok_or_else(|| {
        format!("Invalid filter clause: filtering by '{field}' is not supported.")
    })?;
    let is = match operator {
        "eq" => true,
        "ne" => false,
        _ => return Err(wrong()),
    };
    let value = match value {
        "null" => None,
        quoted => Some(
            quoted
                .strip_prefix('\'')
                .and_then(|rest| rest.strip_suffix('\''))
                .ok_or_else(wrong)?
                .to_owned(),
        ),
    };
    Ok(Clause::Word { field, is, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::cloud::asked::pairs;

    fn read(query: &str, limits: Limits) -> Result<Options, String> {
        Options::read(&Asked { query: pairs(query), ..Asked::default() }, limits)
    }

    struct Thing(i64);

    impl Item for Thing {
        fn time(&self, _: &str) -> Ticks {
            Ticks::parse("2026-08-20T09:00:00Z").unwrap().plus_seconds(self.0)
        }
        fn word(&self, _: &str) -> Option<&str> {
            Some("active")
        }
    }

    #[test]
    fn fifty_are_the_most_and_graph_says_so_in_its_own_words() {
        assert_eq!(read("$top=50", INCIDENTS).unwrap().top, 50);
        assert_eq!(
            read("$top=100", INCIDENTS).unwrap_err(),
            "The query specified in the URI is not valid. The limit of '50' for Top query has been exceeded. \
             The value from the incoming request is '100'."
        );
        assert!(read("$skip=501", ALERTS).is_err());
        assert_eq!(read("", INCIDENTS).unwrap().top, 50);
    }

    #[test]
    fn a_filter_keeps_what_fits_and_an_order_orders() {
        let options = read(
            "$filter=lastUpdateDateTime+ge+2026-08-20T09:00:01Z+and+status+eq+'active'&$orderby=lastUpdateDateTime+asc",
            INCIDENTS,
        )
        .unwrap();
        let things: Vec<Thing> = [3, 1, 0, 2].map(Thing).into();
        let mut kept: Vec<&Thing> = things.iter().filter(|thing| options.fits(*thing)).collect();
        options.sort(&mut kept);
        assert_eq!(kept.iter().map(|thing| thing.0).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn what_graph_does_not_know_is_refused() {
        for query in [
            "$filter=title+eq+'x'",
            "$filter=lastUpdateDateTime+ge+'2026-08-20T09:00:00Z'",
            "$filter=lastUpdateDateTime+ge+2026-08-20",
            "$filter=lastUpdateDateTime",
            "$filter=status+eq+active",
            "$orderby=title",
            "$orderby=lastUpdateDateTime+upwards",
            "$expand=evidence",
            "$search=x",
            "$top=0",
            "$top=-1",
        ] {
            read(query, INCIDENTS).unwrap_err();
        }
        read("$expand=alerts", ALERTS).unwrap_err();
    }
}
