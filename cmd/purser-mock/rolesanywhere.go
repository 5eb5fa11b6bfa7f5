package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/purser-agent/purser/pkg/mock"
)

// anywhereFlags are the flags of the Roles Anywhere beside the IMS.
type anywhereFlags struct {
	address     string
	ca          string
	distrusting []string
	faults      []string
}

func (f *anywhereFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.address, "roles-anywhere", "", "address and port of an IAM Roles Anywhere (default none)")
	flags.StringVar(&f.ca, "roles-anywhere-ca", "", "PEM file with the certificates of its trust anchor")
	flags.StringArrayVar(&f.distrusting, "roles-anywhere-distrusting", nil, "the ARN of a role that it may not assume; repeat for more")
	flags.StringArrayVar(&f.faults, "roles-anywhere-fault", nil, "a fault of it from the start; repeat for more")
}

// used reports whether a flag was given that needs --roles-anywhere.
func (f *anywhereFlags) used() bool { return f.ca != "" || len(f.distrusting)+len(f.faults) > 0 }

func (f *anywhereFlags) handler(keys *mock.Keys, log zerolog.Logger) (*mock.RolesAnywhere, error) {
	if f.ca == "" {
		return nil, errors.New("--roles-anywhere needs --roles-anywhere-ca")
	}
	authorities, err := readCertificates(f.ca)
	if err != nil {
		return nil, fmt.Errorf("--roles-anywhere-ca: %w", err)
	}
	for _, arn := range f.distrusting {
		if !roleARN.MatchString(arn) {
			return nil, fmt.Errorf("--roles-anywhere-distrusting: %q is not the ARN of a role", arn)
		}
	}
	handler := mock.NewRolesAnywhere(mock.RolesAnywhereOptions{Keys: keys, Authorities: authorities, Distrusting: f.distrusting, Log: log})
	if err := addFaults(&handler.Control, "--roles-anywhere-fault", f.faults); err != nil {
		return nil, err
	}
	return handler, nil
}

func readCertificates(path string) (all []*x509.Certificate, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, certificate)
	}
	if all == nil {
		return nil, fmt.Errorf("%s: there is no PEM certificate in it", path)
	}
	return all, nil
}
