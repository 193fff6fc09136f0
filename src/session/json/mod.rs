//! How an attribute becomes bytes: JSON behind a byte that names the codec.
//!
//! JSON, because a later release of an application must be able to read what an earlier one wrote,
//! and because it says what it cannot read. It promises: what [`encode`] takes, [`decode`] gives
//! back equal; whatever JSON would bend silently (NaN to `null`, a `Some` to a `None`, a key to
//! another) is an error when it is written. Encoding stops at the size limit without having
//! allocated beyond it, and at a nesting that could exhaust the stack. No bytes make decoding panic.
//!
//! The promise is about serde's data model. A type whose own `Serialize` and `Deserialize` do not
//! match, or whose map keys become the same text, loses what it loses in every JSON.
//!
//! Errors name the cause and never the value: values are the user's data, errors go to logs. That is
//! why serde's own words, which quote values, are not kept.

mod key;
mod ser;
mod write;

use std::error::Error;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use self::ser::Json;
use super::Value;

/// Encodes an attribute in at most `max_bytes`, tag included.
///
/// # Errors
///
/// When the value would not read back equal, is too large or too deep, or when its own `Serialize`
/// fails.
pub(crate) fn encode<T>(value: &T, max_bytes: usize) -> Result<Value, EncodeError>
where
    T: Serialize + ?Sized,
{
    let mut json = Json::new(TAG, max_bytes)?;
    value.serialize(&mut json)?;
    Ok(Value::from_bytes(json.into_bytes()))
}

/// Decodes what [`encode`] has made, possibly in another release of the application.
///
/// # Errors
///
/// When the bytes are not ours, or do not fit the type.
pub(crate) fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, DecodeError> {
    let json = value.as_bytes().strip_prefix(&[TAG]);
    let json = json.ok_or(DecodeError::Codec)?;
    serde_json::from_slice(json).map_err(|error| match error.classify() {
        Category::Data => DecodeError::Shape,
        Category::Syntax | Category::Eof | Category::Io => DecodeError::Syntax,
    })
}

/// Why a value cannot be an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EncodeError {
    /// A float that JSON has no number for.
    NotFinite,
    /// A map key that would not read back from text.
    Key,
    /// A `Some` that would read back as `None`.
    Nothing,
    /// `serde_json`'s raw values, which no other serializer can write.
    Raw,
    /// Deeper than decoding could follow.
    TooDeep,
    /// Beyond the size limit.
    TooLarge,
    /// The type's own `Serialize` gave up.
    Refused,
}

/// Why an attribute cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// Written by a codec that this release does not know.
    Codec,
    /// Not JSON.
    Syntax,
    /// Another type than the one asked for.
    Shape,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFinite => "it holds a float that is not finite",
            Self::Key => "it holds a map whose keys are not text, integers or plain enum variants",
            Self::Nothing => "it holds a `Some` that would read back as `None`",
            Self::Raw => "it holds a raw JSON value",
            Self::TooDeep => "it is nested too deeply",
            Self::TooLarge => "it is larger than the limit",
            Self::Refused => "its `Serialize` implementation failed",
        })
    }
}

impl Error for EncodeError {}

impl serde::ser::Error for EncodeError {
    /// Drops the words: they may quote the value.
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Refused
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Codec => "its codec is unknown",
            Self::Syntax => "its bytes are damaged",
            Self::Shape => "what is stored has another shape than the type that was asked for",
        })
    }
}

impl Error for DecodeError {}

/// The codec's tag.
const TAG: u8 = b'j';

#[cfg(test)]
mod tests;
