//! Judges a document by the published OCSF schema: names, requirements, types, enums, constraints. It knows
//! nothing of Postern and shares no code with the renderer that it judges.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Map, Value};

/// The published schema, reduced to facts.
pub struct Schema(Value);

impl Schema {
    pub fn published() -> Self {
        Self(serde_json::from_str(include_str!("../fixtures/ocsf-1.8.0.json")).unwrap())
    }

    /// Everything that is wrong with `document`, as `path: what`.
    pub fn problems(&self, document: &Value) -> Vec<String> {
        let mut judge = Judge { schema: &self.0, profiles: BTreeSet::new(), found: Vec::new() };
        judge.event(document);
        judge.found
    }
}

struct Judge<'a> {
    schema: &'a Value,
    profiles: BTreeSet<String>,
    found: Vec<String>,
}

impl Judge<'_> {
    fn say(&mut self, path: &str, what: impl AsRef<str>) {
        self.found.push(format!("{path}: {}", what.as_ref()));
    }

    fn event(&mut self, document: &Value) {
        let Some(event) = document.as_object() else {
            return self.say("", "not an object");
        };
        let class_uid = &event.get("class_uid").cloned().unwrap_or_default();
        let classes = self.schema["classes"].as_object().unwrap();
        let Some(class) = classes.values().find(|class| class["class_uid"] == *class_uid) else {
            return self.say("class_uid", format!("no such class: {class_uid}"));
        };
        self.profiles(event, class);
        self.object("", event, &class["attributes"], &Value::Null);
        if event.get("category_uid") != Some(&class["category_uid"]) {
            self.say("category_uid", "not the category of the class");
        }
        if event.get("class_name").is_some_and(|name| *name != class["caption"]) {
            self.say("class_name", "not the caption of the class");
        }
        let number = |key: &str| event.get(key).and_then(Value::as_i64).unwrap_or(-1);
        if number("type_uid") != number("class_uid") * 100 + number("activity_id") {
            self.say("type_uid", "not class_uid * 100 + activity_id");
        }
        if event["metadata"]["version"] != self.schema["version"] {
            self.say("metadata.version", "not the version of this schema");
        }
        self.observables(event, &class["attributes"]);
    }

    fn profiles(&mut self, event: &Map<String, Value>, class: &Value) {
        let attributes = class["attributes"].as_object().unwrap();
        let known: BTreeSet<&str> =
            attributes.values().filter_map(|attribute| attribute["profile"].as_str()).collect();
        let listed = event.get("metadata").and_then(|metadata| metadata["profiles"].as_array());
        for profile in listed.into_iter().flatten().filter_map(Value::as_str) {
            if !known.contains(profile) {
                self.say("metadata.profiles", format!("the class has no profile {profile}"));
            }
            self.profiles.insert(profile.to_owned());
        }
    }

    fn object(
        &mut self,
        path: &str,
        object: &Map<String, Value>,
        attributes: &Value,
        constraints: &Value,
    ) {
        for (name, value) in object {
            let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match attributes.get(name) {
                None => self.say(&at, "unknown attribute"),
                Some(attribute) => self.attribute(&at, object, value, attribute),
            }
        }
        for (name, attribute) in attributes.as_object().unwrap() {
            let counts = attribute["profile"].as_str().is_none_or(|it| self.profiles.contains(it));
            if attribute["requirement"] == "required" && counts && !object.contains_key(name) {
                self.say(path, format!("required attribute {name} is missing"));
            }
        }
        let present = |names: &Value| {
            let names = names.as_array().unwrap();
            names.iter().filter(|name| object.contains_key(name.as_str().unwrap())).count()
        };
        if let Some(names) = constraints.get("at_least_one").filter(|names| present(names) == 0) {
            self.say(path, format!("needs at least one of {names}"));
        }
        if let Some(names) = constraints.get("just_one").filter(|names| present(names) != 1) {
            self.say(path, format!("needs just one of {names}"));
        }
    }

    fn attribute(
        &mut self,
        at: &str,
        object: &Map<String, Value>,
        value: &Value,
        attribute: &Value,
    ) {
        if let Some(profile) = attribute["profile"].as_str()
            && !self.profiles.contains(profile)
        {
            self.say(at, format!("belongs to profile {profile}, which is not listed"));
        }
        if attribute["deprecated"] == true {
            self.say(at, "deprecated attribute");
        }
        let is_list = attribute["array"] == true;
        if is_list != value.is_array() {
            return self.say(at, if is_list { "not a list" } else { "a list" });
        }
        let values = if is_list {
            value.as_array().unwrap().as_slice()
        } else {
            std::slice::from_ref(value)
        };
        if values.is_empty() {
            self.say(at, "an empty list");
        }
        for value in values {
            match attribute["object"].as_str() {
                Some(name) => self.nested(at, value, name),
                None => self.typed(at, value, attribute["type"].as_str().unwrap()),
            }
        }
        if attribute.get("enum").is_some() {
            self.enumerated(at, object, value, attribute);
        }
    }

    fn nested(&mut self, at: &str, value: &Value, name: &str) {
        let Some(inner) = value.as_object() else {
            return self.say(at, "not an object");
        };
        // The schema's own word for an object of any content.
        if name == "object" {
            return;
        }
        let object = self.schema["objects"].get(name);
        let object = object.unwrap_or_else(|| panic!("the fixture lacks object {name}"));
        self.object(at, inner, &object["attributes"], &object["constraints"]);
    }

    fn typed(&mut self, at: &str, value: &Value, name: &str) {
        let known = self.schema["types"].get(name);
        let known = known.unwrap_or_else(|| panic!("the fixture lacks type {name}"));
        let fits = match name {
            "json_t" => true,
            "boolean_t" => value.is_boolean(),
            "float_t" => value.is_number(),
            "integer_t" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            "port_t" => value.as_u64().is_some_and(|number| number <= 65_535),
            "long_t" => value.is_i64(),
            "timestamp_t" => value.as_i64().is_some_and(|ms| ms.abs() < 253_402_300_800_000),
            "email_t" => value.as_str().is_some_and(is_email),
            "ip_t" => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
            _ if known.get("regex").is_some() => panic!("teach the validator the form of {name}"),
            _ => value.is_string(),
        };
        if !fits {
            self.say(at, format!("{value} is not of type {name}"));
        }
    }

    fn enumerated(
        &mut self,
        at: &str,
        object: &Map<String, Value>,
        value: &Value,
        attribute: &Value,
    ) {
        // In the published files these three have only their base values; the rest is computed when the
        // schema is built. They are judged in `event` and `observables`.
        if at == "class_uid" || at == "category_uid" || at == "observables.type_id" {
            return;
        }
        let sibling = attribute["sibling"].as_str().and_then(|name| object.get(name));
        let single = [value.clone()];
        let (ids, texts): (&[Value], Vec<Option<&Value>>) = match value.as_array() {
            Some(ids) => (ids, ids.iter().enumerate().map(|(n, _)| sibling?.get(n)).collect()),
            None => (&single, vec![sibling]),
        };
        for (id, text) in ids.iter().zip(texts) {
            match attribute["enum"].get(id.to_string()) {
                None => self.say(at, format!("{id} is not a value of the enum")),
                Some(_) if *id == 99 => {
                    if text.and_then(Value::as_str).is_none_or(str::is_empty) {
                        self.say(at, "99 without the source's word beside it");
                    }
                }
                Some(caption) => {
                    if text.is_some_and(|text| text != caption) {
                        self.say(at, format!("{id} means {caption}, but the text says otherwise"));
                    }
                }
            }
        }
    }

    /// An observable points to an attribute that is there, says its value, and has the number that
    /// belongs to the attribute's type.
    fn observables(&mut self, event: &Map<String, Value>, attributes: &Value) {
        let listed = event.get("observables").and_then(Value::as_array);
        for observable in listed.into_iter().flatten() {
            let name = observable["name"].as_str().unwrap_or_default();
            let mut here = Vec::new();
            let mut attributes = attributes;
            let mut kind = "";
            let document = Value::Object(event.clone());
            here.push(&document);
            for step in name.split('.') {
                here =
                    here.iter().filter_map(|value| value.get(step)).flat_map(one_or_all).collect();
                let attribute = &attributes[step];
                kind = attribute["type"].as_str().unwrap_or_default();
                attributes = attribute["object"]
                    .as_str()
                    .map_or(&Value::Null, |object| &self.schema["objects"][object]["attributes"]);
            }
            let expected = match kind {
                "hostname_t" => 1,
                "ip_t" => 2,
                "username_t" => 4,
                "email_t" => 5,
                "url_t" => 6,
                "file_name_t" => 7,
                "file_hash_t" => 8,
                _ => -1,
            };
            // What lies under `unmapped` has no type in the schema, only a value.
            let is_mapped = !name.starts_with("unmapped.");
            if is_mapped && observable["type_id"] != expected {
                self.say("observables", format!("{name} has type {kind:?}, not this number"));
            }
            let trimmed = |value: &Value| value.as_str().map(|text| text.trim().to_owned());
            if !here.iter().any(|value| trimmed(value) == trimmed(&observable["value"])) {
                self.say("observables", format!("{name} does not hold this value"));
            }
        }
    }
}

fn one_or_all(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |all| all.iter().collect())
}

/// The schema's expression for `email_t`, read out: one run of letters, digits and the listed signs, `@`,
/// a label, a dot, and at least one more letter, digit, hyphen or dot.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let Some((label, rest)) = domain.split_once('.') else { return false };
    let label_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !local.is_empty()
        && local.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+,-./=?^_`{|}~".contains(&b))
        && !label.is_empty()
        && label.bytes().all(label_byte)
        && !rest.is_empty()
        && rest.bytes().all(|byte| label_byte(byte) || byte == b'.')
}
