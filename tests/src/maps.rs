//! The maps of an agent's gate, as they are pinned.

use crate::{Agent, Must};
use aya::{
    Pod,
    maps::{HashMap, Map, MapData},
};

impl Agent {
    /// A hash map by its name.
    #[track_caller]
    pub fn map<K: Pod, V: Pod>(&self, name: &str) -> HashMap<MapData, K, V> {
        let data = MapData::from_pin(self.pins_dir().join(name)).must(format_args!("{name} is not pinned"));
        HashMap::try_from(Map::HashMap(data)).must(format_args!("{name} is no such hash map"))
    }
}
