//! The rules that the protocol rests on, so that the simulator can take one away.
//!
//! A simulator that finds nothing proves nothing unless it finds what is wrong: it runs clusters
//! with one rule missing, and must notice. Outside tests all rules hold.

/// Which rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// A write is safe only when all members are in the writer's view, and what was acknowledged in
    /// another view does not count.
    pub(crate) view_barrier: bool,
    /// Who has not caught up asks the others before it answers.
    pub(crate) union_reads: bool,
    /// Who was stopped for so long that it may have been declared down does not go on as if nothing
    /// had happened.
    pub(crate) fence: bool,
    /// A copy is forgotten only when its holders have it.
    pub(crate) confirmed_drop: bool,
    /// Ended sessions are remembered.
    pub(crate) tombstones: bool,
    /// Expired sessions that were rotated are remembered.
    pub(crate) expiry_marks: bool,
    /// A secret that is not the session's current one opens nothing.
    pub(crate) secrets: bool,
    /// A rotation is ordered by the session's owner.
    pub(crate) ordered_rotations: bool,
    /// An update whose expectation does not hold any more is not made.
    pub(crate) expectations: bool,
    /// A member from which nothing is heard here is declared down, although others hear it.
    pub(crate) reach: bool,
    /// A later epoch of the same members is adopted as it is, and not raised.
    pub(crate) adopted_epochs: bool,
    /// A view has an epoch, so that a set of members that comes back is another view.
    pub(crate) epochs: bool,
    /// An atomic update is merged only in the view in which it was ordered.
    pub(crate) strict_views: bool,
    /// A write is acknowledged only with as many copies as `min_copies` asks for.
    pub(crate) min_copies: bool,
    /// Data leaves within a window of bytes in flight.
    pub(crate) windows: bool,
    /// A floor is raised only where all holders have the same at or below it.
    pub(crate) equal_floors: bool,
    /// A change that the owner orders and that is older than a removal gets a new stamp.
    pub(crate) restamping: bool,
    /// Marks of removed attributes that a session has before its floor is raised; half of them stay.
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
        secrets: true,
        ordered_rotations: true,
        expectations: true,
        reach: true,
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
