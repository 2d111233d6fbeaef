//! QEMU's monitor, to switch its log of exceptions around a window.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A connection to a running QEMU.
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

/// A path for a socket, short enough for one.
pub fn socket() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    std::env::temp_dir().join(format!("xenolith-{}-{}.qmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// What QEMU must be started with to listen there.
pub fn option(socket: &Path) -> [String; 2] {
    ["-qmp".into(), format!("unix:{},server=on,wait=off", socket.display())]
}

impl Monitor {
    /// Connects to the QEMU that listens at `socket`.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("QEMU's monitor does not listen")?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut monitor = Self { stream: BufReader::new(stream) };
        monitor.answer("QMP")?;
        monitor.ask(&json!({"execute": "qmp_capabilities"}))?;
        Ok(monitor)
    }

    /// Has all exceptions logged to `file` from now on.
    pub fn log_exceptions(&mut self, file: &Path) -> Result<()> {
        self.human(&format!("logfile {}", file.display()))?;
        self.human("log int")
    }

    /// Ends the log.
    pub fn log_nothing(&mut self) -> Result<()> {
        self.human("log none")
    }

    fn human(&mut self, line: &str) -> Result<()> {
        let answer = self.ask(&json!({"execute": "human-monitor-command", "arguments": {"command-line": line}}))?;
        match answer.as_str() {
            Some("") => Ok(()),
            said => bail!("QEMU's monitor says to `{line}`: {}", said.unwrap_or("nothing")),
        }
    }

    fn ask(&mut self, command: &Value) -> Result<Value> {
        self.stream.get_mut().write_all(format!("{command}\n").as_bytes())?;
        self.answer("return")
    }

    /// The next answer of that kind: events may come before it.
    fn answer(&mut self, kind: &str) -> Result<Value> {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).context("QEMU's monitor does not answer")? == 0 {
                bail!("QEMU's monitor is gone");
            }
            let mut answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU's monitor refuses: {error}");
            }
            if let Some(value) = answer.get_mut(kind) {
                return Ok(value.take());
            }
        }
    }
}
