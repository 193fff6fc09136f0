//! Checks of commands that are too long to run: whether what they name exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::example;
use crate::root;

/// Packages, targets and features of the workspace.
pub(crate) struct Workspace {
    packages: BTreeSet<String>,
    /// Kind, name and required features.
    targets: Vec<(String, String, Vec<String>)>,
    features: BTreeSet<String>,
    /// All sources, to find names of tests and variables.
    sources: String,
}

impl Workspace {
    pub(crate) fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--no-deps",
                "--offline",
                "--format-version",
                "1",
            ])
            .current_dir(root())
            .output()
            .expect("there is cargo");
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
        let strings = |value: &Value| -> Vec<String> {
            let all = value.as_array().into_iter().flatten();
            all.filter_map(|text| text.as_str().map(str::to_owned))
                .collect()
        };
        let (mut targets, mut features) = (Vec::new(), BTreeSet::new());
        let mut packages = BTreeSet::new();
        for package in metadata["packages"].as_array().expect("packages") {
            packages.insert(package["name"].as_str().expect("a name").to_owned());
            let of_package = package["features"].as_object().expect("features");
            features.extend(of_package.keys().cloned());
            for target in package["targets"].as_array().expect("targets") {
                let kind = strings(&target["kind"]).remove(0);
                let name = target["name"].as_str().expect("a name").to_owned();
                targets.push((kind, name, strings(&target["required-features"])));
            }
        }
        let mut sources = String::new();
        for folder in ["src", "tests", "benches"] {
            collect(&root().join(folder), &mut sources);
        }
        Self {
            packages,
            targets,
            features,
            sources,
        }
    }

    /// Checks one command, and keeps variables that it sets.
    pub(crate) fn check(
        &self,
        words: &[String],
        variables: &mut BTreeMap<String, String>,
    ) -> Result<(), String> {
        let is_set = |word: &&String| {
            let name = word.split_once('=').map_or("", |(name, _)| name);
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        let settings = words.iter().take_while(is_set).count();
        let (settings, words) = words.split_at(settings);
        if words.is_empty() {
            let pairs = settings
                .iter()
                .filter_map(|setting| setting.split_once('='));
            variables.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            return Ok(());
        }
        for setting in settings {
            let name = setting.split_once('=').map_or("", |(name, _)| name);
            if name != "RUSTDOCFLAGS" && !self.sources.contains(&format!("\"{name}\"")) {
                return Err(format!("{name} is read nowhere"));
            }
        }
        let mut words = words.to_vec();
        if let Some(value) = words[0]
            .strip_prefix('$')
            .and_then(|name| variables.get(name))
        {
            words.splice(0..1, value.split(' ').map(str::to_owned));
        }
        match &*words[0] {
            "cargo" => self.check_cargo(&words[1..]),
            "k6" => check_k6(&words[1..]),
            program if program.starts_with("target/release/examples/") => {
                let name = program.rsplit('/').next().unwrap_or_default();
                check_arguments(name, &words[1..])
            }
            script if script.starts_with(".ci/") => check_script(script),
            // Run by the other tests, or part of every system.
            "openssl" | "chmod" | "redis-server" | "curl" | "sleep" | "kill" => Ok(()),
            other => Err(format!("there is no check for `{other}`")),
        }
    }

    fn has(&self, kind: &str, name: &str) -> bool {
        self.targets.iter().any(|(k, n, _)| k == kind && n == name)
    }

    fn check_cargo(&self, words: &[String]) -> Result<(), String> {
        let end = words
            .iter()
            .position(|word| word == "--")
            .unwrap_or(words.len());
        let (words, arguments) = words.split_at(end);
        let arguments = arguments.get(1..).unwrap_or_default();
        let [verb, options @ ..] = words else {
            return Err("no verb".to_owned());
        };
        let value = |flag: &str| {
            let at = options.iter().position(|word| word == flag)?;
            options.get(at + 1).map(String::as_str)
        };
        let enabled: Vec<_> = value("--features")
            .into_iter()
            .flat_map(|list| list.split(','))
            .collect();
        if let Some(unknown) = enabled
            .iter()
            .find(|feature| !self.features.contains(**feature))
        {
            return Err(format!("there is no feature `{unknown}`"));
        }
        if let Some(unknown) = value("--package").filter(|name| !self.packages.contains(*name)) {
            return Err(format!("there is no package `{unknown}`"));
        }
        let has_all = options.iter().any(|word| word == "--all-features");
        for kind in ["example", "bench", "test"] {
            let Some(name) = value(&format!("--{kind}")) else {
                continue;
            };
            let target = self.targets.iter().find(|(k, n, _)| k == kind && n == name);
            let (.., required) = target.ok_or_else(|| format!("there is no {kind} `{name}`"))?;
            let default = ["axum", "memory"];
            let has = |f: &String| has_all || default.contains(&&**f) || enabled.contains(&&**f);
            if let Some(missing) = required.iter().find(|feature| !has(feature)) {
                return Err(format!("`{name}` needs the feature `{missing}`"));
            }
        }
        match &**verb {
            "run" => match value("-p") {
                // Its own tests run it.
                Some(name) if self.has("bin", name) => Ok(()),
                Some(name) => Err(format!("there is no program `{name}`")),
                None => check_arguments(value("--example").ok_or("no example")?, arguments),
            },
            "test" => {
                let valued = ["--features", "--package", "--test"];
                let is_filter = |(at, word): &(usize, &String)| {
                    !word.starts_with("--") && (*at == 0 || !valued.contains(&&*options[at - 1]))
                };
                let filters = options.iter().enumerate().filter(is_filter);
                for (_, filter) in filters {
                    let name = filter.trim_end_matches("::");
                    let is_known = ["fn ", "mod "]
                        .iter()
                        .any(|kind| self.sources.contains(&format!("{kind}{name}")));
                    if !is_known {
                        return Err(format!("no test or module is called `{name}`"));
                    }
                }
                Ok(())
            }
            "add" | "bench" | "build" | "clippy" | "doc" | "tree" => Ok(()),
            other => Err(format!("there is no check for `cargo {other}`")),
        }
    }
}

/// An example accepts these arguments.
pub(crate) fn check_arguments(name: &str, arguments: &[String]) -> Result<(), String> {
    let output = Command::new(example(name))
        .args(arguments)
        .arg("--help")
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn check_k6(words: &[String]) -> Result<(), String> {
    let script = words.last().ok_or("no script")?;
    let source = fs::read_to_string(root().join(script)).map_err(|error| error.to_string())?;
    for setting in words.iter().filter(|word| word.contains('=')) {
        let name = setting.split_once('=').map_or("", |(name, _)| name);
        if !source.contains(&format!("__ENV.{name}")) {
            return Err(format!("{script} does not read {name}"));
        }
    }
    Ok(())
}

fn check_script(script: &str) -> Result<(), String> {
    let checked = Command::new("bash")
        .arg("-n")
        .arg(root().join(script))
        .status();
    match checked {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("{script} is no script")),
    }
}

/// Adds the sources below a folder.
fn collect(folder: &Path, sources: &mut String) {
    for entry in folder.read_dir().expect("folders can be listed") {
        let path = entry.expect("entries can be listed").path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(path).expect("sources are text"));
        }
    }
}
