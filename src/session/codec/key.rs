//! Map keys: text, or values that `serde_json` reads back from text.

use std::fmt;

use serde::Serialize;
use serde::ser::{Impossible, Serializer};

use crate::session::codec::EncodeError;
use crate::session::codec::output::{EncodeResult, Json, too_large};

/// The position of a key.
#[derive(Debug)]
pub(super) struct MapKey<'a>(&'a mut Json);

impl<'a> MapKey<'a> {
    pub(super) const fn new(json: &'a mut Json) -> Self {
        Self(json)
    }
}

/// Keys that are written between quotation marks and read back from there.
macro_rules! quoted {
    ($($method:ident($type:ty)),+ $(,)?) => {$(
        fn $method(self, value: $type) -> EncodeResult {
            self.0.put(b"\"")?;
            self.0.plain().$method(value).map_err(too_large)?;
            self.0.put(b"\"")
        }
    )+};
}

/// Keys that do not read back.
macro_rules! refused {
    ($($method:ident($($type:ty),*) -> $ok:ty),+ $(,)?) => {$(
        fn $method(self, $(_: $type),*) -> EncodeResult<$ok> {
            Err(EncodeError::Key)
        }
    )+};
}

type NoKey = Impossible<(), EncodeError>;

impl Serializer for MapKey<'_> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = NoKey;
    type SerializeTuple = NoKey;
    type SerializeTupleStruct = NoKey;
    type SerializeTupleVariant = NoKey;
    type SerializeMap = NoKey;
    type SerializeStruct = NoKey;
    type SerializeStructVariant = NoKey;

    quoted! {
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
    }

    refused! {
        serialize_f32(f32) -> (),
        serialize_f64(f64) -> (),
        serialize_bytes(&[u8]) -> (),
        serialize_none() -> (),
        serialize_unit() -> (),
        serialize_unit_struct(&'static str) -> (),
        serialize_seq(Option<usize>) -> NoKey,
        serialize_tuple(usize) -> NoKey,
        serialize_tuple_struct(&'static str, usize) -> NoKey,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> NoKey,
        serialize_map(Option<usize>) -> NoKey,
        serialize_struct(&'static str, usize) -> NoKey,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> NoKey,
    }

    fn serialize_char(self, value: char) -> EncodeResult {
        self.0.plain().serialize_char(value).map_err(too_large)
    }

    fn serialize_str(self, value: &str) -> EncodeResult {
        self.0.put_str(value)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> EncodeResult {
        self.0.put_display(value)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> EncodeResult {
        self.0.put_str(variant)
    }

    /// A newtype is its inside. (An option is not: `Some("")` and `None` need two keys.)
    fn serialize_newtype_struct<T>(self, _: &'static str, value: &T) -> EncodeResult
    where
        T: Serialize + ?Sized,
    {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> EncodeResult {
        Err(EncodeError::Key)
    }

    fn serialize_newtype_variant<T>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> EncodeResult
    where
        T: Serialize + ?Sized,
    {
        Err(EncodeError::Key)
    }
}
