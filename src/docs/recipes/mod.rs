#![doc = include_str!("../recipes.md")]

macro_rules! recipes {
    ($($(#[doc = $words:literal])* $recipe:ident: $file:literal,)*) => {
        $(
            $(#[doc = $words])*
            // Not a documentation test: its dependencies are those of `tests/recipes`.
            #[cfg_attr(
                not(doctest),
                doc = concat!("\n```rust\n", include_str!($file), "```")
            )]
            pub mod $recipe {}
        )*
    };
}

recipes! {
    /// Order of layers: traces, CORS, compression, sessions, timeouts, panics.
    ///
    /// The session layer answers with an error of its own when it cannot store what a handler has
    /// written. Layers that concern every response belong outside of it: traces, CORS headers,
    /// without which a page of another origin cannot read the error, and compression. Layers that
    /// cut a handler off belong inside: what the handler had stored before, a new id included,
    /// then still reaches the browser. [`commit_when`](crate::SessionLayer::commit_when) drops the
    /// rest, half of which may be missing. Preflight requests end at the CORS layer and load no
    /// session.
    ///
    /// With `Router::layer` instead of a `ServiceBuilder`, the order is the other way around: each
    /// call wraps what was there before.
    layers: "layers.rs",

    /// Sessions in a `from_fn` middleware and in an extractor of your own.
    ///
    /// Both get the [`Session`](crate::Session) as a handler does, and load it together once. They
    /// run inside the session layer.
    guards: "guards.rs",

    /// Login with a password, hashed by Argon2, and a change of the password.
    ///
    /// [`Session::log_in`](crate::Session::log_in) gives the session a new id, restarts its
    /// absolute timeout and adds it to the [list of the user's
    /// sessions](crate::SessionStore::sessions_of). An unknown name takes as long as a wrong
    /// password, so the time of an answer gives no names away.
    ///
    /// A change of the password stores the new hash, ends the user's other sessions and gives this
    /// one a new id, in that order. A login that was checked against the old hash at the same time
    /// is in the list of the user's sessions before it compares the hash once more, so it cannot
    /// escape both.
    login: "login.rs",

    /// Flash messages, shown once on the next page.
    ///
    /// [`take`](crate::Session::take) is stored with the response that shows them. Two pages that
    /// are loaded at the same moment may both show a message.
    flash: "flash.rs",

    /// CSRF protection by a token in the session.
    ///
    /// The session cookie is `SameSite=Lax`, which keeps browsers from sending it with a form of
    /// another site. The token also stops other hosts of the same site and old browsers. If you
    /// need to support neither, tower-http's `CsrfLayer` compares origins and needs no token.
    csrf: "csrf.rs",

    /// Server-sent events that end when the visitor logs out.
    ///
    /// [`Session::changed`](crate::Session::changed) returns an error when the session has ended,
    /// expired, or was bound to another user, on any node and every store: at once, or up to a
    /// second later where the store does not wake tasks. Listening is no use of the session: a page
    /// left open does not keep its visitor logged in. Call [`touch`](crate::Session::touch) where
    /// it should.
    events: "events.rs",

    /// A WebSocket that ends when the visitor logs out.
    ///
    /// Messages count as uses of the session, an open connection does not. Browsers do not send a
    /// `SameSite` cookie with a handshake from another site.
    websocket: "websocket.rs",

    /// Background jobs and webhooks, which write to a session outside of its requests.
    ///
    /// A job that a request starts takes a [detached](crate::Session::detached) handle along.
    /// Anything else, such as a call from a payment provider, keeps the session's
    /// [key](crate::Session::key) and calls [`update`](crate::SessionStore::update) of the store.
    /// Neither brings back a session that has ended.
    jobs: "jobs.rs",

    /// Pages of your own for the errors of sessions.
    ///
    /// A response that is made of a [`SessionError`](crate::SessionError) has it in its
    /// extensions, whether a handler returned it, the extractor did, or the commit has failed.
    error_page: "error_page.rs",

    /// A session store of your own, in an SQL database.
    ///
    /// The rules are in [`Changes::apply`](crate::session::Changes::apply): read the row under a
    /// lock, apply, write. [`to_bytes`](crate::session::Record::to_bytes) encodes a session. Its
    /// times are on the clock of the database, so the nodes' clocks may differ. The test is one
    /// call of `distributable::testing::conformance`, with two connections to the same file.
    ///
    /// It is SQLite, whose write lock is that of the whole file. For PostgreSQL or MySQL, change
    /// the three statements, add `FOR UPDATE` to the first of them, and use the pool of the driver
    /// in place of the lock and `spawn_blocking`.
    sql_store: "sql_store.rs",

    /// Logs of headers without secrets.
    ///
    /// The session layer marks its own headers as sensitive for the layers *inside* it, and its
    /// cookies in responses for all. A layer outside of it that logs requests has to have them
    /// marked before.
    logs: "logs.rs",

    /// Two applications on one host.
    ///
    /// Give each a store of its own as well: a prefix in [Redis](crate::guide::redis), a cluster
    /// name for [replicated nodes](crate::guide::clustering). Of two that share one, each accepts
    /// the ids of the other.
    two_applications: "two_applications.rs",

    /// Sessions in a gRPC service of tonic.
    ///
    /// When the session layer cannot store what a call has written, it answers with an HTTP error,
    /// which gRPC clients do not understand. A layer outside of it makes a gRPC status of that.
    grpc: "grpc.rs",

    /// Sessions in plain hyper and tower services.
    ///
    /// [`Session::from_parts`](crate::Session::from_parts) is what the axum extractor calls.
    /// Without axum, the crate needs no feature but that of a store:
    /// `default-features = false, features = ["memory"]`.
    plain: "plain.rs",
}
