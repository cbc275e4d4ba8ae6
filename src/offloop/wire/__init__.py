"""The language between supervisor and worker: handles, messages, frames and the status block. Pure: no descriptor, no clock."""
