//! rustls 0.21 to 0.23, with any of its cryptography: the methods of its cipher traits.
//!
//! `MessageEncrypter::encrypt` and `MessageDecrypter::decrypt` are called through trait objects: whatever
//! is inlined (`Writer::write` and `Reader::read` are, with `lto = "fat"`), these are functions of their
//! own. Their names are in the full symbol table only: a program without one is named as not covered.

use agent_common::tls::Site;
use agent_core::elf::Functions;

/// As shown.
pub const NAME: &str = "rustls";
/// The same of a program whose calls are not as expected.
pub const STRANGE: &str = "rustls (unknown layout)";

/// The methods among a file's functions: offset, and what is there. None unless there are both kinds.
pub fn methods(functions: &Functions) -> Vec<(u64, Site)> {
    let methods: Vec<_> =
        functions.iter().filter_map(|(name, offset)| Some((*offset, site(name)?))).collect();
    let has = |receives| methods.iter().any(|(_, site)| site.receives() == receives);
    if has(true) && has(false) { methods } else { Vec::new() }
}

/// A mangled name is of one of the methods.
pub fn is_method(name: &str) -> bool {
    site(name).is_some()
}

/// Which of the methods a mangled name is of.
fn site(name: &str) -> Option<Site> {
    let name = name.split(".llvm.").next()?;
    let (start, encrypt, decrypt) = if name.starts_with("_RNvX") {
        ("6rustls", "16MessageEncrypter7encrypt", "16MessageDecrypter7decrypt")
    } else if name.starts_with("_ZN") {
        ("rustls..", "..MessageEncrypter$GT$7encrypt", "..MessageDecrypter$GT$7decrypt")
    } else {
        return None;
    };
    // The older mangling ends with a hash: `17h`, 16 digits, `E`.
    let method = if start == "rustls.." {
        name.len().checked_sub(20).and_then(|end| name.get(..end))?
    } else {
        name
    };
    // One that is called before there are keys fails, whatever it is given.
    if !name.contains(start) || name.contains("InvalidMessage") {
        None
    } else if method.ends_with(encrypt) {
        Some(Site::rust_encrypt())
    } else if method.ends_with(decrypt) {
        Some(Site::rust_decrypt())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_both_manglings() {
        let (encrypt, decrypt) = (Some(Site::rust_encrypt()), Some(Site::rust_decrypt()));
        for (why, name, expected) in [
            (
                "ring",
                "_ZN111_$LT$rustls..crypto..ring..tls13..Tls13MessageEncrypter$u20$as$u20$rustls..crypto..cipher..MessageEncrypter$GT$7encrypt17h96642b22e7aad449E",
                encrypt,
            ),
            (
                "0.21, moved by the optimiser",
                "_ZN94_$LT$rustls..tls13..Tls13MessageDecrypter$u20$as$u20$rustls..cipher..MessageDecrypter$GT$7decrypt17h2e8aa6574d9b25e5E.llvm.3607373564070679518",
                decrypt,
            ),
            (
                "the newer mangling",
                "_RNvXs4_NtNtNtCs4i6XtGiR4o9_6rustls6crypto4ring5tls13NtB5_21Tls13MessageDecrypterNtNtB9_6cipher16MessageDecrypter7decrypt",
                decrypt,
            ),
            (
                "without keys",
                "_ZN108_$LT$rustls..crypto..cipher..InvalidMessageDecrypter$u20$as$u20$rustls..crypto..cipher..MessageDecrypter$GT$7decrypt17h2e8aa6574d9b25e5E",
                None,
            ),
            (
                "another method",
                "_ZN111_$LT$rustls..crypto..ring..tls13..Tls13MessageEncrypter$u20$as$u20$rustls..crypto..cipher..MessageEncrypter$GT$21encrypted_payload_len17h96642b22e7aad449E",
                None,
            ),
            ("cut", "_ZN", None),
            ("C", "encrypt", None),
        ] {
            assert_eq!(site(name), expected, "{why}");
        }
    }
}
