//! Values of flags that stand in no configuration file.

use crate::config::{Place, Problems, problem::Wrong, value};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Reads flags that are no settings; all that are wrong are kept.
pub struct Read<'a> {
    /// What is wrong.
    pub problems: &'a mut Problems,
}

impl Read<'_> {
    /// The values of a flag that may be repeated.
    pub fn all<T>(
        &mut self,
        key: &'static str,
        texts: &[String],
        parse: fn(&str) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let mut values = Vec::new();
        for text in texts {
            match parse(text.trim()) {
                Ok(value) => values.push(value),
                Err(wrong) => self.problems.add(&Place::Flag(key), wrong),
            }
        }
        values
    }

    /// The value of one that may not.
    pub fn one<T>(
        &mut self,
        key: &'static str,
        texts: &[String],
        parse: fn(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        if texts.len() > 1 {
            let wrong = Wrong::new("given more than once", "it takes one value");
            self.problems.add(&Place::Flag(key), wrong);
        }
        self.all(key, texts, parse).pop()
    }
}

/// Where an agent is asked: `IP:PORT`, `localhost:PORT` or `:PORT` (this host).
pub fn agent_address(text: &str) -> Result<SocketAddr, Wrong> {
    let hint = "write the IP:PORT of an agent's --listen, for example 127.0.0.1:9464 or [::1]:9464";
    match value::listen(text) {
        Ok(address) if address.port() == 0 => {
            Err(Wrong::value(text, "has no port that could be asked", hint))
        }
        Ok(address) if address.ip().is_unspecified() => {
            Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()))
        }
        Ok(address) => Ok(address),
        Err(_) if text.contains("://") => {
            Err(Wrong::value(text, "is a URL, and the path is known", hint))
        }
        Err(_) => {
            Err(Wrong::value(text, "is no address of an agent (names are not looked up)", hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_agents() {
        for (text, expected) in [
            ("10.0.0.1:9464", Ok("10.0.0.1:9464")),
            (":9464", Ok("127.0.0.1:9464")),
            ("0.0.0.0:9464", Ok("127.0.0.1:9464")),
            ("[::]:9464", Ok("127.0.0.1:9464")),
            ("localhost:80", Ok("127.0.0.1:80")),
            ("http://127.0.0.1:9464", Err("is a URL")),
            ("127.0.0.1:0", Err("has no port")),
            ("127.0.0.1", Err("is no address of an agent")),
            ("example.org:9464", Err("names are not looked up")),
            ("", Err("is no address of an agent")),
        ] {
            let address = agent_address(text).map(|address| address.to_string());
            match (address, expected) {
                (Ok(address), Ok(expected)) => assert_eq!(address, expected, "{text}"),
                (Err(wrong), Err(part)) => {
                    let told = format!("{wrong:?}");
                    assert!(told.contains(part) && told.contains("--listen"), "{text}: {told}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
