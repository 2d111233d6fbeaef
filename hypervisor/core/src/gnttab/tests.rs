//! Tests of the grant table.
