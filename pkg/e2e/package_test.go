package e2e

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// A packaging is one kind of package, in the words of its tools.
type packaging struct {
	target  string // of make
	file    string // of a package, by name, version and architecture
	arch    map[string]string
	install []string // also installs another version over the first
	remove  []string // and what belongs to it
	left    []string // of what has Purser's name, after that
}

var debian = packaging{
	target:  "deb",
	file:    "%s_%s_%s.deb",
	arch:    map[string]string{"amd64": "amd64", "arm64": "arm64"},
	install: []string{"apt-get", "install", "--quiet", "--yes", "--allow-downgrades", "--reinstall", "--option", "Dpkg::Options::=--force-confold"},
	remove:  []string{"apt-get", "purge", "--quiet", "--yes"},
}

var rpm = packaging{
	target:  "rpm",
	file:    "%s-%s-1.%s.rpm",
	arch:    map[string]string{"amd64": "x86_64", "arm64": "aarch64"},
	install: []string{"rpm", "--upgrade", "--replacepkgs", "--nodeps"}, // this rpm knows of no other packages
	remove:  []string{"rpm", "--erase"},
	// RPM has no purge: what the operator changed stays, and the account.
	left: []string{"/etc/purser", "/etc/purser/purser.yaml.rpmsave"},
}

// path is where `make` has put a package for the machine at hand.
func (p packaging) path(dir, name, version string) string {
	return filepath.Join(dir, fmt.Sprintf(p.file, name, version, p.arch[runtime.GOARCH]))
}

// released is the version of debian/changelog, which the packages have that `make deb
// rpm` leaves in dist.
func released(t *testing.T) string {
	t.Helper()
	root, err := harness.Root()
	must(t, err)
	text, err := os.ReadFile(filepath.Join(root, "debian", "changelog"))
	must(t, err)
	version := regexp.MustCompile(`^purser \((.*)\)`).FindSubmatch(text)
	if version == nil {
		t.Fatal("debian/changelog does not begin with a version")
	}
	return string(version[1])
}

// dist is where `make deb rpm` leaves packages.
func dist(t *testing.T) string {
	t.Helper()
	root, err := harness.Root()
	must(t, err)
	return filepath.Join(root, "dist")
}

// needsPackages is for tests of what `make deb rpm` has built.
func needsPackages(t *testing.T) {
	t.Helper()
	for _, kind := range []packaging{debian, rpm} {
		_, err := os.Stat(kind.path(dist(t), "purser", released(t)))
		needs(t, "packages in dist, from make deb rpm", err == nil)
	}
}

// quick packs Debian's packages without pressing them, which takes most of the time.
const quick = "DPKG_DEB_COMPRESSOR_LEVEL=0"

// makePackages runs `make`, with what has no business in packages another way round.
func makePackages(t *testing.T, args ...string) (dir string) {
	t.Helper()
	root, err := harness.Root()
	must(t, err)
	dir = t.TempDir()
	make := exec.Command("/bin/sh", append([]string{"-c", `umask 077; exec nice make "$@"`, "sh", "DIST=" + dir}, args...)...)
	make.Dir = root
	make.Env = append(os.Environ(), "TZ=Asia/Kathmandu", "LC_ALL=C", "TMPDIR="+t.TempDir(), "MAKEFLAGS=")
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v\n%s", strings.Join(args, " "), err, tail(string(out), 4000))
	}
	return dir
}

func TestPackagesAreReproducible(t *testing.T) {
	t.Parallel()
	needsPackages(t)
	again := makePackages(t, "deb", "rpm")
	for _, kind := range []packaging{debian, rpm} {
		for _, name := range []string{"purser", "purser-mock"} {
			first, err := os.ReadFile(kind.path(dist(t), name, released(t)))
			must(t, err)
			second, err := os.ReadFile(kind.path(again, name, released(t)))
			must(t, err)
			if !bytes.Equal(first, second) {
				t.Errorf("%s: two builds differ", filepath.Base(kind.path(again, name, released(t))))
			}
			t.Logf("%s has %d bytes", filepath.Base(kind.path(again, name, released(t))), len(second))
		}
	}
}

func TestPackagesAreClean(t *testing.T) {
	t.Parallel()
	needsPackages(t)
	root, err := harness.Root()
	must(t, err)
	var debs, rpms []string
	for _, name := range []string{"purser", "purser-mock"} {
		debs = append(debs, debian.path("dist", name, released(t)))
		rpms = append(rpms, rpm.path("dist", name, released(t)))
	}
	for _, check := range [][]string{
		// The texts of a Go binary lie side by side: no word ends where the next begins.
		append([]string{"lintian", "--allow-root", "--display-info", "--fail-on", "error,warning,info",
			"--suppress-tags", "spelling-error-in-binary"}, debs...),
		append([]string{"rpmlint", "--strict", "--config", "rpm/rpmlint.toml", "rpm/purser.spec"}, rpms...),
	} {
		command := exec.Command(check[0], check[1:]...)
		command.Dir = root
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", check[0], err, out)
		}
	}
}

// TestPackagesForAnotherMachine builds for the architecture that this machine has not.
func TestPackagesForAnotherMachine(t *testing.T) {
	t.Parallel()
	needsPackages(t)
	other, machine := "arm64", elf.EM_AARCH64
	if runtime.GOARCH == "arm64" {
		other, machine = "amd64", elf.EM_X86_64
	}
	dir := makePackages(t, "deb", "ARCH="+other, quick)
	file := filepath.Join(dir, fmt.Sprintf(debian.file, "purser", released(t), other))
	out, err := exec.Command("dpkg-deb", "--field", file, "Architecture").Output()
	must(t, err)
	if got := strings.TrimSpace(string(out)); got != other {
		t.Errorf("the package is for %s, want %s", got, other)
	}
	unpacked := t.TempDir()
	must(t, exec.Command("dpkg-deb", "--extract", file, unpacked).Run())
	binary, err := elf.Open(filepath.Join(unpacked, "usr/bin/purser"))
	must(t, err)
	defer binary.Close()
	if binary.Machine != machine {
		t.Errorf("its binary is for %v, want %v", binary.Machine, machine)
	}
	if pages, _ := filepath.Glob(filepath.Join(unpacked, "usr/share/man/man1/purser*.1.gz")); len(pages) < 10 {
		t.Errorf("it has the manual pages %q", pages)
	}
}
