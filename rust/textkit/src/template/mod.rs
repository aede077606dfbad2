//! Chat templates, rendered as Hugging Face `apply_chat_template` renders them, in a sandbox: no
//! host access, and caps on source, instructions, recursion, memory, time and output.

mod python;

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Duration;

use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde_json::Value as Json;

use crate::abi::{Failure, Outcome};
use crate::budget::{self, Ending};

pub const MAX_SOURCE_BYTES: usize = 256 << 10;
pub const MAX_CONTEXT_BYTES: usize = 16 << 20;
pub const MAX_OUTPUT_BYTES: usize = 4 << 20;
/// Instructions of one rendering: a second or so. A thousand messages take some 100,000.
const MAX_FUEL: u64 = 20_000_000;
const MAX_RECURSION: usize = 200;
const MAX_TIME: Duration = Duration::from_secs(10);
/// Values that a context may hold: each takes tens of bytes, however short its JSON.
const MAX_CONTEXT_VALUES: usize = 1_000_000;
const BASE_MEMORY_BYTES: usize = 64 << 20;
const MEMORY_PER_CONTEXT_BYTE: usize = 16;
/// Renderings that may be stopped for memory before the template is refused for good.
const MAX_STOPPED: u32 = 4;

const NAME: &str = "chat template";
/// Marks the message of raise_exception, so that it can be told from the engine's own.
const RAISED: &str = "\u{1}raised:";

pub struct Template {
    environment: Arc<Environment<'static>>,
    stopped: AtomicU32,
}

impl Template {
    pub fn new(source: &str) -> Outcome<Self> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(Failure::file(format!(
                "the chat template has {} bytes; at most {MAX_SOURCE_BYTES} are allowed",
                source.len()
            )));
        }
        let source = without_generation_tags(source).into_owned();
        let compiled = budget::run("template", BASE_MEMORY_BYTES, MAX_TIME, move || {
            let mut environment = environment();
            environment
                .add_template_owned(NAME, source)
                .map_err(|error| Failure::file(describe(&error).1))?;
            Ok(environment)
        });
        match compiled {
            Ending::Done(environment) => {
                Ok(Self { environment: Arc::new(environment?), stopped: AtomicU32::new(0) })
            }
            Ending::OutOfMemory => Err(Failure::file("the chat template needs too much memory")),
            Ending::OutOfTime => Err(Failure::file("the chat template takes too long to compile")),
        }
    }

    /// `context` is a JSON object of the variables; `now` is for `strftime_now`.
    pub fn render(&self, context: &str, now: i64) -> Outcome<String> {
        if self.stopped.load(Ordering::Relaxed) >= MAX_STOPPED {
            return Err(Failure::argument(
                "the chat template ran out of memory repeatedly and is not used any more",
            ));
        }
        if context.len() > MAX_CONTEXT_BYTES {
            return Err(Failure::too_large(format!(
                "the messages have {} bytes; at most {MAX_CONTEXT_BYTES} can be rendered",
                context.len()
            )));
        }
        let json: Json = serde_json::from_str(context)
            .map_err(|error| Failure::argument(format!("the messages are not usable: {error}")))?;
        let Json::Object(mut variables) = json else {
            return Err(Failure::argument("the variables of a chat template must be an object"));
        };
        if let Some(Json::Array(messages)) = variables.get_mut("messages") {
            messages.iter_mut().for_each(name_reasoning);
        }
        let mut values_left = MAX_CONTEXT_VALUES;
        let root = to_value(&Json::Object(variables), &mut values_left)?;

        let environment = Arc::clone(&self.environment);
        let memory = BASE_MEMORY_BYTES + MEMORY_PER_CONTEXT_BYTE * context.len();
        match budget::run("template", memory, MAX_TIME, move || render(&environment, root, now)) {
            Ending::Done(outcome) => outcome,
            Ending::OutOfMemory => {
                self.stopped.fetch_add(1, Ordering::Relaxed);
                Err(Failure::argument("the chat template needs too much memory for these messages"))
            }
            Ending::OutOfTime => {
                Err(Failure::argument("the chat template takes too long for these messages"))
            }
        }
    }
}

fn render(environment: &Environment, root: Value, now: i64) -> Outcome<String> {
    let mut environment = environment.clone();
    environment.add_function("strftime_now", move |format: &str| python::strftime(format, now));
    let template = environment.get_template(NAME).map_err(to_failure)?;
    let mut out = CappedOutput(Vec::new());
    let result = template.render_captured_to(root, &mut out);
    if out.0.len() > MAX_OUTPUT_BYTES {
        return Err(Failure::argument(format!(
            "the rendered prompt has more than {MAX_OUTPUT_BYTES} bytes"
        )));
    }
    result.map_err(to_failure)?;
    String::from_utf8(out.0).map_err(|_| Failure::internal("a rendered prompt was not UTF-8"))
}

/// Takes one write beyond the cap, so that it can be told, and refuses all further.
struct CappedOutput(Vec<u8>);

impl io::Write for CappedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other("the output is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(MAX_FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, _state, value| {
        Ok(match value.as_str() {
            Some(text) => out.write_str(text),
            None => out.write_str(&python::text(value)),
        }?)
    });
    environment.add_filter("string", |value: Value| python::text(&value));
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{}", python::text(&message))))
    });
    environment
}

/// `tojson` as transformers defines it for chat templates, which is not Jinja's own.
fn to_json(value: Value, ascii_only: Option<bool>, options: Kwargs) -> Result<String, Error> {
    let indent = match options.get::<Option<Value>>("indent")?.filter(|value| !value.is_none()) {
        None => None,
        Some(value) => match (value.as_usize(), value.as_str()) {
            (Some(columns), _) if columns <= 64 => Some(" ".repeat(columns)),
            (_, Some(text)) if text.len() <= 64 => Some(text.to_owned()),
            _ => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: unusable indent")),
        },
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?.unwrap_or_default();
    let style = python::JsonStyle {
        ascii_only: options.get::<Option<bool>>("ensure_ascii")?.or(ascii_only).unwrap_or(false),
        indent,
        item_separator: separators.first().cloned(),
        key_separator: separators.get(1).cloned(),
        sorts_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    python::json(&value, &style)
}

/// transformers marks the assistant's part with `{% generation %}`, which prints nothing.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(begin) = rest.find("{%") {
        let (before, tag) = rest.split_at(begin);
        let Some(length) = tag.find("%}").map(|end| end + 2) else { break };
        let name = tag[2..length - 2].trim_matches(|c: char| c.is_whitespace() || "-+".contains(c));
        let replacement = match name {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        out.push_str(before);
        match replacement {
            Some(text) => out.push_str(&tag[..length].replacen(name, text, 1)),
            // Only the opening moves on, for `%}` may stand inside a string of the tag.
            None => {
                out.push_str("{%");
                rest = &tag[2..];
                continue;
            }
        }
        rest = &tag[length..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// As transformers: templates read reasoning as `reasoning_content` or `thinking`; clients send it
/// under any of three names.
fn name_reasoning(message: &mut Json) {
    let Some(fields) = message.as_object_mut() else { return };
    let reasoning = ["reasoning_content", "thinking", "reasoning"]
        .iter()
        .find_map(|name| fields.get(*name).filter(|value| !value.is_null()).cloned());
    if let Some(reasoning) = reasoning {
        fields.entry("thinking").or_insert_with(|| reasoning.clone());
        fields.insert("reasoning_content".to_owned(), reasoning);
    }
}

fn to_value(json: &Json, values_left: &mut usize) -> Outcome<Value> {
    *values_left = values_left.checked_sub(1).ok_or_else(|| {
        Failure::too_large(format!("the messages hold more than {MAX_CONTEXT_VALUES} values"))
    })?;
    Ok(match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (_, Some(value)) => Value::from(value),
            _ => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(
            items
                .iter()
                .map(|item| to_value(item, values_left))
                .collect::<Outcome<Vec<Value>>>()?,
        ),
        Json::Object(fields) => fields
            .iter()
            .map(|(name, value)| Ok((name.clone(), to_value(value, values_left)?)))
            .collect::<Outcome<Vec<(String, Value)>>>()?
            .into_iter()
            .collect(),
    })
}

fn to_failure(error: Error) -> Failure {
    Failure::argument(describe(&error).1)
}

/// Whether the template itself raised it, and the message.
fn describe(error: &Error) -> (bool, String) {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        let raised = inner
            .downcast_ref::<Error>()
            .and_then(Error::detail)
            .and_then(|detail| detail.strip_prefix(RAISED));
        if let Some(message) = raised {
            return (true, message.to_owned());
        }
        cause = inner.source();
    }
    let mut message = match error.kind() {
        ErrorKind::OutOfFuel => "the chat template runs too long".to_owned(),
        kind => format!("the chat template failed: {kind}"),
    };
    if let Some(detail) = error.detail() {
        message.push_str(": ");
        message.extend(detail.chars().take(400));
    }
    if let Some(line) = error.line() {
        message.push_str(&format!(" (line {line} of the template)"));
    }
    (false, message)
}

#[cfg(test)]
mod tests;
