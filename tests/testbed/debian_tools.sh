#!/usr/bin/env bash
# debian_tools.sh DIR SUITE PACKAGE PROGRAM...
#
# Fetches PACKAGE of another Debian suite with all its libraries into DIR and writes DIR/bin/PROGRAM for each program,
# which runs it with that suite's own loader and libraries. The machine itself stays as it is: apt works here on lists,
# a cache and an (empty) package database of its own.
set -euo pipefail

dir=$1 suite=$2 package=$3
shift 3

[ "$(dpkg --print-architecture)" = amd64 ] || { echo "debian_tools.sh knows only amd64" >&2; exit 1; }
triplet=x86_64-linux-gnu
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || { echo "no $keyring: this is not a Debian machine" >&2; exit 1; }

# The mirror this machine is set up to use, asked of apt, which knows every format a source can be written in.
mirror() {
  # shellcheck disable=SC2016  # these are apt's own placeholders
  apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
    sed -n 's/^Debian|Debian|//p' | head -n 1
}
uri=$(mirror)
if [ -z "$uri" ]; then # no lists yet, as in a container image
  apt-get update -qq
  uri=$(mirror)
fi
[ -n "$uri" ] || { echo "apt knows no Debian mirror" >&2; exit 1; }

apt=$dir/apt
rm -rf "$dir"
mkdir -p "$apt"/{lists/partial,archives/partial,sources} "$dir/root" "$dir/bin"
: > "$apt/status"
cat > "$apt/sources/suite.sources" <<EOF
Types: deb
URIs: $uri
Suites: $suite
Components: main
Signed-By: $keyring
EOF
cat > "$apt/apt.conf" <<EOF
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Cache::archives "$apt/archives";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/sources";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "root";
Acquire::Retries "3";
Acquire::Languages "none";
EOF
export APT_CONFIG=$apt/apt.conf
apt-get update -qq
apt-get install -y -qq --download-only --no-install-recommends "$package" libc6 libstdc++6 > "$apt/log" 2>&1 ||
  { tail -n 5 "$apt/log" >&2; exit 1; }

for deb in "$apt"/archives/*.deb; do
  case ${deb##*/} in
    # Pulled in for install scripts that never run here.
    adduser_* | dbus* | debconf* | dpkg_* | libpam* | login* | passwd_* | perl* | python3* | systemd_* | tzdata*) ;;
    *) dpkg-deb -x "$deb" "$dir/root" ;;
  esac
done

lib=$dir/root/usr/lib/$triplet
for program in "$@"; do
  [ -x "$dir/root/usr/bin/$program" ] || { echo "$package of $suite has no $program" >&2; exit 1; }
  # llama.cpp looks for its CPU backend under an absolute path that does not exist here, and would pick it by what the
  # CPU announces, which on virtual machines can be more than it executes. Plain AVX2 is nearly as fast and safe.
  cat > "$dir/bin/$program" <<EOF
#!/bin/sh
backend=haswell
grep -q avx2 /proc/cpuinfo || backend=x64
export GGML_BACKEND_PATH="\${GGML_BACKEND_PATH:-$lib/ggml/backends0/libggml-cpu-\$backend.so}"
exec "$dir/root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$lib:$lib/llama:$lib/ggml:$lib/blas" \\
  "$dir/root/usr/bin/$program" "\$@"
EOF
  chmod +x "$dir/bin/$program"
done
rm -rf "$apt"
