#!/bin/sh
# Builds and runs tests/model/orders.cpp: the designed memory orders must hold, each weakened one must be found.
# Relacy's headers are looked for in RELACY_INCLUDE, then where Debian's relacy-dev puts them. Exit code: 0 all as
# expected, 1 a surprise, 77 no Relacy here.
set -u

here=$(cd "$(dirname "$0")" && pwd)
CXX=${CXX:-c++}
include=${RELACY_INCLUDE:-/usr/include}

if [ ! -f "$include/relacy/relacy.hpp" ]; then
	echo "tests/model/run_orders.sh: Relacy is not installed (Debian: apt-get install relacy-dev);" \
		"the memory orders were not checked" >&2
	exit 77
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-orders.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# C++98 and no warnings: Relacy's headers are older than today's standards.
$CXX -std=c++98 -O2 -w -I "$include" -o "$work/orders" "$here/orders.cpp" || exit 1
"$work/orders"
