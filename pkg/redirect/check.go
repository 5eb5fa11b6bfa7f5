package redirect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// The forms of the AWS metadata service by which the way is proven.
const (
	tokenPath   = "/latest/api/token"
	tokenHeader = "X-aws-ec2-metadata-token"
	lifeHeader  = "X-aws-ec2-metadata-token-ttl-seconds"
	provingPath = "/latest/meta-data/"
)

// checkTime bounds one request.
const checkTime = 2 * time.Second

// ErrNotServing says that there is nobody to lead anything to.
var ErrNotServing = errors.New("no listener answers")

// CheckListener proves that what a rule leads to is there, and asks for session tokens as
// Purser does: it refuses one that nobody can have made. The error is ErrNotServing if
// nothing answers at all.
func CheckListener(ctx context.Context, to netip.AddrPort) error {
	status, err := ask(ctx, to, http.MethodGet, provingPath, tokenHeader, "none")
	if err != nil {
		return fmt.Errorf("%w on %s: %w; start purser first", ErrNotServing, to, reason(err))
	}
	if status != http.StatusUnauthorized {
		return fmt.Errorf("something else than Purser listens on %s: it answers %d %s to a session token that is none", to, status, http.StatusText(status))
	}
	return nil
}

// Check proves that what is sent to a rule's metadata address arrives at its listener,
// which CheckListener has found: a session token that is made there is good here. Only
// the one process that has the key can make it, so whatever answers in its place is found
// out, also if it speaks the same language. The error says what is wrong and what to do.
// The listener must speak the AWS dialect, and the caller must not be Purser itself. Seen
// is what Look has found, perhaps when the caller was still root.
func Check(ctx context.Context, r Rule, seen Sight) error {
	token, err := makeToken(ctx, r.From)
	if err != nil {
		return fmt.Errorf("%s cannot be reached: %w", r.From, explain(r, err, seen))
	}
	status := http.StatusUnauthorized
	if isToken(token) {
		status, err = ask(ctx, r.To, http.MethodGet, provingPath, tokenHeader, token)
	}
	if err != nil {
		return fmt.Errorf("nothing answers on the listener %s any more: %w", r.To, reason(err))
	}
	if status == http.StatusUnauthorized {
		return fmt.Errorf("something else than Purser's listener %s answers at %s: %s", r.To, r.From, other())
	}
	return nil
}

// isToken reports whether text can be sent as a session token.
func isToken(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' })
}

// other says who may answer in our place.
func other() string {
	if cloud := Cloud(); cloud != "" {
		return "this host is a machine of " + cloud + ", whose own metadata service it is"
	}
	return "the rule is missing or comes after that of another agent, or this host is in a cloud; see purser redirect install"
}

// An answerError is an answer that Purser does not give.
type answerError struct{ status int }

func (e answerError) Error() string {
	return fmt.Sprintf("it answers %d %s where Purser gives a session token", e.status, http.StatusText(e.status))
}

// explain says what a failed connection to a metadata address means.
func explain(r Rule, err error, seen Sight) error {
	present := seen.To.IsValid()
	_, answered := errors.AsType[answerError](err)
	denied := fmt.Sprintf("a firewall denies what goes out: let it allow TCP to %s, or have it pass as loopback's: %s", r.To, loopbackRoute(r))
	switch {
	case answered:
		return fmt.Errorf("%w: %s", err, other())
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("a prohibit route or a firewall forbids it, such as the route that systemd's client of metadata services makes; see `ip route get %s`, and remove it (ip route del prohibit %[1]s)", r.From.Addr())
	case errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("this host has no route to it, and the kernel looks for one before it applies the rule; add one, such as: %s", loopbackRoute(r))
	case errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("a blackhole route is in the way; see `ip route get %s`, and remove it", r.From.Addr())
	case seen.Known && !present:
		return errors.New("the rule is not there, or no more: who flushes a firewall by hand takes it along, and firewall-cmd --reload those of iptables; put it back by: systemctl reload-or-restart purser-redirect")
	case errors.Is(err, syscall.EHOSTUNREACH):
		return fmt.Errorf("an unreachable route is in the way, see `ip route get %s`, or %s", r.From.Addr(), denied)
	case errors.Is(err, syscall.ECONNREFUSED) && present:
		return fmt.Errorf("the connection is refused, though the rule is there: %s", denied)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("the connection is refused: the rule leads to another port, see purser redirect install, or %s", denied)
	}
	if netError, ok := errors.AsType[net.Error](err); ok && netError.Timeout() {
		if present {
			return fmt.Errorf("no answer: another rule comes before the one that is there, or %s", denied)
		}
		return fmt.Errorf("no answer: the rule is not there, which root can see, or another one comes first, or %s", denied)
	}
	return reason(err)
}

// loopbackRoute makes the kernel send by loopback from the start. A rule alone changes
// where a packet goes, but firewalls still see the network card that it would have taken.
func loopbackRoute(r Rule) string {
	return fmt.Sprintf("ip route add %s dev lo src %s", r.From.Addr(), r.To.Addr())
}

// reason leaves out of an error what the message around it says.
func reason(err error) error {
	if inner, ok := errors.AsType[*net.OpError](err); ok {
		return inner.Err
	}
	return err
}

func makeToken(ctx context.Context, at netip.AddrPort) (string, error) {
	status, body, err := exchange(ctx, at, http.MethodPut, tokenPath, lifeHeader, "60")
	if err == nil && status != http.StatusOK {
		err = answerError{status}
	}
	return body, err
}

func ask(ctx context.Context, at netip.AddrPort, method, path, header, value string) (status int, err error) {
	status, _, err = exchange(ctx, at, method, path, header, value)
	return status, err
}

// exchange makes one request, on a connection of its own, and never by a proxy.
func exchange(ctx context.Context, at netip.AddrPort, method, path, header, value string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+at.String()+path, nil)
	if err != nil {
		return 0, "", err
	}
	if header != "" {
		r.Header.Set(header, value)
	}
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	return answer.StatusCode, string(text), err
}
