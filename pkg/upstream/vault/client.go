package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/openbao/openbao/api/v2"
	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A sender asks Vault with a given token, or with none. *client is one.
type sender interface {
	send(ctx context.Context, token credential.Secret, r request) (*answer, error)
}

// A client asks one Vault, at several addresses perhaps. Requests are written by
// OpenBao's library, which speaks to both servers, and sent through pkg/upstream;
// the library's own retries, redirects and reading of the environment are off. It is
// safe for concurrent use.
type client struct {
	http      *upstream.Client
	endpoints *upstream.Endpoints
	addresses map[string]address // by how they are configured
	namespace string
	ownCA     bool
}

// newClient takes addresses that parseAddress accepts.
func newClient(o upstream.Options, addresses []string, namespace string, log zerolog.Logger) (*client, error) {
	transport, err := upstream.NewClient(o, log)
	if err != nil {
		return nil, err
	}
	c := &client{
		http: transport, endpoints: upstream.NewEndpoints(addresses),
		addresses: map[string]address{}, namespace: namespace, ownCA: o.TLS.CA != "",
	}
	for _, raw := range addresses {
		at, err := parseAddress(raw)
		if err != nil {
			return nil, err
		}
		config := api.NewConfig() // of the environment it reads nothing
		config.Address, config.DisableRedirects = at.url.String(), true
		config.Timeout = 0
		config.CheckRetry = func(context.Context, *http.Response, error) (bool, error) { return false, nil }
		config.HttpClient.Transport = transport
		if at.api, err = api.NewClient(config); err != nil {
			return nil, err
		}
		c.addresses[raw] = at
	}
	return c, nil
}

// send asks once, at each address in turn if the former cannot say anything. Its
// error is an *upstream.Error.
func (c *client) send(ctx context.Context, token credential.Secret, r request) (*answer, error) {
	if r.method == "" {
		r.method = http.MethodGet
	}
	if r.namespace == "" {
		r.namespace = c.namespace
	}
	var last *answer
	err := c.endpoints.Try(ctx, func(ctx context.Context, raw string) error {
		var err error
		last, err = c.sendTo(ctx, c.addresses[raw], token, r)
		if err == nil && last.raw.Status >= http.StatusMultipleChoices && ofOneAddress(last.raw) {
			err = explain(last.raw, r)
		}
		if err == nil && last.raw.Check() == nil {
			last.secret, err = decode(last.raw)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if last.raw.Check() != nil {
		return nil, explain(last.raw, r)
	}
	last.age = age(last.raw.Header)
	return last, nil
}

// sendTo asks at one address, and follows one redirect from there.
func (c *client) sendTo(ctx context.Context, at address, token credential.Secret, r request) (*answer, error) {
	req := at.api.NewRequest(r.method, "/v1/"+r.path)
	if r.body != nil {
		if err := req.SetJSONBody(r.body); err != nil {
			return nil, err
		}
	}
	req.Params, req.ClientToken = r.query, token.Reveal()
	for name, value := range r.header {
		req.Headers.Set(name, value.Reveal())
	}
	first, err := c.exchange(ctx, at, req, r.namespace)
	if err != nil || first.raw.Status != http.StatusTemporaryRedirect {
		return first, err
	}
	to, err := c.follow(at, first.raw)
	if err != nil {
		return nil, err
	}
	req.URL, req.Host, req.Params = to, to.Host, to.Query()
	leader := at
	if known, ok := c.known(to); ok {
		leader = known
	}
	second, err := c.exchange(ctx, leader, req, r.namespace)
	if err == nil && second.raw.Status == http.StatusTemporaryRedirect {
		return nil, second.raw.Errorf(upstream.ClassServer, "a standby named a leader that names another one; Vault's cluster has no leader at present")
	}
	return second, err
}

// exchange sends a request and gets the answer, whatever its status.
func (c *client) exchange(ctx context.Context, at address, req *api.Request, namespace string) (*answer, error) {
	if at.socket != "" {
		ctx = upstream.WithSocket(ctx, at.socket)
	}
	got := &answer{secret: &secret{}, sent: time.Now()}
	keep := func(res *api.Response) { got.raw = upstream.AnswerOf(res.Response) }
	res, err := at.api.WithNamespace(namespace).WithResponseCallbacks(keep).RawRequestWithContext(ctx, req)
	if res != nil {
		_ = res.Body.Close()
	}
	if got.raw != nil {
		return got, nil // the library's error would quote it
	}
	if fault, ok := errors.AsType[*upstream.Error](err); ok {
		return nil, fault
	}
	return nil, &upstream.Error{
		Kind: upstream.ClassMalformed, Tried: req.Method + " " + at.String() + req.URL.Path,
		Err: errors.New("the request cannot be sent, or the answer is a redirect to nowhere"),
	}
}

// ofOneAddress reports whether another address might answer otherwise: a 5xx, but for
// one in which Vault says that AWS throttles it, and a redirect that was not followed.
func ofOneAddress(a *upstream.Answer) bool {
	return a.Status < 400 || a.Status >= 500 && (a.Status != http.StatusBadGateway || len(faults(a.Body)) == 0)
}

var errNotVault = errors.New("the answer is not a JSON document as Vault sends it; is something else at this address?")

// decode reads the envelope of a success.
func decode(a *upstream.Answer) (*secret, error) {
	s := &secret{}
	if a.Status == http.StatusNoContent {
		return s, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(a.Body))
	decoder.UseNumber()
	if !strings.HasPrefix(strings.TrimSpace(string(a.Body)), "{") || decoder.Decode(s) != nil {
		return nil, a.Errorf(upstream.ClassMalformed, "%w", errNotVault)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, a.Errorf(upstream.ClassMalformed, "%w", errNotVault)
	}
	return s, nil
}

// maxAge bounds what an Age header is believed.
const maxAge = 30 * 24 * time.Hour

// age is how long ago an answer from a cache was fresh.
func age(header http.Header) time.Duration {
	seconds, err := strconv.ParseUint(header.Get("Age"), 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(min(seconds, uint64(maxAge/time.Second))) * time.Second
}

// follow says where a standby's redirect leads, if the token may go there: to an
// address that is configured, or from https to a server that the authority of our own
// in tls.ca vouches for.
func (c *client) follow(from address, a *upstream.Answer) (*url.URL, error) {
	to, err := url.Parse(a.Header.Get("Location"))
	if err != nil || to.Host == "" || to.User != nil {
		return nil, a.Errorf(upstream.ClassServer, "a standby names no leader that it could be asked for")
	}
	if _, ok := c.known(to); ok {
		return to, nil
	}
	if c.ownCA && to.Scheme == "https" && from.url.Scheme == "https" {
		return to, nil
	}
	return nil, a.Errorf(upstream.ClassServer, "this is a standby and its leader %q is no configured address, so the token does not go there; add it to address, or let Vault forward requests",
		to.Scheme+"://"+to.Host)
}

// known finds the configured address that a URL leads to.
func (c *client) known(to *url.URL) (address, bool) {
	for _, at := range c.addresses {
		if at.socket == "" && origin(at.url) == origin(to) {
			return at, true
		}
	}
	return address{}, false
}
