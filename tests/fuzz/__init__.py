"""Inputs that nobody wrote, by the million: ``python -m tests.fuzz`` (see ``--help``), or ``make fuzz``.

``targets`` are the decoders and what must hold of them, ``mutator`` makes inputs from samples, and ``guided`` leaves that to
atheris, which looks for inputs that get further into the code.
"""
