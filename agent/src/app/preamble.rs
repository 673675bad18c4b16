//! The settings that a recording keeps, because what a replay gives depends on them.

use agent_common::settings::MAX_PAYLOAD_RINGS;
use agent_core::connection::OwnEndpoint;

const HEAD_BYTES: &str = "head-bytes";
const LINK: &str = "link";
const OWN_ENDPOINT: &str = "own-endpoint";

const PAYLOAD_RINGS: &str = "payload-rings";

/// What a replay needs of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Payload rings: the bounds of the connection tables depend on their number, and the assembler
    /// waits for each.
    pub rings: u32,
    /// Whether client spans were linked by evidence.
    pub link: bool,
    /// Where the agent itself listened: connections of it are left out.
    pub own: Option<OwnEndpoint>,
}

/// The pairs for the beginning of a recording.
pub fn write(head_bytes: u32, recorded: Recorded) -> Vec<(String, String)> {
    let mut pairs = vec![
        (HEAD_BYTES.to_owned(), head_bytes.to_string()),
        (PAYLOAD_RINGS.to_owned(), recorded.rings.to_string()),
        (LINK.to_owned(), if recorded.link { "all" } else { "none" }.to_owned()),
    ];
    pairs.extend(recorded.own.map(|own| (OWN_ENDPOINT.to_owned(), endpoint_text(own))));
    pairs
}

/// Reads them back. What is absent, or of another version, is as by default.
pub fn read(pairs: &[(String, String)]) -> Recorded {
    let get = |wanted: &str| pairs.iter().find(|(key, _)| key == wanted).map(|(_, text)| &**text);
    let rings = get(PAYLOAD_RINGS).and_then(|text| text.parse().ok());
    let rings = rings.filter(|rings| (1..=MAX_PAYLOAD_RINGS).contains(rings)).unwrap_or(1);
    Recorded { rings, link: get(LINK) != Some("none"), own: get(OWN_ENDPOINT).and_then(endpoint) }
}

/// `ADDRESS PORT NAMESPACE`: 32 hexadecimal digits or `any`, decimal, decimal or `any`.
fn endpoint_text(own: OwnEndpoint) -> String {
    let any = || "any".to_owned();
    let addr = own.addr.map_or_else(any, |addr| format!("{:032x}", u128::from_be_bytes(addr)));
    let netns = own.netns.map_or_else(any, |netns| netns.to_string());
    format!("{addr} {} {netns}", own.port)
}

fn endpoint(text: &str) -> Option<OwnEndpoint> {
    let mut words = text.split(' ');
    let (addr, port, netns) = (words.next()?, words.next()?, words.next()?);
    let addr = match addr {
        "any" => None,
        digits => Some(u128::from_str_radix(digits, 16).ok()?.to_be_bytes()),
    };
    let netns = match netns {
        "any" => None,
        number => Some(number.parse().ok()?),
    };
    Some(OwnEndpoint { addr, port: port.parse().ok()?, netns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut addr = [0; 16];
        addr[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        for own in [
            None,
            Some(OwnEndpoint { addr: None, port: 9464, netns: None }),
            Some(OwnEndpoint { addr: Some(addr), port: 1, netns: Some(4_026_531_840) }),
        ] {
            for (link, rings) in [(true, 1), (false, 4)] {
                let recorded = Recorded { rings, link, own };
                assert_eq!(read(&write(4096, recorded)), recorded);
            }
        }
    }

    #[test]
    fn what_is_damaged_or_absent_is_the_default() {
        for text in ["", "any", "any x any", "zz 1 any", "any 1 x", "any 99999 any"] {
            let pairs = [("own-endpoint".to_owned(), text.to_owned())];
            assert_eq!(read(&pairs), Recorded { rings: 1, link: true, own: None }, "{text}");
        }
        for text in ["", "0", "5", "4294967296", "many"] {
            let pairs = [("payload-rings".to_owned(), text.to_owned())];
            assert_eq!(read(&pairs).rings, 1, "{text}");
        }
        assert_eq!(read(&[]), Recorded { rings: 1, link: true, own: None });
    }
}
