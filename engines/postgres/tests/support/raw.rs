//! What `pg_dump` really wrote, and the streams joined to it by nothing of ours.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dbbackup_postgres::ClientFolders;

use super::MemoryBackup;

/// Clients of `major` in `clients`, of which `pg_dump` leaves what it wrote in `dir`.
pub fn recording(clients: &Path, major: u32, dir: &Path) -> ClientFolders {
    let bin = dir.join(format!("clients/{major}/bin"));
    std::fs::create_dir_all(&bin).unwrap();
    for program in ["pg_dump", "pg_restore", "psql"] {
        let real = clients.join(format!("{major}/bin")).join(program);
        let tee = match program {
            "pg_dump" => format!(" | tee {}/raw-$$", dir.display()),
            _ => String::new(),
        };
        let script = format!("#!/bin/sh\n{} \"$@\"{tee}\n", real.display());
        std::fs::write(bin.join(program), script).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(bin.join(program), mode).unwrap();
    }
    ClientFolders::new(vec![dir.join("clients")])
}

/// The streams below `prefix` join to exactly what a `pg_dump` wrote.
pub fn assert_joins(backup: &MemoryBackup, prefix: &str, dir: &Path) {
    let joined = joined(backup, prefix);
    assert!(joined.starts_with(b"PGDMP") && joined.len() > 500_000);
    let mut written = std::fs::read_dir(dir).unwrap().flatten().filter(|entry| {
        entry.file_name().to_string_lossy().starts_with("raw-")
            && std::fs::read(entry.path()).unwrap() == joined
    });
    assert!(written.next().is_some(), "the archive of {prefix}");
}

/// Joins the streams as `docs/postgresql.md` says, by nothing of ours.
fn joined(backup: &MemoryBackup, prefix: &str) -> Vec<u8> {
    let layout = backup.json(&format!("{prefix}layout.json"));
    let mut archive = backup.get(&format!("{prefix}prelude"));
    let at = usize::try_from(layout["prelude"]["dateAt"].as_u64().unwrap()).unwrap();
    let date = layout["prelude"]["date"].as_str().unwrap();
    let date = (0..date.len()).step_by(2).map(|i| u8::from_str_radix(&date[i..i + 2], 16).unwrap());
    archive.splice(at..at, date);
    for block in layout["blocks"].as_array().unwrap() {
        archive.push(if block["kind"] == "Table" { 1 } else { 3 });
        archive.push(0);
        let number = u32::try_from(block["dumpId"].as_u64().unwrap()).unwrap();
        archive.extend_from_slice(&number.to_le_bytes());
        archive.extend_from_slice(&backup.get(block["stream"].as_str().unwrap()));
    }
    archive
}
