// Command demo is the last step of `make demo`: what a program with an unmodified
// aws-sdk-go-v2 finds when it looks for a region and credentials on the instance
// metadata service that AWS_EC2_METADATA_SERVICE_ENDPOINT names.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
)

func main() {
	if err := show(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func show(ctx context.Context) error {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithEC2IMDSRegion())
	if err != nil {
		return err
	}
	credentials, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("region       %s\nprovider     %s\naccess key   %s\nvalid until  %s\n",
		cfg.Region, credentials.Source, credentials.AccessKeyID, credentials.Expires.Format(time.RFC3339))
	return nil
}
