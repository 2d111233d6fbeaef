//! A machine whose serial console a program reads and types on.

use anyhow::{Context, Result, anyhow, bail, ensure};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What the console says when there is nothing more to wait for.
const FATAL: [&str; 4] = ["Panic on CPU", "Fault of the hypervisor", "Kernel panic - not syncing", "Unable to handle kernel"];
/// The serial port and the hypervisor's console ring hold little: bytes typed at once, and the pause after them.
const TYPED: (usize, Duration) = (24, Duration::from_millis(10));

/// What surely fits into the hypervisor's ring of 128 bytes together with an end mark.
const LINE: usize = 80;
/// Every time limit is this much longer than a step takes on an idle machine of two cores.
const PATIENCE: u32 = 3;

/// A running QEMU. It is killed when dropped.
pub struct Machine {
    qemu: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    log: File,
    log_path: PathBuf,
    /// Everything the console said.
    text: String,
    /// How much of `text` has been waited for already.
    read: usize,
    commands: u32,
}

impl Machine {
    /// Starts `qemu` with its serial port on our side; what it says also goes to the file `log`.
    pub fn start(mut qemu: Command, log: &Path) -> Result<Self> {
        if let Some(dir) = log.parent() {
            fs::create_dir_all(dir)?;
        }
        let (file, errors) = (File::create(log)?, File::options().append(true).open(log)?);
        qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
        let mut child = qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn().context("cannot start QEMU")?;
        let (input, mut stdout) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { qemu: child, input, output, log: file, log_path: log.into(), text: String::new(), read: 0, commands: 0 })
    }

    /// Waits until the console says `what`; returns what it said before that since the last wait.
    pub fn wait_for(&mut self, what: &str, seconds: u64) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(seconds) * PATIENCE;
        let longest = FATAL.iter().map(|fatal| fatal.len()).chain([what.len()]).max().unwrap_or_default();
        let mut from = self.read;
        loop {
            if let Some(found) = self.text[from..].find(what) {
                let before = self.text[self.read..from + found].to_string();
                self.read = from + found + what.len();
                return Ok(before);
            }
            if let Some(fatal) = FATAL.iter().find(|fatal| self.text[from..].contains(**fatal)) {
                let _ = self.hear(Instant::now() + Duration::from_secs(2));
                bail!("the console says \"{fatal}\"");
            }
            // What comes in single bytes is not searched again and again.
            from = rest(&self.text, from, longest);
            match self.hear(deadline) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no \"{what}\" on the console within {:?}", Duration::from_secs(seconds) * PATIENCE)
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the machine went off before \"{what}\""),
            }
        }
    }

    /// Waits for Dom0's shell and makes it fit to be driven.
    pub fn wait_for_dom0(&mut self, seconds: u64) -> Result<()> {
        self.wait_for("DOM0-UP", seconds)?;
        self.wait_for("# ", 30)?;
        self.sh("stty -echo; PS1= PS2=", 30).map(drop)
    }

    /// Runs `command` in Dom0's shell; returns its exit status and what it printed, without other lines of the console.
    pub fn status(&mut self, command: &str, seconds: u64) -> Result<(i32, String)> {
        if command.len() <= LINE {
            return self.line(command, seconds);
        }
        // A long one travels in parts that Dom0 acknowledges: a busy Dom0 would lose what it has no room for.
        self.line("C=", 60)?;
        for part in command.chars().collect::<Vec<_>>().chunks(LINE / 2) {
            let part: String = part.iter().collect();
            self.line(&format!("C=$C'{}'", part.replace('\'', "'\\''")), 60)?;
        }
        self.line("eval \"$C\"", seconds).with_context(|| format!("`{command}`"))
    }

    fn line(&mut self, command: &str, seconds: u64) -> Result<(i32, String)> {
        self.commands += 1;
        let end = format!("{}##", self.commands);
        // The shell may echo what is typed: only the end mark with a number in it is the answer.
        self.type_line(&format!("{command}; echo \"##$?:{end}\""))?;
        let mut printed = String::new();
        loop {
            let part = self.wait_for(&format!(":{end}"), seconds).map_err(|error| anyhow!("`{command}`: {error}"))?;
            let (before, status) = part.rsplit_once("##").with_context(|| format!("`{command}`: garbled console"))?;
            printed += before;
            if let Ok(status) = status.parse() {
                // What is left of the line of the last end mark is no answer.
                return Ok((status, strip(printed.strip_prefix('\n').unwrap_or(&printed))));
            }
        }
    }

    /// Runs `command` in Dom0's shell, where it must succeed; returns what it printed.
    pub fn sh(&mut self, command: &str, seconds: u64) -> Result<String> {
        let (status, printed) = self.status(command, seconds)?;
        ensure!(status == 0, "`{command}` failed ({status}): {}", printed.trim().lines().next_back().unwrap_or("no message"));
        Ok(printed)
    }

    /// Types a line into Dom0 without waiting for anything.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        self.type_keys(&format!("{line}\n"))
    }

    /// Types just these keys.
    pub fn type_keys(&mut self, keys: &str) -> Result<()> {
        for part in keys.as_bytes().chunks(TYPED.0) {
            self.input.write_all(part).and_then(|()| self.input.flush()).context("the machine went off")?;
            thread::sleep(TYPED.1);
        }
        Ok(())
    }

    /// Listens for a while, or until the machine is off; returns everything that the console has said.
    pub fn listen(&mut self, seconds: u64) -> &str {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while self.hear(deadline).is_ok() {}
        &self.text
    }

    /// Seconds of the host's CPUs that QEMU has used.
    pub fn used(&self) -> f64 {
        // proc(5): fields 14 and 15, in hundredths; what is in brackets may have spaces.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.qemu.id())).unwrap_or_default();
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
        fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
    }

    /// Waits until the machine is off.
    pub fn wait_off(&mut self, seconds: u64) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            match self.hear(deadline) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => bail!("the machine is still on after {seconds} s"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.qemu.wait()?;
        ensure!(status.success(), "QEMU failed ({status})");
        Ok(())
    }

    /// The last lines of the console and where all of them are, for the report of a failure.
    pub fn tail(&self) -> String {
        let lines: Vec<_> = self.text.lines().rev().take(20).collect();
        let tail: String = lines.iter().rev().map(|line| format!("    | {line}\n")).collect();
        format!("{tail}    the whole console: {}", self.log_path.display())
    }

    fn hear(&mut self, deadline: Instant) -> Result<(), RecvTimeoutError> {
        let bytes = self.output.recv_timeout(deadline.saturating_duration_since(Instant::now()))?;
        // A log that cannot be written is no reason to stop.
        let _ = self.log.write_all(&bytes);
        self.text.extend(String::from_utf8_lossy(&bytes).chars().filter(|c| *c != '\r'));
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Where in `text`, at `from` or behind it, something of `longest` bytes may begin that is not all there yet.
fn rest(text: &str, from: usize, longest: usize) -> usize {
    (from..=text.len().saturating_sub(longest)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(from)
}

/// What a command printed, without the lines of the hypervisor and of Dom0's kernel that came between.
fn strip(text: &str) -> String {
    let kernel = |line: &str| line.starts_with('[') && line.get(1..13).is_some_and(|time| time.trim_start().parse::<f64>().is_ok());
    text.lines().filter(|line| !line.starts_with("(XEN)") && !kernel(line)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::{rest, strip};

    #[test]
    fn what_may_not_have_ended_is_searched_again() {
        assert_eq!((rest("abcdef", 1, 3), rest("abcdef", 4, 3), rest("ab", 1, 3)), (3, 4, 1));
        assert_eq!(rest("aéb", 0, 2), 1, "within a character");
    }

    #[test]
    fn other_voices_are_stripped() {
        assert_eq!(strip("(XEN) hello\none\n[   12.345678] vif1.0: up\n[x] two\n\n"), "one\n[x] two\n\n");
    }
}
