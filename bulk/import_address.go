package bulk

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"kiln/internal/vfs"
)

// addresses says which inputs may be read: files below the roots, HTTP
// addresses of the origins, and blobs of the account, nothing else.
type addresses struct {
	roots   []string        // absolute, symbolic links resolved
	origins map[string]bool // scheme://host:port, lower case, port explicit
	account *azureAccount   // nil: none
}

// newAddresses resolves the configured roots and origins.
func newAddresses(roots, origins []string) (*addresses, error) {
	a := &addresses{origins: make(map[string]bool)}
	for _, root := range roots {
		if !filepath.IsAbs(root) {
			return nil, fmt.Errorf("cannot use import root %q: it is not an absolute path", root)
		}
		resolved, err := filepath.EvalSymlinks(root)
		if err != nil {
			return nil, fmt.Errorf("cannot use import root %q: %w", root, err)
		}
		info, err := vfs.OS().Stat(resolved)
		if err != nil {
			return nil, fmt.Errorf("cannot use import root %q: %w", root, err)
		}
		if !info.IsDir {
			return nil, fmt.Errorf("cannot use import root %q: it is not a directory", root)
		}
		a.roots = append(a.roots, resolved)
	}
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || !isHTTP(u) || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
			return nil, fmt.Errorf("cannot use import origin %q: want scheme://host[:port] with http or https, and nothing behind it", origin)
		}
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && forbiddenIP(ip, true) {
			return nil, fmt.Errorf("cannot use import origin %q: it is an address that imports never connect to", origin)
		}
		a.origins[originOf(u)] = true
	}
	return a, nil
}

func (a *addresses) empty() bool { return len(a.roots) == 0 && len(a.origins) == 0 && a.account == nil }

// check is the input.url part of step 9; errors are *RequestError.
func (a *addresses) check(address string) error {
	u, err := parseInputURL(address)
	if err != nil {
		return invalidParameter("input.url")
	}
	switch {
	case a.account.holds(u):
		return a.account.check(address, u)
	case isHTTP(u):
		if !a.allows(u) {
			return badRequest(textForeignOrigin)
		}
	case u.Scheme == "file":
		if _, _, err := a.resolve(u.Path); err != nil {
			return badRequest(textOutsideRoots, address)
		}
	default:
		return badRequest(textForeignOrigin)
	}
	return nil
}

// allows tells whether an HTTP address is of a configured origin.
func (a *addresses) allows(u *url.URL) bool {
	return isHTTP(u) && u.User == nil && a.origins[originOf(u)]
}

// resolve follows the symbolic links of a path and refuses what then lies
// outside the roots; name is relative to root. A file that does not exist is
// judged by its nearest existing directory; reading it fails later.
func (a *addresses) resolve(path string) (root, name string, err error) {
	clean := filepath.Clean(path)
	resolved, rest := clean, ""
	for {
		target, err := filepath.EvalSymlinks(resolved)
		if err == nil {
			resolved = filepath.Join(target, rest)
			break
		}
		parent := filepath.Dir(resolved)
		if parent == resolved {
			return "", "", fmt.Errorf("cannot resolve path %q: %w", path, err)
		}
		rest = filepath.Join(filepath.Base(resolved), rest)
		resolved = parent
	}
	for _, root := range a.roots {
		if below(root, resolved) {
			return root, strings.TrimPrefix(resolved[len(root):], "/"), nil
		}
	}
	return "", "", fmt.Errorf("path %q is not below an import root", path)
}

// below tells whether path lies under dir, by names.
func below(dir, path string) bool {
	dir = strings.TrimSuffix(dir, "/")
	return len(path) > len(dir)+1 && strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}

// parseInputURL reads an absolute URL or an absolute path.
func parseInputURL(address string) (*url.URL, error) {
	if strings.HasPrefix(address, "/") {
		return &url.URL{Scheme: "file", Path: address}, checkPath(address)
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		return nil, fmt.Errorf("address %q is not absolute", address)
	}
	if isHTTP(u) && u.Host == "" {
		return nil, fmt.Errorf("address %q has no host", address)
	}
	if u.Scheme == "file" {
		return u, checkFileURL(u)
	}
	return u, nil
}

// checkFileURL accepts file:///path and file://localhost/path only.
func checkFileURL(u *url.URL) error {
	if u.Host != "" && u.Host != "localhost" || u.User != nil || !strings.HasPrefix(u.Path, "/") ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fmt.Errorf("address %q is not a plain file address", u.String())
	}
	return checkPath(u.Path)
}

// checkPath refuses what no file of an import is called and what another
// program, which decodes once more or knows other separators, would read as
// another path.
func checkPath(path string) error {
	path = strings.ToLower(path)
	for _, odd := range []string{"\x00", "\\", "%00", "%25", "%2e", "%2f", "%5c"} {
		if strings.Contains(path, odd) {
			return fmt.Errorf("path %q holds %q", path, odd)
		}
	}
	return nil
}

// canonicalURL is one spelling of equal addresses.
func canonicalURL(address string) string {
	u, err := parseInputURL(address)
	if err != nil {
		return address
	}
	u.Fragment, u.RawFragment = "", ""
	if u.Scheme == "file" {
		return "file://" + u.Path
	}
	if isHTTP(u) {
		return originOf(u) + u.RequestURI()
	}
	return u.String()
}

func isHTTP(u *url.URL) bool { return u.Scheme == "http" || u.Scheme == "https" }

// originOf is scheme, host and port, the port never left out.
func originOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
