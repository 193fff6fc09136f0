//! The same counter in two Apache Tomcats 10 with `DeltaManager`, synchronous, for comparison.

use std::env;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::Result;
use crate::server::Server;

/// Returns `true` if the comparison with Tomcat is enabled.
pub(crate) fn is_wanted() -> bool {
    env::var_os("TOMCAT").is_some()
}

/// Starts two nodes and waits until they are connected.
pub(crate) async fn two() -> Result<Vec<Server>> {
    if !Path::new(TOMCAT).exists() {
        return Err(format!("there is no {TOMCAT}: apt-get install tomcat10").into());
    }
    let group = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut servers = vec![];
    for route in ["node1", "node2"] {
        let folder = PathBuf::from("target/replication-bench").join(route);
        let http = start(route, group, &folder, &mut servers)?;
        // Tomcats that start at the same moment may wait a minute for each other.
        patiently(route, async || TcpStream::connect(http).await.is_ok()).await?;
    }
    for route in ["node1", "node2"] {
        let log = Path::new("target/replication-bench")
            .join(route)
            .join("log");
        let met = async || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            log.contains("Replication member added")
        };
        patiently(route, met).await?;
    }
    Ok(servers)
}

fn start(route: &str, group: u16, folder: &Path, servers: &mut Vec<Server>) -> Result<SocketAddr> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let application = folder.join("webapps/ROOT");
    for part in ["conf", "temp", "work", "logs", "webapps/ROOT/WEB-INF"] {
        fs::create_dir_all(folder.join(part))?;
    }
    // Both are bound at once, so that they differ.
    let (http, link) = (
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    );
    let (http, link) = (http.local_addr()?, link.local_addr()?);
    let server = SERVER
        .replace("{route}", route)
        .replace("{http_port}", &http.port().to_string())
        .replace("{link_port}", &link.port().to_string())
        .replace("{group_port}", &group.to_string())
        .replace("{send_options}", "6")
        .replace("{manager}", MANAGER)
        // This crate's server does not close connections either.
        .replace("maxThreads=", "maxKeepAliveRequests=\"-1\" maxThreads=");
    fs::write(folder.join("conf/server.xml"), server)?;
    fs::write(folder.join("conf/web.xml"), WEB)?;
    fs::write(application.join("WEB-INF/web.xml"), APPLICATION)?;
    fs::write(application.join("counter.jsp"), PAGE)?;
    let log = File::create(folder.join("log"))?;
    let folder = folder.canonicalize()?.display().to_string();
    let process = Command::new("java")
        .args(["-Xmx512m", "-Djava.net.preferIPv4Stack=true"])
        .arg("-Dtomcat.util.scan.StandardJarScanFilter.jarsToSkip=*.jar")
        .arg(format!("-Dcatalina.home={TOMCAT}"))
        .arg(format!("-Dcatalina.base={folder}"))
        .arg(format!("-Djava.io.tmpdir={folder}/temp"))
        .args([
            "-cp",
            &format!("{TOMCAT}/bin/bootstrap.jar:{TOMCAT}/bin/tomcat-juli.jar"),
        ])
        .args(["org.apache.catalina.startup.Bootstrap", "start"])
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("java: {error}; try: apt-get install tomcat10"))?;
    servers.push(Server::of(process, http));
    Ok(http)
}

async fn patiently(what: &str, done: impl AsyncFn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !done().await {
        if began.elapsed() > STARTED_WITHIN {
            return Err(
                format!("Tomcat {what} does not come up: see target/replication-bench").into(),
            );
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The directory of the Debian package.
const TOMCAT: &str = "/usr/share/tomcat10";
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// The classic cluster block, as the failover lab has it.
const SERVER: &str = include_str!("../../examples/failover_lab/tomcat/server.xml");
const MANAGER: &str = r#"<Manager className="org.apache.catalina.ha.session.DeltaManager"/>"#;
const WEB: &str = include_str!("../../examples/failover_lab/tomcat/defaults.xml");
const APPLICATION: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0" metadata-complete="true">
  <distributable/>
  <servlet>
    <servlet-name>counter</servlet-name>
    <jsp-file>/counter.jsp</jsp-file>
  </servlet>
  <servlet-mapping>
    <servlet-name>counter</servlet-name>
    <url-pattern>/counter</url-pattern>
  </servlet-mapping>
</web-app>
"#;
const PAGE: &str = r#"<%@ page contentType="text/plain" trimDirectiveWhitespaces="true" %>
<%
Long before = (Long) session.getAttribute("counter");
long count = before == null ? 1 : before + 1;
session.setAttribute("counter", count);
out.print(count);
%>"#;
