// Vaultreal is one node of a real Vault for Purser's tests: the server of Vault 1.14.1
// with the engines and the methods that the tests use, and with Vault's own storage in
// a folder, so that it can be killed and started again. It listens on what it is told
// to, always with TLS, and takes every order (init, unseal, join, step down) through
// Vault's own API. It ends with its standard input, so that no test leaves one behind.
//
// Vault 1.14.1 is under the MPL; from 1.14.9 on its licence forbids much, so the
// version here never rises. The program is a module of its own because Vault wants
// dependencies that are older than Purser's, and it is never shipped.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	jwt "github.com/hashicorp/vault-plugin-auth-jwt"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/credential/userpass"
	"github.com/hashicorp/vault/builtin/logical/aws"
	"github.com/hashicorp/vault/command/server"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/physical/raft"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/vault"
)

func main() {
	var n node
	flag.StringVar(&n.listen, "listen", "127.0.0.1:8200", "where the API listens, `HOST:PORT`")
	flag.StringVar(&n.cluster, "cluster", "127.0.0.1:8201", "where the other nodes reach this one, `HOST:PORT`")
	flag.StringVar(&n.data, "data", "", "the `FOLDER` of the storage, which has to exist")
	flag.StringVar(&n.certificate, "tls-cert", "", "the server's certificate, a PEM `FILE`")
	flag.StringVar(&n.key, "tls-key", "", "its key, a PEM `FILE`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := n.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "vaultreal:", err)
		os.Exit(1)
	}
}

// A node is one server of a cluster, which may have no other.
type node struct {
	listen, cluster, data, certificate, key string
}

// run serves until ctx ends.
func (n node) run(ctx context.Context) error {
	core, err := n.core()
	if err != nil {
		return err
	}
	clusterAddress, err := net.ResolveTCPAddr("tcp", n.cluster)
	if err != nil {
		return err
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core})
	core.SetClusterListenerAddrs([]*net.TCPAddr{clusterAddress})
	core.SetClusterHandler(handler)

	api := &http.Server{
		Addr:              n.listen,
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{ClientAuth: tls.RequestClientCert}, // the cert method verifies it
	}
	failed := make(chan error, 1)
	go func() { failed <- api.ListenAndServeTLS(n.certificate, n.key) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	_ = api.Close()
	return core.ShutdownWait()
}

// core is Vault itself, sealed.
func (n node) core() (*vault.Core, error) {
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: os.Stderr})
	storage, err := raft.NewRaftBackend(map[string]string{
		"path":                   n.data,
		"node_id":                n.listen,
		"performance_multiplier": "1", // elections in seconds
	}, log.Named("raft"))
	if err != nil {
		return nil, err
	}
	return vault.NewCore(&vault.CoreConfig{
		Physical:     storage,
		HAPhysical:   storage.(physical.HABackend),
		StorageType:  "raft",
		RedirectAddr: "https://" + n.listen,
		ClusterAddr:  "https://" + n.cluster,
		DisableMlock: true,
		Logger:       log,
		RawConfig:    &server.Config{SharedConfig: &configutil.SharedConfig{}},
		LogicalBackends: map[string]logical.Factory{
			"aws": aws.Factory,
			"kv":  kv.Factory,
		},
		CredentialBackends: map[string]logical.Factory{
			"approle":  approle.Factory,
			"cert":     cert.Factory,
			"jwt":      jwt.Factory,
			"userpass": userpass.Factory,
		},
		BuiltinRegistry:  noPlugins{},
		DisableAutopilot: true, // which would let a node vote only 10 s after it joined
	})
}

// noPlugins is a catalogue in which nothing is: all that this Vault has is compiled in.
type noPlugins struct{}

func (noPlugins) Contains(string, consts.PluginType) bool { return false }

func (noPlugins) Get(string, consts.PluginType) (func() (any, error), bool) { return nil, false }

func (noPlugins) Keys(consts.PluginType) []string { return nil }

func (noPlugins) DeprecationStatus(string, consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Unknown, false
}

func (noPlugins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
