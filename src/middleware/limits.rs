//! The size limits of a session.

/// Size limits of a session. The call that would exceed a limit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(crate) attribute_bytes: usize,
    pub(crate) session_bytes: usize,
    pub(crate) attributes: usize,
    pub(crate) name_bytes: usize,
}

impl Limits {
    /// Sets the limit for the encoded value of one attribute, in bytes. Defaults to 16 MiB.
    #[must_use]
    pub const fn with_attribute_bytes(mut self, bytes: usize) -> Self {
        self.attribute_bytes = bytes;
        self
    }

    /// Sets the limit for all names and values of a session, in bytes. Defaults to 16 MiB.
    #[must_use]
    pub const fn with_session_bytes(mut self, bytes: usize) -> Self {
        self.session_bytes = bytes;
        self
    }

    /// Sets the limit for the number of attributes in a session; removed ones do not count.
    /// Defaults to 1,024.
    ///
    /// A replicated store refuses more than 32,768 as
    /// [`TooLarge`](crate::StoreErrorKind::TooLarge), and counts removed ones that it still
    /// remembers.
    #[must_use]
    pub const fn with_attributes(mut self, count: usize) -> Self {
        self.attributes = count;
        self
    }

    /// Sets the limit for the name of one attribute, in bytes. Defaults to 256.
    ///
    /// A replicated store refuses longer ones as
    /// [`TooLarge`](crate::StoreErrorKind::TooLarge).
    #[must_use]
    pub const fn with_name_bytes(mut self, bytes: usize) -> Self {
        self.name_bytes = bytes;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attribute_bytes: 16 * MIB,
            session_bytes: 16 * MIB,
            attributes: 1024,
            name_bytes: 256,
        }
    }
}

const MIB: usize = 1 << 20;
