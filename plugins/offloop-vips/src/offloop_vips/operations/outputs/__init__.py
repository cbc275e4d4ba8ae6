"""Last steps of a pipeline: encoders of files, and raw samples."""
