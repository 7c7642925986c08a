//! Pairs of virtual network cards: the only wires tests use.

use crate::{
    Must, Netns,
    netns::{ip, spread},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// 198.18.0.0/15 (RFC 2544, for benchmarks: no host has it) holds this many /30.
const SLOTS: u32 = 1 << 15;

/// The addresses of one end.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl End {
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// Two cards and the wire between them, gone when dropped.
pub struct Veth {
    /// The host's end, or that of the first namespace.
    pub near: End,
    /// The end in the other namespace.
    pub far: End,
    name: String,
    /// Where the near card is; `None` is the host.
    near_ns: Option<Netns>,
    /// Kept, so that the far card is there as long as this handle.
    _far_ns: Netns,
}

impl Veth {
    /// A wire from the host (the namespace of this process) into `ns`.
    #[track_caller]
    pub fn between_host_and(ns: &Netns) -> Self {
        Self::make(None, ns)
    }

    /// A wire from one namespace to another.
    #[track_caller]
    pub fn between(near: &Netns, far: &Netns) -> Self {
        assert!(!near.same(far), "a wire needs two different namespaces");
        Self::make(Some(near), far)
    }

    /// Name of the near card.
    pub fn name(&self) -> &str {
        &self.name
    }

    #[track_caller]
    fn make(near: Option<&Netns>, far: &Netns) -> Self {
        let mut refused = String::new();
        // The card's name on the host is the claim to its addresses: of two processes one gets EEXIST.
        for slot in (0..50).map(|_| spread(SLOTS)) {
            let (near_end, far_end) = (end(slot, 1), end(slot, 2));
            let (name, far_name) = (format!("smtpt{slot}a"), format!("smtpt{slot}b"));
            match ip(&format!("link add {name} type veth peer name {far_name} netns {}", far.path().display())) {
                Ok(()) => {}
                Err(error) if error.contains("File exists") => {
                    refused = error;
                    continue;
                }
                Err(error) => panic!("cannot make a veth pair; tests need root and iproute2: {error}"),
            }
            // From here on `Drop` removes the pair, should a step below fail.
            let mut veth =
                Self { near: near_end, far: far_end, name: name.clone(), near_ns: None, _far_ns: far.clone() };
            if let Some(near) = near {
                ip(&format!("link set {name} netns {}", near.path().display())).must("cannot move a veth");
                veth.near_ns = Some(near.clone());
                near.ip(&dress(&name, near_end));
            } else {
                ip(&dress(&name, near_end)).must("cannot set up a veth");
            }
            far.ip(&dress(&far_name, far_end));
            return veth;
        }
        panic!("50 names for veth pairs in a row are taken: {refused}");
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        let line = format!("link del {}", self.name);
        let done = self.near_ns.as_ref().map_or_else(|| ip(&line), |ns| ns.run(|| ip(&line)));
        match done {
            // A test may take the wire away itself.
            Err(error) if !error.contains("Cannot find device") => eprintln!("{error}"),
            _ => {}
        }
    }
}

fn end(slot: u32, host: u32) -> End {
    let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + slot * 4 + host);
    // The global id of fd00::/8 (RFC 4193) spells "smtp".
    let v6 = Ipv6Addr::new(0xfd73, 0x6d74, 0x7000, slot as u16, 0, 0, 0, host as u16);
    End { v4, v6 }
}

/// Without duplicate address detection an address works at once.
fn dress(name: &str, end: End) -> String {
    format!("addr add {}/30 dev {name}\naddr add {}/64 dev {name} nodad\nlink set {name} up\n", end.v4, end.v6)
}
