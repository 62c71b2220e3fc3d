"""``leyden port``: finds what is of an older Lightning in source files, without running them."""
