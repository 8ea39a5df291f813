#!/bin/sh
# Makes sure that Debian packages are installed: installs what is missing where it may, otherwise
# says what to install.
#
#     scripts/need.sh gcc libc6-dev cmake ninja-build
set -eu

if ! command -v dpkg-query >/dev/null; then
    echo "This is no Debian system; the build goes on and needs what these packages hold: $*" >&2
    exit 0
fi

missing=
for package in "$@"; do
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    root=
elif sudo -n true 2>/dev/null; then
    root=sudo
else
    echo "apt-get install$missing"
    exit 1
fi

apt() {
    $root env DEBIAN_FRONTEND=noninteractive apt-get -q "$@" </dev/null
}

# The lists of a fresh machine are empty, those of an old one may name versions that are gone.
# shellcheck disable=SC2086  # one word per package
{
    apt-cache show $missing >/dev/null 2>&1 || apt update
    apt install -y --no-install-recommends $missing ||
        { apt update && apt install -y --no-install-recommends $missing; }
}
