//! The answers to `INFO` and `CLUSTER INFO`.

use redis::Value;

/// Returns the value of a field; `None` if the answer does not contain it.
pub(super) fn field<'a>(reply: &'a Value, name: &str) -> Option<&'a str> {
    let text = match reply {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok()?,
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text,
        _ => return None,
    };
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(found, _)| *found == name)?;
    Some(value.trim())
}
