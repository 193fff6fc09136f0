//! The compile-time twin of `IllegalArgumentException: setAttribute: Non-serializable attribute`.

use distributable::{Session, SessionError};

struct Cart {
    items: Vec<String>,
}

fn add(session: &Session) -> Result<(), SessionError> {
    let items = vec!["tea".to_owned()];
    session.insert("cart", &Cart { items })
}

fn main() {}
