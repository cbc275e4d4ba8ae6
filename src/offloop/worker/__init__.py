"""The child: one process, one pipe, one task at a time.

Run as `python -m offloop.worker`. It imports the wire, the operation and processor contracts and the standard library: no event
loop and nothing of the supervisor.
"""
