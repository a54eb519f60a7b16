# The common tasks. `just` lists them; each is one command that works without `just`, too.

# Lists the tasks.
default:
    @just --list --unsorted

# Runs the service on a simulated cluster; needs no key, no cluster and no network.
demo *ARGUMENTS:
    cargo run -- demo {{ARGUMENTS}}

# Runs the service with the settings of the environment and of .env.
serve:
    cargo run -- serve

# Formats the code.
format:
    cargo fmt --all

# Lints the code, and everything that is not code.
lint:
    cargo clippy --locked --workspace --all-targets -- -D warnings
    bash .ci/lint

# Runs the tests that need nothing but Rust.
test *ARGUMENTS:
    cargo test --workspace {{ARGUMENTS}}

# Runs all tests; installs the test bed first.
test-all *ARGUMENTS:
    bash tests/run.sh {{ARGUMENTS}}

# Runs everything that a pull request must pass.
ci:
    bash .ci/run

# Checks the words and the structure of the code.
style:
    .ci/style
    .ci/structure

# Checks licenses, banned crates and sources of dependencies.
deny:
    cargo deny --locked check licenses bans sources

# Writes the contracts that the program prints.
contract:
    cargo run --locked --quiet -- openapi > openapi/openapi.json
    cargo run --locked --quiet -- asyncapi > openapi/asyncapi.yaml

# Builds the console of console/src; `--renew` renews its libraries, too.
console *ARGUMENTS:
    bash console/build.sh {{ARGUMENTS}}

# Measures speed and memory.
bench *ARGUMENTS:
    cargo bench --bench service -- {{ARGUMENTS}}

# Builds the image with Docker.
image TAG="k8sops":
    docker build --tag {{TAG}} .

# Runs the fuzz targets for SECONDS each.
fuzz SECONDS="12":
    bash fuzz/run.sh {{SECONDS}}
