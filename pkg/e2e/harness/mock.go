package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Marker is in every secret that the mock makes.
const Marker = "PURSERMOCKSECRET"

// A Mock is a running purser-mock that stands in for an IMS.
type Mock struct {
	*Process
	Address string // host and port
	// STS, RolesAnywhere and Vault are the same of what is beside it, see StartMockWithSTS
	// and the like.
	STS, RolesAnywhere, Vault string
}

// StartMockWithVault starts one that has a Vault beside it.
func StartMockWithVault(flags ...string) (*Mock, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	m, err := StartMock(append([]string{"--vault", address}, flags...)...)
	if err != nil {
		return nil, err
	}
	m.Vault = address
	return m, nil
}

// OrderVault gives the Vault an order, such as POST vault/seal; see the mock's help.
// The answer may be nil.
func (m *Mock) OrderVault(method, what string, body, answer any) error {
	return order("http://"+m.Vault, method, what, body, answer)
}

// StartMockWithSTS starts one that has an STS beside it.
func StartMockWithSTS(flags ...string) (*Mock, error) {
	m, address, err := startMockWith("--sts", flags)
	if err == nil {
		m.STS = address
	}
	return m, err
}

// StartMockWithRolesAnywhere starts one that has an IAM Roles Anywhere beside it, which
// trusts the authority in a file.
func StartMockWithRolesAnywhere(ca string, flags ...string) (*Mock, error) {
	m, address, err := startMockWith("--roles-anywhere", append([]string{"--roles-anywhere-ca", ca}, flags...))
	if err == nil {
		m.RolesAnywhere = address
	}
	return m, err
}

// startMockWith starts one with another service at an address of its own.
func startMockWith(service string, flags []string) (*Mock, string, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	m, err := StartMock(append([]string{service, address}, flags...)...)
	return m, address, err
}

// StartMock starts one with these flags and waits until it answers. Call Stop when
// done.
func StartMock(flags ...string) (*Mock, error) {
	binary, err := Binary("purser-mock")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	m := &Mock{Address: address}
	m.Process, err = Command{Path: binary, Args: append([]string{"--listen", address}, flags...)}.Start()
	if err != nil {
		return nil, err
	}
	err = Await(10*time.Second, func() error {
		_, err := m.Requests()
		return err
	})
	if err != nil {
		_, _ = m.Stop()
		return nil, fmt.Errorf("the mock does not answer: %w; it said:\n%s", err, m.Output())
	}
	return m, nil
}

// Server is the mock's own URL, and URL the one to configure for an upstream.
func (m *Mock) Server() string { return "http://" + m.Address }

// URL is what an upstream's `url` is set to.
func (m *Mock) URL() string { return m.Server() + "/latest" }

// SetFaults replaces all faults; without arguments it ends them. A fault's text form
// is that of the mock's --fault.
func (m *Mock) SetFaults(faults ...string) error {
	if faults == nil {
		faults = []string{}
	}
	return m.order(http.MethodPut, "faults", faults, nil)
}

// Requests is what the mock was asked.
type Requests struct {
	Connections, Total, Lists int
	Fetches                   map[string]int // by role
}

// Requests tells what the mock was asked since it started.
func (m *Mock) Requests() (Requests, error) {
	var r Requests
	err := m.order(http.MethodGet, "requests", nil, &r)
	return r, err
}

// Sessions are the certificates' subjects of the sessions that the Roles Anywhere was
// asked for, the oldest first.
func (m *Mock) Sessions() ([]string, error) {
	var sessions []struct{ Subject string }
	if err := order("http://"+m.RolesAnywhere, http.MethodGet, "sessions", nil, &sessions); err != nil {
		return nil, err
	}
	var subjects []string
	for _, s := range sessions {
		subjects = append(subjects, s.Subject)
	}
	return subjects, nil
}

// order gives the mock an order by its control path.
func (m *Mock) order(method, what string, body, answer any) error {
	return order(m.Server(), method, what, body, answer)
}

func order(server, method, what string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, server+"/_mock/"+what, bytes.NewReader(text))
	if err != nil {
		return err
	}
	client := (*Namespace)(nil).HTTP()
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	reply, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("the mock refuses %s %s: %d %s", method, what, response.StatusCode, reply)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(reply, answer)
}
