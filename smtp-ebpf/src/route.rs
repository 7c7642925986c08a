//! Where to: this host, or away from it.

use smtp_common::connection::{Address, Route};

use crate::maps::LOCAL;

#[inline(always)]
pub(crate) fn route(destination: &Address) -> Route {
    // SAFETY: only asked whether it is there.
    if destination.is_loopback() || unsafe { LOCAL.get(destination) }.is_some() { Route::Local } else { Route::Remote }
}
