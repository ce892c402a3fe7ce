package bulk

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// countingListener is a server that must not be connected to.
type countingListener struct {
	port        string
	connections atomic.Int64
}

func newCountingListener(t *testing.T) *countingListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &countingListener{}
	if _, c.port, err = net.SplitHostPort(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.connections.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return c
}

// Whatever else an address says, a request for another origin than the allowed
// one is refused at once, and nobody is asked.
func TestForeignAddressesAreRefusedWithoutAConnection(t *testing.T) {
	allowed, other := newTestServer(t, nil), newCountingListener(t)
	port := strings.TrimPrefix(allowed.URL, "http://127.0.0.1:")
	s := newTestSite(t)
	s.close()
	s.origins = []string{allowed.URL}
	s.open()
	f := func(address, want string) {
		t.Helper()
		address = strings.NewReplacer("PORT", port, "OTHER", other.port).Replace(address)
		body := `{"resourceType":"Parameters","parameter":[{"name":"inputFormat","valueString":"application/fhir+ndjson"},{"name":"input","part":[{"name":"url","valueUri":` + fmt.Sprintf("%q", address) + `}]}]}`
		_, err := s.jobs.ParseImport([]byte(body), "u")
		refused, ok := err.(*RequestError)
		if !ok || refused.Status != 400 || refused.Code != "invalid" || !strings.HasPrefix(refused.Text, want) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, host := range []string{
		"127.0.0.1:OTHER", "127.0.0.1", "localhost:PORT", "LOCALHOST:PORT", "127.1:PORT", "127.0.0.01:PORT", "0177.0.0.1:PORT", "0x7f.0.0.1:PORT",
		"0x7f000001:PORT", "2130706433:PORT", "017700000001:PORT", "0:PORT", "0.0.0.0:PORT", "127.0.0.1.:PORT", "127.0.0.2:PORT", "[::1]:PORT", "[::]:PORT",
		"[::ffff:127.0.0.1]:PORT", "[::ffff:7f00:1]:PORT", "[64:ff9b::7f00:1]:PORT", "127。0。0。1:PORT", "①27.0.0.1:PORT", "169.254.169.254", "[fe80::1%25lo]:PORT",
		"127.0.0.1:PORT@127.0.0.1:OTHER", "127.0.0.1%3aPORT@127.0.0.1:OTHER", "me@127.0.0.1:PORT", "me:secret@127.0.0.1:PORT", "@127.0.0.1:PORT",
	} {
		f("http://"+host+"/p.ndjson", "")
	}
	foreign := textForeignOrigin
	f("http://127.0.0.1:OTHER/p.ndjson#@127.0.0.1:PORT", foreign)
	f("http://127.0.0.1:OTHER/?http://127.0.0.1:PORT/", foreign)
	f("HTTP://127.0.0.1:OTHER/p.ndjson", foreign)
	f("https://127.0.0.1:PORT/p.ndjson", foreign)
	for _, scheme := range []string{"ftp", "gopher", "ldap", "dict", "ws", "s3", "smb", "unix"} {
		f(scheme+"://127.0.0.1:PORT/p.ndjson", foreign)
	}
	f("data:application/fhir+ndjson,{}", foreign)
	f("jar:http://127.0.0.1:PORT/p.jar!/p.ndjson", foreign)
	f("view-source:http://127.0.0.1:PORT/p.ndjson", foreign)
	invalid := "Value of the following parameter input.url is invalid."
	f("http:127.0.0.1:PORT/p.ndjson", invalid)
	f("http:///p.ndjson", invalid)
	f(`http://127.0.0.1:OTHER\@127.0.0.1:PORT/`, invalid)
	f(`http://127.0.0.1:PORT\.example.org/`, invalid)
	f("http://127.0.0.1:PORT:OTHER/", invalid)
	f("http://127.0.0.1:PORT/\r\nHost: x", invalid)
	f(" http://127.0.0.1:PORT/", invalid)
	f("127.0.0.1:PORT/p.ndjson", invalid)
	f("//127.0.0.1:PORT/p.ndjson", "input.url //127.0.0.1:"+port+"/p.ndjson is not below a directory")
	if allowed.requests.Load() != 0 || other.connections.Load() != 0 {
		t.Errorf("%d requests and %d connections", allowed.requests.Load(), other.connections.Load())
	}
}

// A server of the allowed origin cannot send an import elsewhere.
func TestRedirectsStayInTheirOrigins(t *testing.T) {
	other := newCountingListener(t)
	location := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/end":
			_, _ = w.Write([]byte(patient("a", "")))
		case strings.HasPrefix(r.URL.Path, "/step") && len(r.URL.Path) < len("/step/1/2"):
			http.Redirect(w, r, r.URL.Path+"/1", http.StatusTemporaryRedirect)
		default:
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusFound)
		}
	}))
	t.Cleanup(server.Close)
	s := newTestSite(t)
	s.close()
	s.origins = []string{server.URL}
	s.open()
	f := func(from, to, want string) {
		t.Helper()
		location = to
		status := s.wait(s.start(IncrementalLoad, 0, server.URL+from))
		got := testCounts(status)
		if status.State == Failed {
			got = fmt.Sprint(status.Error.Status, " ", status.Error.Text)
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s to %s: %s, want %s", from, to, got, want)
		}
	}
	f("/x", "/end", "1/0")
	f("/step", server.URL+"/end", "1/0")
	foreign := "400 " + errForeignRedirect.Error()
	f("/x", "http://127.0.0.1:"+other.port+"/", foreign)
	f("/step", "http://127.0.0.1:"+other.port+"/", foreign)
	f("/x", "//127.0.0.1:"+other.port+"/", foreign)
	f("/x", "http://localhost:"+other.port+"/", foreign)
	f("/x", "http://[::1]:"+other.port+"/", foreign)
	f("/x", strings.Replace(server.URL, "//", "//me:secret@", 1)+"/end", foreign)
	f("/x", strings.Replace(server.URL, "http:", "https:", 1)+"/end", foreign)
	f("/x", "http://169.254.169.254/latest/meta-data/", foreign)
	f("/x", "file:///etc/passwd", foreign)
	f("/x", "gopher://127.0.0.1:"+other.port+"/", foreign)
	f("/x", "/x", "400 "+errTooManyRedirects.Error())
	if other.connections.Load() != 0 {
		t.Errorf("%d connections were made elsewhere", other.connections.Load())
	}
}

// testNames is a resolver that knows these names and no others; it asks a name
// server of the test over UDP.
func testNames(t *testing.T, names map[string]string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(answerName(buf[:n], names), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// answerName answers a query (RFC 1035, 4.1) of one name.
func answerName(query []byte, names map[string]string) []byte {
	const header, typeA, typeAAAA = 12, 1, 28
	var labels []string
	at := header
	for ; query[at] != 0; at += 1 + int(query[at]) {
		labels = append(labels, string(query[at+1:at+1+int(query[at])]))
	}
	at++
	asked := binary.BigEndian.Uint16(query[at:])
	answer := append([]byte(nil), query[:at+4]...)
	binary.BigEndian.PutUint16(answer[2:], 0x8180) // an answer, recursion was possible
	clear(answer[6:header])                        // no records but the question
	ip, err := netip.ParseAddr(names[strings.ToLower(strings.Join(labels, "."))])
	switch {
	case err != nil:
		answer[3] |= 3 // no such name
	case ip.Is4() == (asked == typeA) && (asked == typeA || asked == typeAAAA):
		answer[7] = 1
		answer = append(answer, 0xc0, header)               // the name of the question
		answer = append(answer, query[at:at+4]...)          // its type and class
		answer = append(answer, 0, 0, 0, 0)                 // not to be kept
		answer = append(answer, 0, byte(len(ip.AsSlice()))) // length
		answer = append(answer, ip.AsSlice()...)            // address
	}
	return answer
}

// An allowed name that leads to this machine or to a metadata service is not
// followed there.
func TestNamesThatLeadToForbiddenAddresses(t *testing.T) {
	inside := newCountingListener(t)
	server := newTestServer(t, []byte(patient("a", "")))
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	names := map[string]string{
		"loopback.test": "127.0.0.1", "loopback2.test": "127.9.9.9", "loopback6.test": "::1", "mapped.test": "::ffff:127.0.0.1",
		"metadata.test": "169.254.169.254", "metadata6.test": "fd00:ec2::254", "any.test": "0.0.0.0", "any6.test": "::",
		"translated.test": "64:ff9b::7f00:1", "multicast.test": "224.0.0.1",
	}
	s := newTestSite(t)
	s.close()
	s.resolver = testNames(t, names)
	s.origins = []string{"http://localhost:" + port, server.URL}
	for name := range names {
		s.origins = append(s.origins, "http://"+name+":"+inside.port)
	}
	s.open()
	f := func(address, want string) {
		t.Helper()
		status := s.wait(s.start(IncrementalLoad, 0, address))
		got := testCounts(status)
		if status.State == Failed {
			got = fmt.Sprint(status.Error.Status, " ", status.Error.Text)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	for name := range names {
		address := "http://" + name + ":" + inside.port + "/p.ndjson"
		f(address, "400 "+errForbiddenAddress.Error()+": "+address)
	}
	if inside.connections.Load() != 0 {
		t.Errorf("%d connections were made", inside.connections.Load())
	}
	// Who writes a loopback address means it.
	f("http://localhost:"+port+"/p.ndjson", "1/0")
	f(server.URL+"/p.ndjson", "1/0")
}

func TestForbiddenIPs(t *testing.T) {
	f := func(text string, want bool) {
		t.Helper()
		if got := forbiddenIP(netip.MustParseAddr(text), false); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for _, text := range []string{
		"127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1", "0.0.0.0", "0.1.2.3", "::", "169.254.0.1", "fe80::1", "fe80::1%eth0", "224.0.0.251",
		"ff02::1", "255.255.255.255", "240.0.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
		"64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "::127.0.0.1", "::169.254.169.254",
	} {
		f(text, true)
	}
	for _, text := range []string{"8.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "2606:4700::1", "64:ff9b::808:808", "2002:808:808::1"} {
		f(text, false)
	}
	if forbiddenIP(netip.MustParseAddr("127.0.0.1"), true) || !forbiddenIP(netip.MustParseAddr("169.254.169.254"), true) {
		t.Error("the permission for loopback is not just that")
	}
}

func TestOriginsThatCannotBeAllowed(t *testing.T) {
	for _, origin := range []string{"http://169.254.169.254", "http://[fe80::1]", "http://0.0.0.0:80", "http://224.0.0.1", "http://me@host", "http://host/path", "http://host?x", "ftp://host", "host"} {
		if _, err := newAddresses(nil, []string{origin}); err == nil {
			t.Errorf("%s is taken", origin)
		}
	}
}

// A directory that becomes a link out of the root after the registration.
func TestLinksThatAreMadeAfterTheRegistration(t *testing.T) {
	s := newTestSite(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "p.ndjson"), []byte(patient("secret", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(s.dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	address := s.file("folder/p.ndjson", patient("a", ""))
	if err := s.jobs.addresses.check(address); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, folder); err != nil {
		t.Fatal(err)
	}
	status := s.wait(s.start(IncrementalLoad, 0, address))
	if status.State != Failed || status.Error.Status != 400 || len(s.versions()) != 0 {
		t.Errorf("it ends as %d %+v", status.State, status.Error)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "folder2"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", filepath.Join(s.dir, "null")); err != nil {
		t.Fatal(err)
	}
	status = s.wait(s.start(IncrementalLoad, 0, s.dir+"/folder2"))
	if status.State != Failed || status.Error.Status != 400 {
		t.Errorf("a directory: it ends as %d %+v", status.State, status.Error)
	}
	if err := s.jobs.addresses.check(s.dir + "/null"); err == nil {
		t.Error("a link to a device is taken")
	}
}
