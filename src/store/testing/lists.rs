//! Rules about the list of all sessions.
//!
//! A store that does not implement it passes: it returns
//! [`Unsupported`](crate::StoreErrorKind::Unsupported).

use std::collections::BTreeMap;

use crate::error::StoreErrorKind;
use crate::session::{Root, Scope, SessionCursor, SessionInfo};
use crate::store::testing::{Broken, Handle, Nodes, Suite, Verdict, broken, must};

pub(super) fn rules(suite: &mut Suite) {
    suite.rule("the list has every session that lives through it", complete);
    suite.rule("a cursor of another store is refused", foreign_cursor);
}

async fn complete(nodes: Nodes) -> Verdict {
    let mut live = Vec::new();
    for turn in 0..SESSIONS {
        let nodes = Nodes {
            one: nodes.turn(turn),
            other: nodes.turn(turn + 1),
        };
        live.push(nodes.create("a", "1").await?.key);
    }
    let ended = live.split_off(SESSIONS / 2);
    for key in &ended {
        nodes.one.end(key).await?;
    }
    for store in nodes.both() {
        let Some(found) = walk(store).await? else {
            return Ok(());
        };
        must(
            live.iter().all(|key| found.contains_key(key)),
            "a live session is not in it",
        )?;
        must(
            !ended.iter().any(|key| found.contains_key(key)),
            "an ended session is in it",
        )?;
        must(
            !found.keys().any(Root::is_index),
            "the list of a user's sessions is in it",
        )?;
        let (record, info) = (nodes.load(&live[0]).await?, &found[&live[0]]);
        must(
            info.user.is_none() && info.label.is_none(),
            "a session without a login has a user",
        )?;
        let lifetime = record.absolute_deadline().since(record.created_at());
        let listed = info.absolute_deadline.since(info.created_at);
        must(
            lifetime.abs_diff(listed) < super::HOUR,
            "a session has another lifetime in it",
        )?;
    }
    Ok(())
}

async fn foreign_cursor(nodes: Nodes) -> Verdict {
    for text in ["!", "0", "1.2.3.4.5"] {
        let cursor = SessionCursor::parse(text);
        let page = nodes.one.list(Scope::Cluster, cursor.as_ref(), 1).await;
        match page.map_err(|error| error.kind()) {
            Err(StoreErrorKind::InvalidCursor | StoreErrorKind::Unsupported) => {}
            Err(error) => return broken(format!("it is answered with {error:?}")),
            Ok(_) => return broken("it is answered with a page"),
        }
    }
    Ok(())
}

/// All pages; `None` if the store has no list.
async fn walk(store: &Handle) -> Result<Option<BTreeMap<Root, SessionInfo>>, Broken> {
    let (mut found, mut after) = (BTreeMap::new(), None);
    for _ in 0..PAGES_MAX {
        let page = match store.list(Scope::Cluster, after.as_ref(), LIMIT).await {
            Err(error) if error.kind() == StoreErrorKind::Unsupported => return Ok(None),
            page => page?,
        };
        found.extend(page.sessions.into_iter().map(|info| (info.key, info)));
        match page.next {
            // As a client returns it.
            Some(next) => after = SessionCursor::parse(&next.to_string()),
            None => return Ok(Some(found)),
        }
        must(after.is_some(), "a cursor does not read back")?;
    }
    broken("it does not end")
}

const SESSIONS: usize = 40;
const LIMIT: usize = 7;
const PAGES_MAX: usize = 10_000;
