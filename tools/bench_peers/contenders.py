"""Who takes part: each peer at each durability, with what it can and can't do."""

from __future__ import annotations

from functools import partial

from bench_peers import embedded
from bench_peers.peer import Contender
from bench_peers.server import Redis

MANY = 10_000_000

KVSTORE = Contender(
    "kvstore",
    "flushed",
    partial(embedded.Kvstore, durability="full"),
    processes=True,
    ordered=True,
    most_records=MANY,
)
LMDB = Contender(
    "py-lmdb",
    "flushed",
    partial(embedded.PyLmdb, flushed=True),
    processes=True,
    ordered=True,
    most_records=MANY,
)
DISKCACHE = Contender("diskcache", "flushed", partial(embedded.Diskcache, flushed=True), processes=True)
ROCKSDICT = Contender(
    "rocksdict", "flushed", partial(embedded.Rocksdict, flushed=True), ordered=True, most_records=MANY
)
REDIS = Contender("redis", "flushed", partial(Redis, flushed=True), processes=True, most_records=1_000_000)

CONTENDERS = (
    KVSTORE,
    LMDB,
    DISKCACHE,
    ROCKSDICT,
    REDIS,
    Contender(
        "kvstore",
        "survives the process",
        partial(embedded.Kvstore, durability="none"),
        processes=True,
        ordered=True,
    ),
    Contender("py-lmdb", "survives the process", partial(embedded.PyLmdb, flushed=False), processes=True, ordered=True),
    Contender("diskcache", "survives the process", partial(embedded.Diskcache, flushed=False), processes=True),
    Contender("rocksdict", "survives the process", partial(embedded.Rocksdict, flushed=False), ordered=True),
    Contender("redis", "survives the process", partial(Redis, flushed=False), processes=True),
    Contender("sqlitedict", "survives the process", embedded.Sqlitedict),
    Contender("zict.Cache over LMDB", "survives the process", embedded.Zict, threads=False, reopens=False, maps=True),
    Contender(
        "joblib.Memory", "survives the process", embedded.Joblib, processes=True, scans=False, most_records=10_000
    ),
    Contender("shelve", "memory", embedded.Shelve, threads=False, most_records=10_000),
    Contender("cachetools.LRUCache", "memory", embedded.Cachetools, threads=False, reopens=False),
)
DURABLE = tuple(contender for contender in CONTENDERS if contender.durability == "flushed")
