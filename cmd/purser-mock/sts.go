package main

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/purser-agent/purser/pkg/mock"
)

// stsFlags are the flags of the STS beside the IMS.
type stsFlags struct {
	address   string
	roles     []string
	providers []string
	faults    []string
}

func (f *stsFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.address, "sts", "", "address and port of an STS that knows the keys made here (default none)")
	flags.StringArrayVar(&f.roles, "sts-role", nil, "the ARN of a role that the STS lets assume; repeat for more (default any)")
	flags.StringArrayVar(&f.providers, "sts-provider", nil, "the URL of an issuer of OpenID Connect and a comma and the audience of the tokens that the STS takes; repeat for more (default none)")
	flags.StringArrayVar(&f.faults, "sts-fault", nil, "a fault of the STS from the start; repeat for more")
}

var roleARN = regexp.MustCompile(`^arn:[a-z-]+:iam::[0-9]{12}:role/[!-~]+$`)

func (f *stsFlags) handler(keys *mock.Keys, log zerolog.Logger) (*mock.STS, error) {
	o := mock.STSOptions{Keys: keys, Log: log}
	for _, arn := range f.roles {
		if !roleARN.MatchString(arn) {
			return nil, fmt.Errorf("--sts-role: %q is not the ARN of a role", arn)
		}
		o.Roles = append(o.Roles, mock.STSRole{ARN: arn})
	}
	for _, text := range f.providers {
		issuer, audience, ok := strings.Cut(text, ",")
		if u, err := url.Parse(issuer); err != nil || u.Host == "" || !ok || audience == "" {
			return nil, fmt.Errorf("--sts-provider: %q is not like https://issuer.example.com,sts.amazonaws.com", text)
		}
		o.Providers = append(o.Providers, mock.Provider{Issuer: issuer, Audience: audience})
	}
	handler := mock.NewSTS(o)
	if err := addFaults(&handler.Control, "--sts-fault", f.faults); err != nil {
		return nil, err
	}
	return handler, nil
}
