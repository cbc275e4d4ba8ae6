"""The protocol between supervisor and worker: handles, messages, frames, status page. Pure: no descriptor, no clock."""
