//! What a tebibyte takes in a writer's memory beside its bounded buffers: the tables
//! that grow with it, measured.

use std::sync::Arc;

use dbbackup_contract::{DEFAULT_WORKERS, runner_memory_bytes};

use super::block::BlockAddress;
use super::hook_table::HookTable;
use super::memory::writer_memory_bytes;
use super::pack_use::PackUses;
use super::recipe_builder::{RecipeBuilder, Source};
use crate::hooks::MAX_HOOKS;
use crate::names::PartName;
use crate::pack::{BLOCK_BYTES, PackEntry};
use crate::piece::Place;
use crate::tables::{Segment, UsedPack};

const MIB: u64 = 1024 * 1024;
const TEBIBYTE: u64 = MIB * MIB;
/// Of 16 MiB each: a tebibyte as it is stored.
const PACKS: u32 = 65_536;
/// Of a pack whose blocks were compressed to two fifths.
const BLOCKS: u32 = 600;
/// Streams that an engine has open at once.
const OPEN_STREAMS: u32 = 2;

fn pack(session: &Arc<str>, n: u32) -> UsedPack {
    let entry = PackEntry::for_tests(PartName::new(Arc::clone(session), n), BLOCKS);
    UsedPack { entry: entry.into(), usage: [0xFF; BLOCKS as usize / 4].into() }
}

fn prefix(n: usize) -> u64 {
    (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[test]
fn a_writer_with_a_tebibyte_of_packs_that_are_all_known_and_hooked_fits_into_256_mebibytes() {
    let session: Arc<str> = Arc::from("aaaaaaaa-20260101t000000z-aaaaaaaaaaaaaaaa-0");
    let measured = allocation_counter::measure(|| {
        let predecessor: Vec<UsedPack> = (0..PACKS).map(|n| pack(&session, n)).collect();
        let (mut hooks, mut uses) = (HookTable::default(), PackUses::default());
        for pack in &predecessor {
            assert!(hooks.add_pack(pack).is_some());
            let index = uses.inherited(&pack.entry);
            (0..BLOCKS).for_each(|block| uses.mark(index, block, 1, 1));
        }
        // More than are kept of either.
        hooks.add_hooks((0..20 * MAX_HOOKS).map(|n| (prefix(n), n as u32 % PACKS)));
        (0..4 * MAX_HOOKS).for_each(|n| hooks.add_own(n as u32 % PACKS, &[prefix(n) ^ 1]));
        let table = uses.into_table().unwrap();
        assert!(!hooks.hooks_of(&table).is_empty());
        drop(predecessor);
    });
    let needed = measured.bytes_max + writer_memory_bytes(DEFAULT_WORKERS, OPEN_STREAMS, true);
    println!("{} MiB, of which tables {}", needed / MIB, measured.bytes_max / MIB);
    assert!(needed <= 256 * MIB, "{needed} bytes");
    // What the operator gives for the tables.
    let given = [TEBIBYTE, 0].map(|stored| runner_memory_bytes(DEFAULT_WORKERS, true, stored));
    assert!(measured.bytes_max <= given[0] - given[1] + MIB, "{} bytes", measured.bytes_max);
}

#[test]
fn the_recipe_of_a_tebibyte_takes_two_mebibytes() {
    let measured = allocation_counter::measure(|| {
        let (mut builder, mut segments) = (RecipeBuilder::default(), Vec::new());
        // No block follows the one before it.
        for n in 0..(TEBIBYTE / BLOCK_BYTES as u64) as u32 {
            let (pack, block) = (n.wrapping_mul(40_503) % PACKS, n % BLOCKS);
            let plain = BLOCK_BYTES as u32;
            builder.push(Source::At(BlockAddress { pack, block, plain }), 0, plain);
            while let Some(coded) = builder.advance() {
                let place = Place::Meta { object: 0, counter: 0, at: 0, stored: 0 };
                segments.push(Segment { covers: coded.covers, place });
            }
        }
        let last = builder.finish().unwrap();
        assert_eq!(segments.iter().map(|s| s.covers).sum::<u64>() + last.covers, TEBIBYTE);
    });
    assert!(measured.bytes_max <= 2 * MIB, "{} bytes", measured.bytes_max);
}
