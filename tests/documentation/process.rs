//! Processes of printed commands.

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::common::example;
use crate::root;
use crate::shell::commands;

/// A process of a printed command. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start(line: &str) -> Self {
        Self::start_in(&root(), line)
    }

    pub(crate) fn start_in(folder: &Path, line: &str) -> Self {
        let words = commands(line).remove(0);
        let mut command = match &*words[0] {
            "cargo" => {
                let at = words
                    .iter()
                    .position(|word| word == "--example")
                    .expect("an example");
                let mut command = Command::new(example(&words[at + 1]));
                command.args(words.iter().skip_while(|word| *word != "--").skip(1));
                command
            }
            program => {
                let mut command = Command::new(program);
                command.args(&words[1..]);
                command
            }
        };
        let spawned = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{line}: {error}"));
        let output = child.stdout.take().expect("stdout is piped");
        Self {
            child,
            lines: BufReader::new(output).lines(),
        }
    }

    /// The address that the process prints behind `mark`.
    pub(crate) fn address(&mut self, mark: &str) -> SocketAddr {
        let lines = self.lines.by_ref().map_while(Result::ok);
        let mut found = lines.filter_map(|line| Some(line.split_once(mark)?.1.to_owned()));
        let rest = found.next().expect("an address is printed");
        let address = rest.split(['/', ' ']).next().expect("a part");
        address.parse().expect("an address")
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
