package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// unpackStore unpacks a data directory of testdata.
func unpackStore(t *testing.T, name string) string {
	t.Helper()
	packed, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	text, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	dir, files := t.TempDir(), tar.NewReader(text)
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err == nil {
			err = unpackEntry(dir, h, files)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func unpackEntry(dir string, h *tar.Header, content io.Reader) error {
	name := filepath.Join(dir, filepath.Clean("/"+h.Name))
	if h.Typeflag == tar.TypeDir {
		return os.MkdirAll(name, 0o700)
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}

// TestStoreOfFirstTermsIsServedAndHealed: store-terms1.tar.gz was written by a program
// whose runs had no types of contained resources (5 resources loaded, a parameter
// added, 2 resources written, the last ones in the log only). This one answers all
// other searches at once, indexes the run again, and then those of contained resources.
func TestStoreOfFirstTermsIsServedAndHealed(t *testing.T) {
	t.Parallel()
	dir := unpackStore(t, "store-terms1.tar.gz")
	mustKiln(t, 0, "fsck", "--data-dir", dir)
	contained := []string{"MedicationRequest/23#m1", "MedicationRequest/24#m2", "MedicationStatement/s1#m9"}
	for _, when := range []string{"as it was", "after a restart"} {
		s := serve(t, dir)
		for search, want := range map[string][]string{
			"/Patient?eyes=green":                {"Patient/p2"},
			"/Patient?gender=female":             {"Patient/p1", "Patient/p2"},
			"/Medication?ingredient-code=abc":    {"Medication/m1"},
			"/MedicationRequest?patient.name=ch": {"MedicationRequest/23", "MedicationRequest/24"},
		} {
			if got := s.fullURLs(s.must(200, "GET", search, "")); !slices.Equal(got, want) {
				t.Errorf("%s, %s finds %q, want %q", when, search, got, want)
			}
		}
		const search = "/Medication?ingredient-code=abc&_contained=true&_containedType=contained"
		if when == "as it was" {
			s.awaitContained(search)
		}
		if got := s.fullURLs(s.must(200, "GET", search, "")); !slices.Equal(got, contained) {
			t.Errorf("%s, %s finds %q, want %q", when, search, got, contained)
		}
		s.stop()
	}
	mustKiln(t, 0, "fsck", "--data-dir", dir)
}

// fullURLs are those of a searchset's entries, without the base, sorted.
func (s *server) fullURLs(a *answer) (urls []string) {
	s.t.Helper()
	var bundle struct{ Entry []struct{ FullURL string } }
	if err := json.Unmarshal(a.body, &bundle); err != nil {
		s.t.Fatal(err)
	}
	for _, e := range bundle.Entry {
		urls = append(urls, strings.TrimPrefix(e.FullURL, s.base+"/"))
	}
	slices.Sort(urls)
	return urls
}

// awaitContained asks until everything is indexed; until then a search of contained
// resources is refused, and says where to look.
func (s *server) awaitContained(search string) {
	s.t.Helper()
	for {
		a, err := ask("GET", s.base+search, "")
		if err != nil {
			s.t.Fatal(err)
		}
		status := s.must(200, "GET", "/SearchParameter/$status?code=gender", "")
		if strings.Contains(string(status.body), `{"name":"containedResources","valueString":"enabled"}`) {
			return
		}
		if a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "$status") {
			s.t.Fatalf("while the store is indexed again a search gives %d: %s", a.status, a.body)
		}
	}
}
