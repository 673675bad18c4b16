//! An initramfs: a cpio archive in the "newc" format (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).

/// An archive being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    /// Adds a directory.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, 2, &[]);
    }

    /// Adds an executable file.
    pub fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, 0o100_755, 1, content);
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, 1, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, links: u32, content: &[u8]) {
        self.inode += 1;
        let (size, name_size) = (content.len(), name.len() + 1);
        let inode = self.inode;
        // Magic, inode, mode, uid, gid, links, time, size, device (4), name's size, checksum.
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{0:08x}{size:08x}\
             {0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}",
            0
        );
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_110_bytes_and_everything_is_aligned() {
        let mut archive = Archive::default();
        archive.directory("bin");
        archive.file("init", b"12345");
        let bytes = archive.finish();
        // 110 + "bin\0" → 116; 110 + "init\0" → 116, content → 124; 110 + "TRAILER!!!\0" → 124.
        assert_eq!(bytes.len(), 116 + 124 + 124);
        assert!(bytes.starts_with(b"070701"));
        assert!(bytes[116..].starts_with(b"070701"));
        assert_eq!(&bytes[116 + 116..116 + 121], b"12345");
    }
}
