//! Writes the CustomResourceDefinitions into the folders that are given, or
//! else into the project and its chart.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if folders.is_empty() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        folders = vec![root.join("crds/yaml"), root.join("charts/dbbackup/files/crds")];
    }
    match write(&folders) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate-crds: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(folders: &[PathBuf]) -> Result<(), Box<dyn std::error::Error>> {
    for folder in folders {
        std::fs::create_dir_all(folder)?;
        for (name, yaml) in dbbackup_crds::definitions_yaml()? {
            std::fs::write(folder.join(name), yaml)?;
        }
    }
    Ok(())
}
