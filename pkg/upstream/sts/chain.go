package sts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// defaultChain is the value of base.chain: the way in which the SDK finds keys for
// any program.
const defaultChain = "default"

// A chain finds keys as the SDK's default chain does, but for the metadata service and
// container credentials, as the redirect would lead both back to Purser, and for programs,
// which run in pkg/helper only. What it asks the network goes through the upstream's own
// client, with its proxy and limits. It is safe for concurrent use.
type chain struct {
	options BaseOptions
	region  string // for what the chain itself asks, if it has none of its own
	client  *upstream.Client

	mu    sync.Mutex // guards all below
	state string     // of the files when keys was made
	keys  *aws.CredentialsCache
}

// renewBefore is how long before their end keys of the chain are fetched anew.
const renewBefore = 5 * time.Minute

// retrieve returns the keys that the chain gives now. Those with an end are kept until
// they near it, or a file changes.
func (c *chain) retrieve(ctx context.Context) (*credential.AWS, string, error) {
	cache, err := c.resolve(ctx)
	if err != nil {
		return nil, "", c.explain(err)
	}
	got, err := cache.Retrieve(ctx)
	if err != nil {
		return nil, "", c.explain(err)
	}
	keys := &credential.AWS{
		AccessKeyID: got.AccessKeyID, SecretAccessKey: credential.NewSecret(got.SecretAccessKey), SessionToken: credential.NewSecret(got.SessionToken),
	}
	return keys, got.Source, nil
}

// renew forgets keys that are of no use any more.
func (c *chain) renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = nil
}

var (
	errEmpty   = errors.New("the chain is empty")
	errLoop    = errors.New("that service is Purser itself")
	errProgram = errors.New("a program would have to be run")
)

// resolve finds where keys come from, anew if a file has changed.
func (c *chain) resolve(ctx context.Context) (*aws.CredentialsCache, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := upstream.Fingerprint(c.files())
	if c.keys != nil && c.state == state {
		return c.keys, nil
	}
	for _, path := range c.files() { // the SDK would wait for a named pipe
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return nil, &awsapi.BaseError{Text: chainName + "cannot use " + path + ": it is not a regular file"}
		}
	}
	configFile, credentialsFile := c.shared()
	program := false
	options := []func(*config.LoadOptions) error{
		config.WithSharedConfigFiles([]string{configFile}),
		config.WithSharedCredentialsFiles([]string{credentialsFile}),
		config.WithDefaultRegion(c.region),
		config.WithDefaultsMode(aws.DefaultsModeStandard), // auto would ask the metadata service
		config.WithEC2IMDSClientEnableState(imds.ClientDisabled),
		config.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) { o.Client = closed{} }),
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = closed{} }),
		config.WithProcessCredentialOptions(func(*processcreds.Options) { program = true }),
		config.WithHTTPClient(courier{c.client}),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }), // pkg/refresh retries
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore }),
	}
	if c.options.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.options.Profile))
	}
	found, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	if program {
		return nil, errProgram
	}
	cache, ok := found.Credentials.(*aws.CredentialsCache)
	if !ok || cache.IsCredentialsProvider((*ec2rolecreds.Provider)(nil)) || cache.IsCredentialsProvider((*endpointcreds.Provider)(nil)) {
		return nil, errEmpty
	}
	c.state, c.keys = state, cache
	return cache, nil
}

// shared returns the two files of profiles, whether they exist or not. The account is
// asked for now: it is another than the one that the process started as.
func (c *chain) shared() (configFile, credentialsFile string) {
	home := os.Getenv("HOME")
	if home == "" {
		if account, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
			home = account.HomeDir
		}
	}
	path := func(configured, variable, name string) string {
		switch {
		case configured != "":
			return configured
		case os.Getenv(variable) != "":
			return os.Getenv(variable)
		}
		return filepath.Join(home, ".aws", name)
	}
	return path(c.options.ConfigFile, "AWS_CONFIG_FILE", "config"), path(c.options.CredentialsFile, "AWS_SHARED_CREDENTIALS_FILE", "credentials")
}

// files are those that the chain depends on.
func (c *chain) files() []string {
	configFile, credentialsFile := c.shared()
	files := []string{configFile, credentialsFile}
	if token := os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE"); token != "" {
		files = append(files, token)
	}
	return files
}

// check reports which of the files that the configuration names cannot be read.
func (c *chain) check() error {
	var named []string
	for _, path := range []string{c.options.ConfigFile, c.options.CredentialsFile} {
		if path != "" {
			named = append(named, path)
		}
	}
	return upstream.CheckReadable(named)
}

// chainName is what messages about it begin with.
const chainName = "the base, the SDK's default chain, "

// codeForm is what the code of an AWS error looks like; anything else is not shown.
var codeForm = regexp.MustCompile(`^[A-Za-z]{1,64}$`)

// explain says in one sentence why the chain gives nothing. What the SDK says may
// hold secrets, such as a line of a file.
func (c *chain) explain(err error) error {
	configFile, credentialsFile := c.shared()
	var service interface{ ErrorCode() string }
	if own, ok := errors.AsType[*awsapi.BaseError](err); ok {
		return own
	}
	if fault, ok := errors.AsType[*upstream.Error](err); ok {
		return &awsapi.BaseError{Text: chainName + "asked in vain: " + fault.Error(), Cause: fault}
	}
	text := "gives no keys; run `aws sts get-caller-identity` as Purser's user to see why"
	switch profile, noProfile := errors.AsType[config.SharedConfigProfileNotExistError](err); {
	case errors.Is(err, errEmpty):
		text = fmt.Sprintf("is empty: there are no keys in Purser's environment (AWS_ACCESS_KEY_ID), and none by the profile %s in %s or %s%s; write them there, or name other files by base.config_file and base.credentials_file",
			c.profile(), configFile, credentialsFile, unreadable(configFile, credentialsFile))
	case errors.Is(err, errLoop):
		text = fmt.Sprintf("is led back to Purser by the profile %s: a credential_source of Ec2InstanceMetadata or EcsContainer cannot be a base; use {credential: NAME} of another upstream", c.profile())
	case noProfile:
		text = fmt.Sprintf("has no profile %q: it is neither in %s nor in %s%s", profile.Profile, configFile, credentialsFile, unreadable(configFile, credentialsFile))
	case errors.Is(err, errProgram):
		text = fmt.Sprintf("cannot use the profile %s: it has the keys of a program (credential_process); let an upstream of kind process run that, and use {credential: NAME} of it", c.profile())
	case isA[config.SharedConfigAssumeRoleError](err), isA[config.CredentialRequiresARNError](err):
		text = fmt.Sprintf("cannot use the profile %s: what it says of a role is incomplete", c.profile())
	case isA[config.AssumeRoleTokenProviderNotSetError](err):
		text = fmt.Sprintf("cannot use the profile %s: it wants a code (mfa_serial), which nobody can type here", c.profile())
	case isA[*ssocreds.InvalidTokenError](err):
		text = "has an SSO session that is over or was never begun: run `aws sso login` as Purser's user"
	case errors.As(err, &service) && codeForm.MatchString(service.ErrorCode()):
		text = fmt.Sprintf("was answered %s where it asked for keys", service.ErrorCode())
	case strings.Contains(err.Error(), "custom RootCAs"): // the SDK has no type for it
		text = "cannot be used with authorities of its own (AWS_CA_BUNDLE, or ca_bundle of a profile): name them by tls.ca of this upstream instead"
	case errors.Is(err, context.DeadlineExceeded):
		text = "gave no keys in time"
	}
	return &awsapi.BaseError{Text: chainName + text}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// profile is the one that counts, for a message.
func (c *chain) profile() string {
	for _, name := range []string{c.options.Profile, os.Getenv("AWS_PROFILE"), os.Getenv("AWS_DEFAULT_PROFILE")} {
		if name != "" {
			return strconv.Quote(name)
		}
	}
	return `"default"`
}

// unreadable says which of some files exist and cannot be read: the SDK takes them
// for empty.
func unreadable(paths ...string) string {
	for _, path := range paths {
		if err := upstream.CheckReadable([]string{path}); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return " (" + err.Error() + ")"
		}
	}
	return ""
}

// A courier sends the SDK's requests as those of the upstream.
type courier struct{ client *upstream.Client }

// Do implements the SDK's HTTPClient.
func (c courier) Do(req *http.Request) (*http.Response, error) { return c.client.RoundTrip(req) }

// closed is the way to the metadata service and to container credentials.
type closed struct{}

// Do implements the SDK's HTTPClient.
func (closed) Do(*http.Request) (*http.Response, error) { return nil, errLoop }

// GetMetadata implements what the SDK asks the metadata service by.
func (closed) GetMetadata(context.Context, *imds.GetMetadataInput, ...func(*imds.Options)) (*imds.GetMetadataOutput, error) {
	return nil, errLoop
}
