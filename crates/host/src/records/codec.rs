//! A record as a file: a line that says what it is and what it sums up to, then JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Raised when a daemon with an older version would misread a record. New fields with a default need no new version.
const VERSION: u32 = 1;

/// Far more than any record has.
pub(super) const BYTES_MAX: usize = 512 * 1024;

/// Hex digits of the digest that are kept: this is about damage, not about forgery.
const DIGEST_DIGITS: usize = 16;

/// Why bytes are not a record.
#[derive(Debug, Error)]
pub(crate) enum CodecError {
    #[error("it is cut off or damaged")]
    Damaged,
    #[error("it was written by another version of podflare-hostd (format {0}, this one reads {VERSION})")]
    Version(String),
    #[error("its content makes no sense")]
    Content(#[source] serde_json::Error),
    #[error("its content makes no sense: {0}")]
    Nonsense(&'static str),
}

/// What is kept as a record.
pub(crate) trait Kept: Serialize + DeserializeOwned {
    /// The first word of its file.
    const MAGIC: &'static str;

    /// Whether what was read can be one.
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

pub(super) fn encode<R: Kept>(record: &R) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(record)?;
    let mut bytes = format!("{} {VERSION} {}\n", R::MAGIC, digest(&json)).into_bytes();
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

pub(super) fn decode<R: Kept>(bytes: &[u8]) -> Result<R, CodecError> {
    if bytes.len() > BYTES_MAX {
        return Err(CodecError::Damaged);
    }
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (head, json) = end.map_or((bytes, &[][..]), |end| (&bytes[..end], &bytes[end + 1..]));
    let head = std::str::from_utf8(head).map_err(|_| CodecError::Damaged)?;
    let mut words = head.split(' ');
    let (magic, version, sum) = (words.next(), words.next(), words.next());
    if magic != Some(R::MAGIC) || words.next().is_some() {
        return Err(CodecError::Damaged);
    }
    // The digest covers the version's own idea of the content, so damage to the version's digits shows as another one.
    if sum != Some(digest(json).as_str()) {
        return Err(CodecError::Damaged);
    }
    match version {
        Some(version) if version == VERSION.to_string() => {}
        Some(version) => return Err(CodecError::Version(version.chars().take(10).collect())),
        None => return Err(CodecError::Damaged),
    }
    let record: R = serde_json::from_slice(json).map_err(CodecError::Content)?;
    record.check().map_err(CodecError::Nonsense)?;
    Ok(record)
}

fn digest(json: &[u8]) -> String {
    let digest = Sha256::digest(json);
    let digits = digest
        .iter()
        .take(DIGEST_DIGITS / 2)
        .map(|byte| format!("{byte:02x}"));
    digits.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::records::{FailureRecord, OriginRecord, Record, SpecRecord};
    use crate::sandbox::Terms;
    use crate::vm::ProcessName;
    use egress::Policy;
    use pod_types::SandboxId;
    use proptest::prelude::*;

    pub(in crate::records) fn id(number: u64) -> SandboxId {
        format!("sbx_{number:032x}").parse().unwrap()
    }

    pub(in crate::records) fn records() -> impl Strategy<Value = Record> {
        let process = proptest::option::of((any::<u32>(), any::<u64>()));
        let ids = proptest::collection::vec(any::<u64>(), 0..4);
        let links = proptest::collection::vec(any::<(u64, u64)>(), 1..5);
        (process, ids, links, ".{0,20}", any::<(u64, i64, u32, bool)>()).prop_map(
            |(process, ids, ancestry, text, (number, tenant, size, flag))| Record {
                id: id(number),
                tenant,
                terms: Terms {
                    created_at_ms: number,
                    born_ms: number,
                    timeout_seconds: flag.then_some(number),
                    idle_timeout_seconds: None,
                    persistent: flag,
                },
                spec: SpecRecord {
                    template: text.clone(),
                    vcpus: 1,
                    ram_mib: size,
                    rootfs_gb: size,
                    egress: if flag { Policy::Open } else { Policy::Closed },
                    secrets: Vec::new(),
                    wire: flag.then_some(number),
                },
                origin: OriginRecord {
                    source: api::Source::Fork,
                    generation: size,
                    ancestry,
                },
                parent: flag.then(|| id(number / 2)),
                also: ids.into_iter().map(id).collect(),
                claim: number,
                failed: process.is_none().then(|| FailureRecord {
                    why: text.clone(),
                    words: text.clone(),
                }),
                process: process.map(|(pid, started)| ProcessName { pid, started }),
                boot: text,
                reserved_mib: number,
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_is_read_back_as_it_was(record in records()) {
            prop_assert_eq!(decode::<Record>(&encode(&record).unwrap()).unwrap(), record);
        }

        #[test]
        fn a_damaged_record_is_never_taken_for_another(
            record in records(), at: prop::sample::Index, change in 1_u8.., cut: bool,
        ) {
            let mut bytes = encode(&record).unwrap();
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= change;
            }
            decode::<Record>(&bytes).unwrap_err();
        }

        #[test]
        fn arbitrary_bytes_are_no_record(bytes: Vec<u8>) {
            decode::<Record>(&bytes).unwrap_err();
        }
    }
}
