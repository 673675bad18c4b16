//! Numbers and texts as bytes: little-endian, texts behind a `u32` length.

use crate::event::ProcessKey;
use crate::process::kubernetes::{AppLabels, OwnerKind, Pod, PodChange, PodContainer};
use crate::process::{HostFacts, PodUid, ProcessFacts};

/// The bytes are not what they should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Writes into a buffer.
pub(super) struct Encoder<'a>(pub(super) &'a mut Vec<u8>);

impl Encoder<'_> {
    pub(super) fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.0.extend_from_slice(&bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number((text.len() as u32).to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn list<T>(&mut self, list: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.number((list.len() as u32).to_le_bytes());
        for item in list {
            each(self, item);
        }
    }

    pub(super) fn pairs(&mut self, pairs: &[(String, String)]) {
        self.list(pairs, |to, (name, value)| {
            to.text(name);
            to.text(value);
        });
    }

    pub(super) fn host(&mut self, host: &HostFacts) {
        let HostFacts { name, id, arch, kernel, boot_id, agent_version } = host;
        for text in [name, id, arch, kernel, boot_id, agent_version] {
            self.text(text);
        }
    }

    fn uid(&mut self, uid: PodUid) {
        self.number(uid.number.to_le_bytes());
        self.number([u8::from(uid.is_uuid)]);
    }

    pub(super) fn pod(&mut self, change: &PodChange) {
        let pod = match change {
            PodChange::Gone(uid) => {
                self.number([0]);
                return self.uid(*uid);
            }
            PodChange::Known(pod) => pod,
        };
        let Pod {
            uid,
            cgroup_uid,
            namespace,
            name,
            node,
            labels,
            app,
            annotations,
            owners,
            containers,
        } = pod.as_ref();
        self.number([1 + u8::from(cgroup_uid.is_some())]);
        self.uid(*uid);
        cgroup_uid.iter().for_each(|uid| self.uid(*uid));
        for text in [namespace, name, node, &app.instance, &app.name, &app.version] {
            self.text(text);
        }
        self.pairs(labels);
        self.pairs(annotations);
        self.list(owners, |to, (kind, name)| {
            to.text(kind.name());
            to.text(name);
        });
        self.list(containers, |to, PodContainer { name, id, image, image_id }| {
            for text in [name, id, image, image_id] {
                to.text(text);
            }
        });
    }

    pub(super) fn process(&mut self, facts: &ProcessFacts) {
        let ProcessFacts {
            key,
            parent_tgid,
            since_ns,
            executable,
            comm,
            args,
            working_directory,
            environment,
            cgroup,
            user_id,
            user_name,
            vpid,
            go,
        } = facts;
        self.number(key.tgid.to_le_bytes());
        self.number(key.start_ns.to_le_bytes());
        self.number(parent_tgid.to_le_bytes());
        self.number(since_ns.to_le_bytes());
        self.number(user_id.to_le_bytes());
        self.number(vpid.to_le_bytes());
        for text in [executable, comm, working_directory, cgroup, user_name, go] {
            self.text(text);
        }
        self.list(args, |to, arg| to.text(arg));
        self.pairs(environment);
    }
}

/// Reads from bytes.
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl Decoder<'_> {
    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.bytes().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.bytes().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        let len = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(std::str::from_utf8(text).map_err(|_| Malformed)?.to_owned())
    }

    /// Every item takes at least its length's four bytes: a forged count ends with the bytes.
    pub(super) fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.u32()?;
        (0..count).map(|_| each(self)).collect()
    }

    pub(super) fn pairs(&mut self) -> Result<Vec<(String, String)>, Malformed> {
        self.list(|from| Ok((from.text()?, from.text()?)))
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    pub(super) fn host(&mut self) -> Result<HostFacts, Malformed> {
        Ok(HostFacts {
            name: self.text()?,
            id: self.text()?,
            arch: self.text()?,
            kernel: self.text()?,
            boot_id: self.text()?,
            agent_version: self.text()?,
        })
    }

    pub(super) fn process(&mut self) -> Result<ProcessFacts, Malformed> {
        Ok(ProcessFacts {
            key: ProcessKey { tgid: self.u32()?, start_ns: self.u64()? },
            parent_tgid: self.u32()?,
            since_ns: self.u64()?,
            user_id: self.u32()?,
            vpid: self.u32()?,
            executable: self.text()?,
            comm: self.text()?,
            working_directory: self.text()?,
            cgroup: self.text()?,
            user_name: self.text()?,
            go: self.text()?,
            args: self.list(Decoder::text)?,
            environment: self.pairs()?,
        })
    }

    fn uid(&mut self) -> Result<PodUid, Malformed> {
        let number = self.bytes().map(u128::from_le_bytes)?;
        let [is_uuid] = self.bytes()?;
        Ok(PodUid { number, is_uuid: is_uuid != 0 })
    }

    pub(super) fn pod(&mut self) -> Result<PodChange, Malformed> {
        let [kind] = self.bytes()?;
        let uid = self.uid()?;
        let cgroup_uid = match kind {
            0 => return Ok(PodChange::Gone(uid)),
            1 => None,
            2 => Some(self.uid()?),
            _ => return Err(Malformed),
        };
        Ok(PodChange::known(Pod {
            uid,
            cgroup_uid,
            namespace: self.text()?,
            name: self.text()?,
            node: self.text()?,
            app: AppLabels { instance: self.text()?, name: self.text()?, version: self.text()? },
            labels: self.pairs()?,
            annotations: self.pairs()?,
            owners: self.list(|from| {
                let kind = OwnerKind::of(&from.text()?).ok_or(Malformed)?;
                Ok((kind, from.text()?))
            })?,
            containers: self.list(|from| {
                Ok(PodContainer {
                    name: from.text()?,
                    id: from.text()?,
                    image: from.text()?,
                    image_id: from.text()?,
                })
            })?,
        }))
    }
}
