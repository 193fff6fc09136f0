//! The encoding of attributes: JSON behind a byte that names the codec.
//!
//! JSON, because a later release of an application must be able to read the values of an earlier
//! one, and because it reports values that it cannot read. [`decode`] returns a value equal to the
//! one given to [`encode`]; anything that JSON would change silently (NaN to `null`, a `Some` to a
//! `None`, a key to another) is an error when it is written. Encoding stops at the size limit
//! without having allocated beyond it, and at a nesting that could exhaust the stack. Decoding
//! never panics, for any bytes.
//!
//! The guarantee covers serde's data model. A type whose own `Serialize` and `Deserialize` do not
//! match, or whose map keys become the same text, loses data as in any JSON.
//!
//! Errors name the cause and never the value: values are the user's data, and errors are logged.
//! Therefore serde's own messages, which quote values, are not kept.

mod bounded;
mod key;
mod output;
mod serializer;

use std::error::Error;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use self::output::Json;
use crate::session::Value;

/// Encodes an attribute in at most `max_bytes`, tag included.
///
/// # Errors
///
/// Fails if the value would not read back equal, is too large or too deep, or if its own
/// `Serialize` fails.
pub(crate) fn encode<T>(value: &T, max_bytes: usize) -> Result<Value, EncodeError>
where
    T: Serialize + ?Sized,
{
    let mut json = Json::new(TAG, max_bytes)?;
    value.serialize(&mut json)?;
    Ok(Value::from_bytes(json.into_bytes()))
}

/// Decodes a value that [`encode`] has made, possibly in another release of the application.
///
/// # Errors
///
/// Fails if the bytes were not written by this codec, or do not fit the type.
pub(crate) fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, DecodeError> {
    let json = value
        .as_bytes()
        .strip_prefix(&[TAG])
        .ok_or(DecodeError::Codec)?;
    serde_json::from_slice(json).map_err(|error| match error.classify() {
        Category::Data => DecodeError::Shape,
        Category::Syntax | Category::Eof | Category::Io => DecodeError::Syntax,
    })
}

/// The error of a value that cannot be an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EncodeError {
    /// A float that JSON cannot represent.
    NotFinite,
    /// A map key that would not read back from text.
    Key,
    /// A `Some` that would read back as `None`.
    Nothing,
    /// `serde_json`'s raw values, which no other serializer can write.
    Raw,
    /// Nested too deeply to be decoded.
    TooDeep,
    /// Beyond the size limit.
    TooLarge,
    /// The type's own `Serialize` failed.
    Refused,
}

/// The error of an attribute that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// Written by a codec that is unknown to this release.
    Codec,
    /// Not JSON.
    Syntax,
    /// Of another type than requested.
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
    /// Drops the message: it may quote the value.
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Refused
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Codec => "its codec is unknown",
            Self::Syntax => "its bytes are damaged",
            Self::Shape => "the stored value does not fit the requested type",
        })
    }
}

impl Error for DecodeError {}

/// The codec's tag.
const TAG: u8 = b'j';

#[cfg(test)]
mod tests;
