//! The balancers, started with the configurations of `examples/balancers`.
//!
//! Those files are what an administrator installs; the lab replaces the addresses in them and adds
//! the parts of a system's main configuration around them.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::sleep;

use crate::process::Process;
use crate::{Failure, ports, programs};

#[derive(ValueEnum, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Balancer {
    /// None: users stay at a node and go to the next one by themselves. What the same fault costs
    /// behind a balancer beyond this is the balancer's share
    None,
    /// nginx, sticky by a map from the cookie to an upstream
    Nginx,
    /// nginx, every request to the next node
    NginxRoundRobin,
    /// HAProxy, sticky by the route in the cookie
    Haproxy,
    /// HAProxy, every request to the next node
    HaproxyRoundRobin,
    /// Apache httpd, `stickysession=JSESSIONID`
    Apache,
    /// Apache httpd, every request to the next node
    ApacheRoundRobin,
}

/// A running balancer.
#[derive(Debug)]
pub(crate) struct Running {
    /// The addresses to which users connect.
    pub(crate) addresses: Vec<SocketAddr>,
    process: Option<Process>,
}

impl fmt::Display for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no balancer",
            Self::Nginx => "nginx, sticky",
            Self::NginxRoundRobin => "nginx, round robin",
            Self::Haproxy => "HAProxy, sticky",
            Self::HaproxyRoundRobin => "HAProxy, round robin",
            Self::Apache => "Apache, sticky",
            Self::ApacheRoundRobin => "Apache, round robin",
        })
    }
}

impl Balancer {
    /// Its program, and the Debian package that contains it.
    pub(crate) fn program(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::None => return None,
            Self::Nginx | Self::NginxRoundRobin => ("nginx", "nginx"),
            Self::Haproxy | Self::HaproxyRoundRobin => ("haproxy", "haproxy"),
            Self::Apache | Self::ApacheRoundRobin => ("apache2", "apache2"),
        })
    }

    pub(crate) fn is_sticky(self) -> bool {
        matches!(
            self,
            Self::None | Self::Nginx | Self::Haproxy | Self::Apache
        )
    }

    /// Returns `true` if it sends a GET to another node when the first one fails while answering.
    /// Apache does so only if it could not connect.
    pub(crate) fn repeats_reads(self) -> bool {
        !matches!(self, Self::None | Self::Apache | Self::ApacheRoundRobin)
    }

    /// Starts it in front of `nodes`, with all its files below `folder`.
    pub(crate) async fn start(
        self,
        nodes: &[SocketAddr],
        folder: &Path,
    ) -> Result<Running, Failure> {
        let Some((program, _)) = self.program() else {
            return Ok(Running {
                addresses: nodes.to_vec(),
                process: None,
            });
        };
        let address = ports::free();
        let configuration = self.configuration(address, nodes);
        let folder = folder.join("balancer");
        fs::create_dir_all(folder.join("tmp"))?;
        let folder = folder.canonicalize()?;
        let mut command = Command::new(programs::find(program).ok_or("it is not installed")?);
        match self {
            Self::None => {}
            Self::Nginx | Self::NginxRoundRobin => {
                fs::write(folder.join("sessions.conf"), configuration)?;
                fs::write(folder.join("nginx.conf"), NGINX)?;
                command.arg("-p").arg(&folder).args(["-c", "nginx.conf"]);
                // A single process, so that none can be left behind.
                command.args(["-e", "stderr", "-g", "daemon off; master_process off;"]);
            }
            Self::Haproxy | Self::HaproxyRoundRobin => {
                fs::write(folder.join("sessions.cfg"), configuration)?;
                command
                    .arg("-db")
                    .arg("-f")
                    .arg(folder.join("sessions.cfg"));
            }
            Self::Apache | Self::ApacheRoundRobin => {
                let main = APACHE
                    .replace("{folder}", &folder.display().to_string())
                    .replace("{address}", &address.to_string());
                fs::write(folder.join("sessions.conf"), configuration)?;
                fs::write(folder.join("apache2.conf"), main)?;
                command.arg("-d").arg(&folder).args(["-f", "apache2.conf"]);
                command.args(["-DFOREGROUND", "-DONE_PROCESS"]);
            }
        }
        let mut process = Process::start(program, command, &folder.join("balancer.log"))?;
        wait(address, &mut process).await?;
        Ok(Running {
            addresses: vec![address],
            process: Some(process),
        })
    }

    /// The file of `examples/balancers` with the addresses of this run.
    fn configuration(self, address: SocketAddr, nodes: &[SocketAddr]) -> String {
        let file = match self {
            Self::None => "",
            Self::Nginx => include_str!("../balancers/nginx/sticky.conf"),
            Self::NginxRoundRobin => include_str!("../balancers/nginx/round_robin.conf"),
            Self::Haproxy => include_str!("../balancers/haproxy/sticky.cfg"),
            Self::HaproxyRoundRobin => include_str!("../balancers/haproxy/round_robin.cfg"),
            Self::Apache => include_str!("../balancers/apache/sticky.conf"),
            Self::ApacheRoundRobin => include_str!("../balancers/apache/round_robin.conf"),
        };
        let mut text = file.replace("127.0.0.1:8000", &address.to_string());
        for number in 0..NODES_IN_FILES {
            // A member without a node is one that is down.
            let node = nodes.get(number).copied().unwrap_or_else(ports::free);
            let written = format!("127.0.0.1:{}", 8081 + number);
            text = text.replace(&written, &node.to_string());
        }
        text
    }
}

impl Running {
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        match &mut self.process {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }
}

/// Waits until it accepts connections.
async fn wait(address: SocketAddr, process: &mut Process) -> Result<(), Failure> {
    let deadline = Instant::now() + START_WITHIN;
    while TcpStream::connect(address).await.is_err() {
        process.still_runs()?;
        if Instant::now() > deadline {
            let log = process.log_tail();
            return Err(format!("it does not listen on {address}\n{log}").into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

const NODES_IN_FILES: usize = 3;
const START_WITHIN: Duration = Duration::from_secs(10);

/// The parts of a system's main configuration that the lab needs.
const NGINX: &str = "\
pid nginx.pid;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path tmp/body;
    proxy_temp_path tmp/proxy;
    fastcgi_temp_path tmp/fastcgi;
    uwsgi_temp_path tmp/uwsgi;
    scgi_temp_path tmp/scgi;
    include sessions.conf;
}
";
const APACHE: &str = "\
ServerName localhost
Listen {address}
PidFile {folder}/apache2.pid
DefaultRuntimeDir {folder}
ErrorLog /dev/stderr
LogLevel warn
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule slotmem_shm_module /usr/lib/apache2/modules/mod_slotmem_shm.so
LoadModule proxy_balancer_module /usr/lib/apache2/modules/mod_proxy_balancer.so
LoadModule proxy_hcheck_module /usr/lib/apache2/modules/mod_proxy_hcheck.so
LoadModule lbmethod_byrequests_module /usr/lib/apache2/modules/mod_lbmethod_byrequests.so
ServerLimit 1
ThreadsPerChild 150
MaxRequestWorkers 150
Include {folder}/sessions.conf
";
