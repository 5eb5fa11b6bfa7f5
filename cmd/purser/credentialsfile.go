package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/purser-agent/purser/pkg/privilege"
)

func credentialsFileCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "credentials-file [NAME...]",
		Short: "Keep an AWS credentials file for programs that know nothing else",
		Long: `Keep a shared credentials file with the caller's first credential as the profile
default, and each NAME as a profile of that name, until SIGTERM. It is for programs that
read nothing else, and that read the file again before what is in it ends.

It asks the front end like any other program, so the grants decide what this user gets,
and the file belongs to this user alone. systemd runs it as purser-file@USER.service.`,
		Args: cobra.ArbitraryArgs,
	}
	var f frontEnd
	c.Flags().StringVar(&f.base, "url", "http://127.0.0.1:25772", "where the front end listens")
	c.Flags().StringVar(&f.tokenFile, "token-file", besideSocket(authorizationFile), "the front end's authorization token")
	path := c.Flags().String("path", "", "the file to keep (default ~/.aws/credentials)")
	c.RunE = func(_ *cobra.Command, names []string) error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		for i, name := range names {
			if name == firstProfile || slices.Contains(names[:i], name) {
				return usageError{fmt.Errorf("there can be only one profile %s", name)}
			}
		}
		k := &keptFile{path: *path, names: append([]string{""}, names...), held: map[string]*answeredCredential{}, ask: f.credential, say: os.Stderr}
		if k.path == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return usageError{fmt.Errorf("%w; name the file with --path", err)}
			}
			k.path = filepath.Join(home, ".aws", "credentials")
		}
		if err := privilege.Harden(); err != nil { // what is in the file is in memory, too
			return err
		}
		return k.keep(ctx)
	}
	return c
}

// A keptFile is a shared credentials file that follows the front end.
type keptFile struct {
	path  string
	names []string // of credentials; the empty one is the caller's first
	ask   func(ctx context.Context, name string) (*answeredCredential, error)
	say   io.Writer

	held    map[string]*answeredCredential // by name
	written string
	trouble string // as it was last told
}

// The file is brought up to date so often: at first, and when it is there.
const (
	fileRetry = 2 * time.Second
	fileEvery = 30 * time.Second
)

// keep follows the front end until ctx ends. What is in the file then stays: programs
// may use it to its end. So does, at the start, what a former call has left there.
func (k *keptFile) keep(ctx context.Context) error {
	text, err := k.present()
	if err != nil {
		return err
	}
	k.written = text
	k.hold(text)
	for ready := false; ; {
		if err := k.update(ctx, time.Now()); err != nil {
			return err
		}
		wait := fileRetry
		if k.written != "" {
			wait = fileEvery
			if !ready {
				ready = true
				_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// firstProfile is where programs find the caller's first credential.
const firstProfile = "default"

// fileMark begins a file that may be overwritten.
const fileMark = "# Kept by purser credentials-file. What is changed here is lost.\n"

// present is the file as it is, empty if there is none. That of somebody else is an
// error: it is not to be overwritten.
func (k *keptFile) present() (string, error) {
	text, err := os.ReadFile(k.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case !strings.HasPrefix(string(text), fileMark):
		return "", fmt.Errorf("%s is not a file of purser's: move it away, or name another one with --path", k.path)
	}
	return string(text), nil
}

// hold takes back what render wrote. What it does not understand is left out.
func (k *keptFile) hold(text string) {
	for block := range strings.SplitSeq(text, "\n\n") {
		c := &answeredCredential{Token: new("")}
		name := ""
		for line := range strings.Lines(block) {
			line = strings.TrimSuffix(line, "\n")
			key, value, _ := strings.Cut(line, " = ")
			switch {
			case strings.HasPrefix(line, endMark):
				c.Expiration = strings.TrimPrefix(line, endMark)
			case strings.HasPrefix(line, "["):
				name = strings.Trim(line, "[]")
			case key == "aws_access_key_id":
				c.AccessKeyId = value
			case key == "aws_secret_access_key":
				c.SecretAccessKey = value
			case key == "aws_session_token":
				*c.Token = value
			}
		}
		if name != "" && c.AccessKeyId != "" && c.SecretAccessKey != "" {
			if name == firstProfile {
				name = ""
			}
			k.held[name] = c
		}
	}
}

// update asks for every credential and writes the file if anything in it is new. What
// the front end cannot give at the moment stays to its end; what it refuses goes.
func (k *keptFile) update(ctx context.Context, now time.Time) error {
	var trouble []string
	for _, name := range k.names {
		asking, cancel := context.WithTimeoutCause(ctx, processTime, fmt.Errorf("no answer within %v", processTime))
		c, err := k.ask(asking, name)
		cancel()
		if err == nil {
			k.held[name] = c
			continue
		}
		if _, wrong := errors.AsType[usageError](err); wrong {
			return err
		}
		trouble = append(trouble, err.Error())
		if r, refused := errors.AsType[refusedAnswer](err); refused && r.code == http.StatusNotFound {
			delete(k.held, name)
		}
	}
	k.tell(strings.Join(trouble, "\n"))
	text := k.render(now)
	present, err := k.present() // it may have been deleted
	if err != nil || text == present || ctx.Err() != nil {
		return err
	}
	if err := k.write(text); err != nil {
		return err
	}
	k.written = text
	return nil
}

// tell says what is wrong when it begins, changes and ends.
func (k *keptFile) tell(trouble string) {
	if trouble == k.trouble {
		return
	}
	k.trouble = trouble
	if trouble == "" {
		trouble = "works again"
	}
	fmt.Fprintln(k.say, "purser:", trouble)
}

// endMark begins the line with a credential's end.
const endMark = "# until "

// render is the file with all that is held and valid, empty if nothing ever was.
func (k *keptFile) render(now time.Time) string {
	var b strings.Builder
	for _, name := range k.names {
		c := k.held[name]
		if c == nil {
			continue
		}
		if ends, err := time.Parse(time.RFC3339, c.Expiration); err != nil || !now.Before(ends) {
			delete(k.held, name)
			continue
		}
		profile := cmp.Or(name, firstProfile)
		fmt.Fprintf(&b, "\n"+endMark+"%s\n[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", c.Expiration, profile, c.AccessKeyId, c.SecretAccessKey)
		if *c.Token != "" {
			fmt.Fprintf(&b, "aws_session_token = %s\n", *c.Token)
		}
	}
	if b.Len() == 0 && k.written == "" {
		return ""
	}
	return fileMark + b.String()
}

// write replaces the file at once, readable for its owner only.
func (k *keptFile) write(text string) error {
	folder, name := filepath.Split(k.path)
	if err := os.MkdirAll(filepath.Clean(folder), 0o700); err != nil {
		return err
	}
	next := folder + "." + name + ".purser" // always the same, so that a crash leaves one at most
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(next, k.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return nil
}
