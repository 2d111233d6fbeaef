//! The subsystem alone: tables, and guests that rewrite what they described while it is being looked at.

use super::*;
