//! Apache Tomcat 10 with a cluster as in its manual, for comparison.
//!
//! Its page answers to the paths that the load requests. The nodes find each other by multicast on
//! the loopback interface.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::nodes::{App, Node};
use crate::programs::{self, TOMCAT};
use crate::{Failure, ports};

/// The parameters that differ between nodes.
struct Place<'a> {
    route: &'a str,
    http: SocketAddr,
    link: SocketAddr,
    /// The multicast port, which all nodes of a cluster share.
    group: u16,
}

/// Configures the nodes, which listen for each other at `links`.
pub(crate) fn nodes(app: App, links: &[SocketAddr], folder: &Path) -> Result<Vec<Node>, Failure> {
    let group = ports::free().port();
    let node = |(number, link): (usize, &SocketAddr)| {
        let route = format!("node{}", number + 1);
        let http = ports::free();
        let place = Place {
            route: &route,
            http,
            link: *link,
            group,
        };
        let (program, arguments) = prepare(app, &place, folder)?;
        Ok(Node::new(route, http, program, arguments, folder))
    };
    links.iter().enumerate().map(node).collect()
}

/// Writes a node's folder. Returns the program that runs it, and its arguments.
fn prepare(app: App, place: &Place<'_>, folder: &Path) -> Result<(PathBuf, Vec<String>), Failure> {
    let base = folder.join(place.route);
    let application = base.join("webapps/ROOT");
    for folder in ["conf", "temp", "work", "logs", "webapps/ROOT/WEB-INF"] {
        fs::create_dir_all(base.join(folder))?;
    }
    let server = SERVER
        .replace("{route}", place.route)
        .replace("{http_port}", &place.http.port().to_string())
        .replace("{link_port}", &place.link.port().to_string())
        .replace("{group_port}", &place.group.to_string())
        .replace("{send_options}", send_options(app))
        .replace("{manager}", manager(app));
    fs::write(base.join("conf/server.xml"), server)?;
    fs::write(base.join("conf/web.xml"), DEFAULTS)?;
    fs::write(application.join("WEB-INF/web.xml"), APPLICATION)?;
    fs::write(application.join("counter.jsp"), PAGE)?;

    let base = base.canonicalize()?.display().to_string();
    let arguments = [
        "-Xmx256m".to_owned(),
        "-Djava.net.preferIPv4Stack=true".to_owned(),
        "-Dtomcat.util.scan.StandardJarScanFilter.jarsToSkip=*.jar".to_owned(),
        format!("-Dlab.node={}", place.route),
        format!("-Dcatalina.home={TOMCAT}"),
        format!("-Dcatalina.base={base}"),
        format!("-Djava.io.tmpdir={base}/temp"),
        "-cp".to_owned(),
        format!("{TOMCAT}/bin/bootstrap.jar:{TOMCAT}/bin/tomcat-juli.jar"),
        "org.apache.catalina.startup.Bootstrap".to_owned(),
        "start".to_owned(),
    ];
    let java = programs::find("java").ok_or("java is not installed")?;
    Ok((java, arguments.into()))
}

/// 8: asynchronous, Tomcat's default. 6: synchronous, with an acknowledgement after the change was
/// applied.
fn send_options(app: App) -> &'static str {
    match app {
        App::TomcatDeltaSync | App::TomcatBackup => "6",
        App::TomcatDeltaAsync | App::Distributable => "8",
    }
}

fn manager(app: App) -> &'static str {
    match app {
        App::TomcatBackup => BACKUP,
        App::TomcatDeltaSync | App::TomcatDeltaAsync | App::Distributable => DELTA,
    }
}

const SERVER: &str = include_str!("tomcat/server.xml");
const APPLICATION: &str = include_str!("tomcat/web.xml");
const PAGE: &str = include_str!("tomcat/counter.jsp");

const DELTA: &str = r#"<Manager className="org.apache.catalina.ha.session.DeltaManager"
                 expireSessionsOnShutdown="false" notifyListenersOnReplication="true"/>"#;
const BACKUP: &str = r#"<Manager className="org.apache.catalina.ha.session.BackupManager"
                 expireSessionsOnShutdown="false" notifyListenersOnReplication="true"
                 mapSendOptions="6"/>"#;

/// The default configuration of every application: here, only pages.
const DEFAULTS: &str = include_str!("tomcat/defaults.xml");
