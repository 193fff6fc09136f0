//! Switches for the rules of the protocol, so that the simulator can disable one.
//!
//! A simulator that finds no faults proves something only if it finds faults that exist: it runs
//! clusters with one rule disabled, and has to notice. Outside tests there are no switches: every
//! rule is a constant.

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident,)*) => {
        /// The rules in force.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct ProtocolRules {
            $(#[cfg(test)] pub(crate) $rule: bool,)*
            #[cfg(test)]
            pub(crate) marks: usize,
        }

        impl ProtocolRules {
            pub(crate) const ALL: Self = Self {
                $(#[cfg(test)] $rule: true,)*
                #[cfg(test)]
                marks: MARKS,
            };

            $($(#[$doc])*
            pub(crate) const fn $rule(self) -> bool {
                #[cfg(test)]
                let holds = self.$rule;
                #[cfg(not(test))]
                let holds = true;
                holds
            })*
        }
    };
}

rules! {
    /// A write is safe only when all members are in the writer's view; acknowledgements in another
    /// view do not count.
    view_barrier,
    /// A node that is not complete asks other members before it answers.
    union_reads,
    /// A node that was paused for so long that it may have been declared down continues in a new
    /// incarnation.
    fence,
    /// A copy is dropped only when its holders have it.
    confirmed_drop,
    /// Deleted sessions leave a tombstone.
    tombstones,
    /// Expired sessions that were rotated leave a mark.
    expiry_marks,
    /// Entries of an index that are older than its note of an end are noticed when they are merged.
    late_ends,
    /// A session is found only with its current secret.
    secrets,
    /// A rotation is ordered by the session's owner.
    ordered_rotations,
    /// An update is rejected if its expectation does not hold.
    expectations,
    /// A member from which nothing arrives is declared down, even if other members receive from it.
    reachability,
    /// A later epoch of the same members is adopted as it is, and not raised.
    adopted_epochs,
    /// A view has an epoch, so that a set of members that returns is another view.
    epochs,
    /// An atomic update is merged only in the view in which it was ordered.
    strict_views,
    /// A write is acknowledged only with `min_copies` copies.
    min_copies,
    /// Data is sent within a window of bytes in flight.
    windows,
    /// A floor is raised only where all holders have the same content at or below it.
    equal_floors,
    /// A change ordered by the owner gets a new version if its own is older than a removal.
    restamping,
}

impl ProtocolRules {
    /// Marks of removed attributes in a session before its floor is raised; half of them are kept.
    pub(crate) const fn marks(self) -> usize {
        #[cfg(test)]
        let marks = self.marks;
        #[cfg(not(test))]
        let marks = MARKS;
        marks
    }
}

const MARKS: usize = 32;
