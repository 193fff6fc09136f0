//! One attribute of a record, with the version of its last write.

use crate::session::{Name, Value, Version};

/// One attribute: the last write that its holder has seen (an LWW register).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttributeEntry {
    /// The attribute's name.
    pub(crate) name: Name,
    /// The version of its last write.
    pub(crate) version: Version,
    /// The written value; `None` if the attribute was removed.
    pub(crate) value: Option<Value>,
}

/// The name under which a record keeps its floor.
pub(crate) const FLOOR: &str = "\0";

impl AttributeEntry {
    /// The entry that holds a record's floor.
    pub(crate) fn floor(version: Version) -> Self {
        Self {
            name: FLOOR.into(),
            version,
            value: None,
        }
    }

    /// The bytes of the name and the value.
    pub(crate) fn payload_bytes(&self) -> usize {
        let value = self.value.as_ref();
        self.name.len() + value.map_or(0, |value| value.as_bytes().len())
    }

    /// Returns `true` if it holds the floor, and is not an attribute.
    pub(crate) fn is_floor(&self) -> bool {
        &*self.name == FLOOR
    }

    /// Returns `true` if it marks an attribute as removed.
    #[cfg(any(test, feature = "replicated"))]
    pub(crate) fn is_mark(&self) -> bool {
        self.value.is_none() && !self.is_floor()
    }

    /// Order of precedence between two writes of one name: version, then a removal, then bytes. A
    /// floor drops writes with the version of a mark below it, so the mark has to precede them here
    /// as well.
    pub(crate) fn precedence(&self) -> (Version, bool, &Option<Value>) {
        (self.version, self.value.is_none(), &self.value)
    }
}
