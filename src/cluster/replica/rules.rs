//! Switches for the rules of the protocol, so that the simulator can disable one.
//!
//! A simulator that finds no faults proves something only if it finds faults that exist: it runs
//! clusters with one rule disabled, and has to notice. Outside tests all rules are enabled.

/// The enabled rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// A write is safe only when all members are in the writer's view; acknowledgements in another
    /// view do not count.
    pub(crate) view_barrier: bool,
    /// A node that is not complete asks other members before it answers.
    pub(crate) union_reads: bool,
    /// A node that was paused for so long that it may have been declared down continues in a new
    /// incarnation.
    pub(crate) fence: bool,
    /// A copy is dropped only when its holders have it.
    pub(crate) confirmed_drop: bool,
    /// Deleted sessions leave a tombstone.
    pub(crate) tombstones: bool,
    /// Expired sessions that were rotated leave a mark.
    pub(crate) expiry_marks: bool,
    /// Entries of an index that are older than its note of an end are noticed when they are merged.
    pub(crate) late_ends: bool,
    /// A session is found only with its current secret.
    pub(crate) secrets: bool,
    /// A rotation is ordered by the session's owner.
    pub(crate) ordered_rotations: bool,
    /// An update is rejected if its expectation does not hold.
    pub(crate) expectations: bool,
    /// A member from which nothing arrives is declared down, even if other members receive from it.
    pub(crate) reachability: bool,
    /// A later epoch of the same members is adopted as it is, and not raised.
    pub(crate) adopted_epochs: bool,
    /// A view has an epoch, so that a set of members that returns is another view.
    pub(crate) epochs: bool,
    /// An atomic update is merged only in the view in which it was ordered.
    pub(crate) strict_views: bool,
    /// A write is acknowledged only with `min_copies` copies.
    pub(crate) min_copies: bool,
    /// Data is sent within a window of bytes in flight.
    pub(crate) windows: bool,
    /// A floor is raised only where all holders have the same content at or below it.
    pub(crate) equal_floors: bool,
    /// A change ordered by the owner gets a new version if its own is older than a removal.
    pub(crate) restamping: bool,
    /// Marks of removed attributes in a session before its floor is raised; half of them are kept.
    pub(crate) marks: usize,
}

impl Rules {
    pub(crate) const ALL: Self = Self {
        view_barrier: true,
        union_reads: true,
        fence: true,
        confirmed_drop: true,
        tombstones: true,
        expiry_marks: true,
        late_ends: true,
        secrets: true,
        ordered_rotations: true,
        expectations: true,
        reachability: true,
        adopted_epochs: true,
        epochs: true,
        strict_views: true,
        min_copies: true,
        windows: true,
        equal_floors: true,
        restamping: true,
        marks: 32,
    };
}
