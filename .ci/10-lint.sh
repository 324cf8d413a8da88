# shellcheck source=tools/ccache.sh
source tools/ccache.sh
make lint
