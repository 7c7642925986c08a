//! The host's own addresses, kept current through rtnetlink(7).

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::{MulticastGroup, new_multicast_connection, packet_route::address::AddressAttribute};
use smtp_common::connection::Address;

use crate::exit::{Failure, Result};

/// Tells what addresses the host has, now and whenever that changes.
pub struct Watch {
    handle: rtnetlink::Handle,
    changes: Box<dyn futures_util::Stream<Item = ()> + Send + Sync + Unpin>,
}

impl Watch {
    /// Subscribes first, so that nothing that changes after the first [`Self::current`] is missed.
    pub fn new() -> Result<Self> {
        let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, messages) = new_multicast_connection(&groups)
            .map_err(|e| Failure::from_io(&e, "the host's addresses cannot be watched through netlink"))?;
        tokio::spawn(connection);
        Ok(Self { handle, changes: Box::new(messages.map(drop)) })
    }

    /// Every address of every interface, loopback included.
    pub async fn current(&self) -> Result<HashSet<Address>> {
        let mut found = HashSet::new();
        let mut messages = self.handle.address().get().execute();
        loop {
            match messages.try_next().await {
                Ok(Some(message)) => found.extend(own(&message.attributes)),
                Ok(None) => return Ok(found),
                Err(e) => return Err(Failure::unavailable(format!("the host's addresses cannot be read: {e}"))),
            }
        }
    }

    /// Returns after at least one change. Changes that arrive together are one.
    pub async fn changed(&mut self) -> Result<()> {
        if self.changes.next().await.is_none() {
            return Err(Failure::unavailable("the netlink connection that tells of address changes has ended"));
        }
        while let Ok(Some(())) = tokio::time::timeout(std::time::Duration::from_millis(5), self.changes.next()).await {}
        Ok(())
    }
}

/// The interface's own address. On a point-to-point link `IFA_ADDRESS` is the peer's and `IFA_LOCAL` ours;
/// elsewhere they are the same, and IPv6 then has the former only (rtnetlink(7)).
fn own(attributes: &[AddressAttribute]) -> Option<Address> {
    let local = attributes.iter().find_map(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
    let any = || attributes.iter().find_map(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None });
    local.or_else(any).map(Address::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn a_peers_address_is_not_ours() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let cases = [
            (
                vec![AddressAttribute::Address(ip("2001:db8::9")), AddressAttribute::Local(ip("2001:db8::1"))],
                "2001:db8::1",
            ),
            (vec![AddressAttribute::Address(ip("2001:db8::1"))], "2001:db8::1"),
            (vec![AddressAttribute::Local(ip("10.0.0.1")), AddressAttribute::Address(ip("10.0.0.2"))], "10.0.0.1"),
        ];
        for (attributes, expected) in cases {
            assert_eq!(own(&attributes), Some(Address::from(ip(expected))));
        }
        assert_eq!(own(&[]), None);
    }
}
