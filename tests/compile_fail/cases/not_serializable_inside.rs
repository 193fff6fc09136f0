//! A collection is serializable if what it holds is.

use distributable::{Attribute, Session, SessionError};

struct Item;

const CART: Attribute<Vec<Item>> = Attribute::new("cart");

fn add(session: &Session) -> Result<(), SessionError> {
    session.insert(CART, &vec![Item])
}

fn main() {}
