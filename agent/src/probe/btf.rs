//! The running kernel's type information: where struct fields lie, which functions and tracepoints
//! there are.
//!
//! Own reader: aya-obj's gives no member offsets. Format: Documentation/bpf/btf.rst. The file comes
//! from the kernel, but may be damaged or forged when an operator names one: every index and length
//! is checked.

use super::elf;
use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Deepest nesting of anonymous structs and modifiers that is followed.
const MAX_DEPTH: u32 = 16;

/// Most members looked at for one field: a file may nest a struct in itself. The largest of the kernel's
/// (`task_struct`) has 300.
const MAX_MEMBERS: u32 = 100_000;

/// Type information, read.
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Byte offset of each type by its id; id 0 is `void`.
    types: Vec<usize>,
    structs: HashMap<Vec<u8>, u32>,
    functions: HashMap<Vec<u8>, u32>,
    typedefs: HashMap<Vec<u8>, u32>,
    enums: HashMap<Vec<u8>, u32>,
}

/// Why bytes are no type information.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel type information is damaged at byte {0}")]
pub struct Damaged(usize);

/// Why a file is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBtf {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// A tracing file system or an archive, for example.
    #[error(
        "no type information: it begins with {0:02x?}, BTF with [9f, eb] and ELF with [7f, 45, 4c, 46]"
    )]
    Foreign(Vec<u8>),
    /// The other byte order.
    #[error("type information of a big-endian machine")]
    BigEndian,
    /// An ELF file.
    #[error("an ELF file without a section .BTF: was it built with CONFIG_DEBUG_INFO_BTF?")]
    NoSection,
    /// Of a module: it builds on the kernel's.
    #[error("type information without functions of the kernel: that of a module?")]
    NoKernel,
    /// Beginning as it should.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

const ELF: &[u8] = b"\x7fELF";

struct Type {
    name: usize,
    kind: u32,
    count: usize,
    bitfields: bool,
    reference: u32,
    tail: usize,
}

impl Btf {
    /// Reads a file's content: type information as it is, or an ELF file's section `.BTF`.
    ///
    /// # Errors
    /// [`NotBtf`].
    pub fn from_file(data: Vec<u8>) -> Result<Btf, NotBtf> {
        let data = match data.get(..4) {
            None => return Err(NotBtf::Empty),
            Some(ELF) => elf::section(&data, b".BTF").ok_or(NotBtf::NoSection)?.to_vec(),
            Some(_) => data,
        };
        match u16_at(&data, 0) {
            Some(MAGIC) => {}
            Some(magic) if magic.swap_bytes() == MAGIC => return Err(NotBtf::BigEndian),
            _ => return Err(NotBtf::Foreign(data.iter().take(4).copied().collect())),
        }
        let btf = Btf::parse(data)?;
        if btf.structure("task_struct").is_none() { Err(NotBtf::NoKernel) } else { Ok(btf) }
    }

    /// Reads type information.
    ///
    /// # Errors
    /// [`Damaged`] with the place.
    pub fn parse(data: Vec<u8>) -> Result<Btf, Damaged> {
        if u16_at(&data, 0) != Some(MAGIC) {
            return Err(Damaged(0));
        }
        let header = u32_at(&data, 4).ok_or(Damaged(4))? as usize;
        let field = |at: usize| u32_at(&data, at).map(|v| v as usize).ok_or(Damaged(at));
        let at = |offset: usize| header.checked_add(offset).ok_or(Damaged(8));
        let types_start = at(field(8)?)?;
        let types_end = types_start.checked_add(field(12)?).ok_or(Damaged(12))?;
        let strings = at(field(16)?)?;
        if types_end > data.len() || strings > data.len() {
            return Err(Damaged(8));
        }
        let mut btf = Btf {
            data,
            strings,
            types: vec![0],
            structs: HashMap::new(),
            functions: HashMap::new(),
            typedefs: HashMap::new(),
            enums: HashMap::new(),
        };
        btf.index(types_start, types_end)?;
        Ok(btf)
    }

    fn index(&mut self, start: usize, end: usize) -> Result<(), Damaged> {
        let mut at = start;
        while at < end {
            let info = self.read(at).ok_or(Damaged(at))?;
            let len = tail_len(&info).ok_or(Damaged(at))?;
            let id = self.types.len() as u32;
            self.types.push(at);
            let name = self.name(info.name).to_vec();
            let index = match info.kind {
                KIND_STRUCT => Some(&mut self.structs),
                KIND_FUNC => Some(&mut self.functions),
                KIND_TYPEDEF => Some(&mut self.typedefs),
                KIND_ENUM => Some(&mut self.enums),
                _ => None,
            };
            if let Some(index) = index
                && !name.is_empty()
            {
                index.entry(name).or_insert(id);
            }
            at = info.tail + len;
        }
        Ok(())
    }

    /// Byte offset of a field named by a path (`__sk_common.skc_family`) in a struct. Members of
    /// anonymous structs and unions count as the outer struct's. `None` when absent or a bitfield.
    pub fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = *self.structs.get(structure.as_bytes())?;
        let mut total = 0;
        for name in path.split('.') {
            let mut work = MAX_MEMBERS;
            let (bits, member) = self.member(id, name.as_bytes(), 0, &mut work)?;
            if bits % 8 != 0 {
                return None;
            }
            total = u32::checked_add(total, bits / 8)?;
            id = self.resolve(member)?;
        }
        Some(total)
    }

    /// Offset and width of a bit field, in bits. `None` when absent, or no bit field.
    pub fn bit_field(&self, structure: &str, name: &str) -> Option<(u32, u32)> {
        let id = self.structure(structure)?;
        let info = self.read(*self.types.get(id as usize)?)?;
        if !info.bitfields {
            return None;
        }
        (0..info.count).map(|index| info.tail + index * 12).find_map(|at| {
            let found = self.name(u32_at(&self.data, at)? as usize) == name.as_bytes();
            let raw = u32_at(&self.data, at + 8)?;
            (found && raw >> 24 != 0).then_some((raw & 0x00ff_ffff, raw >> 24))
        })
    }

    /// The number behind a name of an enumeration. `None` when absent, or wider than 32 bits.
    pub fn enumerator(&self, enumeration: &str, name: &str) -> Option<u32> {
        let id = *self.enums.get(enumeration.as_bytes())?;
        let info = self.read(*self.types.get(id as usize)?)?;
        (0..info.count).map(|index| info.tail + index * 8).find_map(|at| {
            let found = self.name(u32_at(&self.data, at)? as usize) == name.as_bytes();
            found.then(|| u32_at(&self.data, at + 4)).flatten()
        })
    }

    /// Type id of a struct.
    pub fn structure(&self, name: &str) -> Option<u32> {
        self.structs.get(name.as_bytes()).copied()
    }

    /// Bytes of a struct.
    pub fn size(&self, structure: &str) -> Option<u32> {
        let id = self.structure(structure)?;
        // Of a struct the reference is its size.
        self.read(*self.types.get(id as usize)?).map(|info| info.reference)
    }

    /// Type id of a function.
    pub fn function(&self, name: &str) -> Option<u32> {
        self.functions.get(name.as_bytes()).copied()
    }

    /// The kernel has a function of this name that programs can attach to.
    pub fn has_function(&self, name: &str) -> bool {
        self.functions.contains_key(name.as_bytes())
    }

    /// The kernel has a tracepoint of this name with typed arguments.
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.typedefs.contains_key(format!("btf_trace_{name}").as_bytes())
    }

    /// Bit offset and type of a member.
    fn member(&self, id: u32, name: &[u8], depth: u32, work: &mut u32) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH {
            return None;
        }
        let info = self.read(*self.types.get(id as usize)?)?;
        if info.kind != KIND_STRUCT && info.kind != KIND_UNION {
            return None;
        }
        for index in 0..info.count {
            *work = work.checked_sub(1)?;
            let at = info.tail + index * 12;
            let member_name = self.name(u32_at(&self.data, at)? as usize);
            let member_type = u32_at(&self.data, at + 4)?;
            let raw = u32_at(&self.data, at + 8)?;
            let (bits, width) =
                if info.bitfields { (raw & 0x00ff_ffff, raw >> 24) } else { (raw, 0) };
            if member_name == name {
                return (width == 0).then_some((bits, member_type));
            }
            if member_name.is_empty()
                && let Some(inner) = self.resolve(member_type)
                && let Some((more, found)) = self.member(inner, name, depth + 1, work)
            {
                return Some((bits.checked_add(more)?, found));
            }
        }
        None
    }

    /// Strips typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            if id == 0 {
                return Some(0);
            }
            let info = self.read(*self.types.get(id as usize)?)?;
            match info.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = info.reference;
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn read(&self, at: usize) -> Option<Type> {
        let info = u32_at(&self.data, at + 4)?;
        Some(Type {
            name: u32_at(&self.data, at)? as usize,
            kind: (info >> 24) & 0x1f,
            count: (info & 0xffff) as usize,
            bitfields: info >> 31 != 0,
            reference: u32_at(&self.data, at + 8)?,
            tail: at + 12,
        })
    }

    fn name(&self, at: usize) -> &[u8] {
        let text = self.data.get(self.strings + at..).unwrap_or_default();
        text.iter().position(|b| *b == 0).and_then(|end| text.get(..end)).unwrap_or_default()
    }
}

/// Bytes behind the common part of a type.
fn tail_len(info: &Type) -> Option<usize> {
    Some(match info.kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => info.count * 12,
        KIND_ENUM | KIND_FUNC_PROTO => info.count * 8,
        1..=19 => 0,
        _ => return None,
    })
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Option<Vec<u8>> {
        std::fs::read("/sys/kernel/btf/vmlinux").ok()
    }

    #[test]
    fn fields_of_the_running_kernel_lie_where_the_kernel_says() {
        let Some(data) = running() else { return };
        let btf = Btf::parse(data).unwrap();
        // struct sock begins with struct sock_common; struct unix_sock with struct sock.
        assert_eq!(btf.offset("sock", "__sk_common"), Some(0));
        assert_eq!(
            btf.offset("sock", "__sk_common.skc_family"),
            btf.offset("sock_common", "skc_family")
        );
        assert!(btf.offset("task_struct", "tgid").is_some());
        assert_eq!(btf.offset("task_struct", "no_such_field"), None);
        assert_eq!((btf.size("list_head"), btf.size("no_such_struct")), (Some(16), None));
        // include/net/sock.h and include/linux/socket.h fix these numbers.
        assert_eq!(btf.enumerator("sock_shutdown_cmd", "SHUT_RDWR"), Some(2));
        assert_eq!(btf.enumerator("sock_shutdown_cmd", "SHUT_NOTHING"), None);
        assert_eq!(btf.enumerator("no_such_enumeration", "SHUT_RDWR"), None);
        // include/net/tls.h: a bit field has no offset in bytes, and a field no width in bits.
        let bits = btf.bit_field("tls_context", "rx_conf");
        assert!(bits.is_none_or(|(at, width)| at % 8 == 3 && width == 3), "{bits:?}");
        assert_eq!(btf.offset("tls_context", "rx_conf"), None);
        assert_eq!(btf.bit_field("task_struct", "tgid"), None);
        assert!(btf.has_tracepoint("inet_sock_set_state") && btf.has_function("inet_sendmsg"));
    }

    #[test]
    fn a_file_that_is_none_is_told_why() {
        let elf = |name: &[u8]| {
            let mut names = b"\0".to_vec();
            names.extend(name);
            names.extend(b"\0");
            elf::tests::file(&names, &[(1, b"\x9f\xeb\x01\0")])
        };
        for (why, data, expected) in [
            ("empty", Vec::new(), "the file is empty"),
            ("text", b"hello".to_vec(), "it begins with [68, 65, 6c, 6c]"),
            ("the other byte order", vec![0xeb, 0x9f, 1, 0], "big-endian"),
            ("an ELF file without it", elf(b".data"), "without a section .BTF"),
            ("a damaged section", elf(b".BTF"), "damaged at byte 4"),
            ("a cut file", vec![0x9f, 0xeb, 1, 0, 24], "damaged at byte 4"),
        ] {
            let error = Btf::from_file(data).err().map(|error| error.to_string());
            assert!(
                error.as_deref().is_some_and(|text| text.contains(expected)),
                "{why}: {error:?}"
            );
        }
        let Some(data) = running() else { return };
        let names = b"\0.BTF\0";
        assert!(Btf::from_file(elf::tests::file(names, &[(1, &data)])).is_ok());
        assert!(Btf::from_file(data).is_ok());
    }

    #[test]
    fn damaged_bytes_are_an_error_and_never_a_panic() {
        assert!(Btf::parse(Vec::new()).is_err());
        let Some(mut data) = running() else { return };
        data.truncate(100_000);
        assert!(Btf::parse(data.clone()).is_err());
        for at in (0..400).step_by(3) {
            let mut broken = data.clone();
            broken[at] ^= 0xff;
            let _ = Btf::parse(broken);
        }
    }
}
