// Package awsapi is what the upstreams that ask AWS have in common: the endpoint of a
// region and its partition, what is asked of STS for a session and how its answers
// read, and what the codes of its errors mean.
//
// With what a call is authenticated (keys, a token, a certificate) is left to the
// kinds below pkg/upstream, sending and the classes of errors to pkg/upstream.
package awsapi

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/purser-agent/purser/pkg/upstream"
)

// A Place says which endpoint of a service is asked. A kind embeds it in its options
// with `koanf:",squash"`.
type Place struct {
	// Region is whose endpoint is asked, and what requests are signed for.
	Region string `koanf:"region"`
	// Endpoint replaces the region's own, such as the URL of a VPC endpoint.
	Endpoint string `koanf:"endpoint"`
	// FIPS and DualStack choose among the region's endpoints.
	FIPS      bool `koanf:"fips"`
	DualStack bool `koanf:"dual_stack"`
}

var regionForm = regexp.MustCompile(`^[a-z]{2,8}(-[a-z]{2,16}){1,3}-[0-9]{1,2}$`)

// Partition returns the one that roles must be in, empty where an endpoint of its own
// leaves that open. The error begins with its key.
func (p *Place) Partition() (partition string, err error) {
	if !regionForm.MatchString(p.Region) {
		if p.Region == "" {
			return "", errors.New("region: missing, such as eu-central-1")
		}
		return "", fmt.Errorf("region: %q is not a region such as eu-central-1", p.Region)
	}
	if p.Endpoint != "" {
		return "", p.checkEndpoint()
	}
	partition, known := partitionOf(p.Region)
	if !known {
		return "", fmt.Errorf("region: %q is in a partition whose endpoints are not known here; set endpoint", p.Region)
	}
	if p.FIPS && partition == "aws-cn" {
		return "", errors.New("fips: there are no FIPS endpoints in aws-cn")
	}
	return partition, nil
}

func (p *Place) checkEndpoint() error {
	if p.FIPS || p.DualStack {
		return errors.New("endpoint: excludes fips and dual_stack, which choose among the region's own")
	}
	address, err := upstream.ParseURL(p.Endpoint)
	if err != nil {
		return fmt.Errorf("endpoint: %w", err)
	}
	if address.Path != "" && address.Path != "/" {
		return fmt.Errorf("endpoint: %q has a path, which the service does not have", p.Endpoint)
	}
	return nil
}

// partitionOf tells the partition of a region by its name.
func partitionOf(region string) (partition string, known bool) {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn", true
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov", true
	case strings.Contains(region, "-iso"), strings.HasPrefix(region, "eusc-"):
		return "", false
	}
	return "aws", true
}

// URL is the address of a service, such as sts, with a slash at its end.
func (p *Place) URL(service string) string {
	if p.Endpoint != "" {
		return strings.TrimRight(p.Endpoint, "/") + "/"
	}
	partition, _ := partitionOf(p.Region)
	domain := ".amazonaws.com"
	switch {
	case p.DualStack && partition == "aws-cn":
		domain = ".api.amazonwebservices.com.cn"
	case p.DualStack:
		domain = ".api.aws"
	case partition == "aws-cn":
		domain = ".amazonaws.com.cn"
	}
	// In GovCloud the usual endpoint of STS is FIPS.
	if usual := service == "sts" && partition == "aws-us-gov" && !p.DualStack; p.FIPS && !usual {
		service += "-fips"
	}
	return "https://" + service + "." + p.Region + domain + "/"
}
