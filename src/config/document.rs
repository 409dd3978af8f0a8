//! The layers of a configuration: files in the order given, then the environment, merged by the `config`
//! crate, with every value's place remembered. What the keys mean is not known here.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Map, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors, Place, shared};

/// What every variable that sets a key begins with: `POSTERN__JOURNAL__QUOTA_BYTES`.
pub const PREFIX: &str = "POSTERN";
/// What stands between the parts of a key in a variable.
pub const SEPARATOR: &str = "__";
/// A configuration file is written by a person; what is larger is not one.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The merged layers.
#[derive(Debug)]
pub struct Document {
    root: Value,
    files: Vec<Arc<Path>>,
    tables: BTreeMap<String, Origin>,
    /// Keys that were read as references to secrets.
    secrets: RefCell<BTreeSet<String>>,
}

/// Layer (index into the files) and line. Written into the merge as text, which is what `config` carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Origin {
    layer: usize,
    line: usize,
}

impl Origin {
    fn text(self) -> String {
        format!("{}:{}", self.layer, self.line)
    }

    fn parse(text: &str) -> Option<Self> {
        let (layer, line) = text.split_once(':')?;
        Some(Self { layer: layer.parse().ok()?, line: line.parse().ok()? })
    }
}

impl Document {
    /// Reads and merges `files`, later ones over earlier ones, and `environment` over all of them.
    ///
    /// # Errors
    /// If a file cannot be read or is not TOML, each with its place.
    pub fn load(
        files: &[PathBuf],
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut texts = Vec::new();
        for path in files {
            match read(path) {
                Ok(text) => texts.push((shared(path), text)),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        Self::merge(&texts, environment)
    }

    /// As [`Document::load`], from texts.
    ///
    /// # Errors
    /// If a text is not TOML.
    pub fn merge(
        texts: &[(Arc<Path>, String)],
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let mut builder = config::Config::builder();
        let mut errors = Vec::new();
        let mut tables = BTreeMap::new();
        for (layer, (path, text)) in texts.iter().enumerate() {
            match parse(layer, path, text, &mut tables) {
                Ok(parsed) => builder = builder.add_source(parsed),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        let variables: Map<String, String> = environment
            .into_iter()
            .filter(|(name, _)| name.starts_with(&format!("{PREFIX}{SEPARATOR}")))
            .collect();
        let environment = config::Environment::with_prefix(PREFIX)
            .prefix_separator(SEPARATOR)
            .separator(SEPARATOR)
            .source(Some(variables));
        // Neither layer can fail here: the files are parsed already, the variables are UTF-8.
        let merged = builder.add_source(environment).build().map_err(|error| {
            ConfigErrors(vec![ConfigError::new(
                None,
                "",
                format!("cannot merge the layers: {error}"),
            )])
        })?;
        let files = texts.iter().map(|(path, _)| Arc::clone(path)).collect();
        Ok(Self { root: merged.cache, files, tables, secrets: RefCell::default() })
    }

    /// The merged tree.
    #[must_use]
    pub const fn root(&self) -> &Value {
        &self.root
    }

    /// Where `value`, which is at `key`, was written.
    #[must_use]
    pub fn place(&self, key: &str, value: Option<&Value>) -> Option<Place> {
        match value.and_then(Value::origin) {
            Some(origin) => match Origin::parse(origin) {
                Some(origin) => self.file(origin),
                None => Some(Place::Variable(variable(key))),
            },
            None => self.tables.get(key).and_then(|origin| self.file(*origin)),
        }
    }

    /// Where the table that `key` is in begins, or the one around it.
    #[must_use]
    pub fn place_around(&self, key: &str) -> Option<Place> {
        let mut key = key;
        loop {
            if let Some(place) = self.place(key, None) {
                return Some(place);
            }
            key = key.rsplit_once('.')?.0;
        }
    }

    /// Whether `value` was written in the environment, where everything is text.
    #[must_use]
    pub fn is_variable(value: &Value) -> bool {
        value.origin().is_some_and(|origin| Origin::parse(origin).is_none())
    }

    /// Which layer `value` is of; the environment is above all files.
    #[must_use]
    pub fn layer(value: &Value) -> usize {
        value.origin().and_then(Origin::parse).map_or(usize::MAX, |origin| origin.layer)
    }

    /// Remembers that a secret's reference was read at `key`.
    pub fn note_secret(&self, key: &str) {
        self.secrets.borrow_mut().insert(key.to_owned());
    }

    /// The keys of all references to secrets that have been read so far.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        self.secrets.borrow().iter().cloned().collect()
    }

    fn file(&self, origin: Origin) -> Option<Place> {
        self.files.get(origin.layer).map(|path| Place::File(Arc::clone(path), origin.line))
    }
}

/// The variable that sets `key`.
#[must_use]
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{SEPARATOR}{}", key.replace('.', SEPARATOR).to_uppercase())
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |cause: std::io::Error| ConfigErrors::unreadable(path, &cause);
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_FILE_BYTES {
        let problem =
            format!("{} has {length} bytes, expected at most {MAX_FILE_BYTES}", path.display());
        return Err(ConfigError::new(None, "", problem));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// One file, parsed, as `config` wants its layers.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn parse(
    layer: usize,
    path: &Arc<Path>,
    text: &str,
    tables: &mut BTreeMap<String, Origin>,
) -> Result<Layer, ConfigError> {
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|error| {
        let line = lines.at(error.span().map_or(0, |span| span.start));
        let place = Place::File(Arc::clone(path), line);
        // The parser's first line says what; its drawing of the source line could show a secret.
        ConfigError::new(
            Some(place),
            "",
            format!("not TOML: {}", error.message().replace('\n', ", ")),
        )
    })?;
    let mut reader = Reader { layer, path, lines: &lines, tables };
    reader.table(table.get_ref(), "").map(Layer)
}

struct Reader<'a> {
    layer: usize,
    path: &'a Arc<Path>,
    lines: &'a Lines,
    tables: &'a mut BTreeMap<String, Origin>,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, key: &str) -> Result<Map<String, Value>, ConfigError> {
        let mut map = Map::new();
        for (name, value) in table {
            let line = self.lines.at(name.span().start);
            let below = join(key, name.get_ref());
            // `config` reads a top-level key as a path, so it has to be a plain word.
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if !name.get_ref().chars().all(plain) {
                let place = Place::File(Arc::clone(self.path), line);
                let problem = format!(
                    "found the key {:?}, expected letters, digits, _ and - only",
                    name.get_ref()
                );
                return Err(ConfigError::new(Some(place), key, problem));
            }
            map.insert(name.get_ref().to_string(), self.value(value, line, &below)?);
        }
        Ok(map)
    }

    fn value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        line: usize,
        key: &str,
    ) -> Result<Value, ConfigError> {
        let origin = Origin { layer: self.layer, line };
        let unreadable = |what: &str| {
            let place = Place::File(Arc::clone(self.path), line);
            ConfigError::new(Some(place), key, format!("found {what}"))
        };
        let kind = match value.get_ref() {
            DeValue::String(text) => ValueKind::String(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(ValueKind::I64)
                .map_err(|_| unreadable("a number that is too large, expected at most 63 bits"))?,
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map(ValueKind::Float)
                .map_err(|_| unreadable("a number that cannot be read"))?,
            DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
            DeValue::Datetime(time) => ValueKind::String(time.to_string()),
            DeValue::Array(array) => ValueKind::Array(self.array(array, key)?),
            DeValue::Table(table) => {
                self.tables.insert(key.to_owned(), origin);
                ValueKind::Table(self.table(table, key)?)
            }
        };
        Ok(Value::new(Some(&origin.text()), kind))
    }

    fn array(&mut self, array: &DeArray<'_>, key: &str) -> Result<Vec<Value>, ConfigError> {
        let element = |(index, value): (usize, &Spanned<DeValue<'_>>)| {
            let line = self.lines.at(value.span().start);
            self.value(value, line, &join(key, &index.to_string()))
        };
        array.iter().enumerate().map(element).collect()
    }
}

/// `key` and one step below it.
#[must_use]
pub fn join(key: &str, step: &str) -> String {
    if key.is_empty() { step.to_owned() } else { format!("{key}.{step}") }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(memchr::memchr_iter(b'\n', text.as_bytes()).collect())
    }

    /// The line, counted from 1, of the byte at `offset`.
    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}
