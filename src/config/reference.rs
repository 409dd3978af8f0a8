//! Tests only: asks serde which keys a configuration type knows, and holds the files in `config/` to it, so
//! that the reference names every key there is and every example is one that Postern takes.

use std::cell::RefCell;
use std::path::Path;

use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer as _, Visitor};

use super::Config;

/// What a type asks serde for at a place.
enum Asked {
    Keys(&'static [&'static str]),
    Words(&'static [&'static str]),
}

/// Walks down `path` and notes what is asked for at its end. Nothing is ever read: it always fails.
struct Probe<'p> {
    path: &'p [&'static str],
    asked: &'p RefCell<Option<Asked>>,
}

type Never = de::value::Error;

impl Probe<'_> {
    fn note(&self, asked: Asked) -> Never {
        *self.asked.borrow_mut() = Some(asked);
        self.end()
    }

    fn end(&self) -> Never {
        de::Error::custom("only asking")
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Never;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Never> {
        Err(self.end())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Never> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Never> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Never> {
        visitor.visit_seq(One(Some(self)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Never> {
        if self.path.is_empty() {
            Err(self.note(Asked::Keys(fields)))
        } else {
            visitor.visit_map(One(Some(self)))
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Never> {
        match self.path.split_first() {
            None if name == "Secret" => Err(self.end()),
            None => Err(self.note(Asked::Words(variants))),
            Some(_) => visitor.visit_enum(One(Some(self))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct map identifier ignored_any
    }
}

/// The one step down the path.
struct One<'p>(Option<Probe<'p>>);

impl<'p> One<'p> {
    fn step(&mut self) -> Option<(&'static str, Probe<'p>)> {
        let probe = self.0.take()?;
        let (step, rest) = probe.path.split_first()?;
        Some((step, Probe { path: rest, asked: probe.asked }))
    }
}

impl<'de> de::SeqAccess<'de> for One<'_> {
    type Error = Never;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Never> {
        self.0.take().map(|probe| seed.deserialize(probe)).transpose()
    }
}

impl<'de> de::MapAccess<'de> for One<'_> {
    type Error = Never;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Never> {
        let Some((step, rest)) = self.step() else { return Ok(None) };
        self.0 = Some(rest);
        let step: StrDeserializer<'_, Never> = step.into_deserializer();
        seed.deserialize(step).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Never> {
        seed.deserialize(self.0.take().unwrap())
    }
}

impl<'de, 'p> de::EnumAccess<'de> for One<'p> {
    type Error = Never;
    type Variant = Probe<'p>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        mut self,
        seed: S,
    ) -> Result<(S::Value, Probe<'p>), Never> {
        let (step, rest) = self.step().unwrap();
        let step: StrDeserializer<'_, Never> = step.into_deserializer();
        Ok((seed.deserialize(step)?, rest))
    }
}

impl<'de> de::VariantAccess<'de> for Probe<'_> {
    type Error = Never;

    fn unit_variant(self) -> Result<(), Never> {
        Err(self.end())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Never> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Never> {
        Err(self.end())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Never> {
        self.deserialize_struct("", fields, visitor)
    }
}

/// Every key and word that `T` knows, at every depth: as paths.
fn known<T: for<'de> Deserialize<'de>>() -> Vec<Vec<&'static str>> {
    let mut paths: Vec<Vec<&'static str>> = vec![Vec::new()];
    let mut at = 0;
    while let Some(path) = paths.get(at).cloned() {
        let asked = RefCell::new(None);
        let _ = T::deserialize(Probe { path: &path, asked: &asked });
        let below = match asked.into_inner() {
            Some(Asked::Keys(steps) | Asked::Words(steps)) => steps,
            None => &[],
        };
        paths.extend(below.iter().map(|step| [path.as_slice(), &[*step]].concat()));
        at += 1;
    }
    paths.remove(0);
    paths
}

const REFERENCE: &str = include_str!("../../config/postern.toml");
const EXAMPLES: [(&str, &str); 10] = [
    ("storage.toml", include_str!("../../config/storage.toml")),
    ("exports.toml", include_str!("../../config/exports.toml")),
    ("activity.toml", include_str!("../../config/activity.toml")),
    ("files.toml", include_str!("../../config/files.toml")),
    ("graph.toml", include_str!("../../config/graph.toml")),
    ("kafka.toml", include_str!("../../config/kafka.toml")),
    ("minimal.toml", include_str!("../../config/minimal.toml")),
    ("postern.toml", REFERENCE),
    ("tickets.toml", include_str!("../../config/tickets.toml")),
    ("container.toml", include_str!("../../config/container.toml")),
];

/// The part of the reference from the header that `begin` is in or under to the next table that is not
/// below it.
#[track_caller]
fn section(begin: &str) -> &'static str {
    let at = REFERENCE.find(begin).unwrap_or_else(|| panic!("config/postern.toml has no {begin}"));
    let start = REFERENCE[..at + 2].rfind("\n[").unwrap() + 1;
    let header = REFERENCE[start..].lines().next().unwrap();
    let below = format!("{}.", header.trim_end_matches(']'));
    let ends = REFERENCE[start..].match_indices("\n[").map(|(end, _)| start + end);
    let mut ends = ends.filter(|end| !REFERENCE[end + 1..].starts_with(&below));
    &REFERENCE[start..ends.next().unwrap_or(REFERENCE.len())]
}

/// Every key of `T` stands in the section as `key =`, every word as itself.
#[track_caller]
fn names_all<T: for<'de> Deserialize<'de>>(begin: &str) {
    let section = section(begin);
    // A word of the vocabulary may have dots (`email.url`), and so may a header of several keys.
    let split = |dots: bool| {
        let part = move |c: char| c.is_ascii_alphanumeric() || c == '_' || (dots && c == '.');
        section.split(move |c: char| !part(c)).map(|word| word.trim_matches('.'))
    };
    let words: Vec<&str> = split(true).chain(split(false)).collect();
    let known = known::<T>();
    let missing: Vec<String> = known
        .into_iter()
        .filter(|path| path.last().is_some_and(|word| !words.contains(word)))
        .map(|path| path.join("."))
        .collect();
    assert!(missing.is_empty(), "config/postern.toml does not name in {begin}: {missing:?}");
}

#[test]
fn the_probe_sees_keys_words_and_depth() {
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "only its shape counts")]
    struct Outer {
        number: Option<u64>,
        inner: Vec<Inner>,
        choice: Choice,
        secret: crate::cloud::secret::Secret,
    }
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "only its shape counts")]
    struct Inner {
        text: String,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its shape counts")]
    enum Choice {
        Plain,
        Full { user: String },
    }
    let paths: Vec<String> = known::<Outer>().iter().map(|path| path.join(".")).collect();
    let expected = [
        "number",
        "inner",
        "choice",
        "secret",
        "inner.text",
        "choice.plain",
        "choice.full",
        "choice.full.user",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn the_reference_names_every_key() {
    names_all::<crate::journal::JournalConfig>("\n[journal]");
    names_all::<crate::app::ops::OpsConfig>("\n[ops]");
    names_all::<crate::app::log::LogConfig>("\n[log]");
    names_all::<crate::ledger::LedgerConfig>("\n[ledger]");
    names_all::<crate::cloud::tenant::TenantConfig>("\n[tenant.contoso]");
    names_all::<crate::source::EventHubsConfig>("type = \"event_hubs\"");
    names_all::<crate::source::StorageConfig>("type = \"storage\"");
    names_all::<crate::source::FileSourceConfig>("\n[source.exports]");
    names_all::<crate::source::HuntingConfig>("type = \"hunting\"");
    names_all::<crate::sink::FileConfig>("\n[sink.files]");
    names_all::<crate::pipeline::Filter>("\n[sink.files]");
    names_all::<crate::journal::OnFull>("\n[sink.files]");
    names_all::<crate::source::IncidentsConfig>("type = \"incidents\"");
    names_all::<crate::source::AlertsConfig>("type = \"alerts\"");
    names_all::<crate::source::ActivityConfig>("type = \"activity\"");
    names_all::<crate::sink::KafkaConfig>("type = \"kafka\"");
    names_all::<crate::ticket::TicketConfig>("type = \"ticket\"");
    for key in super::TOP {
        assert!(REFERENCE.contains(key), "{key}");
    }
    for key in super::component::SOURCE_KEYS {
        assert!(section("type = \"event_hubs\"").contains(&format!("{key} = ")), "{key}");
    }
    for key in super::component::SINK_KEYS {
        assert!(section("\n[sink.files]").contains(&format!("{key} = ")), "{key}");
    }
    for word in crate::source::TYPES.into_iter().chain(crate::sink::TYPES) {
        section(&format!("type = \"{word}\""));
    }
}

#[test]
fn every_example_loads() {
    for (name, text) in EXAMPLES {
        if let Err(errors) = Config::from_text(Path::new(name), text) {
            panic!("{errors}");
        }
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            EXAMPLES.iter().any(|(known, _)| *known == name),
            "{name} is not loaded by this test"
        );
    }
}

/// In the reference `#key = value` is a key that is left out, `# text` is text.
#[test]
fn what_the_reference_leaves_out_loads_too() {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => key.to_owned(),
        _ => line.to_owned(),
    };
    let text: Vec<String> = REFERENCE.lines().map(line).collect();
    if let Err(errors) = Config::from_text(Path::new("postern.toml, all in"), &text.join("\n")) {
        panic!("{errors}");
    }
}

#[test]
fn the_defaults_in_the_reference_are_the_defaults() {
    let config = Config::from_text(Path::new("postern.toml"), REFERENCE).unwrap();
    assert_eq!(config.journal, crate::journal::JournalConfig::default());
    assert_eq!(config.ops, crate::app::ops::OpsConfig::default());
    assert_eq!(config.log, crate::app::log::LogConfig::default());
    assert_eq!(config.data_dir, Path::new(super::DEFAULT_DATA_DIR));
}
