# What a new user types first, and that the second time costs nothing.
make demo
make demo
