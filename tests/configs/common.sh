# Sourced by the scripts beside it, each of which is called as: <script> SOURCE_FOLDER BUILD_FOLDER
# and builds the project another way, runs what that build can run, and fails if that was no test at all.
set -euo pipefail

source_dir=$1
build_dir=$2
jobs=$(nproc)

# need COMMAND...: 77, which ctest reports as skipped (or as failed, with HAKMEM_REQUIRE_ALL), where one is missing.
need() {
    local command
    for command in "$@"; do
        if ! command -v "$command" >/dev/null; then
            echo "SKIP: $command is not installed"
            exit 77
        fi
    done
}

# configure_and_build CMAKE_ARGUMENT...
configure_and_build() {
    cmake -S "$source_dir" -B "$build_dir" -DHAKMEM_TEST_CONFIGS=OFF -DHAKMEM_STRESS_SECONDS=1 "$@"
    cmake --build "$build_dir" -j "$jobs"
}

# run_tests CTEST_ARGUMENT...
run_tests() {
    local count
    count=$(cd "$build_dir" && ctest -N "$@" | sed -n 's/^Total Tests: //p')
    if [ "${count:-0}" -eq 0 ]; then
        echo "FAIL: this build has no tests"
        exit 1
    fi
    (cd "$build_dir" && ctest --output-on-failure -j "$jobs" "$@")
}
