//! Names of attributes, with and without a type, and what may be stored under them.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::session::Name;

/// The name of an attribute together with its type, declared once and checked by the compiler at
/// every use.
///
/// ```
/// use distributable::{Attribute, Session, SessionError};
///
/// const CART: Attribute<Vec<String>> = Attribute::new("cart");
///
/// fn fill(session: &Session) -> Result<(), SessionError> {
///     session.insert(CART, &vec!["tea".to_owned()])?;
///     assert_eq!(session.get(CART)?, Some(vec!["tea".to_owned()]));
///     Ok(())
/// }
/// # #[cfg(feature = "testing")]
/// # fill(&Session::for_test()).unwrap();
/// ```
pub struct Attribute<T> {
    name: &'static str,
    /// Names a type and holds none: `Attribute` is `Send + Sync` whatever `T` is.
    of: PhantomData<fn() -> T>,
}

impl<T> Attribute<T> {
    /// Names an attribute of type `T`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            of: PhantomData,
        }
    }

    /// The name as text.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> Clone for Attribute<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Attribute<T> {}

impl<T> fmt::Debug for Attribute<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attribute").field(&self.name).finish()
    }
}

/// A name of an attribute: text, or an [`Attribute`] constant.
pub trait AttributeName {
    /// The name as text.
    fn as_name(&self) -> &str;
}

/// A name of an attribute of type `T`: an [`Attribute<T>`] constant, or text, for which the value
/// or the caller determines the type (`get::<u32>("n")`).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name an attribute of type `{T}`",
    label = "not the name of such an attribute",
    note = "names are texts, which go with every type, and `Attribute<T>`, which goes with `T`"
)]
pub trait AttributeOf<T: ?Sized>: AttributeName {}

impl AttributeName for &str {
    fn as_name(&self) -> &str {
        self
    }
}

impl<T: ?Sized> AttributeOf<T> for &str {}

impl AttributeName for String {
    fn as_name(&self) -> &str {
        self
    }
}

impl<T: ?Sized> AttributeOf<T> for String {}

impl AttributeName for &String {
    fn as_name(&self) -> &str {
        self
    }
}

impl<T: ?Sized> AttributeOf<T> for &String {}

impl AttributeName for &Name {
    fn as_name(&self) -> &str {
        self
    }
}

impl<T: ?Sized> AttributeOf<T> for &Name {}

impl<T> AttributeName for Attribute<T> {
    fn as_name(&self) -> &str {
        self.name
    }
}

impl<T> AttributeOf<T> for Attribute<T> {}

impl<T> AttributeName for &Attribute<T> {
    fn as_name(&self) -> &str {
        self.name
    }
}

impl<T> AttributeOf<T> for &Attribute<T> {}

/// A type of which a session has one value, under a name that belongs to the type: an attribute
/// that handlers take as an argument, as [`SessionData`](crate::SessionData) or
/// [`SessionDataMut`](crate::SessionDataMut).
///
/// The constant is a name like any other: `session.get(Cart::ATTRIBUTE)` reads the same attribute.
/// For a type of another crate, declare a newtype with `#[serde(transparent)]`.
///
/// ```
/// use distributable::{Attribute, SessionAttribute};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Deserialize, Serialize)]
/// struct Cart {
///     items: Vec<String>,
/// }
///
/// impl SessionAttribute for Cart {
///     const ATTRIBUTE: Attribute<Self> = Attribute::new("cart");
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the type of a session attribute",
    label = "no name is known under which a session would have it",
    note = "implement `SessionAttribute` for it, whose constant is the attribute's name"
)]
pub trait SessionAttribute: Storable + DeserializeOwned + Send {
    /// The attribute's name.
    const ATTRIBUTE: Attribute<Self>;
}

/// Returns `true` if the name is reserved for this crate, so that applications may not use it.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with('\0')
}

/// A type that can be stored as an attribute: every type that serde can serialize, because sessions
/// move between nodes and outlive processes. It is implemented automatically.
///
/// A type that cannot be serialized is a compile-time error here; servlet containers throw
/// `IllegalArgumentException: setAttribute: Non-serializable attribute` at run time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a session attribute: it is not serializable",
    label = "a session attribute must be serializable, and `{Self}` is not",
    note = "sessions move between nodes, so every attribute is stored as bytes",
    note = "put `#[derive(serde::Serialize, serde::Deserialize)]` on it, and on what it consists of"
)]
pub trait Storable: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Storable for T {}

#[cfg(test)]
mod tests {
    use super::*;

    const CART: Attribute<Vec<u8>> = Attribute::new("cart");

    /// The shape of `Session`'s methods: what the compiler infers here, it infers there.
    #[expect(clippy::needless_pass_by_value, reason = "as there")]
    fn get<T: Default>(attribute: impl AttributeOf<T>) -> (String, T) {
        (attribute.as_name().to_owned(), T::default())
    }

    #[expect(clippy::needless_pass_by_value, reason = "as there")]
    fn insert<T: Storable + ?Sized>(attribute: impl AttributeOf<T>, value: &T) -> String {
        let size = size_of_val(value);
        format!("{} {size}", attribute.as_name())
    }

    #[expect(clippy::needless_pass_by_value, reason = "as there")]
    fn remove(attribute: impl AttributeName) -> String {
        attribute.as_name().to_owned()
    }

    #[test]
    fn a_constant_fixes_the_type() {
        let borrowed = &CART;
        assert_eq!(get(CART), ("cart".to_owned(), Vec::new()));
        assert_eq!(get(borrowed), get(CART));
        assert_eq!(insert(CART, &Vec::new()), "cart 24");
    }

    #[test]
    fn text_leaves_the_type_to_the_caller_and_to_the_value() {
        assert_eq!(get::<u32>("n"), ("n".to_owned(), 0));
        let n: u64 = get("n").1;
        assert_eq!(insert("n", &n), "n 8");
        assert_eq!(insert(String::from("n"), "text"), "n 4");
        let name = &String::from("n");
        assert_eq!(insert(name, &[1_u8, 2][..]), "n 2");
    }

    #[test]
    fn removing_needs_no_type() {
        assert_eq!(remove("n"), remove(String::from("n")));
        assert_eq!(remove(CART), remove(&Name::from("cart")));
    }

    #[test]
    fn a_constant_may_be_shared_whatever_its_type() {
        fn shared<T: Send + Sync + Copy>(_: T) {}
        shared(Attribute::<std::rc::Rc<u8>>::new("n"));
    }
}
