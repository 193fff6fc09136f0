//! The scripts: each operation on a session is one step inside the server.

/// A script of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Commit,
    Touch,
    End,
    Expire,
}

impl Script {
    pub(super) const ALL: [Self; 4] = [Self::Commit, Self::Touch, Self::End, Self::Expire];

    pub(super) const fn source(self) -> &'static str {
        match self {
            Self::Commit => concat!(
                include_str!("lua/session.lua"),
                include_str!("lua/report.lua"),
                include_str!("lua/commit.lua")
            ),
            Self::Touch => concat!(
                include_str!("lua/session.lua"),
                include_str!("lua/touch.lua")
            ),
            Self::End => concat!(
                include_str!("lua/session.lua"),
                include_str!("lua/report.lua"),
                include_str!("lua/end.lua")
            ),
            Self::Expire => concat!(
                include_str!("lua/session.lua"),
                include_str!("lua/report.lua"),
                include_str!("lua/expire.lua")
            ),
        }
    }
}
