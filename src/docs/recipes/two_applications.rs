use axum::Router;
use distributable::{SessionCookie, SessionLayer, SessionStore, SetupError};

/// An application below `/shop`. Its cookie goes to no other path.
pub fn shop(routes: Router, store: impl SessionStore) -> Result<Router, SetupError> {
    let cookie = SessionCookie::builder("SHOP_SESSION")
        .path("/shop")
        .build()?;
    Ok(Router::new().nest(
        "/shop",
        routes.layer(SessionLayer::new(store).with_cookie(cookie)),
    ))
}

/// Another one at the root of the same host, or on another port of it: ports do not separate
/// cookies. The shop's requests carry this cookie, too, so the two need different names.
pub fn blog(routes: Router, store: impl SessionStore) -> Result<Router, SetupError> {
    let cookie = SessionCookie::builder("BLOG_SESSION").build()?;
    Ok(routes.layer(SessionLayer::new(store).with_cookie(cookie)))
}
