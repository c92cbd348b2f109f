#!/bin/sh
# Makes sure that the programs the tests run are there: redis-server, nginx, unicorn with Rack and
# Rack::SSL, curl, varnishtest, slowhttptest, sslscan, openssl, wrk, h2load, node with npm, ip. As root on a
# Debian it installs what is missing, without letting apt start any service; otherwise it says in one
# line what to install. With names of programs as arguments it looks for those instead.
set -eu

export PATH="$PATH:/usr/sbin:/sbin"

# present tells whether one thing is there.
present() {
	case $1 in
	rack) command -v ruby >/dev/null && ruby -e 'require "rack"' 2>/dev/null ;;
	rack-ssl) command -v ruby >/dev/null && ruby -e 'require "rack"; require "rack/ssl"' 2>/dev/null ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

# package names the Debian package that holds one thing.
package() {
	case $1 in
	rack) echo ruby-rack ;;
	rack-ssl) echo ruby-rack-ssl ;;
	varnishtest) echo varnish ;;
	node) echo nodejs ;;
	ip) echo iproute2 ;;
	h2load) echo nghttp2-client ;;
	*) echo "$1" ;;
	esac
}

missing() {
	for thing; do
		present "$thing" || package "$thing"
	done
}

[ $# -gt 0 ] || set -- redis-server nginx unicorn rack rack-ssl curl varnishtest slowhttptest sslscan openssl wrk h2load node npm ip
packages=$(missing "$@" | tr '\n' ' ')
[ -n "$packages" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "testdeps: the tests need these Debian packages or their like: apt-get install $packages" >&2
	exit 1
fi

# One installation at a time: the policy below must be put back by the one who replaced it.
exec 9>/run/lock/sluice-testdeps
flock 9
policy=/usr/sbin/policy-rc.d
restore() {
	rm -f "$policy"
	[ ! -e "$policy.before-testdeps" ] || mv "$policy.before-testdeps" "$policy"
}
trap restore EXIT
trap 'exit 130' INT TERM HUP
# A kept copy is that of a run which was killed; it is the true one.
[ ! -e "$policy" ] || [ -e "$policy.before-testdeps" ] || mv "$policy" "$policy.before-testdeps"
# 101: the action is forbidden by policy. Packages then leave their service stopped.
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

echo "testdeps: installing $packages"
export DEBIAN_FRONTEND=noninteractive
install() {
	# shellcheck disable=SC2086 # the packages are words
	apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=120 $packages 9>&- >/dev/null
}
install 2>/dev/null || { apt-get update -qq 9>&- && install; }

packages=$(missing "$@" | tr '\n' ' ')
[ -z "$packages" ] || {
	echo "testdeps: still missing after apt-get install: $packages" >&2
	exit 1
}
