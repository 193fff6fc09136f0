//! Round trips: a value reads back equal, or encoding it is a typed error.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;
use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Deserialize, Serializer};

use super::*;

const LIMIT: usize = 1 << 20;

fn fails<T: Serialize + ?Sized>(value: &T, error: EncodeError) {
    assert_eq!(encode(value, LIMIT), Err(error));
}

fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let encoded = encode(value, LIMIT).unwrap();
    assert_eq!(decode::<T>(&encoded).as_ref(), Ok(value));
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    let encoded = encode(value, LIMIT).unwrap();
    String::from_utf8(encoded.as_bytes()[1..].to_vec()).unwrap()
}

/// Every shape of serde's data model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Unit,
    Bool(bool),
    Signed(i8, i16, i32, i64, i128),
    Unsigned(u8, u16, u32, u64, u128),
    Single(f32),
    Double(f64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Nothing(()),
    Wrapped(Newtype),
    Option(Option<Box<Self>>),
    List(Vec<Self>),
    Named(BTreeMap<String, Self>),
    Numbered(BTreeMap<i64, Self>),
    Wide(BTreeMap<u128, bool>),
    Lettered(BTreeMap<char, u8>),
    Switched(BTreeMap<bool, u8>),
    Chosen(BTreeMap<Choice, u8>),
    Struct {
        left: Box<Self>,
        right: Option<Box<Self>>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Newtype(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Choice {
    #[serde(rename = "a \"b\"\n")]
    A,
    B,
}

fn tree() -> impl Strategy<Value = Tree> {
    let finite32 = any::<f32>().prop_filter("finite", |f| f.is_finite());
    let finite64 = any::<f64>().prop_filter("finite", |f| f.is_finite());
    let choice = prop_oneof![Just(Choice::A), Just(Choice::B)];
    let leaf = prop_oneof![
        Just(Tree::Unit),
        Just(Tree::Nothing(())),
        Just(Tree::Option(None)),
        any::<bool>().prop_map(Tree::Bool),
        any::<(i8, i16, i32, i64, i128)>().prop_map(|(a, b, c, d, e)| Tree::Signed(a, b, c, d, e)),
        any::<(u8, u16, u32, u64, u128)>()
            .prop_map(|(a, b, c, d, e)| Tree::Unsigned(a, b, c, d, e)),
        finite32.prop_map(Tree::Single),
        finite64.prop_map(Tree::Double),
        any::<char>().prop_map(Tree::Char),
        any::<String>().prop_map(Tree::Text),
        any::<Vec<u8>>().prop_map(Tree::Bytes),
        any::<u32>().prop_map(|n| Tree::Wrapped(Newtype(n))),
        prop::collection::btree_map(any::<u128>(), any::<bool>(), 0..3).prop_map(Tree::Wide),
        prop::collection::btree_map(any::<char>(), any::<u8>(), 0..3).prop_map(Tree::Lettered),
        prop::collection::btree_map(any::<bool>(), any::<u8>(), 0..3).prop_map(Tree::Switched),
        prop::collection::btree_map(choice, any::<u8>(), 0..3).prop_map(Tree::Chosen),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        prop_oneof![
            prop::option::of(boxed()).prop_map(Tree::Option),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::List),
            prop::collection::btree_map(any::<String>(), inner.clone(), 0..4).prop_map(Tree::Named),
            prop::collection::btree_map(any::<i64>(), inner.clone(), 0..4).prop_map(Tree::Numbered),
            (boxed(), prop::option::of(boxed()))
                .prop_map(|(left, right)| Tree::Struct { left, right }),
        ]
    })
}

proptest! {
    /// A-13.
    #[test]
    fn what_is_encoded_decodes_equal_and_is_what_serde_json_writes(value in tree()) {
        let encoded = encode(&value, LIMIT).unwrap();
        prop_assert_eq!(decode::<Tree>(&encoded), Ok(value.clone()));
        prop_assert_eq!(json(&value), serde_json::to_string(&value).unwrap());
    }

    #[test]
    fn every_float_comes_back_to_the_bit(single in any::<u32>(), double in any::<u64>()) {
        let (single, double) = (f32::from_bits(single), f64::from_bits(double));
        match encode(&single, LIMIT) {
            Ok(value) => prop_assert_eq!(decode::<f32>(&value).unwrap().to_bits(), single.to_bits()),
            Err(error) => prop_assert!(error == EncodeError::NotFinite && !single.is_finite()),
        }
        match encode(&double, LIMIT) {
            Ok(value) => prop_assert_eq!(decode::<f64>(&value).unwrap().to_bits(), double.to_bits()),
            Err(error) => prop_assert!(error == EncodeError::NotFinite && !double.is_finite()),
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in any::<Vec<u8>>(), json in "[\\[\\]{}\":,0-9enultrfas.-]{0,40}") {
        for bytes in [bytes, [b"j", json.as_bytes()].concat()] {
            let value = Value::from_bytes(bytes);
            let _ = decode::<Tree>(&value);
            let _ = decode::<serde_json::Value>(&value);
            let _ = decode::<u32>(&value);
            let _ = decode::<String>(&value);
        }
    }

    #[test]
    fn the_limit_holds_to_the_byte(value in tree(), short in 1..20_usize) {
        let size = encode(&value, LIMIT).unwrap().as_bytes().len();
        prop_assert!(encode(&value, size).is_ok());
        prop_assert_eq!(encode(&value, size.saturating_sub(short)), Err(EncodeError::TooLarge));
    }
}

#[test]
fn the_ends_of_every_number_survive() {
    survives(&(u64::MAX, i64::MIN, u128::MAX, i128::MIN, i128::MAX));
    survives(&(
        f32::MIN_POSITIVE,
        f32::MAX,
        f64::MIN_POSITIVE,
        f64::MAX,
        -0.0_f64,
    ));
    survives(&(f64::EPSILON, 0.1_f32, 0.1_f64, 5e-324_f64));
}

#[test]
fn text_of_every_kind_survives() {
    survives(&"\0\u{1f}\"\\/\u{7f}\u{2028}\u{feff}\u{10ffff}ä\r\n\t".to_owned());
    survives(&('"', '\0', '\u{10ffff}'));
}

#[test]
fn a_float_that_is_no_number_is_an_error_and_never_null() {
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        fails(&float, EncodeError::NotFinite);
        fails(&vec![Some(float)], EncodeError::NotFinite);
        fails(&(float as f32), EncodeError::NotFinite);
    }
}

#[test]
fn keys_that_would_not_come_back_are_an_error() {
    fails(&BTreeMap::from([((1, 2), 3)]), EncodeError::Key);
    fails(&BTreeMap::from([([1_u8], 3)]), EncodeError::Key);
    fails(&BTreeMap::from([(Some("a"), 3)]), EncodeError::Key);
    fails(&BTreeMap::from([(None::<u8>, 3)]), EncodeError::Key);
    fails(&BTreeMap::from([((), 3)]), EncodeError::Key);
    fails(&BTreeMap::from([(Ok::<u8, u8>(1), 3)]), EncodeError::Key);
    fails(&FloatKey, EncodeError::Key);
}

struct FloatKey;

impl Serialize for FloatKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(1.5, 1)])
    }
}

#[test]
fn keys_that_serde_json_reads_back_are_taken() {
    survives(&BTreeMap::from([(Newtype(7), 'a'), (Newtype(8), 'b')]));
    survives(&BTreeMap::from([(u128::MAX, ()), (0, ())]));
    survives(&BTreeMap::from([(std::net::Ipv6Addr::LOCALHOST, ())]));
}

#[test]
fn a_some_that_would_become_none_is_an_error() {
    fails(&Some(()), EncodeError::Nothing);
    fails(&Some(None::<u8>), EncodeError::Nothing);
    fails(&vec![Some(serde_json::Value::Null)], EncodeError::Nothing);
    survives(&None::<Option<u8>>);
    survives(&Some(Some(1)));
    survives(&Some(String::from("null")));
    survives(&Some(vec![()]));
}

/// Opens `depth` levels in one of serde's ways.
struct Deep {
    depth: usize,
    way: Way,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    List,
    Variant,
    Struct,
    Newtype,
    Option,
    Bytes,
}

impl Serialize for Deep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inner = Self {
            depth: self.depth.saturating_sub(1),
            ..*self
        };
        match self.way {
            Way::Bytes if self.depth == 1 => serializer.serialize_bytes(b"ab"),
            _ if self.depth == 0 => serializer.serialize_u8(0),
            Way::List | Way::Bytes => serializer.collect_seq([inner]),
            Way::Variant => serializer.serialize_newtype_variant("", 0, "v", &inner),
            Way::Newtype => serializer.serialize_newtype_struct("", &inner),
            Way::Option => serializer.serialize_some(&inner),
            Way::Struct => {
                let mut object = serializer.serialize_struct("", 1)?;
                object.serialize_field("f", &inner)?;
                object.end()
            }
        }
    }
}

/// A-13.
#[test]
fn what_is_not_too_deep_to_write_is_not_too_deep_to_read() {
    for way in [Way::List, Way::Bytes, Way::Variant, Way::Struct] {
        let depth = output::DEPTH_MAX;
        let deepest = encode(&Deep { depth, way }, LIMIT).unwrap();
        assert!(decode::<serde_json::Value>(&deepest).is_ok(), "{way:?}");
        for depth in [depth + 1, 200, 10_000] {
            fails(&Deep { depth, way }, EncodeError::TooDeep);
        }
    }
}

#[test]
fn depth_without_brackets_is_bounded_too() {
    for way in [Way::Newtype, Way::Option] {
        let depth = output::WRAPPERS_MAX;
        assert_eq!(json(&Deep { depth, way }), "0");
        for depth in [depth + 1, 10_000] {
            fails(&Deep { depth, way }, EncodeError::TooDeep);
        }
    }
}

#[test]
fn siblings_do_not_add_up_to_depth() {
    survives(&vec![vec![Some(Newtype(1))]; 10_000]);
    survives(&vec![
        Tree::Struct {
            left: Box::new(Tree::Unit),
            right: None
        };
        200
    ]);
}

#[test]
fn beyond_the_limit_writing_stops() {
    struct Endless<'a>(&'a Cell<usize>);

    impl Serialize for Endless<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut list = serializer.serialize_seq(None)?;
            loop {
                self.0.set(self.0.get() + 1);
                list.serialize_element("0123456789")?;
            }
        }
    }

    let written = Cell::new(0);
    assert_eq!(encode(&Endless(&written), 1000), Err(EncodeError::TooLarge));
    assert!(written.get() < 100);
}

#[test]
fn a_display_is_cut_off_at_the_limit() {
    struct Shown(fn(&mut fmt::Formatter<'_>) -> fmt::Result);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0(f)
        }
    }

    impl Serialize for Shown {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    assert_eq!(json(&Shown(|f| write!(f, "a\"{}", 1))), r#""a\"1""#);
    fails(
        &Shown(|f| {
            loop {
                f.write_str("0123456789")?
            }
        }),
        EncodeError::TooLarge,
    );
    fails(&Shown(|_| Err(fmt::Error)), EncodeError::Refused);
}

#[test]
fn a_serialize_that_fails_is_an_error_without_its_words() {
    struct FailingSerialize;

    impl Serialize for FailingSerialize {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("secret"))
        }
    }

    let error = encode(&("before", FailingSerialize), LIMIT).unwrap_err();
    assert_eq!(error, EncodeError::Refused);
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[test]
fn a_raw_json_value_is_an_error() {
    struct Raw;

    impl Serialize for Raw {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer
                .serialize_struct("$serde_json::private::RawValue", 1)?
                .end()
        }
    }

    fails(&Raw, EncodeError::Raw);
}

#[test]
fn a_type_that_changed_its_shape_is_an_error_without_the_value() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Other {
        missing: u8,
    }

    let value = encode("secret", LIMIT).unwrap();
    let error = decode::<u32>(&value).unwrap_err();
    assert_eq!(error, DecodeError::Shape);
    assert!(!format!("{error} {error:?}").contains("secret"));
    assert_eq!(decode::<Other>(&value), Err(DecodeError::Shape));
    let number = encode(&300, LIMIT).unwrap();
    assert_eq!(decode::<u8>(&number), Err(DecodeError::Shape));
}

#[test]
fn bytes_that_are_not_ours_are_an_error() {
    let of = |bytes: &[u8]| decode::<u32>(&Value::from_bytes(bytes));
    assert_eq!(of(b""), Err(DecodeError::Codec));
    assert_eq!(of(b"7"), Err(DecodeError::Codec));
    assert_eq!(of(b"j"), Err(DecodeError::Syntax));
    assert_eq!(of(b"j7 7"), Err(DecodeError::Syntax));
    assert_eq!(of(b"j\xff"), Err(DecodeError::Syntax));
    let deep = [b"j", "[".repeat(100_000).as_bytes()].concat();
    let deep = Value::from_bytes(deep);
    assert_eq!(decode::<serde_json::Value>(&deep), Err(DecodeError::Syntax));
    assert_eq!(of(b"j7"), Ok(7));
}

#[test]
fn equal_values_have_equal_bytes() {
    let list = || vec![Tree::Single(0.1), Tree::Text("a".into())];
    assert_eq!(encode(&list(), LIMIT), encode(&list(), LIMIT));
    assert_eq!(encode(&1_u8, LIMIT), encode(&1_i64, LIMIT));
}
