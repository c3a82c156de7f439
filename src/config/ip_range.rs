//! A range of addresses, as `10.0.0.0/8`, `::1` or `192.168.1.7`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpRange {
    address: IpAddr,
    prefix: u8,
}

/// The text is no address and no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no address or range; write 10.0.0.0/8, 192.168.1.7 or fd00::/8")]
pub struct InvalidIpRange(String);

impl IpRange {
    /// An IPv4 address in IPv6 clothes counts as the IPv4 address it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(range), IpAddr::V4(given)) => {
                let host_bits = 32 - u32::from(self.prefix);
                u32::from(range).checked_shr(host_bits) == u32::from(given).checked_shr(host_bits)
            }
            (IpAddr::V6(range), IpAddr::V6(given)) => {
                let host_bits = 128 - u32::from(self.prefix);
                u128::from(range).checked_shr(host_bits) == u128::from(given).checked_shr(host_bits)
            }
            _ => false,
        }
    }
}

impl FromStr for IpRange {
    type Err = InvalidIpRange;

    fn from_str(text: &str) -> Result<Self, InvalidIpRange> {
        let invalid = || InvalidIpRange(text.to_owned());
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(widest), str::parse).map_err(|_| invalid())?;
        if prefix > widest { Err(invalid()) } else { Ok(Self { address, prefix }) }
    }
}

impl TryFrom<String> for IpRange {
    type Error = InvalidIpRange;

    fn try_from(text: String) -> Result<Self, InvalidIpRange> {
        text.parse()
    }
}

impl From<IpRange> for String {
    fn from(range: IpRange) -> String {
        range.to_string()
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_what_lies_inside() {
        let cases = [
            ("10.0.0.0/8", "10.200.3.4", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.168.1.7", "192.168.1.7", true),
            ("192.168.1.7", "192.168.1.8", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
        ];
        for (range, address, inside) in cases {
            let range: IpRange = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), inside, "{address} in {range}");
        }
    }

    #[test]
    fn refuses_other_text() {
        for text in ["", "10.0.0.0/33", "localhost", "10.0.0.0/x", "fd00::/129"] {
            assert!(text.parse::<IpRange>().is_err(), "{text}");
        }
    }
}
