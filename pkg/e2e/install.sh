#!/bin/bash
# Installs what the tests need: a C compiler for the race detector, the real AWS
# clients, tools for network namespaces and for packages, a TPM emulator, a small Debian
# that systemd-nspawn boots, emulators and kernels for virtual machines, and a real
# Vault, which takes minutes to build the first time. Running it again is quick.
#
# What cannot be had (no root, no registry) is named, and the tests that need it skip;
# with CI=true that is a failure instead.
set -euo pipefail
cd "$(dirname "$0")"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/purser-e2e
tree=$cache/host
machines=$cache/machines
packages=(gcc libc6-dev curl python3-boto3 awscli nodejs iproute2 iptables nftables util-linux faketime
	systemd-container debootstrap shellcheck tinyproxy-bin swtpm debhelper dpkg-dev lintian rpm rpmlint
	qemu-system-x86 qemu-system-arm cpio xz-utils)
# Changing one of these lists makes a new tree.
inside=systemd,systemd-sysv,dbus,procps,iproute2,iptables,curl,rpm,python3-boto3,awscli,python3-cffi-backend,python3-dbus,python3-gi,python3-nftables,python3-cap-ng,libedit2,ucf
# Of which tests install one. They lie in the tree's /srv.
firewalls=(firewalld python3-firewall ufw nftables netfilter-persistent iptables-persistent)

missing=0
lacks() {
	echo "install: $1: the tests that need it will be skipped" >&2
	missing=1
}

install_packages() {
	local want=() p
	for p in "$@"; do
		[[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null) == ii* ]] || want+=("$p")
	done
	((${#want[@]})) || return 0
	if ! command -v apt-get >/dev/null; then
		lacks "no apt-get here to install ${want[*]}"
	elif ((EUID != 0)); then
		lacks "installing ${want[*]} needs root"
	elif ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${want[@]}"; } >&2; then
		lacks "apt-get could not install ${want[*]}"
	fi
}

install_node_modules() {
	cmp -s package-lock.json node_modules/.installed && return 0
	if command -v npm >/dev/null && npm ci --no-fund --no-audit --loglevel=error >&2; then
		cp package-lock.json node_modules/.installed
	else
		lacks "npm could not install the AWS SDK for JavaScript"
	fi
}

# Squid is started by a test only, never as a service of this machine.
install_squid() {
	local unit=/etc/systemd/system/squid.service
	if ((EUID == 0)) && [[ ! -e /usr/sbin/squid && ! -e $unit ]]; then
		mkdir -p "${unit%/*}"
		ln -s /dev/null "$unit"
	fi
	install_packages squid openssl
}

# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")

# Where this machine gets its own Debian from.
mirror() {
	# shellcheck disable=SC2016 # apt-get expands it
	apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $codename" | head -n 1
}

install_tree() {
	[[ $(cat "$tree.made" 2>/dev/null) == "$codename $inside ${firewalls[*]}" ]] && return 0
	if ((EUID != 0)) || ! command -v debootstrap >/dev/null; then
		lacks "making a Debian to boot needs root and debootstrap"
		return 0
	fi
	mkdir -p "$cache"
	rm -rf "$tree" "$tree.made" "$tree.new"
	if { debootstrap --variant=minbase --include="$inside" "$codename" "$tree.new" "$(mirror)" &&
		apt-get update -qq && (cd "$tree.new/srv" && apt-get download "${firewalls[@]}"); } >"$tree.log" 2>&1; then
		rm -rf "$tree.new"/var/cache/apt/archives/*.deb "$tree.new"/var/lib/apt/lists/* \
			"$tree.new"/usr/share/{doc,man,info,locale}/* "$tree.new"/usr/share/awscli/examples
		mv "$tree.new" "$tree"
		echo "$codename $inside ${firewalls[*]}" >"$tree.made"
	else
		tail -n 5 "$tree.log" >&2
		lacks "debootstrap could not make a Debian to boot"
	fi
}

# For virtual machines of both architectures: a kernel, its modules by which Purser finds
# its callers, and a shell. Nothing of it is installed here, and apt's and dpkg's own
# files stay as they are.
unpack_machines() {
	local arch package
	mkdir -p apt/lists/partial apt/archives/partial
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $codename main" >apt/sources
	cat >apt/conf <<-END
		APT::Architectures { "amd64"; "arm64"; };
		APT::Sandbox::User "root";
		Acquire::Languages "none";
		Dir::State "$PWD/apt";
		Dir::State::status "/dev/null";
		Dir::Cache "$PWD/apt";
		Dir::Etc::SourceList "$PWD/apt/sources";
		Dir::Etc::SourceParts "/dev/null";
	END
	export APT_CONFIG=$PWD/apt/conf
	apt-get update -qq || return
	for arch in amd64 arm64; do
		mkdir "$arch" "apt/$arch"
		package=$(apt-cache depends "linux-image-cloud-$arch:$arch" | sed -n 's/.*Depends: \(linux-image-[^:]*\).*/\1/p')
		(cd apt && apt-get download -qq "$package:$arch" "busybox-static:$arch") || return
		for package in apt/*_"$arch".deb; do dpkg-deb -x "$package" "apt/$arch" || return; done
		find "apt/$arch" \( -name 'vmlinuz-*' -o -path '*/bin/busybox' -o -name 'inet_diag.ko*' -o -name 'tcp_diag.ko*' \) \
			-exec cp -t "$arch" {} + || return
		find "$arch" -name '*.xz' -exec unxz {} +
		mv "$arch"/vmlinuz-* "$arch/vmlinuz" || return
	done
	rm -r apt
}

fetch_machines() {
	[[ $(cat "$machines.made" 2>/dev/null) == "$codename" ]] && return 0
	rm -rf "$machines" "$machines.made" "$machines.new"
	mkdir -p "$machines.new"
	if command -v apt-get >/dev/null && (cd "$machines.new" && unpack_machines) >"$machines.log" 2>&1; then
		mv "$machines.new" "$machines"
		echo "$codename" >"$machines.made"
	else
		tail -n 5 "$machines.log" >&2
		lacks "kernels for virtual machines could not be fetched"
	fi
}

# The binary's name says what it was built from; the harness looks for the same name.
build_vault() {
	local key binary
	key=$(cd vaultreal && { go env GOVERSION && cat go.mod go.sum main.go; } | sha256sum | cut -c1-16)
	binary=$cache/vaultreal-$key
	[[ -x $binary ]] && return 0
	echo "install: building a real Vault, which takes up to ten minutes" >&2
	mkdir -p "$cache"
	find "$cache" -maxdepth 1 -name 'vaultreal-*' -mtime +30 -delete
	if (cd vaultreal && nice go build -ldflags='-s -w' -o "$binary.new" .) >&2; then
		mv "$binary.new" "$binary"
	else
		lacks "go could not build a real Vault"
	fi
}

install_packages "${packages[@]}"
install_squid
# Some builds of nodejs bring npm along, and Debian's does not.
command -v npm >/dev/null || install_packages npm
install_node_modules
install_tree
fetch_machines
build_vault
if ((missing)) && [[ ${CI:-} == true ]]; then
	echo "install: CI=true, so nothing may be missing" >&2
	exit 1
fi
