#!/usr/bin/env bash
# Every check that a change has to pass. With a word, some alone: `static` those that compile nothing, `lint` clippy over the
# workspace and over what a device ships, `docs` the documentation, `licences` cargo-deny, `aarch64` whether the runtime
# compiles for 64-bit ARM.
set -euo pipefail

cd "$(dirname "$0")/.."

step() {
    printf '\n== %s\n' "$*" >&2
    "$@"
}

# With every feature, on every platform: deny.toml says the same, but cargo-deny may not be installed.
runtime_without_burn() {
    local tree
    tree=$(cargo tree --locked -p ldseg-cli -p ldseg-c -p ldseg-python -e normal,build --all-features --target all --prefix none)
    if grep -E '^(burn|cubecl|onnx-ir)' <<<"$tree" >&2; then
        echo "error: the runtime depends on the crates above, which only the trainer may" >&2
        return 1
    fi
}

# One number, which every crate inherits, and the one that the front page and CONTRIBUTING name.
one_rust_version() {
    local version own file wrong=0
    version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    own=$(grep -L '^rust-version\.workspace = true$' runtime/*/Cargo.toml trainer/Cargo.toml tests/Cargo.toml || true)
    for file in $own; do
        echo "error: $file: does not inherit the workspace's rust-version" >&2
        wrong=1
    done
    for file in README.md CONTRIBUTING.md; do
        if ! grep -qE "Rust\]?(\([^)]*\))? $version or newer" "$file"; then
            echo "error: $file: does not name Rust $version or newer, Cargo.toml's rust-version" >&2
            wrong=1
        fi
    done
    return "$wrong"
}

static_checks() {
    step cargo fmt --all --check
    step one_rust_version
    step runtime_without_burn
}

# What a device with a 64-bit ARM processor runs: library, command and C library, with both engines. tract assembles its
# kernels for the target's processor, which takes a compiler.
aarch64_checks() {
    local target=aarch64-unknown-linux-gnu
    if ! command -v "${CC_aarch64_unknown_linux_gnu:-aarch64-linux-gnu-gcc}" >/dev/null; then
        echo "skipped: aarch64, as there is no aarch64-linux-gnu-gcc (Debian's gcc-aarch64-linux-gnu)" >&2
        return
    fi
    if ! rustup target add "$target" 2>/dev/null; then
        echo "skipped: aarch64, as rustup could not add the target $target" >&2
        return
    fi
    step cargo check --release --locked --target "$target" -p ldseg-cli -p ldseg-c --no-default-features \
        --features ldseg-cli/tract,ldseg-cli/ort,ldseg-cli/dicom
}

# In the release profile, as the tests are: build scripts and macros are made once for both.
lint_checks() {
    step cargo clippy --release --locked --workspace --all-targets -- -D warnings
    # What a device ships.
    step cargo clippy --release --locked -p ldseg-cli -p ldseg-c --no-default-features --features ldseg-cli/tract,ldseg-c/tract \
        -- -D warnings
}

# Each crate with the features that it can do without.
feature_checks() {
    step cargo clippy --release --locked -p ldseg --no-default-features -- -D warnings
    step cargo clippy --release --locked -p ldseg --no-default-features --features ort -- -D warnings
    step cargo clippy --release --locked -p ldseg --no-default-features --features tract -- -D warnings
    step cargo clippy --release --locked -p ldseg-io -p ldseg-recording --no-default-features -- -D warnings
    step cargo clippy --release --locked -p ldseg-evaluate --no-default-features -- -D warnings
    step cargo clippy --release --locked -p ldseg-cli --no-default-features --features tract,evaluate -- -D warnings
}

docs_checks() {
    RUSTDOCFLAGS="-D warnings" step cargo doc --release --locked --workspace --no-deps
}

licence_checks() {
    if cargo deny --version >/dev/null 2>&1; then
        # Not the advisories: they change from day to day. `cargo deny check advisories` shows them.
        step cargo deny --locked check bans licenses sources
    else
        echo "skipped: cargo-deny is not installed (cargo install --locked cargo-deny)" >&2
    fi
}

all_checks() {
    static_checks
    lint_checks
    feature_checks
    step aarch64_checks
    step scripts/test.sh
    docs_checks
    licence_checks
}

case "${1:-all}" in
    all) all_checks ;;
    static) static_checks ;;
    lint) lint_checks ;;
    docs) docs_checks ;;
    licences) licence_checks ;;
    aarch64) aarch64_checks ;;
    *)
        echo "usage: scripts/check.sh [all|static|lint|docs|licences|aarch64]" >&2
        exit 2
        ;;
esac
