//! Requests of clients: load, then commit, through any node.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use crate::cluster::replica::event::Progress;
use crate::cluster::replica::message::OpId;
use crate::session::{Changes, Loaded, Record, Root, Value};

use crate::cluster::sim::client::{
    Action, COUNTER, ClientRequest, LARGE_NAMES, NAMES, RequestStage,
};
use crate::cluster::sim::event::SimEvent;
use crate::cluster::sim::kinds::FaultKind;
use crate::cluster::sim::oracle::{Life, Model, ModelLifetime};
use crate::cluster::sim::plan::{HOUR, SESSIONS};
use crate::cluster::sim::pool::{PoolWrites, add_to, draw_writes};
use crate::cluster::sim::values::{draw_large, draw_small, draw_tiny};
use crate::cluster::sim::world::World;

impl World {
    pub(super) fn act(&mut self, client: usize) {
        if self.ended {
            return;
        }
        let node = self.rng.random_range(0..self.nodes.len());
        let model = self.rng.random_range(0..SESSIONS);
        let begun = self.is_serving(node) && self.begin(client, node, model);
        if !begun {
            self.pause_client(client);
        }
    }

    /// Clients wait between two requests, and longer while a fault lasts long.
    pub(super) fn pause_client(&mut self, client: usize) {
        let slowly = self.disturbed_until > self.now + LONG_FAULT;
        let most = if slowly { 4_000_000 } else { 60_000 };
        let after = self.rng.random_range(1_000..most);
        self.after(after, SimEvent::Act { client });
    }

    pub(super) fn begin(&mut self, client: usize, node: usize, index: usize) -> bool {
        let id = self.last_op;
        let Some(model) = self.models.get(index) else {
            let key = self.draw_key();
            let model = self.draw_model(id, key);
            self.models.push(model);
            let index = self.models.len() - 1;
            return self.create(client, node, index, key);
        };
        if model.life != Life::Live && model.moves == 0 && self.rng.random_bool(0.3) {
            let key = self.draw_key();
            let model = self.draw_model(id, key);
            let before = std::mem::replace(&mut self.models[index], model);
            self.models.push(before);
            return self.create(client, node, index, key);
        }
        if model.life == Life::Unknown && model.moves == 0 {
            // It is being created, or its state is unknown.
            return false;
        }
        if self.now < model.rests_until {
            return false;
        }
        if model.life == Life::Live && model.has_expired(self.now) {
            self.models[index].life = Life::Ended;
        } else if model.idle < 2 * HOUR && self.rng.random_bool(0.05) {
            self.leave_alone(index);
        }
        let index = self.maybe_former(index);
        let model = &self.models[index];
        let (key, is_large) = (model.key, model.is_large);
        if is_large && !self.rng.random_bool(self.plan.large_share) {
            return false;
        }
        let action = self.draw_action(index, is_large);
        // In a large ring hardly any node can serve: their shares would be those of the faults.
        let is_ring = self.bridged_since.is_some() && !self.bridge_has_core;
        self.totals.begun += u64::from(!is_ring);
        self.last_op += 1;
        let op = self.last_op;
        let request = ClientRequest {
            client,
            node,
            model: index,
            key,
            secret: self.models[index].secret,
            action,
            known: self.models[index].known(),
            value: None,
            pool_writes: PoolWrites::new(),
            begun_at: self.now,
            stage: RequestStage::Loading,
            moves: false,
            small_write_at: None,
            is_bridged: false,
        };
        self.requests.insert(op, request);
        let now = self.clock(node);
        let secret = self.models[index].secret;
        let step = self.replica(node).load(now, op, &key, Some(&secret));
        match step {
            Progress::Ready(loaded) => self.loaded(op, loaded),
            Progress::Pending(_) => {}
            Progress::Rejected(_) => self.finish(op),
        }
        self.flush_outputs(node);
        true
    }

    /// Draws the action of a request. Only reads present the former secret of a model.
    fn draw_action(&mut self, index: usize, is_large: bool) -> Action {
        match self.rng.random_range(0..100) {
            _ if index >= SESSIONS => Action::Read,
            0..40 => Action::Read,
            40..75 if is_large => {
                Action::Write(LARGE_NAMES[self.rng.random_range(0..LARGE_NAMES.len())])
            }
            40..60 => Action::Write(NAMES[self.rng.random_range(0..NAMES.len())]),
            60..70 => Action::Churn,
            70..95 => Action::Update,
            95..98 => Action::Rotate(self.draw_secret()),
            _ => Action::End,
        }
    }

    /// Returns, in some cases, the model of a secret that was replaced, which the client then
    /// presents.
    fn maybe_former(&mut self, index: usize) -> usize {
        let key = self.models[index].key;
        let former = |(at, model): (usize, &Model)| (model.key == key).then_some(SESSIONS + at);
        let models = self.models.iter().skip(SESSIONS).enumerate();
        match models.filter_map(former).next_back() {
            Some(former) if self.rng.random_bool(0.2) => former,
            _ => index,
        }
    }

    /// Draws a session. Some have a short idle timeout.
    fn draw_model(&mut self, id: u64, key: Root) -> Model {
        let idle = match self.rng.random_range(0..4) {
            0 => Duration::from_millis(self.rng.random_range(1_000..5_000)),
            _ => 2 * HOUR,
        };
        let ends = self.plan.has(FaultKind::Deadlines) && self.rng.random();
        let absolute_timeout = if ends {
            Duration::from_millis(self.rng.random_range(3_000..30_000))
        } else {
            24 * HOUR
        };
        let lifetime = ModelLifetime {
            idle,
            absolute_timeout,
            transit_max: self.plan.transit_max(),
            is_large: self.plan.has(FaultKind::LargeRecords) && self.rng.random_bool(0.4),
        };
        let secret = self.draw_secret();
        Model::new(id, key, secret, lifetime, self.now)
    }

    /// Draws the value of a write.
    fn draw_value(&mut self, model: usize) -> Value {
        if self.models[model].is_large {
            let number = self.large_values;
            let most = self.large_bytes_left.min(self.plan.large_value_max);
            if let Some(value) = draw_large(&mut self.rng, number, most) {
                self.large_values += 1;
                self.large_bytes_left -= value.as_bytes().len();
                return value;
            }
        } else if self.plan.network.rates.is_some() && self.rng.random() {
            return draw_small(&mut self.rng);
        }
        draw_tiny(&mut self.rng)
    }

    /// Makes clients pause their requests to a session, in some cases for longer than it lives.
    fn leave_alone(&mut self, index: usize) {
        let model = &mut self.models[index];
        let idle = model.idle.as_micros() as u64;
        model.rests_until = self.now + self.rng.random_range(idle / 4..idle * 2 + 4_000_000);
    }

    pub(super) fn create(&mut self, client: usize, node: usize, index: usize, key: Root) -> bool {
        self.last_op += 1;
        let request = ClientRequest {
            client,
            node,
            model: index,
            key,
            secret: self.models[index].secret,
            action: Action::Create,
            known: self.models[index].known(),
            value: None,
            pool_writes: PoolWrites::new(),
            begun_at: self.now,
            stage: RequestStage::Loading,
            moves: false,
            small_write_at: None,
            is_bridged: false,
        };
        self.requests.insert(self.last_op, request);
        let model = &self.models[index];
        let mut changes = Changes::create(model.secret, Some(model.idle), model.absolute_timeout);
        changes.insert(NAMES[0].into(), draw_tiny(&mut self.rng));
        self.commit(self.last_op, None, &changes, 0);
        self.flush_outputs(node);
        true
    }

    pub(super) fn loaded(&mut self, op: OpId, loaded: Loaded) {
        let Some(request) = self.requests.get(&op).cloned() else {
            return;
        };
        let node = request.node;
        let record = loaded.into_live();
        self.check(&request, record.as_deref());
        self.touched(&request);
        let Some(base) = record else {
            self.totals.succeeded += 1;
            return self.finish(op);
        };
        let mut changes = Changes::default();
        let mut result = 0;
        match request.action {
            Action::Read | Action::Create => {
                let now = self.clock(node);
                if base.is_touch_due(now) {
                    self.replica(node).touch(now, &request.key);
                }
                self.totals.succeeded += 1;
                return self.finish(op);
            }
            Action::Write(name) => {
                let value = self.draw_value(request.model);
                if let Some(request) = self.requests.get_mut(&op) {
                    request.value = Some(value.clone());
                }
                changes.insert(name.into(), value);
            }
            Action::Churn => {
                let writes = draw_writes(&mut self.rng, request.client, &base);
                add_to(&mut changes, &writes);
                let model = &mut self.models[request.model];
                if model.id == request.known.id {
                    model.pool.begin(&writes);
                }
                if let Some(request) = self.requests.get_mut(&op) {
                    request.pool_writes = writes;
                }
            }
            Action::Update => {
                result = count(&base) + 1;
                let value = Value::from_bytes(format!("{result} {op}").as_bytes());
                changes.insert(COUNTER.into(), value);
                changes.require_version(COUNTER.into(), base.version(COUNTER));
                // What the owner sends is large then, and small messages overtake it.
                if self.models[request.model].is_large && self.rng.random() {
                    let name = LARGE_NAMES[self.rng.random_range(0..LARGE_NAMES.len())];
                    changes.insert(name.into(), self.draw_value(request.model));
                }
            }
            Action::Rotate(to) => {
                self.begin_move(op);
                changes.rotate(request.secret, to);
            }
            Action::End => {
                self.begin_move(op);
                return self.delete(op, &request);
            }
        }
        self.commit(op, Some(&base), &changes, result);
    }

    fn delete(&mut self, op: OpId, request: &ClientRequest) {
        self.models[request.model].may_end = true;
        self.set_stage(op, RequestStage::Ending);
        let now = self.clock(request.node);
        match self.replica(request.node).delete(now, op, &request.key) {
            Progress::Ready(true) => self.ended(op),
            Progress::Ready(false) => self.nothing_to_end(op),
            Progress::Pending(_) => {}
            Progress::Rejected(_) => self.finish(op),
        }
    }

    pub(super) fn commit(
        &mut self,
        op: OpId,
        base: Option<&Arc<Record>>,
        changes: &Changes,
        result: u64,
    ) {
        let Some(request) = self.requests.get(&op).cloned() else {
            return;
        };
        self.write_begins(op);
        let now = self.clock(request.node);
        let replica = self.replica(request.node);
        let step = replica.commit(now, op, &request.key, base, changes);
        match step {
            Progress::Ready(outcome) => self.committed(op, outcome, false),
            Progress::Pending(outcome) => {
                let stage = RequestStage::Committing { outcome, result };
                self.set_stage(op, stage);
            }
            Progress::Rejected(_) => self.refused(op),
        }
    }
}

/// Returns the counter of a session.
pub(super) fn count(record: &Record) -> u64 {
    counter(record).map_or(0, |(count, _)| count)
}

/// Returns the counter of a session, and the request that wrote it.
pub(super) fn counter(record: &Record) -> Option<(u64, OpId)> {
    let text = std::str::from_utf8(record.get(COUNTER)?.as_bytes()).ok()?;
    let (count, op) = text.split_once(' ')?;
    Some((count.parse().ok()?, op.parse().ok()?))
}

/// Clients slow down while a fault lasts for longer than this, in microseconds.
const LONG_FAULT: u64 = 30_000_000;
