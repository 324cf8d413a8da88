# The C++ and Python tests; pytest's own closing line tells how many passed.
# A shell that starts its children in the background lets them ignore Ctrl-C; the tests of Ctrl-C need it as a user has it.
# shellcheck source=tools/ccache.sh
source tools/ccache.sh
env --default-signal=INT make test
