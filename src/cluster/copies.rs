//! [`Copies`]: how many nodes keep each session.

use std::num::NonZeroU8;

use crate::error::{SetupError, SetupErrorKind};

/// The number of nodes that keep each session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(
    clippy::exhaustive_enums,
    reason = "all nodes or a number of them: no other case is possible"
)]
pub enum Copies {
    /// Every node keeps every session: reads need no other node, and each write goes to all nodes.
    /// For a handful of nodes. Corresponds to Tomcat's `DeltaManager`.
    #[default]
    All,
    /// This many nodes keep each session, or all nodes if there are fewer. The session survives the
    /// failure of all but one of them. The holders are computed from the session's id and the names
    /// of the nodes (rendezvous hashing); the other nodes ask them. When a node joins or leaves,
    /// only its share of the sessions moves. Tomcat's `BackupManager`, WebLogic and JEUS keep 2.
    Count(NonZeroU8),
}

impl Copies {
    /// This many nodes keep a session: [`Copies::Count`] from a plain number.
    ///
    /// ```
    /// use distributable::Copies;
    ///
    /// let copies = Copies::count(2)?;
    /// assert!(Copies::count(0).is_err());
    /// # Ok::<(), distributable::SetupError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When it is 0, or more than 255.
    pub fn count(nodes: usize) -> Result<Self, SetupError> {
        let count = u8::try_from(nodes).ok().and_then(NonZeroU8::new);
        count.map(Self::Count).ok_or_else(|| {
            SetupError::new(
                SetupErrorKind::Copies,
                "a session is kept by 1 to 255 nodes",
            )
        })
    }
}
