//! Every refusal, and that it leaves no trace.
