//! Manifests from where the user keeps them: files, folders, standard input.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use manifest::{Manifest, Source, Style};

use crate::{
    exit::{Code, Failure},
    output::{remark, text::count},
};

/// Reads every manifest that is named; the errors of all files at once.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let mut texts = Vec::new();
    for path in paths {
        collect(path, &mut texts)?;
    }
    let sources: Vec<Source<'_>> = texts.iter().map(|(name, text)| Source { name, text }).collect();
    manifest::parse_all(&sources).map_err(|errors| {
        remark(&format!("{}\n", errors.render(&Style::COLOURS)));
        let problems = count(errors.problems().len() as u64, "problem");
        Failure::new(format!("{problems} in the manifests; nothing was changed")).code(Code::InvalidManifest)
    })
}

fn collect(path: &Path, texts: &mut Vec<(String, String)>) -> Result<(), Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|error| Failure::new("cannot read standard input").caused_by(error))?;
        texts.push(("<stdin>".to_owned(), text));
        return Ok(());
    }
    if path.is_dir() {
        return files_of(path)?.iter().try_for_each(|file| collect(file, texts));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
    texts.push((path.display().to_string(), text));
    Ok(())
}

/// The manifests right inside a folder, in the order of their names. Folders inside it are left alone, and where they
/// are all there is, that is said.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| unreadable(folder, error);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.sort();
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = paths.into_iter().partition(|path| path.is_dir());
    let is_manifest = |file: &PathBuf| file.extension().is_some_and(|end| end == "yaml" || end == "yml");
    let manifests: Vec<PathBuf> = files.into_iter().filter(is_manifest).collect();
    if !manifests.is_empty() {
        return Ok(manifests);
    }
    let failure = Failure::new(format!("{} holds no .yaml or .yml files", folder.display()));
    Err(match folders.as_slice() {
        [] => failure,
        folders => {
            let named: Vec<String> = folders.iter().map(|inner| format!("-f {}", inner.display())).collect();
            failure.help(format!("folders inside it are not looked into; name them: {}", named.join(" ")))
        }
    })
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    let failure = Failure::new(format!("cannot read {}", path.display()));
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            let near = neighbour(path).map(|near| format!("did you mean {}?", near.display()));
            let failure = failure.because("there is no such file or folder");
            near.into_iter().fold(failure, Failure::help)
        }
        std::io::ErrorKind::InvalidData => {
            failure.because("it is not text (UTF-8)").help("is it a manifest?")
        }
        _ => failure.caused_by(error),
    }
}

/// The name beside a misspelt one that was probably meant.
fn neighbour(path: &Path) -> Option<PathBuf> {
    let wanted = path.file_name()?.to_str()?;
    let folder = path.parent()?;
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let names: Vec<String> = std::fs::read_dir(listed)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let near = crate::output::text::nearest(wanted, names.iter().map(String::as_str))?;
    Some(folder.join(near))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(failure: Failure) -> String {
        anstream::adapter::strip_str(&failure.render()).to_string()
    }

    #[test]
    fn a_folder_means_the_manifests_right_inside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("inner")).expect("a folder");
        let nothing = told(files_of(folder.path()).expect_err("no manifests"));
        assert!(
            nothing.contains("holds no .yaml") && nothing.contains(&format!("-f {}", at("inner").display())),
            "{nothing}"
        );
        for name in ["b.yaml", "a.yml", "notes.txt", "inner/c.yaml"] {
            std::fs::write(at(name), "").expect("a file");
        }
        assert_eq!(files_of(folder.path()).expect("manifests"), [at("a.yml"), at("b.yaml")]);
    }

    #[test]
    fn a_path_that_is_not_there_is_told_with_its_neighbour() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("hello.yaml");
        std::fs::write(&file, "").expect("a file");
        let text = told(collect(&folder.path().join("helo.yaml"), &mut Vec::new()).expect_err("not there"));
        assert!(
            text.contains("no such file") && text.contains(&format!("did you mean {}?", file.display())),
            "{text}"
        );
        let text = told(collect(Path::new("/no/such/place"), &mut Vec::new()).expect_err("not there"));
        assert!(text.ends_with("there is no such file or folder\n"), "{text}");
    }
}
