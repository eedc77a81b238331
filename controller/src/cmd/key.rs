//! `muster key`: the keys that sign jobs. Private halves stay in files that only their owner can read.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use muster_proto::id::KeyId;
use muster_proto::signing::{JobSigner, JobVerifier};
use serde::Serialize;

use crate::cmd::Run;
use crate::context::Context;
use crate::exit::{Exit, ending, usage};
use crate::render::{Cell, Column, Style, Table, Tone};

/// Arguments of `muster key new`.
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// The key's name, by which agents' policies know it; best the name of who signs with it
    name: Option<KeyId>,
}

/// Arguments of `muster key list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {}

/// A key that is here.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct KnownKey {
    /// Its name: the file's, without its ending.
    pub(crate) name: KeyId,
    /// Its public half.
    #[serde(serialize_with = "as_text")]
    pub(crate) public_key: JobVerifier,
    /// The private half's file, where it is here.
    pub(crate) key_file: Option<PathBuf>,
    /// Whether jobs are signed with it.
    pub(crate) default: bool,
}

impl Run for New {
    async fn run(self, context: &Context) -> Result<Exit> {
        let name = self.name.unwrap_or_else(|| context.config.issuer.clone());
        let key = create(&context.config.keys_dir, &name, &context.config.key_file)?;
        context.show(&key, |_| policy_snippet(&[&key]))?;
        let file = key.key_file.as_deref().unwrap_or(Path::new("")).display();
        context.note(&format!(
            "wrote {file} (private: keep it here) and its public half beside it;"
        ));
        context
            .note("the lines above belong into the config of every agent that shall obey this key");
        if !key.default {
            context.note(&format!(
                "to sign with it, set key_file = {:?} in the config",
                file.to_string()
            ));
        }
        Ok(Exit::Ok)
    }
}

impl Run for List {
    async fn run(self, context: &Context) -> Result<Exit> {
        let keys = known_keys(&context.config.keys_dir, &context.config.key_file)?;
        if keys.is_empty() {
            context.note(&format!(
                "no keys in {}; make one with `muster key new`",
                context.config.keys_dir.display()
            ));
        }
        context.show_list(&keys, |style| table(&keys, style))?;
        Ok(Exit::Ok)
    }
}

/// The lines of an agent's config that make it obey `keys`. What they may do is a policy that allows every action, to
/// be narrowed by who pastes it.
pub(crate) fn policy_snippet(keys: &[&KnownKey]) -> String {
    let mut text = String::new();
    for key in keys {
        text.push_str(&format!(
            "[[keys]]\nid = \"{}\"\npublic_key = \"{}\"\n\n",
            key.name, key.public_key
        ));
    }
    for key in keys {
        text.push_str(&format!(
            "[[policy]]\nkey = \"{}\"\nactions = [\"*\"]\n",
            key.name
        ));
        if !std::ptr::eq(*key, *keys.last().unwrap_or(key)) {
            text.push('\n');
        }
    }
    text
}

/// The keys in `keys_dir`, and the one in `key_file`, by name.
///
/// # Errors
/// When one of the files can't be read or is not a key.
pub(crate) fn known_keys(keys_dir: &Path, key_file: &Path) -> Result<Vec<KnownKey>> {
    let mut files: Vec<PathBuf> = match fs::read_dir(keys_dir) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
    .with_context(|| format!("list the keys in {}", keys_dir.display()))?;
    if key_file.exists() && !files.iter().any(|file| file == key_file) {
        files.push(key_file.to_owned());
    }
    let ending = |file: &Path, ending| file.extension().is_some_and(|found| found == ending);
    let mut keys = Vec::new();
    for file in files
        .iter()
        .filter(|file| ending(file, "pem") || *file == key_file)
    {
        keys.push(private_key(file, file == key_file)?);
    }
    for file in files.iter().filter(|file| ending(file, "pub")) {
        let key = public_key(file)?;
        if !keys.iter().any(|known: &KnownKey| known.name == key.name) {
            keys.push(key);
        }
    }
    keys.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(keys)
}

fn private_key(file: &Path, default: bool) -> Result<KnownKey> {
    let text = read(file)?;
    let signer =
        JobSigner::from_pem(&text).with_context(|| format!("read the key {}", file.display()))?;
    Ok(KnownKey {
        name: name_of(file)?,
        public_key: signer.public(),
        key_file: Some(file.to_owned()),
        default,
    })
}

fn public_key(file: &Path) -> Result<KnownKey> {
    let public_key = read(file)?
        .trim()
        .parse()
        .with_context(|| format!("read the key {}", file.display()))?;
    Ok(KnownKey {
        name: name_of(file)?,
        public_key,
        key_file: None,
        default: false,
    })
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file)
        .map_err(|error| usage(format!("read the key {}: {error}", file.display())))
}

fn name_of(file: &Path) -> Result<KeyId> {
    let stem = file
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    stem.parse()
        .with_context(|| format!("take a key's name from the file name {}", file.display()))
}

fn create(keys_dir: &Path, name: &KeyId, key_file: &Path) -> Result<KnownKey> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(keys_dir)
        .with_context(|| format!("make the directory {}", keys_dir.display()))?;
    let private = keys_dir.join(format!("{name}.pem"));
    let public = keys_dir.join(format!("{name}.pub"));
    if public.exists() {
        // Somebody else's key of that name: agents would take the one for the other.
        return Err(exists(&public));
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("get random bytes for a key: {error}"))?;
    let signer = JobSigner::from_seed(&seed);
    write_new(&private, 0o600, &signer.to_pem()?)?;
    write_new(&public, 0o644, &format!("{}\n", signer.public()))?;
    let default = private == key_file;
    Ok(KnownKey {
        name: name.clone(),
        public_key: signer.public(),
        key_file: Some(private),
        default,
    })
}

/// Writes a file that must not exist yet; there is no moment at which it exists with other rights.
fn write_new(file: &Path, mode: u32, text: &str) -> Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(file)
        .and_then(|mut open| {
            open.write_all(text.as_bytes())?;
            open.sync_all()
        });
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists(file)),
        other => other.with_context(|| format!("write {}", file.display())),
    }
}

fn exists(file: &Path) -> anyhow::Error {
    ending(
        Exit::Usage,
        format!(
            "{} exists already, and keys are never overwritten: take another name, or move it away",
            file.display()
        ),
    )
}

fn table(keys: &[KnownKey], style: &Style) -> String {
    let mut table = Table::new([
        Column::text("NAME"),
        Column::text("SIGNS"),
        Column::text("PUBLIC KEY"),
    ]);
    for key in keys {
        let signs = match (key.default, &key.key_file) {
            (true, _) => Cell::toned("yes", Tone::Good),
            (false, Some(_)) => Cell::from("could"),
            (false, None) => Cell::toned("not here", Tone::Dim),
        };
        table.row([
            Cell::from(key.name.as_str()),
            signs,
            Cell::from(key.public_key.to_string()),
        ]);
    }
    table.render(style)
}

fn as_text<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
