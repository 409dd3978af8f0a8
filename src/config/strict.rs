//! How serde reads a type from a node: strictly. No number from text (but in the environment, where all is
//! text), no guessing, no secret as a literal. How an error is worded is the node's business.

use std::fmt::Display;

use config::{Value, ValueKind};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer as _, Unexpected, Visitor};

use super::document::Document;
use super::error::ConfigError;
use super::node::Node;

/// The Rust name of the type whose values may never be written into a configuration.
const SECRET: &str = "Secret";

/// What went wrong, before and after its place is known. An error rises from the value that it concerns, so
/// the first node that sees it is the right one.
#[derive(Debug)]
pub enum Fault {
    /// A value of the wrong type or out of range; holds what was expected.
    Expected(String),
    /// A key that nobody asked for; holds it and those that would be known.
    UnknownKey(String, &'static [&'static str]),
    /// A word that is not on the list.
    UnknownWord(&'static [&'static str]),
    /// A key that has to be there.
    Missing(&'static str),
    /// Anything else, in the type's own words.
    Other(String),
    /// With its place.
    Placed(Box<ConfigError>),
}

impl std::error::Error for Fault {}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl de::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownWord(expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownKey(field.to_owned(), expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

impl<'a> Node<'a> {
    /// The text of a variable, where a type other than text is wanted.
    fn variable(&self) -> Option<&'a str> {
        match &self.value.kind {
            ValueKind::String(text) if Document::is_variable(self.value) => Some(text.trim()),
            _ => None,
        }
    }

    fn number<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match (&self.value.kind, self.variable()) {
            (ValueKind::I64(number), _) => visitor.visit_i64(*number),
            (ValueKind::U64(number), _) => visitor.visit_u64(*number),
            (_, Some(text)) => match text.parse::<i64>() {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => Err(de::Error::invalid_type(Unexpected::Str(text), &visitor)),
            },
            _ => Err(de::Error::invalid_type(Unexpected::Other(""), &visitor)),
        }
    }

    fn any<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value.kind {
            ValueKind::Nil => visitor.visit_unit(),
            ValueKind::Boolean(flag) => visitor.visit_bool(*flag),
            ValueKind::I64(number) => visitor.visit_i64(*number),
            ValueKind::I128(number) => visitor.visit_i128(*number),
            ValueKind::U64(number) => visitor.visit_u64(*number),
            ValueKind::U128(number) => visitor.visit_u128(*number),
            ValueKind::Float(number) => visitor.visit_f64(*number),
            ValueKind::String(text) => visitor.visit_str(text),
            ValueKind::Table(_) => {
                let rest = self.children().into_iter();
                visitor.visit_map(Entries { rest, next: None, shared: self.shared })
            }
            ValueKind::Array(array) => visitor.visit_seq(Elements { node: self, array, index: 0 }),
        }
    }

    fn secret<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        let mut children = self.children();
        if children.is_empty() {
            let error = self
                .error("found a value where a reference to a secret is expected")
                .hint("write { file = \"/path\" } or { env = \"NAME\" }; a secret never stands in a configuration");
            return Err(Fault::Placed(Box::new(error)));
        }
        // A later layer replaces the reference as a whole: `env` here and `file` below are not two secrets.
        let top = children.iter().map(|(_, node)| Document::layer(node.value)).max();
        children.retain(|(_, node)| Some(Document::layer(node.value)) == top);
        self.document.note_secret(self.key());
        self.variant(children, visitor)
    }

    fn variant<'de, V: Visitor<'de>>(
        &self,
        children: Vec<(&'a str, Node<'a>)>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut children = children.into_iter();
        match (children.next(), children.next()) {
            (Some((name, content)), None) => visitor.visit_enum(Choice { name, content }),
            _ => Err(Fault::Expected("a table with exactly one key".to_owned())),
        }
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.number(visitor).map_err(|fault| self.placed(fault))
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Fault;

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.any(visitor).map_err(|fault| self.placed(fault))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.variable() {
            Some("true") => visitor.visit_bool(true),
            Some("false") => visitor.visit_bool(false),
            _ => self.any(visitor),
        }
        .map_err(|fault| self.placed(fault))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.variable().and_then(|text| text.parse().ok()) {
            Some(number) => visitor.visit_f64(number),
            None => self.any(visitor),
        }
        .map_err(|fault| self.placed(fault))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if matches!(self.value.kind, ValueKind::Nil) {
            return visitor.visit_none();
        }
        let node = self.clone();
        visitor.visit_some(self).map_err(|fault| node.placed(fault))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let node = self.clone();
        visitor.visit_newtype_struct(self).map_err(|fault| node.placed(fault))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.variable() {
            Some(text) => {
                let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                visitor.visit_seq(de::value::SeqDeserializer::new(words))
            }
            None => self.any(visitor),
        }
        .map_err(|fault| self.placed(fault))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value.kind {
            _ if name == SECRET => self.secret(visitor),
            ValueKind::String(word) => {
                let word: StrDeserializer<'_, Fault> = word.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            ValueKind::Table(_) => self.variant(self.children(), visitor),
            _ => Err(de::Error::invalid_type(Unexpected::Enum, &visitor)),
        }
        .map_err(|fault| self.placed(fault))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier
    }
}

struct Entries<'a> {
    rest: std::vec::IntoIter<(&'a str, Node<'a>)>,
    next: Option<Node<'a>>,
    shared: &'static [&'static str],
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((name, node)) = self.rest.next() else { return Ok(None) };
        let key: StrDeserializer<'_, Fault> = name.into_deserializer();
        let key = seed.deserialize(key).map_err(|fault| match fault {
            Fault::UnknownKey(_, known) => {
                let known = known.iter().chain(self.shared).copied();
                Fault::Placed(Box::new(node.unknown(known)))
            }
            other => node.placed(other),
        })?;
        self.next = Some(node);
        Ok(Some(key))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        match self.next.take() {
            Some(node) => seed.deserialize(node.clone()).map_err(|fault| node.placed(fault)),
            None => Err(Fault::Other("a value was asked for before its key".to_owned())),
        }
    }
}

struct Elements<'n, 'a> {
    node: &'n Node<'a>,
    array: &'a [Value],
    index: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, '_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some(value) = self.array.get(self.index) else { return Ok(None) };
        let node = self.node.below(&self.index.to_string(), value);
        self.index += 1;
        seed.deserialize(node.clone()).map(Some).map_err(|fault| node.placed(fault))
    }
}

/// A variant with content: a table with one key.
struct Choice<'a> {
    name: &'a str,
    content: Node<'a>,
}

impl<'de, 'a> de::EnumAccess<'de> for Choice<'a> {
    type Error = Fault;
    type Variant = Node<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Node<'a>), Fault> {
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        let choice = seed.deserialize(name).map_err(|fault| match fault {
            Fault::UnknownWord(known) => {
                Fault::Placed(Box::new(self.content.unknown(known.iter().copied())))
            }
            other => self.content.placed(other),
        })?;
        Ok((choice, self.content))
    }
}

impl<'de> de::VariantAccess<'de> for Node<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Err(self.placed(Fault::Expected("only the word, without a table".to_owned())))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        let node = self.clone();
        seed.deserialize(self).map_err(|fault| node.placed(fault))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }
}
