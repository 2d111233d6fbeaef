//! A C compiler with Xen's public headers, asked for the value of constant expressions.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

const INCLUDES: &str = "\
#include <stdint.h>
#include <stddef.h>
#include <xen/xen.h>
#include <xen/domctl.h>
#include <xen/sysctl.h>
#include <xen/trace.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/platform.h>
#include <xen/physdev.h>
#include <xen/errno.h>
#include <xen/device_tree_defs.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/io/ring.h>
#include <xen/io/netif.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>
#include <xen/io/console.h>
";

/// What the macros of the host compiler must be, for the headers to think that it compiles for Arm64.
const PRETEND: &[&str] = &["-U__x86_64__", "-U__i386__", "-D__aarch64__"];

pub struct Headers {
    dir: PathBuf,
    compiler: &'static str,
    /// Macros by name in capitals: their own spelling.
    macros: HashMap<String, String>,
}

impl Headers {
    /// The headers and a compiler that accepts them, or why there are none.
    pub fn find() -> Result<Self, String> {
        let dir = PathBuf::from(std::env::var("XENOLITH_XEN_HEADERS").unwrap_or("/usr/include".into()));
        if !dir.join("xen/domctl.h").exists() {
            return Err(format!("no Xen headers in {}: install libxen-dev, or set XENOLITH_XEN_HEADERS", dir.display()));
        }
        let compiler = ["aarch64-linux-gnu-gcc", "gcc", "cc"].into_iter().find(|c| Command::new(c).arg("--version").output().is_ok());
        let compiler = compiler.ok_or("no C compiler: install gcc or gcc-aarch64-linux-gnu")?;
        let mut headers = Self { dir, compiler, macros: HashMap::new() };
        let text = headers.compile(INCLUDES, &["-dM", "-E"]);
        let names = text.lines().filter_map(|line| line.strip_prefix("#define ")?.split([' ', '(']).next());
        headers.macros = names.map(|name| (name.to_uppercase(), name.into())).collect();
        Ok(headers)
    }

    pub fn dir(&self) -> String {
        self.dir.display().to_string()
    }

    /// The value of one macro, by its C name.
    pub fn macro_value(&self, name: &str) -> Option<u64> {
        self.macros.contains_key(name).then(|| self.evaluate(&[name])[0])
    }

    /// An expression with the macro in it, marked `$NAME`, spelled as in C; none if there is no such macro in any case of letters.
    pub fn resolve(&self, expression: &str) -> Option<String> {
        let Some((before, name)) = expression.split_once('$') else { return Some(expression.into()) };
        Some(format!("{before}{}", self.macros.get(name)?))
    }

    /// The values of constant expressions.
    pub fn evaluate(&self, expressions: &[&str]) -> Vec<u64> {
        let elements: String = expressions.iter().map(|e| format!("(unsigned long long)({e}),\n")).collect();
        let assembly = self.compile(&format!("{INCLUDES}\nconst unsigned long long values[] = {{\n{elements}}};\n"), &["-S"]);
        let mut values = Vec::new();
        for line in assembly.lines() {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [".xword" | ".quad" | ".8byte", value] => values.push(value.parse::<i128>().unwrap() as u64),
                [".zero", bytes] => values.extend(std::iter::repeat_n(0, bytes.parse::<usize>().unwrap() / 8)),
                _ => {}
            }
        }
        assert_eq!(values.len(), expressions.len());
        values
    }

    fn compile(&self, source: &str, arguments: &[&str]) -> String {
        let name = format!("layout-{}-{}.c", std::process::id(), source.len());
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&file, source).unwrap();
        let own = Command::new(self.compiler).arg("-print-file-name=include").output().unwrap();
        let mut command = Command::new(self.compiler);
        // Only the compiler's own headers and those given: not the machine's, which may be another Xen's.
        command.args(["-w", "-std=gnu11", "-ffreestanding", "-nostdinc", "-D__XEN_TOOLS__", "-isystem"]);
        command.arg(String::from_utf8(own.stdout).unwrap().trim()).arg("-idirafter").arg(&self.dir);
        if !self.compiler.starts_with("aarch64") && !cfg!(target_arch = "aarch64") {
            command.args(PRETEND);
        }
        let output = command.args(arguments).args(["-o", "-"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::remove_file(&file).unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}
