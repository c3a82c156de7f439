# The commands of a working day. `just` without a word lists them; each is one or two plain commands, to be typed as
# well where just is not installed.

_list:
    @just --list --unsorted

# All that CI asks: formatting, lints, tests, licences.
check: fmt-check clippy test deny

fmt-check:
    cargo fmt --check

clippy:
    cargo clippy --all-targets --quiet -- -D warnings

test *args:
    cargo test {{ args }}

# Licences, advisories, bans: deny.toml. Needs `cargo install cargo-deny`, and says so where it is missing.
deny:
    @if command -v cargo-deny >/dev/null; then cargo deny --log-level error check; \
    else echo 'cargo-deny is not installed: skipped (cargo install cargo-deny)'; fi

# A server with the settings for working on it, data in ./data/dev.
dev:
    cargo run -- --config config/dev.toml

# 100 users, an agent, a kill -9, and the proof: e.g. `just demo --users 10`.
demo *args:
    cargo run --release -- demo {{ args }}

# Load tests beside PostgreSQL and Redis: e.g. `just load b1`. See load-tests/README.md.
load *args:
    cargo build --release
    cargo build --release --manifest-path load-tests/Cargo.toml
    load-tests/target/release/inboxdb-load {{ args }}

# Our own API documentation, private items included.
docs:
    cargo doc --no-deps --document-private-items

# Write config/default.toml anew from the program's defaults.
default-config:
    cargo run --quiet -- config --default > target/default.toml
    cp target/default.toml config/default.toml

# Fill in the expected results of one sqllogictest file; then read the diff.
complete name:
    INBOXDB_SLT_COMPLETE=1 cargo test --test it slt::{{ name }}
