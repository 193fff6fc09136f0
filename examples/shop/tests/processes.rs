//! The commands of the README, in a network namespace where the printed ports are free.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::namespace::{is_isolated, prepare};
use crate::common::{Scratch, eventually};
use crate::visitor::token_in;

/// A process of a printed command. Dropping it kills it.
struct Shop {
    child: Child,
    address: String,
}

#[test]
fn the_commands_of_the_readme_start_two_nodes_and_one_can_be_killed() {
    if !is_isolated(the_commands_of_the_readme_start_two_nodes_and_one_can_be_killed) {
        return;
    }
    prepare();
    let lines = commands()
        .into_iter()
        .filter(|line| line.contains("replicated"));
    let mut nodes: Vec<_> = lines.map(|line| Shop::start(&line)).collect();
    assert_eq!(nodes.len(), 2);
    let mut jar = String::new();
    nodes[0].submit(&mut jar, "/cart", "tea=assam");
    nodes[0].submit(&mut jar, "/login", "name=ann&password=apple");
    nodes[0].child.kill().unwrap();
    let page = nodes[1].submit(&mut jar, "/cart", "tea=assam");
    assert!(
        page.contains("2 × Assam") && page.contains("Ann’s devices"),
        "{page}"
    );
}

#[test]
fn the_other_commands_of_the_readme_serve_too() {
    if !is_isolated(the_other_commands_of_the_readme_serve_too) {
        return;
    }
    prepare();
    let folder = Scratch::new();
    let mut redis = Command::new("redis-server")
        .args(["--save", "", "--dir"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("apt-get install redis-server");
    let mut started = 0;
    for line in commands()
        .into_iter()
        .filter(|line| !line.contains("replicated"))
    {
        let shop = Shop::start_in(folder.path(), &line);
        eventually("the store serves", || {
            shop.request("", "GET", "/", "").starts_with("HTTP/1.1 200")
        });
        let mut jar = String::new();
        let page = shop.submit(&mut jar, "/cart", "tea=assam");
        assert!(page.contains("1 × Assam"), "{line}: {page}");
        started += 1;
    }
    redis.kill().unwrap();
    redis.wait().unwrap();
    assert_eq!(started, 3);
}

impl Shop {
    fn start(line: &str) -> Self {
        Self::start_in(Path::new("."), line)
    }

    fn start_in(folder: &Path, line: &str) -> Self {
        let arguments = line.split(' ').skip_while(|word| *word != "--").skip(1);
        let mut child = Command::new(env!("CARGO_BIN_EXE_shop"))
            .args(arguments)
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut printed = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut printed).unwrap();
        let (_, rest) = printed.split_once("http://").expect(line);
        let address = rest.split_once('/').unwrap().0.to_owned();
        Self { child, address }
    }

    /// Sends a form of the shop's page. Returns the page after it.
    fn submit(&self, cookie: &mut String, path: &str, form: &str) -> String {
        let mut ask = |method, path, form: &str| {
            let reply = self.request(cookie, method, path, form);
            if let Some((_, set)) = reply.split_once("set-cookie: ") {
                *cookie = set.split_once(';').unwrap().0.to_owned();
            }
            reply
        };
        let token = token_in(&ask("GET", "/", ""));
        let reply = ask("POST", path, &format!("token={token}&{form}"));
        assert!(reply.starts_with("HTTP/1.1 303"), "{path}: {reply}");
        ask("GET", "/", "")
    }

    /// The response, with its head.
    fn request(&self, cookie: &str, method: &str, path: &str, form: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            self.address,
            form.len()
        )
        .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The commands that the README prints.
fn commands() -> Vec<String> {
    let readme = include_str!("../README.md").lines();
    let lines = readme.filter(|line| line.starts_with("cargo run -p shop -- "));
    lines.map(str::to_owned).collect()
}
