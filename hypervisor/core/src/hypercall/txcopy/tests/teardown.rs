//! Either side goes at any moment.
