"""Files of every format version, as they were written once: never rewritten, never removed."""
