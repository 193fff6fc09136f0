//! The serializer: it rejects values that would not read back, and leaves the rest to `serde_json`.

use std::fmt;

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use crate::session::codec::EncodeError;
use crate::session::codec::key::MapKey;
use crate::session::codec::output::{EncodeResult, Json, too_large};

/// An array or an object being written.
#[derive(Debug)]
pub(super) struct Compound<'a> {
    json: &'a mut Json,
    is_empty: bool,
    close: &'static [u8],
}

impl Json {
    fn open(&mut self, open: &[u8], close: &'static [u8]) -> EncodeResult<Compound<'_>> {
        self.descend(close.len())?;
        self.put(open)?;
        Ok(Compound {
            json: self,
            is_empty: true,
            close,
        })
    }

    /// Opens `{"variant":` and the value behind it.
    fn open_variant(
        &mut self,
        variant: &'static str,
        open: &[u8],
        close: &'static [u8],
    ) -> EncodeResult<Compound<'_>> {
        self.put(b"{")?;
        self.put_str(variant)?;
        self.put(b":")?;
        self.open(open, close)
    }

    /// Writes the value inside an option or a newtype.
    fn wrapped<T: Serialize + ?Sized>(&mut self, value: &T) -> EncodeResult {
        self.enter_wrapper()?;
        value.serialize(&mut *self)?;
        self.leave_wrapper();
        Ok(())
    }
}

/// Values that `serde_json` writes in the required form.
macro_rules! plain {
    ($($method:ident($type:ty)),+ $(,)?) => {$(
        fn $method(self, value: $type) -> EncodeResult {
            self.plain().$method(value).map_err(too_large)
        }
    )+};
}

impl<'a> Serializer for &'a mut Json {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Compound<'a>;
    type SerializeTupleStruct = Compound<'a>;
    type SerializeTupleVariant = Compound<'a>;
    type SerializeMap = Compound<'a>;
    type SerializeStruct = Compound<'a>;
    type SerializeStructVariant = Compound<'a>;

    plain! {
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
        serialize_char(char),
        serialize_unit_struct(&'static str),
    }

    fn serialize_f32(self, value: f32) -> EncodeResult {
        if !value.is_finite() {
            return Err(EncodeError::NotFinite);
        }
        self.plain().serialize_f32(value).map_err(too_large)
    }

    fn serialize_f64(self, value: f64) -> EncodeResult {
        if !value.is_finite() {
            return Err(EncodeError::NotFinite);
        }
        self.plain().serialize_f64(value).map_err(too_large)
    }

    fn serialize_str(self, value: &str) -> EncodeResult {
        self.put_str(value)
    }

    /// An array of numbers, the form from which byte buffers read back.
    fn serialize_bytes(self, value: &[u8]) -> EncodeResult {
        self.descend(1)?;
        self.plain().serialize_bytes(value).map_err(too_large)?;
        self.ascend(1);
        Ok(())
    }

    fn serialize_none(self) -> EncodeResult {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> EncodeResult {
        let start = self.as_bytes().len();
        self.wrapped(value)?;
        if self.as_bytes().get(start..) == Some(b"null") {
            return Err(EncodeError::Nothing);
        }
        Ok(())
    }

    fn serialize_unit(self) -> EncodeResult {
        self.put(b"null")
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> EncodeResult {
        self.put_str(variant)
    }

    fn serialize_newtype_struct<T>(self, _: &'static str, value: &T) -> EncodeResult
    where
        T: Serialize + ?Sized,
    {
        self.wrapped(value)
    }

    fn serialize_newtype_variant<T>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> EncodeResult
    where
        T: Serialize + ?Sized,
    {
        let object = self.open_variant(variant, b"", b"}")?;
        value.serialize(&mut *object.json)?;
        object.close()
    }

    fn serialize_seq(self, _: Option<usize>) -> EncodeResult<Compound<'a>> {
        self.open(b"[", b"]")
    }

    fn serialize_tuple(self, _: usize) -> EncodeResult<Compound<'a>> {
        self.open(b"[", b"]")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> EncodeResult<Compound<'a>> {
        self.open(b"[", b"]")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> EncodeResult<Compound<'a>> {
        self.open_variant(variant, b"[", b"]}")
    }

    fn serialize_map(self, _: Option<usize>) -> EncodeResult<Compound<'a>> {
        self.open(b"{", b"}")
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> EncodeResult<Compound<'a>> {
        if name == RAW_VALUE {
            return Err(EncodeError::Raw);
        }
        self.open(b"{", b"}")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> EncodeResult<Compound<'a>> {
        self.open_variant(variant, b"{", b"}}")
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> EncodeResult {
        self.put_display(value)
    }
}

impl Compound<'_> {
    fn separate(&mut self) -> EncodeResult {
        if self.is_empty {
            self.is_empty = false;
            return Ok(());
        }
        self.json.put(b",")
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> EncodeResult {
        self.separate()?;
        value.serialize(&mut *self.json)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> EncodeResult {
        self.separate()?;
        self.json.put_str(name)?;
        self.json.put(b":")?;
        value.serialize(&mut *self.json)
    }

    fn close(self) -> EncodeResult {
        self.json.ascend(self.close.len());
        self.json.put(self.close)
    }
}

/// Arrays, for each of serde's names for them.
macro_rules! array {
    ($($trait:ident $method:ident),+ $(,)?) => {$(
        impl $trait for Compound<'_> {
            type Ok = ();
            type Error = EncodeError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> EncodeResult {
                self.element(value)
            }

            fn end(self) -> EncodeResult {
                self.close()
            }
        }
    )+};
}

array! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

/// Objects with named fields.
macro_rules! object {
    ($($trait:ident),+ $(,)?) => {$(
        impl $trait for Compound<'_> {
            type Ok = ();
            type Error = EncodeError;

            fn serialize_field<T>(&mut self, name: &'static str, value: &T) -> EncodeResult
            where
                T: Serialize + ?Sized,
            {
                self.field(name, value)
            }

            fn end(self) -> EncodeResult {
                self.close()
            }
        }
    )+};
}

object! {
    SerializeStruct,
    SerializeStructVariant,
}

impl SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> EncodeResult {
        self.separate()?;
        key.serialize(MapKey::new(self.json))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> EncodeResult {
        self.json.put(b":")?;
        value.serialize(&mut *self.json)
    }

    fn end(self) -> EncodeResult {
        self.close()
    }
}

/// The name by which `serde_json` recognizes its own raw values.
const RAW_VALUE: &str = "$serde_json::private::RawValue";
