package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/helper"
	"github.com/purser-agent/purser/pkg/mock"
)

// programs run those of all tests in this package.
var programs *helper.Helper

// TestMain makes the test binary the helper when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == helper.Command {
		os.Exit(run(os.Args[1:]))
	}
	programs = helper.Start(zerolog.Nop())
	code := m.Run()
	programs.Close()
	os.Exit(code)
}

// A shelf is a folder of files that a scene is made of.
type shelf struct {
	t      *testing.T
	folder string
}

func (s shelf) path(name string) string { return filepath.Join(s.folder, name) }

// put replaces a file in one step, as those who rotate keys should.
func (s shelf) put(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name)+".new", []byte(text), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.path(name)+".new", s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s shelf) remove(name string) {
	s.t.Helper()
	if err := os.RemoveAll(s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

// loginScript is a program that logs in somewhere, or not, as a file beside it says. With
// each answer it says on standard error what it is about to print.
const loginScript = `#!/bin/sh
here=$(dirname "$0")
echo >> "$here/asked"
id=ASIA%[1]s secret=%[1]s/secret token=%[1]s/token ends=$(date -u -d '1 hour' +%%FT%%TZ)
case $(cat "$here/fault") in
status) exit 3 ;;
hang) sleep 60 ;;
empty) exit 0 ;;
malformed) echo '{"Version": 1, "AccessKeyId": "%[1]s'; exit 0 ;;
html) echo '<html>%[1]s</html>'; exit 0 ;;
huge) exec tr '\0' x < /dev/zero ;;
incomplete) secret= ;;
expired) ends=$(date -u -d '-1 minute' +%%FT%%TZ) ;;
reset) kill -KILL $$ ;;
esac
set -x
printf '{"Version": 1, "AccessKeyId": "%%s", "SecretAccessKey": "%%s", "SessionToken": "%%s", "Expiration": "%%s"}\n' "$id" "$secret" "$token" "$ends"
`

func processScene(t *testing.T) scene {
	files := shelf{t, t.TempDir()}
	files.put("login", fmt.Sprintf(loginScript, mock.Marker))
	files.put("fault", "")
	return scene{
		upstreams: fmt.Sprintf("  tried: {kind: process, credentials: {web: {command: [%q]}}}\n", files.path("login")), given: "web",
		fail: func(faults ...mock.Fault) {
			kind := ""
			for _, fault := range faults {
				kind = string(fault.Kind)
			}
			files.put("fault", kind) // at once: between two an attempt could succeed
		},
		asked: func() int {
			text, _ := os.ReadFile(files.path("asked"))
			return len(text)
		},
		faults: faultsOf(mock.Status, mock.Empty, mock.Malformed, mock.HTML, mock.Huge, mock.Incomplete, mock.Expired, mock.Reset),
	}
}

func faultsOf(kinds ...mock.Kind) (faults []mock.Fault) {
	for _, kind := range kinds {
		faults = append(faults, mock.Fault{Kind: kind})
	}
	return faults
}

func staticScene(t *testing.T) scene {
	files := shelf{t, t.TempDir()}
	good := func() {
		files.put("id", "AKIA"+mock.Marker+"\n")
		files.put("secret", mock.Marker+"/secret\n")
	}
	good()
	return scene{
		upstreams: fmt.Sprintf("  tried: {kind: static, credentials: {web: {access_key_id: {file: %q}, secret_access_key: {file: %q}}}}\n",
			files.path("id"), files.path("secret")), given: "web",
		fail: func(faults ...mock.Fault) {
			good()
			for _, fault := range faults {
				switch fault.Kind {
				case mock.Vanished:
					files.remove("secret")
				case mock.Empty:
					files.put("secret", "")
				case mock.Huge:
					files.put("secret", strings.Repeat(mock.Marker, 10000))
				case mock.Incomplete: // of keys that need a token
					files.put("id", "ASIA"+mock.Marker)
				default:
					files.put("secret", mock.Marker+" "+mock.Marker)
				}
			}
		},
		faults: faultsOf(mock.Vanished, mock.Empty, mock.Huge, mock.Incomplete, mock.Malformed),
	}
}

func filesScene(t *testing.T) scene {
	files := shelf{t, t.TempDir()}
	text := func(secret string, ends time.Time) string {
		return fmt.Sprintf("[default]\naws_access_key_id = ASIA%s\n%s\naws_session_token = %s/token\nexpiration = %s\n",
			mock.Marker, secret, mock.Marker, ends.Format(time.RFC3339))
	}
	secret, soon := "aws_secret_access_key = "+mock.Marker+"/secret", time.Now().Add(time.Hour)
	files.put("credentials", text(secret, soon))
	return scene{
		upstreams: fmt.Sprintf("  tried: {kind: files, path: %q, profiles: {web: default}}\n", files.path("credentials")), given: "web",
		fail: func(faults ...mock.Fault) {
			files.put("credentials", text(secret, soon))
			for _, fault := range faults {
				switch fault.Kind {
				case mock.Vanished, mock.Status:
					files.remove("credentials")
				case mock.Empty:
					files.put("credentials", "")
				case mock.Huge:
					files.put("credentials", strings.Repeat(mock.Marker, 100000))
				case mock.Incomplete:
					files.put("credentials", text("", soon))
				case mock.Truncated:
					files.put("credentials", text(secret, soon)[:20])
				case mock.Expired:
					files.put("credentials", text(secret, time.Now().Add(-time.Minute)))
				default:
					files.put("credentials", text(mock.Marker, soon))
				}
			}
		},
		faults: faultsOf(mock.Vanished, mock.Empty, mock.Huge, mock.Incomplete, mock.Truncated, mock.Expired, mock.Malformed),
	}
}

// TestAccountsComeFromTheHelper: what getent says arrives, with its exit code.
func TestAccountsComeFromTheHelper(t *testing.T) {
	accounts := accountsBy(programs)
	for _, c := range []struct {
		args    []string
		printed string
		exit    int
	}{
		{[]string{"/bin/sh", "-c", "echo found; exit 2"}, "found\n", 2},
		{[]string{"/usr/bin/getent", "passwd", "--", "root"}, "root:x:0:0:root:/root:/bin/bash\n", 0},
	} {
		printed, exit, err := accounts.Run(t.Context(), c.args, 1000)
		if string(printed) != c.printed || exit != c.exit || err != nil {
			t.Errorf("%v: got %q, %d, %v", c.args, printed, exit, err)
		}
	}
	if _, _, err := accounts.Run(t.Context(), []string{"/does/not/exist"}, 1000); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a getent that is not there: %v", err)
	}
	if _, err := accounts.UID(t.Context(), "no-such-account"); !errors.Is(err, caller.ErrUnknownAccount) {
		t.Errorf("an account that is not there: %v", err)
	}
}
