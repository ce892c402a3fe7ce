package bulk

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
)

// AzureOptions name the storage account whose blobs may be imported, and how
// to sign in. The zero value is no account. Key, SAS and connection string are
// secrets: no error repeats any part of them.
type AzureOptions struct {
	ConnectionString string // as the portal shows it; nothing else is given then
	AccountURL       string // https://ACCOUNT.blob.core.windows.net
	AccountKey       string // shared key (base64)
	SAS              string // of the account or a container, with or without "?"
	// With AccountURL alone: environment, workload or managed identity, or the
	// Azure command line's login, whichever is there.
}

// azureAccount reads blobs of one account. Credentials go nowhere else: every
// address is checked, and redirects are not followed.
type azureAccount struct {
	client  *service.Client
	options azcore.ClientOptions
	origin  string // as originOf has it
	path    string // "" or, where hosts do not name accounts, "/ACCOUNT"
	network networkOptions
}

// newAzureAccount returns nil when no account is configured. Nothing is asked
// of the network yet.
func newAzureAccount(o AzureOptions, network networkOptions) (*azureAccount, error) {
	if o == (AzureOptions{}) {
		return nil, nil
	}
	a := &azureAccount{network: network, options: azcore.ClientOptions{
		Transport: &http.Client{Transport: newTransport(network), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		// Reads are tried again here, from the byte where they broke.
		Retry: policy.RetryOptions{MaxRetries: -1},
	}}
	var err error
	if a.client, err = a.signIn(o); err != nil {
		return nil, err
	}
	u, err := url.Parse(a.client.URL())
	if err != nil || !isHTTP(u) || u.Host == "" || u.User != nil {
		return nil, errors.New("cannot use the Azure account: its blob endpoint is not an http or https address")
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && forbiddenIP(ip, true) {
		return nil, errors.New("cannot use the Azure account: its blob endpoint is an address that imports never connect to")
	}
	a.origin, a.path = originOf(u), strings.TrimRight(u.Path, "/")
	return a, nil
}

// signIn makes the client. Errors of the SDK are not wrapped: they may quote
// what they could not read.
func (a *azureAccount) signIn(o AzureOptions) (*service.Client, error) {
	options := &service.ClientOptions{ClientOptions: a.options}
	if o.ConnectionString != "" {
		if o.AccountURL+o.AccountKey+o.SAS != "" {
			return nil, errors.New("cannot use the Azure connection string: an account URL, key or SAS is given beside it")
		}
		client, err := service.NewClientFromConnectionString(o.ConnectionString, options)
		if err != nil {
			return nil, errors.New("cannot use the Azure connection string: want AccountName=...;AccountKey=... or BlobEndpoint=...;SharedAccessSignature=... in it")
		}
		return client, nil
	}
	u, err := url.Parse(o.AccountURL)
	if err != nil || !isHTTP(u) || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("cannot use the Azure account URL: want https://ACCOUNT.blob.core.windows.net, and nothing behind it")
	}
	switch {
	case o.AccountKey != "" && o.SAS != "":
		return nil, errors.New("cannot sign in to the Azure account: both a key and a SAS are given")
	case o.AccountKey != "":
		credential, err := service.NewSharedKeyCredential(accountName(u), o.AccountKey)
		if err != nil {
			return nil, errors.New("cannot use the Azure account key: it is not base64")
		}
		return service.NewClientWithSharedKeyCredential(u.String(), credential, options)
	case o.SAS != "":
		u.RawQuery = strings.TrimPrefix(o.SAS, "?")
		return service.NewClientWithNoCredential(u.String(), options)
	}
	if u.Scheme != "https" {
		return nil, errors.New("cannot sign in to the Azure account: a default credential is sent over https only")
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, errors.New("cannot sign in to the Azure account: no default credential can be made")
	}
	return service.NewClient(u.String(), credential, options)
}

// accountName is the path of an address that has one (emulators), otherwise
// the first part of the host.
func accountName(u *url.URL) string {
	if name := strings.Trim(u.Path, "/"); name != "" {
		return name
	}
	name, _, _ := strings.Cut(u.Hostname(), ".")
	return name
}

// holds tells whether an address is of the account. A nil account holds none.
func (a *azureAccount) holds(u *url.URL) bool {
	return a != nil && isHTTP(u) && u.User == nil && originOf(u) == a.origin && strings.HasPrefix(u.Path, a.path+"/")
}

// check is the part of step 9 for an address that the account holds.
func (a *azureAccount) check(address string, u *url.URL) error {
	container, name, _ := strings.Cut(strings.TrimPrefix(u.Path, a.path+"/"), "/")
	dots := slices.ContainsFunc(strings.Split(name, "/"), func(s string) bool { return s == "." || s == ".." })
	if name == "" || dots || container == "" || container != "$root" && checkContainer(container) != nil {
		return badRequest("input.url %s does not name a blob: want the account's address, /CONTAINER/BLOB.", address)
	}
	query := u.Query()
	if query.Has("sig") {
		return nil
	}
	for key := range query {
		if lower := strings.ToLower(key); lower != "snapshot" && lower != "versionid" {
			return badRequest("input.url %s has the parameter %q, which does not select a blob.", address, key)
		}
	}
	return nil
}

// blob makes the client of one address. An address that brings a SAS is read
// with that alone.
func (a *azureAccount) blob(address string) (*blob.Client, error) {
	u, err := url.Parse(address)
	if err != nil || !a.holds(u) {
		return nil, badRequest(textForeignOrigin)
	}
	if err := a.check(address, u); err != nil {
		return nil, err
	}
	u.Fragment, u.RawFragment = "", ""
	if u.Query().Has("sig") {
		return blob.NewClientWithNoCredential(u.String(), &blob.ClientOptions{ClientOptions: a.options})
	}
	container, name, _ := strings.Cut(strings.TrimPrefix(u.Path, a.path+"/"), "/")
	client := a.client.NewContainerClient(container).NewBlobClient(name)
	parts, err := sas.ParseURL(u.String())
	if err == nil && parts.Snapshot != "" {
		client, err = client.WithSnapshot(parts.Snapshot)
	}
	if err == nil && parts.VersionID != "" {
		client, err = client.WithVersionID(parts.VersionID)
	}
	if err != nil {
		return nil, invalidParameter("input.url")
	}
	return client, nil
}

// open asks for size and ETag.
func (a *azureAccount) open(ctx context.Context, address string) (source, error) {
	client, err := a.blob(address)
	if err != nil {
		return nil, err
	}
	s := &azureSource{account: a, client: client, address: address}
	err = s.attempts(ctx, func(ctx context.Context) error { return s.probe(ctx) })
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (a *azureAccount) closeIdle() {
	if a != nil {
		a.options.Transport.(*http.Client).CloseIdleConnections()
	}
}
