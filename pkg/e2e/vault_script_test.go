package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A vaultUnderTest is a Vault that a script talks with.
type vaultUnderTest struct {
	url    string
	client *http.Client
	// vars are what $NAME stands for in a script.
	vars map[string]string
	// can is what a script can make happen.
	can map[string]func(argument string) error
}

// check plays the script of this name from testdata/vault, and compares or writes what
// was answered. A script is a talk with a Vault. Its blocks are parted by empty lines,
// and their lines begin with a mark:
//
//	# a comment
//	! WHAT [ARGUMENT]           something happens to the Vault
//	> TOKEN METHOD PATH [BODY]  a request; - is no token
//	+ NAME: VALUE               a header of it
//	= NAME PATH                 a value of the answer to keep: a.b.c in its JSON
//	< STATUS                    the answer, see settled; it ends the block
func (v vaultUnderTest) check(t *testing.T, name string, write bool) {
	t.Helper()
	file := filepath.Join("testdata", "vault", name+".txt")
	text, err := os.ReadFile(file)
	must(t, err)
	blocks := strings.Split(strings.TrimSpace(string(text)), "\n\n")
	for i, want := range blocks {
		asked, _, _ := strings.Cut(want, "\n<")
		got, err := v.perform(asked)
		if err != nil {
			t.Fatalf("%s\n%v", asked, err)
		}
		if got != "" {
			asked += "\n< " + got
		}
		blocks[i] = asked
		if !write && blocks[i] != want {
			t.Errorf("got\n%s\nwant\n%s", blocks[i], want)
		}
	}
	if write {
		must(t, os.WriteFile(file, []byte(strings.Join(blocks, "\n\n")+"\n"), 0o644))
	}
}

// perform does what a block says, and returns the answer if it has a request.
func (v vaultUnderTest) perform(block string) (string, error) {
	var request *http.Request
	keep := map[string]string{}
	for line := range strings.Lines(block) {
		mark, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest, err := v.expand(rest)
		if err != nil && mark != "#" {
			return "", err
		}
		switch first, second, _ := strings.Cut(rest, " "); mark {
		case "#":
		case "!":
			do := v.can[first]
			if do == nil {
				return "", fmt.Errorf("nobody can %q", first)
			}
			err = do(second)
		case ">":
			request, err = v.request(rest)
		case "+":
			request.Header.Set(strings.TrimSuffix(first, ":"), second)
		case "=":
			keep[first] = second
		default:
			err = fmt.Errorf("a line cannot begin with %q", mark)
		}
		if err != nil {
			return "", err
		}
	}
	if request == nil {
		return "", nil
	}
	response, err := v.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	for name, path := range keep {
		if v.vars[name], err = dig(body, path); err != nil {
			return "", fmt.Errorf("%w in %s", err, body)
		}
	}
	return settled(response, body), nil
}

// expand puts in what $NAME stands for.
func (v vaultUnderTest) expand(text string) (string, error) {
	var err error
	return os.Expand(text, func(name string) string {
		value, ok := v.vars[name]
		if !ok {
			err = fmt.Errorf("nobody kept $%s", name)
		}
		return value
	}), err
}

// request makes one of TOKEN METHOD PATH [BODY].
func (v vaultUnderTest) request(line string) (*http.Request, error) {
	parts := append(strings.SplitN(line, " ", 4), "")
	if len(parts) < 4 {
		return nil, errors.New("a request has a token, a method and a path")
	}
	request, err := http.NewRequest(parts[1], v.url+"/v1/"+parts[2], strings.NewReader(parts[3]))
	if err == nil && parts[0] != "-" {
		request.Header.Set("X-Vault-Token", parts[0])
	}
	return request, err
}

// dig returns the value at a.b.c in a JSON text.
func dig(body []byte, path string) (string, error) {
	var at any
	if err := json.Unmarshal(body, &at); err != nil {
		return "", err
	}
	for name := range strings.SplitSeq(path, ".") {
		inside, _ := at.(map[string]any)
		at = inside[name]
	}
	text, ok := at.(string)
	if !ok {
		return "", fmt.Errorf("there is no text at %s", path)
	}
	return text, nil
}

// settled is an answer without what differs from one time to the next: identifiers,
// secrets, times and addresses are replaced by their kind, and seconds are rounded.
func settled(response *http.Response, body []byte) string {
	var b strings.Builder
	fmt.Fprintln(&b, response.StatusCode)
	for _, name := range []string{"Location", "Retry-After", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset"} {
		if value := response.Header.Get(name); value != "" {
			if _, err := strconv.Atoi(value); err == nil && value != "0" && name != "X-Ratelimit-Limit" {
				value = "soon"
			}
			fmt.Fprintf(&b, "%s: %s\n", name, settledText("", value))
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		b.Write(body)
		return strings.TrimSpace(b.String())
	}
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(settledValue("", value)) // a strings.Builder takes all
	return strings.TrimSpace(b.String())
}

func settledValue(name string, value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, inside := range value {
			value[key] = settledValue(key, inside)
		}
	case []any:
		for i, inside := range value {
			value[i] = settledValue(name, inside)
		}
	case string:
		return settledText(name, value)
	case json.Number:
		return settledNumber(name, value)
	}
	return value
}

// settledNumber rounds seconds up to ten, so that the time a test takes is not seen.
func settledNumber(name string, value json.Number) any {
	n, err := strconv.ParseInt(value.String(), 10, 64)
	switch {
	case slices.Contains([]string{"creation_time", "server_time_utc"}, name):
		return "TIME"
	case err != nil:
		return "BEYOND INT64"
	case slices.Contains([]string{"ttl", "lease_duration"}, name):
		return (n + 9) / 10 * 10
	}
	return n
}

// identifiers are the names whose values are random.
var identifiers = []string{"request_id", "client_token", "accessor", "wrapped_accessor", "entity_id", "token", "id", "secret_id",
	"secret_id_accessor", "secret_key", "security_token", "cluster_id", "cluster_name", "uuid", "mfa_request_id",
	"serial_number", "authority_key_id"}

// volatile are the parts of a text that differ from one time to the next.
var volatile = []struct {
	form *regexp.Regexp
	kind string
}{
	{regexp.MustCompile(`https?://[\w.:-]+/?`), "URL/"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`), "TIME"},
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`-\d{10}-\w+`), "-TIME-RANDOM"},
	{regexp.MustCompile(`: (\w+): [^\n]*(\n\tstatus code)`), ": $1: WORDS OF AWS$2"},
	{regexp.MustCompile(`\b(AKIA|ASIA)\w{16}`), "$1"},
	{regexp.MustCompile(`PURSERMOCKSECRET\w*`), "SECRET"},
	{regexp.MustCompile(`/\w{24}$`), "/RANDOM"},
	{regexp.MustCompile(`^(\w+)_[0-9a-f]{8}$`), "$1"},
}

func settledText(name, text string) string {
	if text != "" && slices.Contains(identifiers, name) {
		return strings.ToUpper(name)
	}
	for _, one := range volatile {
		text = one.form.ReplaceAllString(text, one.kind)
	}
	return text
}

// wait lets time pass on both sides of the wire.
func wait(argument string) error {
	d, err := time.ParseDuration(argument)
	time.Sleep(d)
	return err
}
