"""The worker process: one socket to the supervisor, one task at a time.

Run as `python -m offloop.worker`. It imports `offloop.wire`, the operation and processor contracts and the standard library,
but no event loop and no module of the supervisor.
"""
