package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
)

// stopWait is how long answers in progress may take after the signal. Those that a
// fault holds up end with it at once.
const stopWait = 2 * time.Second

// listenFlags are the flags of the socket, the same for every kind.
type listenFlags struct {
	address  string
	cert     string
	key      string
	clientCA string
}

func (f *listenFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.address, "listen", "127.0.0.1:8080", "address and port; port 0 takes a free one")
	flags.StringVar(&f.cert, "tls-cert", "", "PEM file with a certificate, for https")
	flags.StringVar(&f.key, "tls-key", "", "PEM file with its key")
	flags.StringVar(&f.clientCA, "client-ca", "", "PEM file with authorities, one of which must have signed the client's certificate")
}

// A stand-in counts the connections of its server.
type standIn interface {
	http.Handler
	ConnState(net.Conn, http.ConnState)
}

// serve answers until ctx ends. It calls ready with the URL of the server, without
// path, when connections are accepted.
func (f *listenFlags) serve(ctx context.Context, handler standIn, log zerolog.Logger, ready func(server string)) error {
	config, err := f.tls()
	if err != nil {
		return usageError{err}
	}
	listener, err := net.Listen("tcp", f.address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           handler,
		ConnState:         handler.ConnState,
		TLSConfig:         config,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          stdlog.New(log, "", 0),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
		defer cancel()
		stopped <- server.Shutdown(limited)
	})
	defer stop()

	scheme := "http://"
	if config != nil {
		scheme = "https://"
	}
	ready(scheme + listener.Addr().String())
	if config != nil {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	if <-stopped != nil { // connections that never sent a request are no failure
		return server.Close()
	}
	return nil
}

// tls returns nil for plain HTTP.
func (f *listenFlags) tls() (*tls.Config, error) {
	if f.cert == "" && f.key == "" {
		if f.clientCA != "" {
			return nil, errors.New("--client-ca needs --tls-cert and --tls-key")
		}
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if f.clientCA == "" {
		return config, nil
	}
	text, err := os.ReadFile(f.clientCA)
	if err != nil {
		return nil, fmt.Errorf("--client-ca: %w", err)
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--client-ca: %s: there is no PEM certificate in it", f.clientCA)
	}
	return config, nil
}
