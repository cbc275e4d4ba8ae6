"""Uploads of results to S3-compatible, Google Cloud and Azure storage, with obstore. Credentials come from the server only."""

from .object_storage import Storage, open_storage

__all__ = ["Storage", "open_storage"]
