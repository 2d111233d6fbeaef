//! Dom0 and the domains that it builds: what takes two. Each peer is a domain of this same image that does what it is told
//! ([`crate::runtime::peer`]).

pub mod books;
mod grants;
mod jobs;
mod ops;
mod peer;

use crate::verdict::Subject;

/// In the order in which they run.
pub const ALL: &[Subject] = &[Subject { name: "pair.grants", run: grants::run }];
