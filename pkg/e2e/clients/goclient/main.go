// Command goclient is an AWS program as users write it with aws-sdk-go-v2, told line
// by line what to do: see ../boto3_client.py for the commands. It is linked
// statically, so that it also runs in a bare booted host.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: goclient URL-OF-THE-API")
		os.Exit(2)
	}
	ctx := context.Background()
	var living *sts.Client
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, err := "", error(nil)
		switch command := lines.Text(); command {
		case "call":
			if living == nil {
				living, err = newClient(ctx)
			}
			if err == nil {
				answer, err = whoami(ctx, living)
			}
		case "new":
			var fresh *sts.Client
			if fresh, err = newClient(ctx); err == nil {
				answer, err = whoami(ctx, fresh)
			}
		case "region":
			answer, err = region(ctx)
		default:
			err = fmt.Errorf("unknown command %q", command)
		}
		if err != nil {
			answer = "error: " + strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Println(answer)
	}
}

func newClient(ctx context.Context) (*sts.Client, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion("eu-central-1"))
	if err != nil {
		return nil, err
	}
	return sts.NewFromConfig(cfg, func(o *sts.Options) { o.BaseEndpoint = &os.Args[1] }), nil
}

func whoami(ctx context.Context, client *sts.Client) (string, error) {
	identity, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	return *identity.Arn, nil
}

func region(ctx context.Context) (string, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return "", err
	}
	found, err := imds.NewFromConfig(cfg).GetRegion(ctx, &imds.GetRegionInput{})
	if err != nil {
		return "", err
	}
	return found.Region, nil
}
