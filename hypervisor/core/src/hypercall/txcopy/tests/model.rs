//! Random packets and buffers against a model.
