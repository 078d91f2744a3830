//! Apache as Debian brings it, with a configuration of its own: as an old site behind the gateway, and as a proxy before it.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, process::Command};

use tokio::{
    net::TcpStream,
    time::{Duration, sleep, timeout},
};

use super::{applications::Group, browser::PROXY, process::free_address, programs, wire::PATIENCE};

pub struct Apache {
    pub address: SocketAddr,
    _group: Group,
    directory: tempfile::TempDir,
}

const PROGRAM: &str = "/usr/sbin/apache2";
const MODULES: &str = "/usr/lib/apache2/modules";

/// Both parts have these.
const COMMON: [&str; 4] = ["mpm_event", "authz_core", "headers", "setenvif"];

/// How long it keeps an idle connection: so short that connections close under requests.
pub const KEEP_ALIVE: Duration = Duration::from_millis(100);

pub fn apache_is_installed() -> bool {
    programs::installed(&[PROGRAM], "apt-get install -y apache2")
}

impl Apache {
    /// A site with scripts of CGI, and what `.htaccess` makes of headers.
    pub async fn with_a_site() -> Self {
        let modules = ["cgid", "dir", "mime", "rewrite"];
        Self::start(&modules, |directory| {
            let site = directory.join("site");
            for (name, text, mode) in SITE {
                let file = site.join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, text).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            }
            let (site, here) = (site.display(), directory.display());
            format!(
                "ScriptSock {here}/cgid.sock\nTypesConfig /dev/null\nAddType text/plain .txt\nAddHandler cgi-script .cgi\n\
                 KeepAliveTimeout {}ms\nDocumentRoot {site}\n\
                 <Directory {site}>\nAllowOverride All\nOptions ExecCGI FollowSymLinks\nRequire all granted\n</Directory>\n",
                KEEP_ALIVE.as_millis()
            )
        })
        .await
    }

    /// A proxy that passes everything on to the gateway, from an address that this trusts.
    pub async fn before(gateway: SocketAddr) -> Self {
        Self::start(&["proxy", "proxy_http"], |_| {
            format!(
                "ProxyPreserveHost On\nLimitRequestFieldSize 16380\nProxySourceAddress {PROXY}\nProxyPass / http://{gateway}/ upgrade=websocket\n\
                 ProxyPassReverse / http://{gateway}/\n"
            )
        })
        .await
    }

    /// Puts a file into the site.
    pub fn put(&self, name: &str) {
        fs::write(self.directory.path().join("site").join(name), "").unwrap();
    }

    async fn start(modules: &[&str], lines: impl FnOnce(&Path) -> String) -> Self {
        let (directory, address) = (tempfile::tempdir().unwrap(), free_address());
        // Whoever started it as root, it is somebody else.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let here = directory.path().display();
        let modules: String = COMMON
            .iter()
            .chain(modules)
            .map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n"))
            .collect();
        let text = format!(
            "ServerRoot {here}\nServerName localhost\nListen {address}\nPidFile {here}/pid\nDefaultRuntimeDir {here}\n\
             ErrorLog {here}/error.log\n{modules}User www-data\nGroup www-data\n{}",
            lines(directory.path())
        );
        let file = directory.path().join("apache2.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("-DFOREGROUND").arg("-f").arg(&file);
        let group = Group::run(&command);
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let listens = timeout(PATIENCE * 2, listens).await;
        let log = || fs::read_to_string(directory.path().join("error.log"));
        assert!(listens.is_ok(), "apache2 does not listen: {:?}", log());
        Self {
            address,
            _group: group,
            directory,
        }
    }
}

/// Names, texts and modes.
const SITE: [(&str, &str, u32); 8] = [
    // As old sites do who once had a login of the server.
    (
        ".htaccess",
        "SetEnvIf X-Forwarded-User \"^(.+)$\" REMOTE_USER=$1\n",
        0o644,
    ),
    (
        "staff/.htaccess",
        "RewriteEngine On\nRewriteCond %{HTTP:X-Forwarded-Groups} !(^|,)staff(,|$)\nRewriteRule ^ - [F]\n",
        0o644,
    ),
    ("staff/page.txt", "for the staff\n", 0o644),
    ("digits.txt", "0123456789", 0o644),
    (
        "environment.cgi",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nenv\n",
        0o755,
    ),
    (
        "count.cgi",
        "#!/bin/sh\ncount=$(wc -c)\nprintf 'Content-Type: text/plain\\r\\n\\r\\n%s %s' \"$REQUEST_METHOD\" \"$count\"\n",
        0o755,
    ),
    (
        "pieces.cgi",
        "#!/bin/sh\nprintf 'Content-Type: text/event-stream\\r\\n\\r\\ndata: first\\n\\n'\n\
         while [ ! -e go ]; do sleep 0.05; done\nprintf 'data: last\\n\\n'\n",
        0o755,
    ),
    (
        "nothing.cgi",
        "#!/bin/sh\nprintf 'Status: 204 No Content\\r\\n\\r\\n'\n",
        0o755,
    ),
];
