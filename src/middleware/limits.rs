//! The size limits of a session.

/// Size limits of a session. The call that would exceed a limit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Encoded size of one attribute's value, in bytes. Defaults to 16 MiB.
    pub attribute_bytes: usize,
    /// Size of all names and values of a session, in bytes. Defaults to 16 MiB.
    pub session_bytes: usize,
    /// Number of attributes in a session; removed ones do not count. Defaults to 1,024.
    pub attributes: usize,
    /// Size of one attribute's name, in bytes. Defaults to 256.
    pub name_bytes: usize,
}

impl Limits {
    /// Sets the limit for one attribute's encoded value.
    #[must_use]
    pub const fn with_attribute_bytes(mut self, bytes: usize) -> Self {
        self.attribute_bytes = bytes;
        self
    }

    /// Sets the limit for names and values together.
    #[must_use]
    pub const fn with_session_bytes(mut self, bytes: usize) -> Self {
        self.session_bytes = bytes;
        self
    }

    /// Sets the limit for the number of names.
    #[must_use]
    pub const fn with_attributes(mut self, count: usize) -> Self {
        self.attributes = count;
        self
    }

    /// Sets the limit for one name.
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
