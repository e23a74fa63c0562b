#!/usr/bin/env bash
# Unpacks packages of Debian sid, newer than Debian 12's, into DIRECTORY/files; nothing is installed.
# Usage: from-sid.sh DIRECTORY PACKAGE…   The lists and the state of apt are DIRECTORY's own: the machine's stay.
set -euo pipefail
mkdir -p "$1"
directory=$(realpath "$1")
shift
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' | head -n 1)}
own=$directory/apt
mkdir -p "$directory"/{debs,files} "$own"/{lists/partial,cache/archives/partial}
touch "$own/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$own/sources.list"
sid() {
  apt-get -qq -oDir::Etc::SourceList="$own/sources.list" -oDir::Etc::SourceParts=/dev/null \
    -oDir::State::Lists="$own/lists" -oDir::Cache="$own/cache" -oDir::State::Status="$own/status" \
    -oAPT::Sandbox::User=root "$@"
}
sid update
cd "$directory/debs"
sid download "$@" >/dev/null
for package in *.deb; do dpkg -x "$package" ../files; done
