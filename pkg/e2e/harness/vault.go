package harness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// vaultTimeout is how long a Vault may take to start, to unseal or to elect a leader.
const vaultTimeout = 60 * time.Second

// VaultBinary is where install.sh keeps the real Vault that it built. The name has a
// hash of what it was built from, so that an older one is never taken for it.
func VaultBinary() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	module := filepath.Join(root, "pkg", "e2e", "vaultreal")
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version())
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		hash.Write(text)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "purser-e2e", "vaultreal-"+hex.EncodeToString(hash.Sum(nil))[:16])
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no real Vault is built, run pkg/e2e/install.sh first: %w", err)
	}
	return path, nil
}

// A Vault is a real Vault on loopback, with TLS: one server, or a cluster of them.
type Vault struct {
	Nodes []*VaultNode
	// Authority signed the servers' certificates; CA is the file with its own.
	Authority *Authority
	CA        string
	// Root is the root token.
	Root string

	dir, binary, unsealKey string
	client                 *http.Client
}

// A VaultNode is one server. Its Process is the one that was started last.
type VaultNode struct {
	*Process
	URL string

	vault *Vault
	args  []string
	stdin *os.File // our end of its standard input
}

// StartVault starts a Vault of so many servers, unsealed, with nothing enabled. Call
// Close in any case when it returned a Vault.
func StartVault(nodes int) (*Vault, error) {
	binary, err := VaultBinary()
	if err != nil {
		return nil, err
	}
	v := &Vault{binary: binary}
	if v.Authority, err = NewAuthority(); err != nil {
		return nil, err
	}
	if v.dir, err = os.MkdirTemp("", "purser-e2e-vault-"); err != nil {
		return nil, err
	}
	v.CA = filepath.Join(v.dir, "ca.crt")
	v.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: v.Authority.Pool()}, DisableKeepAlives: true},
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if err := errors.Join(os.Chmod(v.dir, 0o755), os.WriteFile(v.CA, v.Authority.PEM, 0o644)); err != nil {
		return v, err
	}
	for range nodes {
		if err := v.addNode(); err != nil {
			return v, err
		}
	}
	return v, nil
}

// addNode starts one more server. The first one founds the cluster, others join it.
func (v *Vault) addNode() error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	cluster, err := freeAddress()
	if err != nil {
		return err
	}
	dir := filepath.Join(v.dir, fmt.Sprintf("node%d", len(v.Nodes)+1))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	certificate, key, err := v.Authority.Issue(dir, "localhost")
	if err != nil {
		return err
	}
	n := &VaultNode{URL: "https://" + address, vault: v, args: []string{
		"--listen", address, "--cluster", cluster, "--data", dir, "--tls-cert", certificate, "--tls-key", key,
	}}
	v.Nodes = append(v.Nodes, n)
	if err := n.start(); err != nil {
		return err
	}
	if len(v.Nodes) == 1 {
		var made struct {
			Keys      []string
			RootToken string `json:"root_token"`
		}
		if err := n.order(http.MethodPut, "sys/init", map[string]int{"secret_shares": 1, "secret_threshold": 1}, &made); err != nil {
			return err
		}
		v.unsealKey, v.Root = made.Keys[0], made.RootToken
		return n.Unseal()
	}
	join := map[string]string{"leader_api_addr": v.Nodes[0].URL, "leader_ca_cert": string(v.Authority.PEM)}
	return errors.Join(n.order(http.MethodPost, "sys/storage/raft/join", join, nil), n.Unseal())
}

// start starts the server's process and waits until it answers.
func (n *VaultNode) start() error {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	n.stdin = ours
	n.Process, err = Command{Path: n.vault.binary, Args: n.args, Stdin: theirs}.Start()
	if err := errors.Join(err, theirs.Close()); err != nil {
		return err
	}
	err = Await(vaultTimeout, func() error {
		select {
		case <-n.Ended():
			return errors.New("it ended")
		default:
		}
		_, err := n.Health()
		return err
	})
	return n.explain(err)
}

// explain adds what the server said last.
func (n *VaultNode) explain(err error) error {
	if err == nil {
		return nil
	}
	said := n.Output()
	return fmt.Errorf("the Vault at %s: %w; it said:\n%s", n.URL, err, said[max(0, len(said)-4000):])
}

// Health is the status of /sys/health: 200 for the leader, 429 for a standby, 501
// before init, and 503 when sealed.
func (n *VaultNode) Health() (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // one may be frozen
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL+"/v1/sys/health", nil)
	if err != nil {
		return 0, err
	}
	response, err := n.vault.client.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// Restart ends the server without warning and starts it again on the same storage.
// It comes back sealed, as a real one does.
func (n *VaultNode) Restart() error {
	n.Kill()
	return n.start()
}

// Kill ends the server without warning, frozen or not.
func (n *VaultNode) Kill() {
	_ = n.Signal(syscall.SIGKILL)
	<-n.Ended()
	_ = n.stdin.Close()
}

// Freeze stops the server in the middle of what it does: connections stay open and
// new ones are accepted, but nothing is answered until Thaw.
func (n *VaultNode) Freeze() error { return n.Signal(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (n *VaultNode) Thaw() error { return n.Signal(syscall.SIGCONT) }

// Seal seals the server, which has to be the leader.
func (n *VaultNode) Seal() error { return n.order(http.MethodPut, "sys/seal", nil, nil) }

// Unseal unseals the server and waits until it is the leader or a standby of one.
func (n *VaultNode) Unseal() error {
	if err := n.order(http.MethodPut, "sys/unseal", map[string]string{"key": n.vault.unsealKey}, nil); err != nil {
		return err
	}
	return n.explain(Await(vaultTimeout, func() error {
		follows, err := n.Follows()
		if err == nil && follows == "" {
			err = errors.New("it knows no leader")
		}
		return err
	}))
}

// Follows is the URL of the leader that the server knows, its own too; empty for none.
func (n *VaultNode) Follows() (string, error) {
	var leader struct {
		LeaderAddress string `json:"leader_address"`
	}
	err := n.order(http.MethodGet, "sys/leader", nil, &leader)
	return leader.LeaderAddress, err
}

// Leader waits until one of the servers leads, and returns it.
func (v *Vault) Leader() (leader *VaultNode, err error) {
	err = Await(vaultTimeout, func() error {
		for _, n := range v.Nodes {
			if status, err := n.Health(); err == nil && status == http.StatusOK {
				leader = n
				return nil
			}
		}
		return errors.New("no server leads")
	})
	return leader, err
}

// Write makes Vault do what its API has a POST for, with the root token: mounts,
// policies, roles. The answer may be nil.
func (v *Vault) Write(path string, body, answer any) error {
	leader, err := v.Leader()
	if err != nil {
		return err
	}
	return leader.order(http.MethodPost, path, body, answer)
}

// Delete makes Vault do what its API has a DELETE for.
func (v *Vault) Delete(path string) error {
	leader, err := v.Leader()
	if err != nil {
		return err
	}
	return leader.order(http.MethodDelete, path, nil, nil)
}

// List asks for what its API has a LIST for. The answer stays as it is if nothing is
// there.
func (v *Vault) List(path string, answer any) error {
	leader, err := v.Leader()
	if err != nil {
		return err
	}
	return leader.order("LIST", path, nil, answer)
}

// order makes one call with the root token. An answer that is not good is an error.
func (n *VaultNode) order(method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, n.URL+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("X-Vault-Token", n.vault.Root)
	response, err := n.vault.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	reply, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if method == "LIST" && response.StatusCode == http.StatusNotFound {
		return nil
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d %s", method, path, response.StatusCode, reply)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(reply, answer)
}

// Close ends all servers and removes what they stored.
func (v *Vault) Close() error {
	for _, n := range v.Nodes {
		if n.Process != nil {
			n.Kill()
		}
	}
	return os.RemoveAll(v.dir)
}
