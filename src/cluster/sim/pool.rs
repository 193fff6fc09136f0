//! Attributes that are set and removed, each by one client only, so that the required result of a
//! read is known as long as the outcome of that client's requests is.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::session::{Changes, Record, Value};

use crate::cluster::sim::plan::CLIENTS;
use crate::cluster::sim::values::draw_tiny;

/// The attributes of one session that clients have set or removed.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<BTreeMap<usize, PoolAttribute>>);

#[derive(Clone, Debug, Default)]
struct PoolAttribute {
    /// How many requests have tried to change it.
    attempts: u32,
    /// The value after the last one, if its outcome is known and no earlier outcome was unknown:
    /// such a request may still take effect.
    left: Option<Option<Value>>,
    is_uncertain: bool,
}

/// The attributes that a request sets and removes.
pub(super) type PoolWrites = Vec<(usize, Option<Value>)>;

impl Pool {
    /// Called when a client begins to change these attributes.
    pub(super) fn begin(&mut self, writes: &PoolWrites) {
        let all = Arc::make_mut(&mut self.0);
        for (number, _) in writes {
            let attribute = all.entry(*number).or_default();
            attribute.attempts += 1;
            attribute.is_uncertain |= attribute.attempts > 1 && attribute.left.is_none();
            attribute.left = None;
        }
    }

    /// Called when the change is acknowledged.
    pub(super) fn acknowledge(&mut self, writes: &PoolWrites) {
        let all = Arc::make_mut(&mut self.0);
        for (number, value) in writes {
            if let Some(attribute) = all.get_mut(number).filter(|a| !a.is_uncertain) {
                attribute.left = Some(value.clone());
            }
        }
    }

    /// Returns the attributes with the value that a read has to find, or `None` if removed.
    /// Attributes that were changed since `self` was recorded are left out.
    pub(super) fn certain<'a>(
        &'a self,
        now: &'a Self,
    ) -> impl Iterator<Item = (String, Option<&'a Value>)> {
        self.0.iter().filter_map(|(number, attribute)| {
            let is_same = now.0.get(number)?.attempts == attribute.attempts;
            let left = attribute.left.as_ref().filter(|_| is_same)?;
            Some((name(*number), left.as_ref()))
        })
    }
}

/// Draws the changes of a client: existing attributes are removed, and absent ones are usually set.
pub(super) fn draw_writes(rng: &mut StdRng, client: usize, record: &Record) -> PoolWrites {
    let mut writes = PoolWrites::new();
    for _ in 0..WRITES {
        let number = client + CLIENTS * rng.random_range(0..NAMES_EACH);
        if writes.iter().all(|(known, _)| *known != number) {
            let sets = record.get(&name(number)).is_none() && rng.random_bool(0.8);
            writes.push((number, sets.then(|| draw_tiny(rng))));
        }
    }
    writes
}

/// Adds the writes to a request's changes.
pub(super) fn add_to(changes: &mut Changes, writes: &PoolWrites) {
    for (number, value) in writes {
        let name = name(*number).as_str().into();
        match value {
            Some(value) => changes.insert(name, value.clone()),
            None => changes.remove(name),
        }
    }
}

fn name(number: usize) -> String {
    format!("state_{number}")
}

/// Attributes that a request changes.
const WRITES: usize = 4;

/// Names of each client: about 200 in all.
const NAMES_EACH: usize = 33;
