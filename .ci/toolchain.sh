# Puts Rust on the PATH; sourced, not run.
# shellcheck shell=bash

# A Rust that rustup has installed is not on the PATH of every shell.
command -v cargo > /dev/null || export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
command -v cargo > /dev/null || { echo "no cargo found; install Rust first" >&2; exit 1; }

# The pinned version may be installed under another name, such as `stable`; rustup would want to download it again.
if ! cargo --version > /dev/null 2>&1; then
  pinned=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
  installed=$(cd / && rustc --version | cut -d' ' -f2)
  [ "$installed" = "$pinned" ] || { echo "Rust $pinned is needed, and $installed is installed" >&2; exit 1; }
  RUSTUP_TOOLCHAIN=$(cd / && rustup show active-toolchain | cut -d' ' -f1)
  export RUSTUP_TOOLCHAIN
fi
