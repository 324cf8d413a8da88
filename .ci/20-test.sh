# The C++ and Python tests; pytest's own closing line tells how many passed.
make test
