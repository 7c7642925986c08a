//! Where to: this host, or away from it.

use smtp_common::connection::{Address, Route};

use crate::maps::{LOCAL, LOCAL_HINT};

#[inline(always)]
pub(crate) fn route(destination: &Address) -> Route {
    if destination.is_loopback() || is_own(destination) { Route::Local } else { Route::Remote }
}

#[inline(always)]
fn is_own(destination: &Address) -> bool {
    let Some(hint) = LOCAL_HINT.get(0) else { return false };
    // SAFETY: only asked whether it is there.
    hint.may_hold(destination) && unsafe { LOCAL.get(destination) }.is_some()
}
