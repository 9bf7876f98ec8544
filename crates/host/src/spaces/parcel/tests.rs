//! A file is what was written, or it is refused before its end.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use pod_types::SandboxId;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::meta::{SavedTerms, Shape};
use super::*;

/// Pieces of a part: how far behind the one before, and what.
type Pieces = Vec<(u32, Vec<u8>)>;

fn manifest(lengths: Lengths) -> Manifest {
    Manifest {
        sandbox_id: SandboxId::from([2; 16]),
        template: "default".to_owned(),
        image: "ab".repeat(16),
        base: Some("cd".repeat(16)),
        shape: Shape {
            vcpus: 2,
            ram_mib: 1024,
            rootfs_gb: 4,
            egress: egress::Policy::Open,
            secrets: Vec::new(),
        },
        terms: SavedTerms {
            timeout_seconds: Some(60),
            idle_timeout_seconds: None,
        },
        running: true,
        lengths,
    }
}

fn file(pieces: &Pieces) -> (File, Vec<u8>) {
    let file = tempfile::tempfile().unwrap();
    let mut content = Vec::new();
    for (gap, piece) in pieces {
        content.resize(content.len() + *gap as usize, 0);
        file.write_all_at(piece, content.len() as u64).unwrap();
        content.extend(piece);
    }
    file.set_len(content.len() as u64).unwrap();
    (file, content)
}

/// A file, and what is in its parts.
fn parcel(parts: &[Pieces; 5]) -> (Vec<u8>, [Vec<u8>; 5]) {
    let files = parts.each_ref().map(file);
    let length = |n: usize| files[n].1.len() as u64;
    let lengths = Lengths {
        state: length(0),
        replay: length(1),
        memory: length(2),
        disk: length(3),
        base: length(4),
    };
    let contents = files.each_ref().map(|(_, content)| content.clone());
    let files: Vec<_> = Part::ALL
        .into_iter()
        .zip(files)
        .map(|(part, (file, _))| (part, file))
        .collect();
    let mut bytes = Vec::new();
    pack(&manifest(lengths), &files, &mut bytes).unwrap();
    (bytes, contents)
}

fn unpack(bytes: &[u8]) -> Result<(Manifest, BTreeMap<Part, Vec<u8>>), ParcelError> {
    let mut unpacker = Unpacker::open(bytes)?;
    let manifest = unpacker.manifest.clone();
    let mut parts = BTreeMap::new();
    while let Some(chunk) = unpacker.next()? {
        let length = usize::try_from(manifest.lengths.of(chunk.part)).unwrap();
        let part = parts.entry(chunk.part).or_insert_with(|| vec![0; length]);
        let at = usize::try_from(chunk.at).unwrap();
        part[at..at + chunk.bytes.len()].copy_from_slice(chunk.bytes);
    }
    assert!(unpacker.next().unwrap().is_none());
    Ok((manifest, parts))
}

fn pieces() -> impl Strategy<Value = Pieces> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..5000),
        (any::<u8>(), 0..600_000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    proptest::collection::vec((prop_oneof![Just(0), 0..2_000_000_u32], piece), 0..4)
}

fn small() -> [Pieces; 5] {
    [
        vec![(0, b"state".to_vec())],
        vec![],
        vec![(4096, vec![7; 9000])],
        vec![(0, (0..200).collect())],
        vec![(1 << 20, vec![1; 16])],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_unpacked_is_what_was_packed(parts in proptest::array::uniform5(pieces())) {
        let (bytes, contents) = parcel(&parts);
        let (manifest, unpacked) = unpack(&bytes).unwrap();
        for (part, content) in Part::ALL.into_iter().zip(contents) {
            prop_assert_eq!(manifest.lengths.of(part), content.len() as u64);
            let zeros = vec![0; content.len()];
            prop_assert!(unpacked.get(&part).unwrap_or(&zeros) == &content, "{:?}", part);
        }
    }
}

proptest! {
    #[test]
    fn what_is_damaged_or_cut_or_has_a_tail_is_refused(at: Index, bits in 1..=255_u8, tail in 1..100_usize) {
        let (mut bytes, _) = parcel(&small());
        let cut = at.index(bytes.len());
        let is_cut = matches!(unpack(&bytes[..cut]), Err(ParcelError::Cut { .. }));
        prop_assert!(is_cut);
        bytes[cut] ^= bits;
        prop_assert!(unpack(&bytes).is_err());
        bytes[cut] ^= bits;
        bytes.resize(bytes.len() + tail, 0);
        let has_tail = matches!(unpack(&bytes), Err(ParcelError::Senseless { .. }));
        prop_assert!(has_tail);
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
        prop_assert!(unpack(&bytes).is_err());
    }

    /// As somebody would who knows the format: all sums are right, and nothing else need be.
    #[test]
    fn records_that_somebody_made_up_stay_within_what_the_manifest_says(
        records in proptest::collection::vec(
            (0..8_u8, 0..3_u8, 0..700_u32, 0..700_u64, proptest::collection::vec(any::<u8>(), 0..60)), 0..6
        )
    ) {
        let lengths = Lengths { state: 500, memory: 600, ..Lengths::default() };
        let mut bytes = Vec::new();
        let mut to = sum::Summed::new(&mut bytes);
        let text = serde_json::to_vec(&manifest(lengths)).unwrap();
        to.write(&MAGIC).unwrap();
        to.write(&VERSION.to_le_bytes()).unwrap();
        to.write(&u32::try_from(text.len()).unwrap().to_le_bytes()).unwrap();
        to.write(&text).unwrap();
        to.write_sum().unwrap();
        for (part, packing, size, at, content) in records {
            let stored = u32::try_from(content.len()).unwrap();
            to.write(&[part, packing, 0, 0]).unwrap();
            to.write(&stored.to_le_bytes()).unwrap();
            to.write(&if packing == 0 { stored } else { size }.to_le_bytes()).unwrap();
            to.write(&at.to_le_bytes()).unwrap();
            to.write(&content).unwrap();
            to.write_sum().unwrap();
        }
        to.write(&[Part::END]).unwrap();
        to.write(&[0; HEADER_BYTES - 1]).unwrap();
        to.write_sum().unwrap();
        // Out of bounds would be a panic.
        let _ = unpack(&bytes);
    }
}

#[test]
fn holes_take_no_room_and_what_packs_is_packed() {
    let mut parts = small();
    parts[4] = vec![(1 << 28, vec![1; 16])];
    let (bytes, _) = parcel(&parts);
    assert!(bytes.len() < 2000, "{}", bytes.len());
}

#[test]
fn what_is_no_such_file_and_what_is_of_another_version_is_told() {
    let (mut bytes, _) = parcel(&small());
    bytes[8] = 9;
    assert!(matches!(unpack(&bytes), Err(ParcelError::Version(9))));
    assert!(matches!(
        unpack(b"PK\x03\x04 and so on"),
        Err(ParcelError::Foreign)
    ));
}

#[test]
fn a_file_that_has_another_length_than_it_should_is_not_packed() {
    let (short, _) = file(&vec![(0, vec![1; 3])]);
    let lengths = Lengths {
        state: 4,
        ..Lengths::default()
    };
    let error = pack(&manifest(lengths), &[(Part::State, short)], Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
