//! A name is a text or a constant that was made for it.

use distributable::{Session, SessionError};

fn read(session: &Session) -> Result<Option<u32>, SessionError> {
    session.get(7)
}

fn main() {}
