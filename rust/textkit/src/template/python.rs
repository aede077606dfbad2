//! Python's ways of writing values, which templates rely on: `json.dumps`, `str` and `repr`.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

const MAX_DEPTH: usize = 64;

#[derive(Clone, Default)]
pub struct JsonStyle {
    pub ascii_only: bool,
    /// What one level of indentation is, or None for one line.
    pub indent: Option<String>,
    pub item_separator: Option<String>,
    pub key_separator: Option<String>,
    pub sorts_keys: bool,
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Python's `repr` of a float: the shortest digits, with an exponent below 1e-4 and from 1e16.
pub fn float(value: f64) -> String {
    if !value.is_finite() {
        let name = if value.is_nan() { "nan" } else { "inf" };
        return format!("{}{name}", if value == f64::NEG_INFINITY { "-" } else { "" });
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("has an exponent");
    let exponent: i32 = exponent.parse().expect("is a number");
    if value == 0.0 || (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `json.dumps(value, …)`.
pub fn json(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = String::new();
    write_json(&mut out, value, style, 0)?;
    Ok(out)
}

fn write_json(
    out: &mut String,
    value: &Value,
    style: &JsonStyle,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(invalid("tojson: the value is nested too deeply"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value, ["NaN", "Infinity", "-Infinity"])),
        ValueKind::String => write_json_string(out, value.as_str().unwrap_or_default(), style),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_items(out, ('[', ']'), items.len(), style, depth, |out, index| {
                write_json(out, &items[index], style, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sorts_keys {
                keys.sort();
            }
            let default_separator = ": ".to_owned();
            let separator = style.key_separator.as_ref().unwrap_or(&default_separator);
            write_items(out, ('{', '}'), keys.len(), style, depth, |out, index| {
                let key = &keys[index];
                write_json_string(out, &key.to_string(), style);
                out.push_str(separator);
                write_json(out, &value.get_item(key)?, style, depth + 1)
            })?;
        }
        other => return Err(invalid(format!("tojson: a value of kind {other} is not JSON"))),
    }
    Ok(())
}

fn write_items(
    out: &mut String,
    (open, close): (char, char),
    count: usize,
    style: &JsonStyle,
    depth: usize,
    mut item: impl FnMut(&mut String, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let line_break = |out: &mut String, levels: usize| {
        if let Some(indent) = &style.indent {
            out.push('\n');
            (0..levels).for_each(|_| out.push_str(indent));
        }
    };
    // Python drops the space after the comma where each item has its own line.
    let default = if style.indent.is_some() { "," } else { ", " };
    out.push(open);
    for index in 0..count {
        if index > 0 {
            out.push_str(style.item_separator.as_deref().unwrap_or(default));
        }
        line_break(out, depth + 1);
        item(out, index)?;
    }
    if count > 0 {
        line_break(out, depth);
    }
    out.push(close);
    Ok(())
}

fn write_json_string(out: &mut String, text: &str, style: &JsonStyle) {
    let quoted = serde_json::to_string(text).expect("strings are JSON");
    if !style.ascii_only {
        out.push_str(&quoted);
        return;
    }
    for character in quoted.chars() {
        if character.is_ascii() && character != '\u{7f}' {
            out.push(character);
        } else if character == '\u{7f}' {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
}

/// A number as Python prints it; `names` are those of NaN and the infinities.
fn number(value: &Value, names: [&str; 3]) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(v) if v.is_nan() => names[0].to_owned(),
        Ok(v) if v == f64::INFINITY => names[1].to_owned(),
        Ok(v) if v == f64::NEG_INFINITY => names[2].to_owned(),
        Ok(v) => float(v),
        Err(_) => value.to_string(),
    }
}

/// `str(value)`.
pub fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        _ => {
            let mut out = String::new();
            write_repr(&mut out, value, 0);
            out
        }
    }
}

fn write_repr(out: &mut String, value: &Value, depth: usize) {
    if depth > MAX_DEPTH {
        out.push_str("...");
        return;
    }
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value, ["nan", "inf", "-inf"])),
        ValueKind::String => write_repr_string(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(out, &item, depth + 1);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(out, &key, depth + 1);
                out.push_str(": ");
                write_repr(out, &value.get_item(&key).unwrap_or_default(), depth + 1);
            }
            out.push('}');
        }
        _ => {
            let _ = write!(out, "{value}");
        }
    }
}

fn write_repr_string(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// `datetime.fromtimestamp(now).strftime(format)`, in local time.
pub fn strftime(format: &str, unix_seconds: i64) -> Result<String, Error> {
    if format.is_empty() {
        return Ok(String::new());
    }
    if format.len() > 256 {
        return Err(invalid("strftime_now: the format is longer than 256 bytes"));
    }
    let format = std::ffi::CString::new(format)
        .map_err(|_| invalid("strftime_now: the format contains a NUL"))?;
    let mut out = vec![0u8; 4096];
    // SAFETY: all pointers are to live values of the right size; the format ends in NUL.
    let written = unsafe {
        let mut time: libc::tm = std::mem::zeroed();
        let seconds = unix_seconds as libc::time_t;
        if libc::localtime_r(&seconds, &mut time).is_null() {
            return Err(invalid("strftime_now: the time is out of range"));
        }
        libc::strftime(out.as_mut_ptr().cast(), out.len(), format.as_ptr(), &time)
    };
    out.truncate(written);
    String::from_utf8(out).map_err(|_| invalid("strftime_now: the result is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        for (value, expected) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.0, "0.0"),
        ] {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn strings_print_as_in_python() {
        let value =
            Value::from_serialize(serde_json::json!({"a": ["it's", "b\"", true, null, 1.0]}));
        assert_eq!(text(&value), r#"{'a': ["it's", 'b"', True, None, 1.0]}"#);
        assert_eq!(text(&Value::from("plain")), "plain");
        assert_eq!(text(&Value::from_serialize(serde_json::json!(["\n'\""]))), r#"['\n\'"']"#);
    }

    #[test]
    fn dates_follow_the_format() {
        assert_eq!(strftime("%Y", 1_750_000_000).unwrap(), "2025");
        assert!(strftime(&"%Y".repeat(200), 0).is_err());
    }
}
