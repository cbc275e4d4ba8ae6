"""Last steps of a pipeline that make values instead of a picture: statistics, placeholders, hashes."""
