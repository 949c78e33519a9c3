"""What a power cut can leave of a store, worked out from the calls of a real workload, and opened.

``history`` says what is done and what the store holds after each step; ``workload`` does it, in processes of its own, and
``trace`` reads what ``strace`` has seen of them. ``journal`` turns those calls into changes of files and names, ``medium``
says which of them are certain at a moment and which are not, ``states`` picks among what can have become of the rest, and
``court`` lays each state before a ``judge``, a process that opens it and may die of it.
"""
