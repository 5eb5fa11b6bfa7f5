package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
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
		k := &keptFile{path: *path, names: append([]string{""}, names...), held: map[string]*answeredCredential{}, ask: f.credential, say: os.Stderr}
		if k.path == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return usageError{fmt.Errorf("%w; name the file with --path", err)}
			}
			k.path = filepath.Join(home, ".aws", "credentials")
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
// may use it to its end.
func (k *keptFile) keep(ctx context.Context) error {
	if err := k.ours(); err != nil {
		return err
	}
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

// fileMark begins a file that may be overwritten.
const fileMark = "# Kept by purser credentials-file. What is changed here is lost.\n"

// ours makes sure that no file of somebody else's is overwritten.
func (k *keptFile) ours() error {
	text, err := os.ReadFile(k.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !strings.HasPrefix(string(text), fileMark):
		return fmt.Errorf("%s is not a file of purser's: move it away, or name another one with --path", k.path)
	}
	return nil
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
	if text == k.written || ctx.Err() != nil {
		return nil
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
		profile := name
		if profile == "" {
			profile = "default"
		}
		fmt.Fprintf(&b, "\n# until %s\n[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", c.Expiration, profile, c.AccessKeyId, c.SecretAccessKey)
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
	folder := filepath.Dir(k.path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	next, err := os.CreateTemp(folder, ".credentials-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(next.Name())
	_, err = next.WriteString(text)
	if err = errors.Join(err, next.Close()); err != nil {
		return err
	}
	return os.Rename(next.Name(), k.path)
}
