// Copyright the lazypull authors.
// SPDX-License-Identifier: Apache-2.0

//! The published crates of Nydus behind the few verbs of `nydus-image` and `nydusd` that tests need, with the flags those
//! programs know, so that either can be used. Prints JSON where `nydus-image` prints prose.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use anyhow::{anyhow, bail, ensure, Context, Result};
use fuse_backend_rs::api::{server::Server, Vfs, VfsOptions};
use fuse_backend_rs::transport::FuseSession;
use nydus_api::ConfigV2;
use nydus_builder::{
    parse_chunk_dict_arg, ArtifactStorage, BlobManager, BootstrapManager, BuildContext,
    BuildOutput, Builder, ConversionType, Features, HashChunkDict, Merger, Prefetch,
    PrefetchPolicy, TarballBuilder, Tree,
};
use nydus_rafs::fs::Rafs;
use nydus_rafs::metadata::{RafsSuper, RafsSuperConfig, RafsVersion};
use nydus_storage::device::BlobFeatures;
use nydus_storage::meta::BatchContextGenerator;
use nydus_utils::{compress, digest};
use serde_json::{json, Value};

const FLAGS_WITHOUT_VALUE: [&str; 1] = ["blob-inline-meta"];

/// `--name value` pairs and what stands alone.
struct Arguments {
    named: HashMap<String, String>,
    plain: Vec<String>,
}

impl Arguments {
    fn parse(given: impl Iterator<Item = String>) -> Result<Self> {
        let mut named = HashMap::new();
        let mut plain = Vec::new();
        let mut given = given;
        while let Some(word) = given.next() {
            match word.strip_prefix("--") {
                None => plain.push(word),
                Some(name) if FLAGS_WITHOUT_VALUE.contains(&name) => {
                    named.insert(name.to_string(), String::new());
                }
                Some(name) => {
                    let value = given
                        .next()
                        .ok_or_else(|| anyhow!("--{name} needs a value"))?;
                    named.insert(name.to_string(), value);
                }
            }
        }
        Ok(Self { named, plain })
    }

    fn has(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.named.get(name).map(String::as_str)
    }

    fn needed(&self, name: &str) -> Result<&str> {
        self.text(name)
            .ok_or_else(|| anyhow!("--{name} is missing"))
    }

    fn number(&self, name: &str, otherwise: u32) -> Result<u32> {
        let Some(text) = self.text(name) else {
            return Ok(otherwise);
        };
        match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => text.parse(),
        }
        .with_context(|| format!("--{name} {text}"))
    }

    fn list(&self, name: &str) -> Option<Vec<String>> {
        self.text(name)
            .map(|text| text.split(',').map(str::to_string).collect())
    }

    fn sizes(&self, name: &str) -> Result<Option<Vec<u64>>> {
        self.list(name)
            .map(|list| list.iter().map(|text| Ok(text.parse()?)).collect())
            .transpose()
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let done = Arguments::parse(words).and_then(|arguments| match verb.as_str() {
        "create" => create(&arguments),
        "merge" => merge(&arguments),
        "check" => check(&arguments),
        "mount" => mount(&arguments),
        _ => bail!("usage: create | merge | check | mount"),
    });
    match done {
        Ok(told) => println!("{told}"),
        Err(problem) => {
            println!("{}", json!({ "error": format!("{problem:#}") }));
            std::process::exit(1);
        }
    }
}

/// One layer: a blob, and a bootstrap beside it or inside.
fn create(arguments: &Arguments) -> Result<Value> {
    if arguments.plain.first().is_some_and(|word| word == "-h") {
        // What containerd's converter looks for, to know what its builder can do.
        return Ok(json!({ "flags": ["--type tar-rafs", "--batch-size"] }));
    }
    let source = PathBuf::from(arguments.plain.first().context("no source")?);
    let kind = ConversionType::from_str(arguments.needed("type")?)?;
    let reference = matches!(
        kind,
        ConversionType::TargzToRef | ConversionType::TarToRef | ConversionType::EStargzToRef
    );
    let tarfs = kind == ConversionType::TarToTarfs;
    let version = match arguments.text("fs-version") {
        Some("5") => RafsVersion::V5,
        _ => RafsVersion::V6,
    };
    let compressor = match (reference, tarfs) {
        (true, _) => compress::Algorithm::GZip,
        (_, true) => compress::Algorithm::None,
        _ => compress::Algorithm::from_str(arguments.text("compressor").unwrap_or("zstd"))?,
    };
    let digester = match reference || tarfs {
        true => digest::Algorithm::Sha256,
        false => digest::Algorithm::from_str(arguments.text("digester").unwrap_or("blake3"))?,
    };
    let chunk_size = arguments.number("chunk-size", 0x100000)?;
    let batch_size = arguments.number("batch-size", 0)?;
    let storage = match (arguments.text("blob"), arguments.text("blob-dir")) {
        (Some(file), _) => ArtifactStorage::SingleFile(file.into()),
        (_, Some(folder)) => ArtifactStorage::FileDir((folder.into(), String::new())),
        _ => bail!("--blob or --blob-dir is missing"),
    };
    let inline = arguments.has("blob-inline-meta");
    let mut context = BuildContext::new(
        arguments.text("blob-id").unwrap_or_default().to_string(),
        version == RafsVersion::V6 && !tarfs,
        0,
        compressor,
        digester,
        true,
        arguments.text("whiteout-spec").unwrap_or("oci").parse()?,
        kind,
        source,
        prefetch(arguments)?,
        Some(storage),
        None,
        inline,
        Features::try_from(arguments.text("features").unwrap_or_default())?,
        false,
        Default::default(),
    );
    context.set_fs_version(version);
    context.set_chunk_size(chunk_size);
    context.set_batch_size(batch_size);
    if reference {
        context
            .blob_features
            .insert(BlobFeatures::CHUNK_INFO_V2 | BlobFeatures::SEPARATE);
    }
    if batch_size > 0 {
        context.blob_batch_generator = Some(Mutex::new(BatchContextGenerator::new(batch_size)?));
        context
            .blob_features
            .insert(BlobFeatures::BATCH | BlobFeatures::CHUNK_INFO_V2);
    }

    let mut blobs = BlobManager::new(digester, false);
    if let Some(dictionary) = arguments.text("chunk-dict") {
        let wanted = RafsSuperConfig {
            version,
            compressor,
            digester,
            chunk_size,
            batch_size,
            explicit_uidgid: true,
            is_tarfs_mode: false,
        };
        let config = Arc::new(ConfigV2::default());
        blobs.set_chunk_dict(HashChunkDict::from_commandline_arg(
            dictionary, config, &wanted,
        )?);
    }
    let target = match inline {
        true => None,
        false => Some(ArtifactStorage::SingleFile(
            arguments.needed("bootstrap")?.into(),
        )),
    };
    let mut bootstraps = BootstrapManager::new(target, None);
    let built = TarballBuilder::new(kind).build(&mut context, &mut bootstraps, &mut blobs)?;
    Ok(tell(built))
}

/// Per-layer bootstraps, lowest first, into the one of the image.
fn merge(arguments: &Arguments) -> Result<Value> {
    let config = Arc::new(ConfigV2::default());
    let mut context = BuildContext {
        prefetch: prefetch(arguments)?,
        ..Default::default()
    };
    context.configuration = config.clone();
    let merged = Merger::merge(
        &mut context,
        None,
        arguments.plain.iter().map(PathBuf::from).collect(),
        arguments.list("blob-digests"),
        arguments.list("original-blob-ids"),
        arguments.sizes("blob-sizes")?,
        arguments.list("blob-toc-digests"),
        arguments.sizes("blob-toc-sizes")?,
        ArtifactStorage::SingleFile(arguments.needed("bootstrap")?.into()),
        arguments
            .text("chunk-dict")
            .map(parse_chunk_dict_arg)
            .transpose()?,
        config,
    )?;
    if let Some(path) = arguments.text("output-json") {
        std::fs::write(path, tell(merged.clone()).to_string())?;
    }
    Ok(tell(merged))
}

/// Loads a bootstrap and visits every inode and chunk, as `nydus-image check` does.
fn check(arguments: &Arguments) -> Result<Value> {
    let config = Arc::new(ConfigV2::default());
    let (filesystem, _) = RafsSuper::load_from_file(arguments.needed("bootstrap")?, config, false)?;
    let tree = Tree::from_bootstrap(&filesystem, &mut ())?;
    let blobs = filesystem.superblock.get_blob_infos();
    let (mut inodes, mut chunks) = (0u64, 0u64);
    tree.walk_dfs_pre(&mut |at: &Tree| {
        let node = at.borrow_mut_node();
        inodes += 1;
        for chunk in &node.chunks {
            chunks += 1;
            let blob = blobs.get(chunk.inner.blob_index() as usize);
            ensure!(
                blob.is_some(),
                "{}: {} names no blob",
                node.path().display(),
                chunk
            );
        }
        Ok(())
    })?;
    let blobs: Vec<Value> = blobs
        .iter()
        .map(|blob| {
            json!({
                "id": blob.raw_blob_id(),
                "chunks": blob.chunk_count(),
                "chunkSize": blob.chunk_size(),
                "compressedSize": blob.compressed_size(),
                "uncompressedSize": blob.uncompressed_size(),
                "features": format!("{:?}", blob.features()),
            })
        })
        .collect();
    Ok(json!({
        "inodes": inodes,
        "chunks": chunks,
        "version": filesystem.meta.version,
        "compressor": filesystem.meta.get_compressor().to_string(),
        "digester": filesystem.meta.get_digester().to_string(),
        "blobs": blobs,
    }))
}

/// Serves a bootstrap through FUSE until it is unmounted. The line printed says that it is mounted.
fn mount(arguments: &Arguments) -> Result<Value> {
    let config = Arc::new(ConfigV2::from_file(arguments.needed("config")?)?);
    let bootstrap = Path::new(arguments.needed("bootstrap")?);
    let (mut filesystem, reader) = Rafs::new(&config, "image", bootstrap)?;
    filesystem.import(reader, None)?;
    let switch = Vfs::new(VfsOptions::default());
    switch.mount(Box::new(filesystem), "/")?;

    let at = Path::new(arguments.needed("mountpoint")?);
    let mut session = FuseSession::new(at, "lazypull-nydus", "rafs", true)?;
    session.mount()?;
    let mut channel = session.new_channel()?;
    let server = Server::new(switch);
    println!("{}", json!({ "mounted": at }));
    // An error is how the end comes: the device is gone with the mount.
    while let Ok(Some((request, answer))) = channel.get_request() {
        // A request that was given up while it was being answered is no reason to end.
        if let Err(problem) = server.handle_message(request, answer.into(), None, None) {
            eprintln!("{problem}");
        }
    }
    Ok(json!({ "unmounted": at }))
}

/// Patterns come by standard input, one a line.
fn prefetch(arguments: &Arguments) -> Result<Prefetch> {
    let policy = arguments.text("prefetch-policy").unwrap_or("none");
    Prefetch::new(PrefetchPolicy::from_str(policy)?)
}

fn tell(built: BuildOutput) -> Value {
    json!({ "blobs": built.blobs, "blobSize": built.blob_size })
}
