"""The tests, as a package: one of this name that an installed library has left lying about must not stand in for it."""
