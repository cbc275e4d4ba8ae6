"""HTTP: what the page and other clients call.

security          headers, hosts, origins of writes, the token
problems          errors as problem JSON (RFC 9457)
bodies            JSON of a request
event_stream      server-sent events of a batch
archive           all results as one streamed ZIP64
batch_routes      batches: create, read, cancel, archive, upload to the storage
file_routes       files of a batch: send, cancel, results, previews
static_files      the page, and what the server can do
"""
