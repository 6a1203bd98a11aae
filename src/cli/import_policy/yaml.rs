//! YAML as far as a policy needs it: maps, lists and texts, each with its line.
//!
//! Nothing in a file makes more of itself than it is long: aliases, tags and further documents
//! are refused, and depth and the number of values have bounds.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

/// How deep values may be nested in one another.
const MAX_DEPTH: usize = 16;

/// Most values in a file, keys included.
const MAX_VALUES: usize = 20_000;

/// A value, and the line it begins on, counted from 1.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value; no key of a map is there twice.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) node: Node,
}

/// Why a text was not read as YAML.
#[derive(Debug, thiserror::Error)]
pub(crate) enum YamlError {
    #[error("not YAML: {}", source.info())]
    Syntax { source: ScanError },
    #[error("aliases are not followed: write the value out")]
    Alias,
    #[error("tags are not read: write the value without one")]
    Tag,
    #[error("nested more than {MAX_DEPTH} deep")]
    Deep,
    #[error("more than {MAX_VALUES} values")]
    Many,
    #[error("a second document: a policy is one")]
    Second,
    #[error("a key that is no text")]
    Key,
    #[error("`{key}` is there twice")]
    Twice { key: String },
    #[error("nothing in it")]
    Empty,
}

/// The one document of a text.
///
/// # Errors
/// [`YamlError`], and the line it is on.
pub(super) fn read(text: &str) -> Result<Node, (usize, YamlError)> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        values: 0,
        line: 1,
    };
    let mut document = None;
    loop {
        let event = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if document.is_some() => return Err(reader.at(YamlError::Second)),
            event => document = Some(reader.node(event, 0)?),
        }
    }
    document.ok_or_else(|| reader.at(YamlError::Empty))
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    values: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    fn at(&self, error: YamlError) -> (usize, YamlError) {
        (self.line, error)
    }

    fn next(&mut self) -> Result<Event<'a>, (usize, YamlError)> {
        match self.parser.next_event() {
            None => Ok(Event::StreamEnd),
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(source)) => Err((source.marker().line(), YamlError::Syntax { source })),
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node, (usize, YamlError)> {
        let line = self.line;
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.at(YamlError::Many));
        }
        if depth > MAX_DEPTH {
            return Err(self.at(YamlError::Deep));
        }
        let tag = match &event {
            Event::Scalar(_, _, _, tag)
            | Event::SequenceStart(_, tag)
            | Event::MappingStart(_, tag) => tag.is_some(),
            _ => return Err(self.at(YamlError::Alias)),
        };
        if tag {
            return Err(self.at(YamlError::Tag));
        }
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) => self.list(depth)?,
            _ => self.map(depth)?,
        };
        Ok(Node { line, value })
    }

    fn list(&mut self, depth: usize) -> Result<Value, (usize, YamlError)> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Value::List(items)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, (usize, YamlError)> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut known = std::collections::HashSet::new();
        loop {
            let event = match self.next()? {
                Event::MappingEnd => return Ok(Value::Map(entries)),
                event => event,
            };
            let Node { line, value } = self.node(event, depth + 1)?;
            let Value::Text(key) = value else {
                return Err((line, YamlError::Key));
            };
            if !known.insert(key.clone()) {
                return Err((line, YamlError::Twice { key }));
            }
            let event = self.next()?;
            let node = self.node(event, depth + 1)?;
            entries.push(Entry { key, line, node });
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    let null = matches!(text, "" | "~" | "null" | "Null" | "NULL");
    match style {
        ScalarStyle::Plain if null => Value::Null,
        _ => Value::Text(text.to_owned()),
    }
}
