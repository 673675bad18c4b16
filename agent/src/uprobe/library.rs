//! Libraries whose functions are probed: a library is a table of symbols and argument conventions.

use super::{boringssl, gnutls, nss, openssl};
use agent_common::tls::Site;

/// One function.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its symbol.
    pub symbol: &'static str,
    /// What it does, and with which arguments.
    pub site: Site,
}

/// A library, or a part of one that comes as a file of its own.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    /// As shown.
    pub name: &'static str,
    /// A file is this library when it has all of these.
    pub marks: &'static [&'static str],
    /// What is probed of it, as far as the file has it.
    pub functions: &'static [Function],
    /// What is probed in their place where that costs less.
    pub inner: &'static [Inner],
    /// Functions that only pass their arguments on to another of the library, with zeros behind them:
    /// where that is seen in their code, the other alone is probed.
    pub forwards: &'static [(&'static str, &'static str)],
}

/// A function without a name that does the work of several: found by the code of these.
#[derive(Clone, Copy, Debug)]
pub struct Inner {
    /// Calls it with the very arguments that it was called with.
    pub exact: &'static str,
    /// Call it with the same first two arguments.
    pub others: &'static [&'static str],
    /// What it does, and with which arguments.
    pub site: Site,
}

/// All that are known.
pub const LIBRARIES: &[Library] =
    &[openssl::SSL, openssl::CRYPTO, gnutls::LIBRARY, nss::NSPR, nss::SSL];

/// Shorthand for the tables.
pub const fn function(symbol: &'static str, site: Site) -> Function {
    Function { symbol, site }
}

/// A library that is known and not covered: named where it is in use.
#[derive(Clone, Copy, Debug)]
pub struct Blind {
    /// How the name of its file begins.
    pub file: &'static str,
    /// As shown.
    pub name: &'static str,
}

/// The same for what is linked into programs: known by a text in them, where none of the functions above
/// is exported.
#[derive(Clone, Copy, Debug)]
pub struct Inside {
    /// The text.
    pub mark: &'static [u8],
    /// As shown.
    pub name: &'static str,
}

/// Known by texts that every build has: paths of their sources in messages.
pub const INSIDE: [Inside; 2] = [
    Inside { mark: boringssl::MARK, name: boringssl::NAME },
    Inside { mark: b"/rustls-0.", name: "rustls (no symbols)" },
];

/// Known by the names of their files.
pub const BLIND: &[Blind] = &[
    Blind { file: "libjvm.so", name: "JSSE (Java)" },
    Blind { file: "libmbedtls.so", name: "mbedTLS" },
    Blind { file: "libwolfssl.so", name: "wolfSSL" },
    Blind { file: "libs2n.so", name: "s2n" },
    Blind { file: "crypto.so", name: "Erlang ssl" },
];
