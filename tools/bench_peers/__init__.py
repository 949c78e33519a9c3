"""What a user would pick instead: each peer at each durability it has, on the same records and the same operations.

``python -m bench_peers`` measures all and prints a Markdown report. A new peer is one class in ``embedded`` and one
line of ``contenders.CONTENDERS``.
"""
