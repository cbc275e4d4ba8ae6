"""Batches: the files of a client, their states, and their conversion in the pool. No module here knows HTTP.

names             names of files from clients, made safe and unique
conversion        what a client asks for, and the pipelines for it
failures          the reasons why a file failed, in words for users
file_state        the states of a file and the table of their changes
file_entry        one file: its state, progress, preview and results
batch             the files of one batch, their revisions and their listeners
batch_store       all batches: limits, expiry
converter         runs the conversion of a file in the pool
"""
