//! A typed name admits its own type only.

use distributable::{Attribute, Session, SessionError};

const VISITS: Attribute<u32> = Attribute::new("visits");

fn write(session: &Session) -> Result<(), SessionError> {
    session.insert(VISITS, "many")
}

fn read(session: &Session) -> Result<Option<String>, SessionError> {
    session.get(VISITS)
}

fn main() {}
