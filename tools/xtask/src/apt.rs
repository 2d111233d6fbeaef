//! A private apt root: Debian packages of any suite and architecture, downloaded without touching the machine's own apt.

use crate::host;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One private apt root in the cache, for one architecture and a list of suites.
pub struct Apt {
    root: PathBuf,
    arch: String,
}

impl Apt {
    /// Makes the root and reads the archive's package lists.
    pub fn open(name: &str, arch: &str, suites: &[&str]) -> Result<Self> {
        let root = host::cache_dir()?.join("apt").join(name);
        for dir in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join(dir))?;
        }
        let mirror = mirror()?;
        let sources: String = suites.iter().map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")).collect();
        fs::write(root.join("sources.list"), sources)?;
        let apt = Self { root, arch: arch.into() };
        // A suite that the mirror lacks is no error as long as one is there.
        let update = host::output(apt.command("apt-get").args(["-qq", "update"]));
        let lists = fs::read_dir(apt.root.join("lists"))?.flatten();
        let found = lists.filter(|entry| entry.file_name().to_string_lossy().contains("_Packages")).count();
        ensure!(
            found > 0,
            "cannot read {} from the Debian mirror {mirror}: check the network, or set XENOLITH_MIRROR to a mirror that answers ({})",
            suites.join(", "),
            update.err().map_or("no package lists".into(), |error| error.to_string())
        );
        Ok(apt)
    }

    /// The versions of `package` in the suites, newest first.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = host::output(self.command("apt-cache").args(["madison", package]))?;
        Ok(table.lines().filter_map(|line| Some(line.split('|').nth(1)?.trim().to_string())).collect())
    }

    /// The packages on which `package` depends, by name.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let list = host::output(self.command("apt-cache").args(["depends", package]))?;
        Ok(list.lines().filter_map(|line| Some(line.split_once("Depends: ")?.1.trim().to_string())).collect())
    }

    /// Downloads the packages alone; returns the .deb files.
    pub fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        self.fetch(&["download"], packages, &self.root.join("cache/archives"))
    }

    /// Downloads the packages with all that they need, as for an empty machine; returns the .deb files.
    pub fn download_closure(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        self.fetch(&["install", "-y", "--download-only", "--no-install-recommends"], packages, &self.root.join("cache/archives"))
    }

    fn fetch(&self, verb: &[&str], packages: &[String], into: &Path) -> Result<Vec<PathBuf>> {
        let apt_get = |dir: &Path| {
            let mut command = self.command("apt-get");
            command.current_dir(dir).arg("-qq").args(verb).args(packages);
            command
        };
        let what = || format!("cannot download {} from the Debian mirror", packages.join(" "));
        // All that is wanted, also what was downloaded before: apt-get leaves that out, so it must look elsewhere.
        let files =
            host::output(apt_get(&self.root).args(["--print-uris", "-o", "Dir::Cache::Archives=/nonexistent/"])).with_context(what)?;
        host::output(&mut apt_get(into)).with_context(what)?;
        Ok(files.lines().filter_map(|line| line.split(' ').nth(1)).map(|file| into.join(file)).collect())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let root = self.root.display();
        for option in [
            format!("Dir::Etc::SourceList={root}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".into(),
            format!("Dir::State::Lists={root}/lists"),
            "Dir::State::status=/dev/null".into(),
            format!("Dir::Cache={root}/cache"),
            format!("APT::Architecture={}", self.arch),
            format!("APT::Architectures={}", self.arch),
            "APT::Sandbox::User=".into(),
            "Acquire::Retries=3".into(),
            // Nothing is installed: the cache has a lock of its own, and any user may do this.
            "Debug::NoLocking=1".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// Unpacks .deb files into `dir`, laid out as on a machine where /bin, /sbin and /lib are links into /usr.
pub fn unpack(debs: &[PathBuf], dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("usr"))?;
    for link in ["bin", "sbin", "lib"] {
        fs::create_dir_all(dir.join("usr").join(link))?;
        std::os::unix::fs::symlink(format!("usr/{link}"), dir.join(link))?;
    }
    debs.iter().try_for_each(|deb| host::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(dir)))
}

/// The mirror of the machine's own apt, or `$XENOLITH_MIRROR`.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("XENOLITH_MIRROR") {
        return Ok(mirror.trim_end_matches('/').into());
    }
    let query = ["indextargets", "--format", "$(SITE)", "Created-By: Packages", "Origin: Debian", "Label: Debian"];
    let sites = host::output(Command::new("apt-get").args(query))?;
    let site = sites.lines().next().context(
        "this machine's apt names no Debian mirror: run `apt-get update` on Debian, or set XENOLITH_MIRROR to the address of one",
    )?;
    Ok(site.trim_end_matches('/').into())
}
