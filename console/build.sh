#!/usr/bin/env bash
# Writes console/dist, which the program serves with the page and its icon: the modules of console/src as one, and their
# styles as one.
#
#   bash console/build.sh            after a change of console/src
#   bash console/build.sh --renew    also renews console/vendor from the npm registry; the versions are below
#
# Needs npm, or esbuild in this version at $ESBUILD. The output is committed, so that the program builds without it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

packages=(preact@11.2.0 htm@3.1.1 marked@18.2.1 dompurify@3.5.0 js-yaml@5.5.0)
bundler=esbuild@0.28.2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

install() {
  [ -e "$work/package.json" ] || printf '{"private": true}\n' > "$work/package.json"
  npm install --prefix "$work" --ignore-scripts --no-audit --no-fund --loglevel=error "$@" > /dev/null
}

if [ -z "${ESBUILD:-}" ]; then
  install "$bundler"
  ESBUILD=$work/node_modules/.bin/esbuild
fi

bundle() { "$ESBUILD" "$@" --bundle --minify --target=es2022 --legal-comments=inline --log-level=warning; }

# vendor_module NAME: writes a module without imports; its exports are on standard input.
vendor_module() {
  cat > "$work/$1.mjs"
  bundle "$work/$1.mjs" --format=esm > "vendor/$1.js"
}

renew_vendored() {
  install "${packages[@]}" "$bundler"
  vendor_module preact << 'EOF'
import {h} from 'preact';
import htm from 'htm';
export {render} from 'preact';
export {useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState} from 'preact/hooks';
export const html = htm.bind(h);
EOF
  vendor_module marked <<< "export {Marked} from 'marked';"
  vendor_module purify <<< "export {default} from 'dompurify';"
  vendor_module yaml <<< "export {load} from 'js-yaml';"

  local package file
  for package in "${packages[@]}"; do
    file=$(find "$work/node_modules/${package%@*}" -maxdepth 1 -iname 'licen[sc]e*' | sort | head -n 1)
    printf '%s\n%s\n%s\n\n' "$package" "$(printf '=%.0s' {1..80})" "$(tr -d '\r' < "$file" | sed 's/[ \t]*$//')"
  done > vendor/licenses.txt
  (cd vendor && sha256sum -- *.js licenses.txt) > vendor/checksums.sha256
}

case "${1:-}" in
  --renew) renew_vendored ;;
  '') (cd vendor && sha256sum --check --quiet checksums.sha256) ;;
  *) echo "usage: build.sh [--renew]" >&2; exit 2 ;;
esac

bundle src/main.js --format=esm > dist/console.js
bundle src/styles/all.css > dist/console.css
