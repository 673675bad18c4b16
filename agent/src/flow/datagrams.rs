//! UDP conversations, counted by the kernel side.
//!
//! Numbers only grow, and are read as they are: taking them out would lose what is counted in between.
//! An entry goes when its conversation is over. Three system calls an entry and interval; aya 0.14 has
//! no batches.

use crate::probe::control::MapFault;
use agent_common::record::{DatagramKey, Datagrams};
use agent_core::flow::conversation::FlowId;
use aya::Ebpf;
use aya::maps::{HashMap, IterableMap, MapData};
use zerocopy::{FromBytes, IntoBytes};

const KEY: usize = size_of::<DatagramKey>() / 8;
const VALUE: usize = size_of::<Datagrams>() / 8;

/// The map.
pub struct DatagramMap {
    map: HashMap<MapData, [u64; KEY], [u64; VALUE]>,
    /// Entries removed so far.
    removed: u64,
    /// Entries at the latest look.
    present: u64,
    /// Entries that one look gives at most.
    most: usize,
}

impl DatagramMap {
    /// Takes it out of a loaded object.
    ///
    /// # Errors
    /// [`MapFault`] when object and userspace do not fit.
    pub fn take(ebpf: &mut Ebpf) -> Result<DatagramMap, MapFault> {
        let fault = |reason| MapFault { name: "DATAGRAMS", reason };
        let map = ebpf.take_map("DATAGRAMS").ok_or_else(|| fault("it is not there".to_owned()))?;
        let map = HashMap::try_from(map).map_err(|error| fault(error.to_string()))?;
        let map: HashMap<MapData, _, _> = map;
        let info = map.map().info().map_err(|error| fault(error.to_string()))?;
        let most = 2 * usize::try_from(info.max_entries()).unwrap_or(usize::MAX / 2);
        Ok(DatagramMap { map, removed: 0, present: 0, most })
    }

    /// Gives every entry to `take`.
    pub fn read(&mut self, mut take: impl FnMut(&DatagramKey, &Datagrams)) {
        self.present = 0;
        // A walk goes on behind the entry that it gave last; when that was evicted in between, it begins
        // anew (`htab_map_get_next_key`). So entries may come twice, and where they are made as fast as they
        // are read there would be no end. While nothing is evicted, none that stays is missed.
        for (key, value) in self.map.iter().take(self.most).flatten() {
            self.present += 1;
            let key = DatagramKey::read_from_bytes(key.as_bytes());
            let value = Datagrams::read_from_bytes(value.as_bytes());
            if let (Ok(key), Ok(value)) = (key, value) {
                take(&key, &value);
            }
        }
    }

    /// A conversation is over.
    pub fn remove(&mut self, id: FlowId) {
        let Some(peer) = id.peer else { return };
        let key = DatagramKey {
            cookie: id.cookie,
            remote_addr: peer.addr,
            remote_port: peer.port.into(),
            pad: 0,
        };
        let mut raw = [0; KEY];
        raw.as_mut_bytes().copy_from_slice(key.as_bytes());
        if self.map.remove(&raw).is_ok() {
            self.removed += 1;
            self.present = self.present.saturating_sub(1);
        }
    }

    /// Of `begun` conversations so many were evicted for room: what they moved since the look before
    /// is lost.
    pub fn evicted(&self, begun: u64) -> u64 {
        begun.saturating_sub(self.removed + self.present)
    }
}
