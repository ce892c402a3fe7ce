package httpapi

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

func proxies(t testing.TB, forwarded bool, networks ...string) TrustedProxies {
	t.Helper()
	p, err := ParseTrustedProxies(networks, forwarded)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOnlyTrustedProxiesAreBelieved(t *testing.T) {
	old, standard := proxies(t, false, "10.0.0.0/8", "fd00::/8"), proxies(t, true, "10.0.0.0/8", "fd00::/8")
	none := TrustedProxies{}
	f := func(p *TrustedProxies, peer, want string, lines ...string) {
		t.Helper()
		var header fasthttp.RequestHeader
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			header.Add(name, value)
		}
		got := p.origin(netip.MustParseAddr(peer), &header)
		if text := got.addr.String() + " " + got.scheme + " " + got.host; text != want {
			t.Errorf("%s %v: got %q, want %q", peer, lines, text, want)
		}
	}
	all := []string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: fhir.example.org", "Forwarded: for=192.0.2.9;proto=http;host=evil.example"}
	f(&old, "10.0.0.1", "192.0.2.1 https fhir.example.org", all...)
	f(&standard, "10.0.0.1", "192.0.2.9 http evil.example", all...)
	f(&old, "192.0.2.7", "192.0.2.7  ", all...)
	f(&none, "10.0.0.1", "10.0.0.1  ", all...)
	// What the client wrote stands in front of what proxies add.
	f(&old, "10.0.0.1", "192.0.2.1  ", "X-Forwarded-For: 1.1.1.1, 192.0.2.1")
	f(&old, "10.0.0.1", "192.0.2.1  ", "X-Forwarded-For: 10.0.0.9, 192.0.2.1", "X-Forwarded-For: 10.0.0.2")
	f(&old, "10.0.0.1", "10.0.0.9  ", "X-Forwarded-For: 10.0.0.9")
	f(&old, "10.0.0.1", "192.0.2.1 https a.example", "X-Forwarded-For: 192.0.2.1, 10.0.0.2", "X-Forwarded-Proto: https, http", "X-Forwarded-Host: a.example, b.internal")
	f(&old, "10.0.0.1", "192.0.2.1 https ", "X-Forwarded-For: 192.0.2.1, 10.0.0.2", "X-Forwarded-Proto: https")
	f(&old, "10.0.0.1", "10.0.0.1 https ", "X-Forwarded-Proto: https")
	f(&old, "10.0.0.1", "10.0.0.2  ", "X-Forwarded-For: unknown, 10.0.0.2")
	f(&old, "10.0.0.1", "192.0.2.1  ", "X-Forwarded-For: 192.0.2.1:4711")
	f(&old, "fd00::1", "2001:db8::1  ", "X-Forwarded-For: [2001:db8::1]:4711")
	f(&old, "fd00::1", "2001:db8::1  ", "X-Forwarded-For: 2001:db8::1")
	f(&old, "10.0.0.1", "192.0.2.1  ", "X-Forwarded-For: ::ffff:192.0.2.1")
	f(&old, "10.0.0.1", "10.0.0.1  ", `X-Forwarded-Host: a"b`, "X-Forwarded-Proto: gopher", "X-Forwarded-For: '")
	f(&old, "10.0.0.1", "10.0.0.1  ", "X-Forwarded-Host: "+strings.Repeat("a", 300))
	f(&standard, "10.0.0.1", "2001:db8:cafe::17 https a.example:8443", `Forwarded: for=1.1.1.1, For="[2001:db8:cafe::17]:4711";Proto=HTTPS;host="a.example:8443";by=10.0.0.2`)
	f(&standard, "10.0.0.1", "10.0.0.1  ", "Forwarded: for=_hidden, for=unknown")
	f(&standard, "10.0.0.1", "192.0.2.1  ", `Forwarded: for="a,b;c"`, "Forwarded: for=192.0.2.1;ext=\"x;y,z\"")
	f(&standard, "10.0.0.1", "10.0.0.1  ", `Forwarded: for="`)
}

func TestLinksAreThoseOfTheProxy(t *testing.T) {
	headers := []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: fhir.example.org", "X-Forwarded-For: 192.0.2.1"}
	f := func(want string, change func(*Options)) {
		t.Helper()
		s := newBareServer(t, change)
		got := s.do(t, "GET", "/fhir/metadata", "", headers...)
		if !strings.Contains(got.body, want) {
			t.Errorf("no %s in %.300s", want, got.body)
		}
		if secure := got.header.Get("Strict-Transport-Security") != ""; secure != strings.Contains(want, "https") && want[0] != '-' {
			t.Errorf("%s: secure is %t", want, secure)
		}
	}
	f(`"https://fhir.example.org/fhir"`, func(o *Options) { o.TrustedProxies = proxies(t, false, "127.0.0.1") })
	f(`"http://127.0.0.1:`, func(o *Options) { o.TrustedProxies = proxies(t, false, "192.0.2.0/24") })
	f(`"http://127.0.0.1:`, nil)
	f(`"http://fixed.example/r4"`, func(o *Options) { o.BaseURL = "http://fixed.example/r4" })
}

func TestProxiesThatAreNoNetworksAreRefused(t *testing.T) {
	for _, text := range []string{"", "proxy.example", "10.0.0.0/33", "10.0.0"} {
		if _, err := ParseTrustedProxies([]string{text}, false); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// FuzzForwarded holds that whatever stands in the headers, the client's address is
// the peer's or one that is written there, and links stay links.
func FuzzForwarded(f *testing.F) {
	f.Add("for=192.0.2.1;proto=https;host=a", "https", "a.example:1")
	f.Add(`for="[::1]:1";x="\"`, "", "")
	f.Add("192.0.2.1, 10.0.0.1", "https,http", "[::1]:80")
	f.Fuzz(func(t *testing.T, list, proto, host string) {
		for _, forwarded := range []bool{false, true} {
			p := proxies(t, forwarded, "10.0.0.0/8")
			var header fasthttp.RequestHeader
			header.Set("X-Forwarded-For", list)
			header.Set("Forwarded", list)
			header.Set("X-Forwarded-Proto", proto)
			header.Set("X-Forwarded-Host", host)
			peer := netip.MustParseAddr("10.0.0.1")
			got := p.origin(peer, &header)
			if !got.addr.IsValid() || got.addr != peer && !strings.ContainsAny(list, ".:") {
				t.Errorf("the client has the address %v, which nobody tells", got.addr)
			}
			if got.scheme != "" && got.scheme != "http" && got.scheme != "https" || strings.ContainsAny(got.host, "/\"'<>\\ @?#\r\n") {
				t.Errorf("got %+v", got)
			}
			// What the proxy itself has added counts, whatever came before it.
			header.Add("X-Forwarded-For", "198.51.100.7")
			header.Add("X-Forwarded-Proto", "https")
			header.Add("X-Forwarded-Host", "kiln.example")
			header.Add("Forwarded", `for=198.51.100.7;proto=https;host="kiln.example"`)
			if got, want := p.origin(peer, &header), (origin{netip.MustParseAddr("198.51.100.7"), "https", "kiln.example"}); got != want {
				t.Errorf("the proxy tells %+v, and %+v is believed", want, got)
			}
			stranger := netip.MustParseAddr("192.0.2.77")
			if got := p.origin(stranger, &header); got != (origin{addr: stranger}) {
				t.Errorf("a stranger is believed: %+v", got)
			}
		}
	})
}
