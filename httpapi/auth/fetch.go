package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// fetcher gets documents of issuers and clients: bounded in size and time, from
// the host that was named and no other.
type fetcher struct{ client *http.Client }

func newFetcher() *fetcher {
	return &fetcher{&http.Client{
		Timeout: fetchTime,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: fetchTime}).DialContext,
			TLSHandshakeTimeout:    fetchTime,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    1,
			MaxConnsPerHost:        4,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			if from := before[0].URL; next.URL.Host != from.Host || next.URL.Scheme != from.Scheme {
				return errors.New("it leads to another host")
			}
			if len(before) > redirectsMax {
				return errors.New("it leads on and on")
			}
			return nil
		},
	}}
}

// get reads a document, and says how long its sender lets it be kept: -1, not said.
func (f *fetcher) get(ctx context.Context, address string) (text []byte, age time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot ask %s: %w", address, err)
	}
	request.Header.Set("Accept", "application/json")
	answer, err := f.client.Do(request)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot ask %s: %w", address, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("cannot read %s: it answers %d", address, answer.StatusCode)
	}
	text, err = io.ReadAll(io.LimitReader(answer.Body, fetchBytesMax+1))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("cannot read %s: %w", address, err)
	case len(text) > fetchBytesMax:
		return nil, 0, fmt.Errorf("cannot read %s: it has more than %d bytes", address, fetchBytesMax)
	}
	return text, cacheAge(answer.Header), nil
}

// cacheAge reads how long an answer may be kept (RFC 9111 section 5.2.2); -1: it
// does not say.
func cacheAge(header http.Header) time.Duration {
	age := time.Duration(-1)
	for item := range strings.SplitSeq(strings.Join(header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(item)), "=")
		switch name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			if seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil && seconds >= 0 {
				age = time.Duration(seconds) * time.Second
			}
		}
	}
	return age
}

// checkURL takes https addresses, and http ones of this machine: whoever stands
// between could put their own keys into a document that comes by http.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("it cannot be read as a URL") // the library's error quotes it, and it may have a password
	case u.Host == "" || u.User != nil || u.Fragment != "":
		return fmt.Errorf("%q is not an absolute URL without user and fragment", u.Redacted())
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q does not begin with https:// (http:// is for this machine only)", u.Redacted())
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
