//! Plans for the combinations of limits that occur among many accounts.

use std::{collections::HashMap, hash::Hash};

use super::draft::Plan;

/// Plans by what they limit.
pub(super) struct Plans<K> {
    pub(super) list: Vec<Plan>,
    names: HashMap<K, String>,
}

impl<K> Default for Plans<K> {
    fn default() -> Self {
        Self { list: Vec::new(), names: HashMap::new() }
    }
}

impl<K: Hash + Eq> Plans<K> {
    /// The name of the plan for `limits`, which is made when they are met for the first time.
    pub(super) fn of(&mut self, limits: K, make: impl FnOnce() -> Plan) -> String {
        let list = &mut self.list;
        let name = self.names.entry(limits).or_insert_with(|| {
            list.push(make());
            list[list.len() - 1].name.clone()
        });
        name.clone()
    }
}
