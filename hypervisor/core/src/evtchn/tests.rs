//! Tests of the event channels against fake memory.
