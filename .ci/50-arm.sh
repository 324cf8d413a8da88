# shellcheck source=tools/ccache.sh
source tools/ccache.sh
tools/build-arm.sh --test
