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
    let (low, high) = destination.halves();
    hint.may_hold(destination) && is_listed(low, high) != 0
}

/// A global function, so that its key and its callers' variables do not lie on the stack together.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn is_listed(low: u64, high: u64) -> u32 {
    // SAFETY: only asked whether it is there.
    unsafe { LOCAL.get(Address::from_halves(low, high)) }.is_some() as u32
}
