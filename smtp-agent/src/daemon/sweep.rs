//! Tidying up behind a new policy, when nobody waits for it any more.

use std::sync::Arc;

use super::shared::Shared;
use crate::kernel::sys::give_memory_back;

/// Removes the remains of the policy before from the maps, whenever another has taken its place.
pub async fn sweep(shared: Arc<Shared>) {
    loop {
        shared.replaced.notified().await;
        tokio::task::block_in_place(|| {
            if let Err(e) = shared.maps_mut().sweep() {
                tracing::warn!(
                    "the rules before the ones in force are still in the maps; the next reload tries again: {e}"
                );
            }
            give_memory_back();
        });
    }
}
