//! `to = "192.0.2.0/24"`: an address, or a network of them.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::{render::quoted, values::Advice};

/// Bits of an IPv6 address before the IPv4 address that it stands for.
const MAPPED: u8 = 96;

/// An address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// The bits beyond the prefix are zero.
    pub address: IpAddr,
    pub prefix: u8,
}

impl Network {
    pub(super) fn parse(text: &str) -> Result<Self, Advice> {
        let shown = quoted(text);
        let net = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => match text.parse::<IpAddr>() {
                Ok(address) => IpNet::from(address),
                Err(_) => return Err((format!("\"{shown}\" is not an address or network"), advice(text))),
            },
        };
        let network = Self::from(net);
        let canonical = network.canonical();
        if network.prefix == 0 {
            let hint = "for any destination leave `to` out".to_owned();
            return Err((format!("\"{shown}\" is every destination"), Some(hint)));
        }
        if network.address != net.addr() {
            return Err((
                format!("\"{shown}\" has bits beyond its prefix of {}", network.prefix),
                Some(format!("write \"{canonical}\" for the network, or the address alone")),
            ));
        }
        if canonical != network {
            // The kernel shows such a connection as one to the IPv4 address.
            return Err((format!("\"{shown}\" is IPv4 in the form of IPv6"), Some(format!("write \"{canonical}\""))));
        }
        Ok(network)
    }

    /// IPv4 where it is IPv4.
    fn canonical(self) -> Self {
        match (self.address.to_canonical(), self.address) {
            (IpAddr::V4(address), IpAddr::V6(_)) if self.prefix >= MAPPED => {
                Self { address: IpAddr::V4(address), prefix: self.prefix - MAPPED }
            }
            _ => self,
        }
    }
}

impl From<IpNet> for Network {
    fn from(net: IpNet) -> Self {
        Self { address: net.network(), prefix: net.prefix_len() }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.address.is_ipv4() { 32 } else { 128 };
        match self.prefix {
            prefix if prefix == bits => write!(f, "{}", self.address),
            prefix => write!(f, "{}/{prefix}", self.address),
        }
    }
}

/// For the forms that people bring along from elsewhere.
fn advice(text: &str) -> Option<String> {
    let (address, rest) = text.split_once('/').unwrap_or((text, ""));
    if let (Ok(IpAddr::V4(address)), Ok(IpAddr::V4(mask))) = (address.parse(), rest.parse()) {
        let net = IpNet::with_netmask(IpAddr::V4(address), IpAddr::V4(mask)).ok()?;
        return Some(format!("write \"{}\"", Network::from(net)));
    }
    if let Ok(address) = address.parse::<IpAddr>() {
        let most = if address.is_ipv4() { 32 } else { 128 };
        return Some(format!("a prefix goes from 1 to {most}, as in \"{address}/{most}\""));
    }
    if text.starts_with('[') && text.contains(']') {
        return Some("write the address without brackets, and ports in `ports`".to_owned());
    }
    if let Some((address, _)) = text.split_once(':')
        && address.parse::<IpAddr>().is_ok()
    {
        return Some(format!("write \"{address}\", and ports in `ports`"));
    }
    if text.contains('-') && text.chars().all(|c| c.is_ascii_hexdigit() || ".:-".contains(c)) {
        return Some("write networks, as in \"192.0.2.0/24\", rather than a range".to_owned());
    }
    text.chars().any(char::is_alphabetic).then(|| "names are not looked up here; write addresses".to_owned())
}
