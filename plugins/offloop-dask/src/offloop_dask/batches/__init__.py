"""`offloop cluster-map`: a pipeline on all objects of a listing, with a manifest, so that it can be continued.

command       the command line
stored_batch  `cluster_map`: lists, maps, records, and reports
manifest      what is to be done and what is done, in SQLite
listing       objects below a prefix, or the lines of a file; names of the results
pipelines     the pipeline of the command's options
"""

from .stored_batch import BatchReport, cluster_map

__all__ = ["BatchReport", "cluster_map"]
