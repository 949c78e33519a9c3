"""Benchmarks: each row of the table is one ratio, of kvstore to a named peer, with the limit it must keep.

Absolute times say more about the machine than about the code; a ratio of two things measured in turn, in one
run, doesn't. A new row is one function under ``@row`` in the module of its theme, named in its ``ROWS``.
"""
