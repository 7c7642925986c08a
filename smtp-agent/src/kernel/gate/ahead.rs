//! Maps that are made before the probe is loaded.

use aya::maps::MapData;
use aya_obj::generated::bpf_map_type;
use smtp_common::{
    level::{CgroupKey, PathKey},
    names::{capacity, map},
};

use super::failure::explain;
use crate::{exit::Result, kernel::pins::Pins};

/// Makes the tables that the watchers of cgroups write to, with the memory of every entry: other programs on tracepoints only
/// read tables that are made so.
pub(super) fn make(pins: &Pins) -> Result<()> {
    let tables = [
        (map::CGROUPS, size_of::<CgroupKey>(), size_of::<u64>(), capacity::CGROUPS),
        (map::PATHS, size_of::<PathKey>(), size_of::<u32>(), capacity::PATHS),
    ];
    for (name, key, value, entries) in tables {
        let path = pins.map(name);
        if path.exists() {
            continue;
        }
        let table = aya_obj::Map::new_from_params(
            bpf_map_type::BPF_MAP_TYPE_HASH as u32,
            key as u32,
            value as u32,
            entries as u32,
            0,
        );
        let made =
            MapData::create(table, name, None).map_err(|e| explain(&format!("the map {name} cannot be made"), &e))?;
        made.pin(&path).map_err(|e| explain(&format!("the map {name} cannot be pinned"), &e))?;
    }
    Ok(())
}
