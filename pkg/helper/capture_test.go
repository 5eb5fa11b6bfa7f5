package helper

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPromise6StandardErrorShowsNoSecretThatThisProgramIsKnownToHave: what it prints as
// keys and what its environment holds, in whichever way a script's trace shows it.
func TestPromise6StandardErrorShowsNoSecretThatThisProgramIsKnownToHave(t *testing.T) {
	h := start(t)
	const key = "-----BEGIN PRIVATE KEY-----\nMIICONFIDENTIALMIICONFIDENTIAL\nCONFIDENTIALno\n-----END PRIVATE KEY-----\n"
	for _, test := range []struct {
		name, line string
		env        []string
		want       []string
	}{
		{"a key of several lines", `echo "$KEY" >&2; echo "KEY=$KEY." >&2`, []string{"KEY=" + key}, []string{
			"[redacted]", "[redacted]", "[redacted]", "[redacted]", "KEY=[redacted]", "[redacted]", "[redacted]", "[redacted]", ".",
		}},
		{"a word that begins another", `echo CONFIDENTIAL CONFIDENTIALtoken; echo CONFIDENTIALtoken >&2`, nil, []string{"[redacted]"}},
		{"a value beyond the length of a line", `printf '%0492d %s\n' 0 "$WORD" >&2`, []string{"WORD=CONFIDENTIAL"}, []string{strings.Repeat("0", 492) + " [redact..."}},
		{"a short word", `echo "$WORD" >&2`, []string{"WORD=debug"}, []string{"debug"}},
		{"cut off", `echo first >&2; printf '%016360d ' 0 >&2; echo "$WORD$WORD" >&2`, []string{"WORD=CONFIDENTIAL"}, []string{"first", "and more"}},
		{"cut off without a line", `for i in 1 2 3 4 5 6 7 8 9; do printf '%s' "$WORD" >&2; done`, []string{"WORD=" + strings.Repeat("CONFIDENTIAL", 200)}, []string{"and more"}},
		{"more on standard output than is kept", `printf '%0980d CONFIDENTIALCONFIDENTIAL' 0; echo CONFIDENTIALCONFIDENTIAL >&2; sleep 60`, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := sh(test.line)
			p.Env = test.env
			if _, got, _ := run(t, h, p); !slices.Equal(got, test.want) {
				t.Errorf("got %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestWhatAProgramPrintedIsReadHoweverLateItsReaderComes(t *testing.T) {
	c, err := newCapture(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.write) // something else has the pipe open
	want := strings.Repeat("0123456789abcdef", 3000)
	if _, err := unix.Write(c.write, []byte(want)); err != nil {
		t.Fatal(err)
	}
	if err := c.file.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	c.read()
	if text, whole := c.finish(); string(text) != want || !whole {
		t.Errorf("got %d bytes, whole %v, want %d", len(text), whole, len(want))
	}
}

func TestTheEnvironmentArrivesByteByByte(t *testing.T) {
	h := start(t)
	const password = "p\xe4ss\xff\"\\\n<\u2028>"
	p := sh(`printf %s "$PASSWORD"`)
	p.Env = []string{"PASSWORD=" + password}
	if out, _, err := run(t, h, p); err != nil || out != password {
		t.Errorf("got %q, %v, want %q", out, err, password)
	}
}
